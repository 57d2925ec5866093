//! Heads on any encoder of BERT's layers: BERT itself, RoBERTa, MPNet.

use std::sync::Arc;

use burn::module::{Module, ModuleDisplay};
use burn::nn::Linear;
use burn::tensor::{Device, Tensor};

use super::{BertConfig, BertModel, BertVariation, ClassificationHead};
use super::{LAYER_NAMES, LayerNames, hugging_face_name};
use crate::checkpoint::PretrainedModel;
use crate::linear::{Compressible, EmbeddingVisitor, FeedForwardVisitor, LinearVisitor};
use crate::models::pretrained::{compressible_base, is_among, pretrained_models};
use crate::models::{EncoderInput, EncoderOutput, Labels, ModelConfig, init};
use crate::models::{sequence_classification_loss, span_logits};

/// A bare model of BERT's layers, under whatever names its checkpoints have.
pub trait BertFamily: Compressible + ModuleDisplay {
    /// Its configuration.
    type Config: RelativeConfig;

    /// A freshly initialised model.
    fn init(config: &Self::Config, pooler: bool, device: &Device) -> Self;

    /// The configuration.
    fn family_config(&self) -> &Self::Config;

    /// The layers.
    fn bert(&self) -> &BertModel;
}

type ConfigOf<M> = <M as BertFamily>::Config;

/// Hugging Face's name of the parameter of a bare model at a path of field names.
fn parameter_name<M: BertFamily>(path: &str) -> String {
    ConfigOf::<M>::parameter_name(path.strip_prefix("bert.").unwrap_or(path))
}

/// Buffers of old checkpoints, and the heads of pretraining.
pub(super) const NEVER_USED: &[&str] =
    &["cls.", "lm_head.", "embeddings.position_ids", "embeddings.token_type_ids"];

impl<M: BertFamily> PretrainedModel for M {
    type Config = M::Config;
    const MODEL_TYPE: &'static str = ConfigOf::<M>::NAME;
    const ARCHITECTURE: &'static str = ConfigOf::<M>::ARCHITECTURES[0];
    const BASE_PREFIX: &'static str = ConfigOf::<M>::PREFIX;
    const LABEL_LAYER: Option<&'static str> = None;

    fn build(config: &Self::Config, has: &dyn Fn(&str) -> bool, device: &Device) -> Self {
        M::init(config, has("pooler.dense.weight"), device)
    }

    fn config(&self) -> &Self::Config {
        self.family_config()
    }

    fn hugging_face_name(path: &str) -> String {
        parameter_name::<M>(path)
    }

    fn may_be_new(_name: &str) -> bool {
        false
    }

    fn may_be_unused(name: &str) -> bool {
        is_among(NEVER_USED, name) || is_among(&["classifier.", "qa_outputs."], name)
    }
}

/// The configuration of BERT or a close relative: how it differs, in computation and in names.
pub trait RelativeConfig: ModelConfig + AsRef<BertConfig> + 'static {
    /// `model_type` in `config.json`.
    const NAME: &'static str;
    /// Prefix of the tensors of the bare model under a head, with the dot.
    const PREFIX: &'static str;
    /// Hugging Face's classes: bare, for sequence classification, for question answering.
    const ARCHITECTURES: [&'static str; 3];
    /// Names of a layer's projections: query, key, value, attention output, both feed-forward ones.
    const LAYER_NAMES: LayerNames = LAYER_NAMES;

    /// How the computation differs from BERT's.
    fn variation(&self) -> BertVariation {
        BertVariation::default()
    }

    /// Hugging Face's name of the parameter of BERT's at a path of field names.
    fn parameter_name(path: &str) -> String {
        hugging_face_name(path)
    }

    /// Dropout in the classification head.
    fn head_dropout(&self) -> f64 {
        self.as_ref().classifier_dropout()
    }

    /// Checks that there is a position after that of padding.
    ///
    /// # Errors
    /// Names the field.
    fn check_positions(&self) -> Result<(), String> {
        match self.as_ref().max_position_embeddings {
            most if self.max_length() == 0 => Err(format!(
                "max_position_embeddings: {most} leaves no position after that of padding"
            )),
            _ => Ok(()),
        }
    }
}

/// `RobertaModel` and its like: BERT's layers with the differences of a configuration.
///
/// <https://github.com/huggingface/transformers/blob/v5.0.0/src/transformers/models/roberta/modeling_roberta.py>
#[derive(Module, Debug)]
pub struct BertRelative<C: RelativeConfig> {
    /// The layers.
    pub bert: BertModel,
    #[module(skip)]
    config: Arc<C>,
}

impl<C: RelativeConfig> Compressible for BertRelative<C> {
    fn for_each_linear_mut(&mut self, f: LinearVisitor<'_>) {
        self.bert.encoder.for_each_linear_mut(&C::LAYER_NAMES, f);
    }

    fn for_each_embedding_mut(&mut self, f: EmbeddingVisitor<'_>) {
        self.bert.for_each_embedding_mut(f);
    }

    fn for_each_feed_forward_mut(&mut self, f: FeedForwardVisitor<'_>) {
        self.bert.encoder.for_each_feed_forward_mut(&C::LAYER_NAMES, f);
    }
}

impl<C: RelativeConfig> BertFamily for BertRelative<C> {
    type Config = C;

    fn init(config: &C, pooler: bool, device: &Device) -> Self {
        Self {
            bert: BertModel::varied(config.as_ref(), &config.variation(), pooler, device),
            config: Arc::new(config.clone()),
        }
    }

    fn family_config(&self) -> &C {
        &self.config
    }

    fn bert(&self) -> &BertModel {
        &self.bert
    }
}

/// `RobertaForSequenceClassification` and its like: two dense layers on the first token's state.
///
/// <https://github.com/huggingface/transformers/blob/v5.0.0/src/transformers/models/roberta/modeling_roberta.py>
#[derive(Module, Debug)]
pub struct ForSequenceClassification<M: Module> {
    /// The encoder, without pooler.
    pub base: M,
    /// The head.
    pub classifier: ClassificationHead,
}

/// `BertForQuestionAnswering` and its like: a start and an end logit for every token.
///
/// <https://github.com/huggingface/transformers/blob/v5.0.0/src/transformers/models/bert/modeling_bert.py>
#[derive(Module, Debug)]
pub struct ForQuestionAnswering<M: Module> {
    /// The encoder, without pooler.
    pub base: M,
    /// `[hidden_size, 2]`.
    pub qa_outputs: Linear,
}

/// BERT with a start and an end logit for every token.
pub type BertForQuestionAnswering = ForQuestionAnswering<BertModel>;

impl<M: BertFamily> ForSequenceClassification<M> {
    /// A freshly initialised model.
    pub fn new(config: &ConfigOf<M>, device: &Device) -> Self {
        let BertConfig { hidden_size, initializer_range, .. } = *config.as_ref();
        let (num_labels, dropout) = (config.labels().num_labels(), config.head_dropout());
        let (size, std) = (hidden_size, initializer_range);
        Self {
            base: M::init(config, false, device),
            classifier: ClassificationHead::new(size, std, num_labels, dropout, device),
        }
    }

    /// The configuration.
    pub fn config(&self) -> &ConfigOf<M> {
        self.base.family_config()
    }

    /// The output of the encoder.
    ///
    /// # Panics
    /// If sequences are longer than the model's longest, or shapes differ.
    pub fn encode(&self, input: EncoderInput) -> EncoderOutput {
        self.base.bert().forward(input)
    }

    /// Logits `[batch, num_labels]`.
    ///
    /// # Panics
    /// As [`ForSequenceClassification::encode`].
    pub fn forward(&self, input: EncoderInput) -> Tensor<2> {
        self.classifier.forward(self.encode(input).last_hidden_state)
    }

    /// The loss `[1]` that `problem_type` asks for, mean over the batch.
    ///
    /// # Panics
    /// If labels do not fit the logits.
    pub fn loss(&self, logits: Tensor<2>, labels: Labels) -> Tensor<1> {
        sequence_classification_loss(self.config().labels().problem_type(), logits, labels)
    }
}

impl<M: BertFamily> ForQuestionAnswering<M> {
    /// A freshly initialised model.
    pub fn new(config: &ConfigOf<M>, device: &Device) -> Self {
        let sizes = config.as_ref();
        Self {
            base: M::init(config, false, device),
            qa_outputs: init::linear(sizes.hidden_size, 2, sizes.initializer_range, device),
        }
    }

    /// The configuration.
    pub fn config(&self) -> &ConfigOf<M> {
        self.base.family_config()
    }

    /// The output of the encoder.
    ///
    /// # Panics
    /// If sequences are longer than the model's longest, or shapes differ.
    pub fn encode(&self, input: EncoderInput) -> EncoderOutput {
        self.base.bert().forward(input)
    }

    /// Logits of the answer's first and last token, `[batch, length]` each.
    ///
    /// # Panics
    /// As [`ForQuestionAnswering::encode`].
    pub fn forward(&self, input: EncoderInput) -> (Tensor<2>, Tensor<2>) {
        span_logits(self.qa_outputs.forward(self.encode(input).last_hidden_state))
    }
}

/// The name of a parameter of a model with a head.
fn under_head<M: BertFamily>(path: &str) -> String {
    match path.strip_prefix("base.") {
        Some(path) => format!("{}{}", ConfigOf::<M>::PREFIX, parameter_name::<M>(path)),
        None => path.to_string(),
    }
}

compressible_base!(ForSequenceClassification<M> where [M: BertFamily]: base, ConfigOf::<M>::PREFIX);
compressible_base!(ForQuestionAnswering<M> where [M: BertFamily]: base, ConfigOf::<M>::PREFIX);

pretrained_models! {
    ConfigOf<M>, model_type: ConfigOf::<M>::NAME, prefix: ConfigOf::<M>::PREFIX,
    names: under_head::<M>, never_used: NEVER_USED;

    ForSequenceClassification<M> where [M: BertFamily]: ConfigOf::<M>::ARCHITECTURES[1] => {
        label_layer: Some("classifier.out_proj"),
        new: &["classifier."],
        // The only layer of a head for tokens or choices is called `classifier`.
        unused: &["pooler.", "qa_outputs.", "classifier.weight", "classifier.bias"],
    }

    ForQuestionAnswering<M> where [M: BertFamily]: ConfigOf::<M>::ARCHITECTURES[2] => {
        label_layer: None,
        new: &["qa_outputs."],
        unused: &["pooler.", "classifier."],
    }
}
