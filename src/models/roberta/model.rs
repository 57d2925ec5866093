//! RoBERTa, bare and with heads.

use std::sync::Arc;

use burn::module::Module;
use burn::tensor::Device;

use super::RobertaConfig;
use crate::linear::{Compressible, CompressibleLinear, FeedForward};
use crate::models::bert::{self, BertFamily, BertModel, LAYER_NAMES, LayerNames};
use crate::models::bert::{ForQuestionAnswering, ForSequenceClassification};
use crate::models::{EncoderInput, EncoderOutput};

/// `RobertaModel`.
#[derive(Module, Debug)]
pub struct RobertaModel {
    /// The layers.
    pub bert: BertModel,
    #[module(skip)]
    config: Arc<RobertaConfig>,
}

/// RoBERTa with a classification head on `<s>`.
pub type RobertaForSequenceClassification = ForSequenceClassification<RobertaModel>;

/// RoBERTa with a start and an end logit for every token.
pub type RobertaForQuestionAnswering = ForQuestionAnswering<RobertaModel>;

impl RobertaModel {
    /// A freshly initialised model.
    pub fn new(config: &RobertaConfig, pooler: bool, device: &Device) -> Self {
        Self {
            bert: BertModel::varied(&config.bert, &config.variation(), pooler, device),
            config: Arc::new(config.clone()),
        }
    }

    /// The configuration.
    pub fn config(&self) -> &RobertaConfig {
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

impl Compressible for RobertaModel {
    fn for_each_linear_mut(&mut self, f: &mut dyn FnMut(&str, &mut CompressibleLinear)) {
        self.bert.for_each_linear_mut(f);
    }

    fn for_each_feed_forward_mut(&mut self, f: &mut dyn FnMut(FeedForward<'_>)) {
        self.bert.for_each_feed_forward_mut(f);
    }
}

impl BertFamily for RobertaModel {
    type Config = RobertaConfig;
    const NAME: &'static str = "roberta";
    const PREFIX: &'static str = "roberta.";
    const ARCHITECTURES: [&'static str; 3] =
        ["RobertaModel", "RobertaForSequenceClassification", "RobertaForQuestionAnswering"];
    const LAYER_NAMES: LayerNames = LAYER_NAMES;

    fn init(config: &RobertaConfig, pooler: bool, device: &Device) -> Self {
        Self::new(config, pooler, device)
    }

    fn family_config(&self) -> &RobertaConfig {
        &self.config
    }

    fn bert(&self) -> &BertModel {
        &self.bert
    }

    fn bert_mut(&mut self) -> &mut BertModel {
        &mut self.bert
    }

    fn parameter_name(path: &str) -> String {
        bert::hugging_face_name(path.strip_prefix("bert.").unwrap_or(path))
    }
}
