//! Names and parts of BART checkpoints.

use burn::tensor::Device;

use super::{BartConfig, BartForConditionalGeneration, BartForSequenceClassification, BartModel};
use crate::checkpoint::PretrainedModel;

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
fn always_unused(name: &str) -> bool {
    SIDES_AND_HEAD.iter().any(|(_, others)| others.contains(&name))
        || matches!(name, "encoder.version" | "decoder.version")
}

fn is_head(name: &str) -> bool {
    name == "final_logits_bias"
        || name.starts_with("classification_head.")
        || name.starts_with("classification_heads.")
        || name.starts_with("qa_outputs.")
}

impl PretrainedModel for BartModel {
    type Config = BartConfig;
    const MODEL_TYPE: &'static str = "bart";
    const ARCHITECTURE: &'static str = "BartModel";
    const BASE_PREFIX: &'static str = "model.";
    const LABEL_LAYER: Option<&'static str> = None;
    const TIED: &'static [(&'static str, &'static [&'static str])] = SIDES;

    fn build(config: &BartConfig, _has: &dyn Fn(&str) -> bool, device: &Device) -> Self {
        Self::new(config, device)
    }

    fn config(&self) -> &BartConfig {
        self.config()
    }

    fn hugging_face_name(path: &str) -> String {
        hugging_face_name(path)
    }

    fn may_be_new(_name: &str) -> bool {
        false
    }

    fn may_be_unused(name: &str) -> bool {
        always_unused(name) || is_head(name)
    }
}

impl PretrainedModel for BartForConditionalGeneration {
    type Config = BartConfig;
    const MODEL_TYPE: &'static str = "bart";
    const ARCHITECTURE: &'static str = "BartForConditionalGeneration";
    const BASE_PREFIX: &'static str = "model.";
    const LABEL_LAYER: Option<&'static str> = None;
    const TIED: &'static [(&'static str, &'static [&'static str])] = SIDES_AND_HEAD;

    fn build(config: &BartConfig, _has: &dyn Fn(&str) -> bool, device: &Device) -> Self {
        Self::new(config, device)
    }

    fn config(&self) -> &BartConfig {
        self.config()
    }

    fn hugging_face_name(path: &str) -> String {
        hugging_face_name(path)
    }

    fn may_be_new(name: &str) -> bool {
        name == "final_logits_bias"
    }

    fn may_be_unused(name: &str) -> bool {
        always_unused(name) || (is_head(name) && name != "final_logits_bias")
    }
}

impl PretrainedModel for BartForSequenceClassification {
    type Config = BartConfig;
    const MODEL_TYPE: &'static str = "bart";
    const ARCHITECTURE: &'static str = "BartForSequenceClassification";
    const BASE_PREFIX: &'static str = "model.";
    const LABEL_LAYER: Option<&'static str> = Some("classification_head.out_proj");
    const TIED: &'static [(&'static str, &'static [&'static str])] = SIDES;

    fn build(config: &BartConfig, _has: &dyn Fn(&str) -> bool, device: &Device) -> Self {
        Self::new(config, device)
    }

    fn config(&self) -> &BartConfig {
        self.config()
    }

    fn check_config(config: &BartConfig) -> Result<(), String> {
        let missing = "eos_token_id: missing, but the classifier reads its answer at that token";
        config.eos_token().map(|_| ()).ok_or_else(|| missing.to_string())
    }

    fn end_token(&self) -> Option<usize> {
        self.config().eos_token()
    }

    fn hugging_face_name(path: &str) -> String {
        hugging_face_name(path)
    }

    fn may_be_new(name: &str) -> bool {
        name.starts_with("classification_head.")
    }

    fn may_be_unused(name: &str) -> bool {
        always_unused(name) || (is_head(name) && !name.starts_with("classification_head."))
    }
}
