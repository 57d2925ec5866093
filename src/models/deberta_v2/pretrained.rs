//! Names and parts of DeBERTa-v2 checkpoints.

use super::{
    DebertaV2Config, DebertaV2ForQuestionAnswering, DebertaV2ForSequenceClassification,
    DebertaV2Model,
};
use crate::models::bert::hugging_face_name;
use crate::models::pretrained::pretrained_models;

/// Heads of pretraining, a buffer of old checkpoints, and absolute positions, which the published
/// v2 and v3 models have for their masked language model's last layers only.
const NEVER_USED: &[&str] = &[
    "lm_predictions.",
    "mask_predictions.",
    "cls.",
    "embeddings.position_ids",
    "embeddings.position_embeddings.weight",
];

pretrained_models! {
    DebertaV2Config, model_type: "deberta-v2", prefix: "deberta.", names: hugging_face_name,
    never_used: NEVER_USED;

    DebertaV2Model: "DebertaV2Model" => {
        label_layer: None,
        new: &[],
        unused: &["pooler.", "classifier.", "qa_outputs."],
    }

    DebertaV2ForSequenceClassification: "DebertaV2ForSequenceClassification" => {
        label_layer: Some("classifier"),
        new: &["classifier.", "pooler."],
        unused: &["qa_outputs."],

        /// The pooler of another task's classifier is as good a start as its encoder.
        fn is_head(name: &str) -> bool {
            name.starts_with("classifier.")
        }
    }

    DebertaV2ForQuestionAnswering: "DebertaV2ForQuestionAnswering" => {
        label_layer: None,
        new: &["qa_outputs."],
        unused: &["pooler.", "classifier."],
    }
}
