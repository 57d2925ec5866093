//! Names and parts of BERT checkpoints.

use burn::tensor::Device;

use super::family::always_unused;
use super::{BertConfig, BertFamily, BertForSequenceClassification, BertModel};
use super::{LAYER_NAMES, LayerNames};
use crate::checkpoint::PretrainedModel;

/// Fields here and parts of Hugging Face's names that Rust does not allow as field names.
pub(crate) fn hugging_face_name(path: &str) -> String {
    path.replace("self_attention", "self").replace("layer_norm", "LayerNorm")
}

impl BertFamily for BertModel {
    type Config = BertConfig;
    const NAME: &'static str = "bert";
    const PREFIX: &'static str = "bert.";
    const ARCHITECTURES: [&'static str; 3] =
        ["BertModel", "BertForSequenceClassification", "BertForQuestionAnswering"];
    const LAYER_NAMES: LayerNames = LAYER_NAMES;

    fn init(config: &BertConfig, pooler: bool, device: &Device) -> Self {
        Self::new(config, pooler, device)
    }

    fn family_config(&self) -> &BertConfig {
        self.config()
    }

    fn bert(&self) -> &BertModel {
        self
    }

    fn bert_mut(&mut self) -> &mut BertModel {
        self
    }

    fn parameter_name(path: &str) -> String {
        hugging_face_name(path)
    }
}

impl PretrainedModel for BertForSequenceClassification {
    type Config = BertConfig;
    const MODEL_TYPE: &'static str = "bert";
    const ARCHITECTURE: &'static str = "BertForSequenceClassification";
    const BASE_PREFIX: &'static str = "bert.";
    const LABEL_LAYER: Option<&'static str> = Some("classifier");

    fn build(config: &BertConfig, _has: &dyn Fn(&str) -> bool, device: &Device) -> Self {
        Self::new(config, device)
    }

    fn config(&self) -> &BertConfig {
        self.config()
    }

    fn hugging_face_name(path: &str) -> String {
        hugging_face_name(path)
    }

    fn may_be_new(name: &str) -> bool {
        name.starts_with("classifier.") || name.starts_with("bert.pooler.")
    }

    fn may_be_unused(name: &str) -> bool {
        always_unused(name) || name.starts_with("qa_outputs.")
    }
}
