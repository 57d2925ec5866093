//! The trait of models that load from Hugging Face checkpoints of one architecture: names and parts.

use burn::tensor::Device;

use super::ModelConfig;
use crate::linear::Compressible;

/// A model that Hugging Face checkpoints of one architecture load into.
pub trait PretrainedModel: Compressible {
    /// Its configuration.
    type Config: ModelConfig;
    /// `model_type` in `config.json`.
    const MODEL_TYPE: &'static str;
    /// `architectures` in `config.json`: Hugging Face's class.
    const ARCHITECTURE: &'static str;
    /// Prefix that the base model's tensors have when under a head, with its dot (`bert.`).
    const BASE_PREFIX: &'static str;
    /// Name of the layer that has an output for each label (`classifier`); none in models without
    /// labels.
    const LABEL_LAYER: Option<&'static str>;
    /// Tied parameters: each with the other names under which a file may hold it instead, without
    /// the base prefix.
    const TIED: &'static [(&'static str, &'static [&'static str])] = &[];

    /// A freshly initialised model with the parts that a checkpoint has: `has` tells whether it
    /// has a tensor, by its name without the base prefix.
    fn build(config: &Self::Config, has: &dyn Fn(&str) -> bool, device: &Device) -> Self;

    /// The configuration.
    fn config(&self) -> &Self::Config;

    /// Checks the fields that only this head needs; the message starts with the name of the field.
    fn check_config(config: &Self::Config) -> Result<(), String> {
        let _ = config;
        Ok(())
    }

    /// Id of the token that every input must hold, because the head reads its answer at it.
    fn end_token(&self) -> Option<usize> {
        None
    }

    /// Hugging Face's name of the parameter at a path of field names.
    fn hugging_face_name(path: &str) -> String;

    /// Whether a parameter may be missing from a checkpoint and stay freshly initialised, as heads may.
    fn may_be_new(name: &str) -> bool;

    /// Whether a new head replaces a parameter: those that may be new, except a pooler that belongs to the
    /// base model.
    fn is_head(name: &str) -> bool {
        Self::may_be_new(name) && !name.starts_with(Self::BASE_PREFIX)
    }

    /// Whether a tensor of a checkpoint is known to have no place in this model.
    fn may_be_unused(name: &str) -> bool;
}
