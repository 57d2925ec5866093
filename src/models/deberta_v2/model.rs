//! The bare model: embeddings and encoder.

use std::sync::Arc;

use burn::module::Module;
use burn::tensor::Device;

use super::{DebertaV2Config, DebertaV2Embeddings, DebertaV2Encoder};
use crate::linear::{Compressible, EmbeddingVisitor, FeedForwardVisitor, LinearVisitor};
use crate::models::{Collected, EncoderInput, EncoderOutput};
use crate::ops::ForwardContext;

/// `DebertaV2Model`.
///
/// <https://github.com/huggingface/transformers/blob/v5.0.0/src/transformers/models/deberta_v2/modeling_deberta_v2.py>
#[derive(Module, Debug)]
pub struct DebertaV2Model {
    /// Token embeddings.
    pub embeddings: DebertaV2Embeddings,
    /// The layers.
    pub encoder: DebertaV2Encoder,
    #[module(skip)]
    config: Arc<DebertaV2Config>,
}

impl DebertaV2Model {
    /// A freshly initialised model.
    pub fn new(config: &DebertaV2Config, device: &Device) -> Self {
        Self {
            embeddings: DebertaV2Embeddings::new(config, device),
            encoder: DebertaV2Encoder::new(config, device),
            config: Arc::new(config.clone()),
        }
    }

    /// The configuration.
    pub fn config(&self) -> &DebertaV2Config {
        &self.config
    }

    /// Runs the model.
    ///
    /// # Panics
    /// If there are position embeddings and sequences are longer than `max_position_embeddings`,
    /// or if shapes differ.
    pub fn forward(&self, input: EncoderInput) -> EncoderOutput {
        let embedded = self.embeddings.forward(&input);
        let mask = input.attention_mask.as_ref();
        let context = match input.unpadded(&embedded) {
            // A convolution needs padding at its place.
            Some(sequences) if self.encoder.conv.is_none() => {
                ForwardContext::of_sequences(sequences)
            }
            _ => ForwardContext::default().with_attentions(input.output_attentions),
        };
        let mut all = Collected::new(&input);
        all.push(&embedded, None);
        let last_hidden_state =
            self.encoder.forward(embedded, mask, &context, |states, maps| all.push(states, maps));
        let Collected { hidden_states, attentions } = all;
        EncoderOutput { last_hidden_state, pooler_output: None, hidden_states, attentions }
    }
}

impl Compressible for DebertaV2Model {
    fn for_each_linear_mut(&mut self, f: LinearVisitor<'_>) {
        self.encoder.for_each_linear_mut(f);
    }

    fn for_each_embedding_mut(&mut self, f: EmbeddingVisitor<'_>) {
        f("embeddings.word_embeddings", &mut self.embeddings.word_embeddings);
    }

    fn for_each_feed_forward_mut(&mut self, f: FeedForwardVisitor<'_>) {
        self.encoder.for_each_feed_forward_mut(f);
    }
}
