//! Heads on any encoder of BERT's layers: BERT itself, RoBERTa, MPNet.

use burn::module::{Module, ModuleDisplay};
use burn::nn::Linear;
use burn::tensor::{Device, Tensor};

use super::{BertConfig, BertModel, ClassificationHead, LayerNames};
use crate::checkpoint::PretrainedModel;
use crate::linear::{Compressible, CompressibleLinear, FeedForward};
use crate::models::pretrained::is_among;
use crate::models::{EncoderInput, EncoderOutput, Labels, ModelConfig, init};
use crate::models::{sequence_classification_loss, span_logits};

/// A bare model of BERT's layers, under whatever names its checkpoints have.
pub trait BertFamily: Compressible + ModuleDisplay {
    /// Its configuration.
    type Config: ModelConfig + AsRef<BertConfig>;
    /// `model_type` in `config.json`.
    const NAME: &'static str;
    /// Prefix of its tensors under a head, with the dot.
    const PREFIX: &'static str;
    /// Hugging Face's classes: bare, for sequence classification, for question answering.
    const ARCHITECTURES: [&'static str; 3];
    /// Names of a layer's projections: query, key, value, attention output, both feed-forward ones.
    const LAYER_NAMES: LayerNames;

    /// A freshly initialised model.
    fn init(config: &Self::Config, pooler: bool, device: &Device) -> Self;

    /// The configuration.
    fn family_config(&self) -> &Self::Config;

    /// The layers.
    fn bert(&self) -> &BertModel;

    /// The layers, to change.
    fn bert_mut(&mut self) -> &mut BertModel;

    /// Hugging Face's name of the parameter at a path of field names.
    fn parameter_name(path: &str) -> String;

    /// Dropout in the classification head.
    fn head_dropout(config: &Self::Config) -> f64 {
        config.as_ref().classifier_dropout()
    }
}

/// Buffers of old checkpoints, and the heads of pretraining.
pub(super) const NEVER_USED: &[&str] =
    &["cls.", "lm_head.", "embeddings.position_ids", "embeddings.token_type_ids"];

impl<M: BertFamily> PretrainedModel for M {
    type Config = M::Config;
    const MODEL_TYPE: &'static str = M::NAME;
    const ARCHITECTURE: &'static str = M::ARCHITECTURES[0];
    const BASE_PREFIX: &'static str = M::PREFIX;
    const LABEL_LAYER: Option<&'static str> = None;

    fn build(config: &Self::Config, has: &dyn Fn(&str) -> bool, device: &Device) -> Self {
        M::init(config, has("pooler.dense.weight"), device)
    }

    fn config(&self) -> &Self::Config {
        self.family_config()
    }

    fn hugging_face_name(path: &str) -> String {
        M::parameter_name(path)
    }

    fn may_be_new(_name: &str) -> bool {
        false
    }

    fn may_be_unused(name: &str) -> bool {
        is_among(NEVER_USED, name) || is_among(&["classifier.", "qa_outputs."], name)
    }
}

/// `RobertaForSequenceClassification` and its like: two dense layers on the first token's state.
#[derive(Module, Debug)]
pub struct ForSequenceClassification<M: Module> {
    /// The encoder, without pooler.
    pub base: M,
    /// The head.
    pub classifier: ClassificationHead,
}

/// `BertForQuestionAnswering` and its like: a start and an end logit for every token.
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
    pub fn new(config: &<M as BertFamily>::Config, device: &Device) -> Self {
        let num_labels = config.labels().num_labels();
        let dropout = M::head_dropout(config);
        Self {
            base: M::init(config, false, device),
            classifier: ClassificationHead::new(config.as_ref(), num_labels, dropout, device),
        }
    }

    /// The configuration.
    pub fn config(&self) -> &<M as BertFamily>::Config {
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
    pub fn new(config: &<M as BertFamily>::Config, device: &Device) -> Self {
        let sizes = config.as_ref();
        Self {
            base: M::init(config, false, device),
            qa_outputs: init::linear(sizes.hidden_size, 2, sizes.initializer_range, device),
        }
    }

    /// The configuration.
    pub fn config(&self) -> &<M as BertFamily>::Config {
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
        Some(path) => format!("{}{}", M::PREFIX, M::parameter_name(path)),
        None => path.to_string(),
    }
}

fn each_linear<M: BertFamily>(base: &mut M, f: &mut dyn FnMut(&str, &mut CompressibleLinear)) {
    let (prefix, names) = (M::PREFIX, &M::LAYER_NAMES);
    base.bert_mut().encoder.for_each_linear_mut(prefix, names, f);
}

fn each_feed_forward<M: BertFamily>(base: &mut M, f: &mut dyn FnMut(FeedForward<'_>)) {
    let (prefix, names) = (M::PREFIX, &M::LAYER_NAMES);
    base.bert_mut().encoder.for_each_feed_forward_mut(prefix, names, f);
}

impl<M: BertFamily> Compressible for ForSequenceClassification<M> {
    fn for_each_linear_mut(&mut self, f: &mut dyn FnMut(&str, &mut CompressibleLinear)) {
        each_linear(&mut self.base, f);
    }

    fn for_each_feed_forward_mut(&mut self, f: &mut dyn FnMut(FeedForward<'_>)) {
        each_feed_forward(&mut self.base, f);
    }
}

impl<M: BertFamily> Compressible for ForQuestionAnswering<M> {
    fn for_each_linear_mut(&mut self, f: &mut dyn FnMut(&str, &mut CompressibleLinear)) {
        each_linear(&mut self.base, f);
    }

    fn for_each_feed_forward_mut(&mut self, f: &mut dyn FnMut(FeedForward<'_>)) {
        each_feed_forward(&mut self.base, f);
    }
}

impl<M: BertFamily> PretrainedModel for ForSequenceClassification<M> {
    type Config = <M as BertFamily>::Config;
    const MODEL_TYPE: &'static str = M::NAME;
    const ARCHITECTURE: &'static str = M::ARCHITECTURES[1];
    const BASE_PREFIX: &'static str = M::PREFIX;
    const LABEL_LAYER: Option<&'static str> = Some("classifier.out_proj");

    fn build(config: &Self::Config, _has: &dyn Fn(&str) -> bool, device: &Device) -> Self {
        Self::new(config, device)
    }

    fn config(&self) -> &Self::Config {
        self.config()
    }

    fn hugging_face_name(path: &str) -> String {
        under_head::<M>(path)
    }

    fn may_be_new(name: &str) -> bool {
        name.starts_with("classifier.")
    }

    fn may_be_unused(name: &str) -> bool {
        // The only layer of a head for tokens or choices is called `classifier`.
        let others = ["pooler.", "qa_outputs.", "classifier.weight", "classifier.bias"];
        is_among(NEVER_USED, name) || is_among(&others, name)
    }
}

impl<M: BertFamily> PretrainedModel for ForQuestionAnswering<M> {
    type Config = <M as BertFamily>::Config;
    const MODEL_TYPE: &'static str = M::NAME;
    const ARCHITECTURE: &'static str = M::ARCHITECTURES[2];
    const BASE_PREFIX: &'static str = M::PREFIX;
    const LABEL_LAYER: Option<&'static str> = None;

    fn build(config: &Self::Config, _has: &dyn Fn(&str) -> bool, device: &Device) -> Self {
        Self::new(config, device)
    }

    fn config(&self) -> &Self::Config {
        self.config()
    }

    fn hugging_face_name(path: &str) -> String {
        under_head::<M>(path)
    }

    fn may_be_new(name: &str) -> bool {
        name.starts_with("qa_outputs.")
    }

    fn may_be_unused(name: &str) -> bool {
        is_among(NEVER_USED, name) || is_among(&["pooler.", "classifier."], name)
    }
}
