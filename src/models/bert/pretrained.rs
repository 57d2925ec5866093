//! Names and parts of BERT checkpoints.

use burn::tensor::Device;

use super::{BertConfig, BertForSequenceClassification, BertModel};
use crate::checkpoint::PretrainedModel;

/// Fields here and parts of Hugging Face's names that Rust does not allow as field names.
fn hugging_face_name(path: &str) -> String {
    path.replace("self_attention", "self").replace("layer_norm", "LayerNorm")
}

/// Buffers of old checkpoints, and the heads of pretraining.
fn always_unused(name: &str) -> bool {
    name.starts_with("cls.")
        || name == "embeddings.position_ids"
        || name == "embeddings.token_type_ids"
}

impl PretrainedModel for BertModel {
    type Config = BertConfig;
    const MODEL_TYPE: &'static str = "bert";
    const ARCHITECTURE: &'static str = "BertModel";
    const BASE_PREFIX: &'static str = "bert.";

    fn build(config: &BertConfig, has: &dyn Fn(&str) -> bool, device: &Device) -> Self {
        Self::new(config, has("pooler.dense.weight"), device)
    }

    fn config(&self) -> &BertConfig {
        self.config()
    }

    fn hugging_face_name(path: &str) -> String {
        hugging_face_name(path)
    }

    fn may_be_new(_name: &str) -> bool {
        false
    }

    fn may_be_unused(name: &str) -> bool {
        always_unused(name) || name.starts_with("classifier.") || name.starts_with("qa_outputs.")
    }
}

impl PretrainedModel for BertForSequenceClassification {
    type Config = BertConfig;
    const MODEL_TYPE: &'static str = "bert";
    const ARCHITECTURE: &'static str = "BertForSequenceClassification";
    const BASE_PREFIX: &'static str = "bert.";

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
        always_unused(name)
    }
}
