//! Names and parts of DeBERTa-v2 checkpoints.

use burn::tensor::Device;

use super::{
    DebertaV2Config, DebertaV2ForQuestionAnswering, DebertaV2ForSequenceClassification,
    DebertaV2Model,
};
use crate::checkpoint::PretrainedModel;
use crate::models::bert::hugging_face_name;

/// Heads of pretraining, a buffer of old checkpoints, and absolute positions, which the published
/// v2 and v3 models have for their masked language model's last layers only.
fn always_unused(name: &str) -> bool {
    let heads = ["lm_predictions.", "mask_predictions.", "cls."];
    heads.iter().any(|head| name.starts_with(head))
        || name == "embeddings.position_ids"
        || name == "embeddings.position_embeddings.weight"
}

impl PretrainedModel for DebertaV2Model {
    type Config = DebertaV2Config;
    const MODEL_TYPE: &'static str = "deberta-v2";
    const ARCHITECTURE: &'static str = "DebertaV2Model";
    const BASE_PREFIX: &'static str = "deberta.";
    const LABEL_LAYER: Option<&'static str> = None;

    fn build(config: &DebertaV2Config, _has: &dyn Fn(&str) -> bool, device: &Device) -> Self {
        Self::new(config, device)
    }

    fn config(&self) -> &DebertaV2Config {
        self.config()
    }

    fn hugging_face_name(path: &str) -> String {
        hugging_face_name(path)
    }

    fn may_be_new(_name: &str) -> bool {
        false
    }

    fn may_be_unused(name: &str) -> bool {
        let heads = ["pooler.", "classifier.", "qa_outputs."];
        always_unused(name) || heads.iter().any(|head| name.starts_with(head))
    }
}

impl PretrainedModel for DebertaV2ForSequenceClassification {
    type Config = DebertaV2Config;
    const MODEL_TYPE: &'static str = "deberta-v2";
    const ARCHITECTURE: &'static str = "DebertaV2ForSequenceClassification";
    const BASE_PREFIX: &'static str = "deberta.";
    const LABEL_LAYER: Option<&'static str> = Some("classifier");

    fn build(config: &DebertaV2Config, _has: &dyn Fn(&str) -> bool, device: &Device) -> Self {
        Self::new(config, device)
    }

    fn config(&self) -> &DebertaV2Config {
        self.config()
    }

    fn hugging_face_name(path: &str) -> String {
        hugging_face_name(path)
    }

    fn may_be_new(name: &str) -> bool {
        name.starts_with("classifier.") || name.starts_with("pooler.")
    }

    /// The pooler of another task's classifier is as good a start as its encoder.
    fn is_head(name: &str) -> bool {
        name.starts_with("classifier.")
    }

    fn may_be_unused(name: &str) -> bool {
        always_unused(name) || name.starts_with("qa_outputs.")
    }
}

impl PretrainedModel for DebertaV2ForQuestionAnswering {
    type Config = DebertaV2Config;
    const MODEL_TYPE: &'static str = "deberta-v2";
    const ARCHITECTURE: &'static str = "DebertaV2ForQuestionAnswering";
    const BASE_PREFIX: &'static str = "deberta.";
    const LABEL_LAYER: Option<&'static str> = None;

    fn build(config: &DebertaV2Config, _has: &dyn Fn(&str) -> bool, device: &Device) -> Self {
        Self::new(config, device)
    }

    fn config(&self) -> &DebertaV2Config {
        self.config()
    }

    fn hugging_face_name(path: &str) -> String {
        hugging_face_name(path)
    }

    fn may_be_new(name: &str) -> bool {
        name.starts_with("qa_outputs.")
    }

    fn may_be_unused(name: &str) -> bool {
        always_unused(name) || name.starts_with("pooler.") || name.starts_with("classifier.")
    }
}
