//! The architecture that a folder's `config.json` names.

use std::path::Path;

use burn::module::Module;
use burn::tensor::{Device, Tensor};

use super::bart::BartForSequenceClassification;
use super::bert::BertForSequenceClassification;
use super::deberta_v2::DebertaV2ForSequenceClassification;
use super::{EncoderInput, LabelConfig, Labels, ModelConfig};
use crate::checkpoint::{
    LoadOptions, LoadReport, PretrainedModel, SaveOptions, load_pretrained, model_type,
    save_pretrained,
};
use crate::linear::{Compressible, CompressibleLinear};
use crate::{Error, Result};

/// A sequence classifier of any supported architecture.
#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant)] // One a process.
pub enum AnySequenceClassifier {
    /// `model_type` `bert`.
    Bert(BertForSequenceClassification),
    /// `model_type` `deberta-v2`, which DeBERTa-v3 has too.
    DebertaV2(DebertaV2ForSequenceClassification),
    /// `model_type` `bart`.
    Bart(BartForSequenceClassification),
}

/// Runs an expression on whichever model it is.
macro_rules! each {
    ($any:expr, $model:ident => $body:expr) => {
        match $any {
            AnySequenceClassifier::Bert($model) => $body,
            AnySequenceClassifier::DebertaV2($model) => $body,
            AnySequenceClassifier::Bart($model) => $body,
        }
    };
}

impl AnySequenceClassifier {
    /// The values of `model_type` that can be loaded.
    pub const SUPPORTED: [&'static str; 3] = [
        BertForSequenceClassification::MODEL_TYPE,
        BartForSequenceClassification::MODEL_TYPE,
        DebertaV2ForSequenceClassification::MODEL_TYPE,
    ];

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
            BertForSequenceClassification::MODEL_TYPE => load_pretrained(folder, device, options)
                .map(|(model, report)| (Self::Bert(model), report)),
            DebertaV2ForSequenceClassification::MODEL_TYPE => {
                load_pretrained(folder, device, options)
                    .map(|(model, report)| (Self::DebertaV2(model), report))
            }
            BartForSequenceClassification::MODEL_TYPE => load_pretrained(folder, device, options)
                .map(|(model, report)| (Self::Bart(model), report)),
            other => Err(Error::format(
                folder.join("config.json"),
                format!(
                    "architecture not supported: {other}; supported: {}",
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

    /// Logits `[batch, num_labels]`.
    ///
    /// # Panics
    /// If sequences are longer than [`Self::max_length`], or shapes differ.
    pub fn forward(&self, input: EncoderInput) -> Tensor<2> {
        each!(self, model => model.forward(input))
    }

    /// The loss `[1]` that `problem_type` asks for, mean over the batch.
    ///
    /// # Panics
    /// If labels do not fit the logits.
    pub fn loss(&self, logits: Tensor<2>, labels: Labels) -> Tensor<1> {
        each!(self, model => model.loss(logits, labels))
    }

    /// Labels and kind of task.
    pub fn labels(&self) -> &LabelConfig {
        each!(self, model => model.config().labels())
    }

    /// Longest input, in tokens.
    pub fn max_length(&self) -> usize {
        each!(self, model => model.config().max_length())
    }

    /// Number of tokens in the vocabulary.
    pub fn vocab_size(&self) -> usize {
        each!(self, model => model.config().vocab_size())
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

impl Compressible for AnySequenceClassifier {
    fn for_each_linear_mut(&mut self, f: &mut dyn FnMut(&str, &mut CompressibleLinear)) {
        each!(self, model => model.for_each_linear_mut(f))
    }
}
