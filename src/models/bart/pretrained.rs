//! Names and parts of BART checkpoints.

use super::{BartConfig, BartForConditionalGeneration, BartForSequenceClassification, BartModel};
use crate::models::pretrained::pretrained_models;

/// Structs here group what Hugging Face has in a layer or a side itself.
fn hugging_face_name(path: &str) -> String {
    path.replace("feed_forward.", "").replace("embeddings.", "")
}

/// The names under which a file may hold the one embedding matrix of both sides.
const SIDES: &[(&str, &[&str])] =
    &[("shared.weight", &["encoder.embed_tokens.weight", "decoder.embed_tokens.weight"])];

/// … and of the language-model head.
const SIDES_AND_HEAD: &[(&str, &[&str])] = &[(
    "shared.weight",
    &["encoder.embed_tokens.weight", "decoder.embed_tokens.weight", "lm_head.weight"],
)];

/// Copies of the embedding, and version marks of old checkpoints.
const NEVER_USED: &[&str] = &[
    "encoder.embed_tokens.weight",
    "decoder.embed_tokens.weight",
    "lm_head.weight",
    "encoder.version",
    "decoder.version",
];

pretrained_models! {
    BartConfig, model_type: "bart", prefix: "model.", names: hugging_face_name,
    never_used: NEVER_USED;

    BartModel: "BartModel" => {
        label_layer: None,
        new: &[],
        unused: &["final_logits_bias", "classification_head.", "classification_heads.", "qa_outputs."],

        const TIED: &'static [(&'static str, &'static [&'static str])] = SIDES;
    }

    BartForConditionalGeneration: "BartForConditionalGeneration" => {
        label_layer: None,
        new: &["final_logits_bias"],
        unused: &["classification_head.", "classification_heads.", "qa_outputs."],

        const TIED: &'static [(&'static str, &'static [&'static str])] = SIDES_AND_HEAD;
    }

    BartForSequenceClassification: "BartForSequenceClassification" => {
        label_layer: Some("classification_head.out_proj"),
        new: &["classification_head."],
        unused: &["final_logits_bias", "classification_heads.", "qa_outputs."],

        const TIED: &'static [(&'static str, &'static [&'static str])] = SIDES;

        fn check_config(config: &BartConfig) -> Result<(), String> {
            let missing = "eos_token_id: missing, but the classifier reads its answer at that token";
            config.eos_token().map(|_| ()).ok_or_else(|| missing.to_string())
        }

        fn end_token(&self) -> Option<usize> {
            self.config().eos_token()
        }
    }
}
