//! The bare model: embeddings, encoder and pooler.

use std::sync::Arc;

use burn::module::Module;
use burn::nn::Linear;
use burn::tensor::{Device, Tensor};

use super::encoder::LAYER_NAMES;
use super::{BertConfig, BertEmbeddings, BertEncoder, BertVariation};
use crate::linear::{Compressible, EmbeddingVisitor, FeedForwardVisitor, LinearVisitor};
use crate::models::{Collected, EncoderInput, EncoderOutput, first_token, init};

/// `BertModel`.
///
/// <https://github.com/huggingface/transformers/blob/v5.0.0/src/transformers/models/bert/modeling_bert.py>
#[derive(Module, Debug)]
pub struct BertModel {
    /// Token embeddings.
    pub embeddings: BertEmbeddings,
    /// The layers.
    pub encoder: BertEncoder,
    /// The pooler, if the checkpoint has one.
    pub pooler: Option<BertPooler>,
    #[module(skip)]
    pub(super) config: Arc<BertConfig>,
}

/// `BertPooler`: a projection of the first token's state.
///
/// <https://github.com/huggingface/transformers/blob/v5.0.0/src/transformers/models/bert/modeling_bert.py>
#[derive(Module, Debug)]
pub struct BertPooler {
    /// `[hidden_size, hidden_size]`.
    pub dense: Linear,
}

impl BertModel {
    /// A freshly initialised model.
    pub fn new(config: &BertConfig, pooler: bool, device: &Device) -> Self {
        Self::varied(config, &BertVariation::default(), pooler, device)
    }

    /// A freshly initialised model of an architecture that differs from BERT by `variation`.
    pub fn varied(
        config: &BertConfig,
        variation: &BertVariation,
        pooler: bool,
        device: &Device,
    ) -> Self {
        Self {
            embeddings: BertEmbeddings::new(config, variation, device),
            encoder: BertEncoder::new(config, variation, device),
            pooler: pooler.then(|| BertPooler::new(config, device)),
            config: Arc::new(config.clone()),
        }
    }

    /// The configuration.
    pub fn config(&self) -> &BertConfig {
        &self.config
    }

    /// Runs the model.
    ///
    /// # Panics
    /// If sequences are longer than the positions there are, or shapes differ.
    pub fn forward(&self, input: EncoderInput) -> EncoderOutput {
        let embedded = self.embeddings.forward(&input);
        let context = input.context(&embedded);
        let mut all = Collected::new(&input);
        all.push(&embedded, None);
        let last_hidden_state =
            self.encoder.forward(embedded, &context, |states, maps| all.push(states, maps));
        let pooler_output = self.pooler.as_ref().map(|p| p.forward(last_hidden_state.clone()));
        let Collected { hidden_states, attentions } = all;
        EncoderOutput { last_hidden_state, pooler_output, hidden_states, attentions }
    }
}

impl BertPooler {
    /// A freshly initialised pooler.
    pub fn new(config: &BertConfig, device: &Device) -> Self {
        let size = config.hidden_size;
        Self { dense: init::linear(size, size, config.initializer_range, device) }
    }

    /// `[batch, length, hidden_size]` → `[batch, hidden_size]`.
    pub fn forward(&self, hidden_states: Tensor<3>) -> Tensor<2> {
        self.dense.forward(first_token(hidden_states)).tanh()
    }
}

impl Compressible for BertModel {
    fn for_each_linear_mut(&mut self, f: LinearVisitor<'_>) {
        self.encoder.for_each_linear_mut(&LAYER_NAMES, f);
    }

    fn for_each_embedding_mut(&mut self, f: EmbeddingVisitor<'_>) {
        f("embeddings.word_embeddings", &mut self.embeddings.word_embeddings);
    }

    fn for_each_feed_forward_mut(&mut self, f: FeedForwardVisitor<'_>) {
        self.encoder.for_each_feed_forward_mut(&LAYER_NAMES, f);
    }
}
