//! The text-to-text architecture that a folder's `config.json` names.

use std::path::Path;

use burn::module::Module;
use burn::tensor::{Device, Int, Tensor};

use super::bart::BartForConditionalGeneration;
use super::{EncoderInput, ModelConfig, Seq2SeqInput};
use crate::checkpoint::{
    LoadOptions, LoadReport, PretrainedModel, SaveOptions, load_pretrained, model_type,
    save_pretrained,
};
use crate::generation::{Generated, GenerationConfig, generate};
use crate::linear::{Compressible, CompressibleLinear};
use crate::{Error, Result};

/// A model of any supported architecture that writes a text given another.
#[derive(Module, Debug)]
pub enum AnySeq2Seq {
    /// `model_type` `bart`.
    Bart(BartForConditionalGeneration),
}

/// Runs an expression on whichever model it is.
macro_rules! each {
    ($any:expr, $model:ident => $body:expr) => {
        match $any {
            AnySeq2Seq::Bart($model) => $body,
        }
    };
}

impl AnySeq2Seq {
    /// The values of `model_type` that can be loaded.
    pub const SUPPORTED: [&'static str; 1] = [BartForConditionalGeneration::MODEL_TYPE];

    /// Loads the model of a folder, whichever architecture it is.
    ///
    /// # Errors
    /// As [`load_pretrained`], and if the architecture is not supported.
    pub fn load(
        folder: impl AsRef<Path>,
        device: &Device,
        options: &LoadOptions,
    ) -> Result<(Self, LoadReport)> {
        let folder = folder.as_ref();
        match model_type(folder)?.as_str() {
            BartForConditionalGeneration::MODEL_TYPE => load_pretrained(folder, device, options)
                .map(|(model, report)| (Self::Bart(model), report)),
            other => Err(Error::format(
                folder.join("config.json"),
                format!(
                    "text-to-text architecture not supported: {other}; supported: {}",
                    Self::SUPPORTED.join(", ")
                ),
            )),
        }
    }

    /// Writes the model to a folder.
    ///
    /// # Errors
    /// As [`save_pretrained`].
    pub fn save(&self, folder: impl AsRef<Path>, options: &SaveOptions) -> Result<()> {
        each!(self, model => save_pretrained(model, folder, options))
    }

    /// Logits `[batch, target, vocab_size]`.
    ///
    /// # Panics
    /// If sequences are longer than [`Self::max_length`], or shapes differ.
    pub fn forward(&self, input: Seq2SeqInput) -> Tensor<3> {
        each!(self, model => model.forward(input))
    }

    /// The input with the decoder reading what it needs to predict `labels`, `[batch, target]`.
    pub fn teacher_forced(&self, input: Seq2SeqInput, labels: Tensor<2, Int>) -> Seq2SeqInput {
        each!(self, model => model.teacher_forced(input, labels))
    }

    /// The loss `[1]`: see [`language_model_loss`](super::language_model_loss).
    ///
    /// # Panics
    /// If labels do not fit the logits.
    pub fn loss(
        &self,
        logits: Tensor<3>,
        labels: Tensor<2, Int>,
        label_smoothing: f64,
    ) -> Tensor<1> {
        each!(self, model => model.loss(logits, labels, label_smoothing))
    }

    /// Generates outputs for every example: see [`generate`].
    ///
    /// # Errors
    /// As [`generate`].
    pub fn generate(
        &self,
        input: &EncoderInput,
        config: &GenerationConfig,
    ) -> Result<Vec<Vec<Generated>>> {
        each!(self, model => generate(model, input, config))
    }

    /// Longest input, and longest output, in tokens.
    pub fn max_length(&self) -> usize {
        each!(self, model => model.config().max_length())
    }

    /// Number of tokens in the vocabulary.
    pub fn vocab_size(&self) -> usize {
        each!(self, model => ModelConfig::vocab_size(model.config()))
    }

    /// The configuration as it is in `config.json`.
    ///
    /// # Errors
    /// If it cannot be written as JSON.
    pub fn config_json(&self) -> Result<serde_json::Value> {
        each!(self, model => serde_json::to_value(model.config()))
            .map_err(|e| Error::format("config.json", e.to_string()))
    }
}

impl Compressible for AnySeq2Seq {
    fn for_each_linear_mut(&mut self, f: &mut dyn FnMut(&str, &mut CompressibleLinear)) {
        each!(self, model => model.for_each_linear_mut(f))
    }
}
