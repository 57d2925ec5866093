//! MPNet, bare and with heads.

use std::sync::Arc;

use burn::module::Module;
use burn::tensor::Device;

use super::MpnetConfig;
use crate::linear::{Compressible, CompressibleLinear, FeedForward};
use crate::models::bert::{self, BertFamily, BertModel, LayerNames};
use crate::models::bert::{ForQuestionAnswering, ForSequenceClassification};
use crate::models::{EncoderInput, EncoderOutput};

/// `MPNetModel`.
#[derive(Module, Debug)]
pub struct MpnetModel {
    /// The layers.
    pub bert: BertModel,
    #[module(skip)]
    config: Arc<MpnetConfig>,
}

/// MPNet with a classification head on `<s>`.
pub type MpnetForSequenceClassification = ForSequenceClassification<MpnetModel>;

/// MPNet with a start and an end logit for every token.
pub type MpnetForQuestionAnswering = ForQuestionAnswering<MpnetModel>;

impl MpnetModel {
    /// A freshly initialised model.
    pub fn new(config: &MpnetConfig, pooler: bool, device: &Device) -> Self {
        Self {
            bert: BertModel::varied(&config.bert, &config.variation(), pooler, device),
            config: Arc::new(config.clone()),
        }
    }

    /// The configuration.
    pub fn config(&self) -> &MpnetConfig {
        &self.config
    }

    /// Runs the model.
    ///
    /// # Panics
    /// If sequences are longer than the model's longest, or shapes differ.
    pub fn forward(&self, input: EncoderInput) -> EncoderOutput {
        self.bert.forward(input)
    }
}

impl Compressible for MpnetModel {
    fn for_each_linear_mut(&mut self, f: &mut dyn FnMut(&str, &mut CompressibleLinear)) {
        self.bert.encoder.for_each_linear_mut("", &Self::LAYER_NAMES, f);
    }

    fn for_each_feed_forward_mut(&mut self, f: &mut dyn FnMut(FeedForward<'_>)) {
        self.bert.encoder.for_each_feed_forward_mut("", &Self::LAYER_NAMES, f);
    }
}

impl BertFamily for MpnetModel {
    type Config = MpnetConfig;
    const NAME: &'static str = "mpnet";
    const PREFIX: &'static str = "mpnet.";
    const ARCHITECTURES: [&'static str; 3] =
        ["MPNetModel", "MPNetForSequenceClassification", "MPNetForQuestionAnswering"];
    const LAYER_NAMES: LayerNames = [
        "attention.attn.q",
        "attention.attn.k",
        "attention.attn.v",
        "attention.attn.o",
        "intermediate.dense",
        "output.dense",
    ];

    fn init(config: &MpnetConfig, pooler: bool, device: &Device) -> Self {
        Self::new(config, pooler, device)
    }

    fn family_config(&self) -> &MpnetConfig {
        &self.config
    }

    fn bert(&self) -> &BertModel {
        &self.bert
    }

    fn bert_mut(&mut self) -> &mut BertModel {
        &mut self.bert
    }

    fn parameter_name(path: &str) -> String {
        let path = path.strip_prefix("bert.").unwrap_or(path);
        let path = path.replace("attention.output.layer_norm", "attention.layer_norm");
        bert::hugging_face_name(&path.replace("attention_bias.bias", "attention_bias"))
    }

    fn head_dropout(config: &MpnetConfig) -> f64 {
        config.bert.hidden_dropout_prob
    }
}
