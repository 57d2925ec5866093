//! The architecture that a folder's `config.json` names.

use std::path::Path;

use burn::tensor::{Device, Int, Tensor};

use super::bart::BartForSequenceClassification;
use super::bert::BertForSequenceClassification;
use super::deberta_v2::DebertaV2ForSequenceClassification;
use super::mpnet::MpnetForSequenceClassification;
use super::roberta::RobertaForSequenceClassification;
use super::{EncoderInput, LabelConfig, Labels, sequence_classification_loss};
use crate::checkpoint::{LoadOptions, LoadReport, SaveOptions};
use crate::linear::Compressible;
use crate::{Error, Result};

/// A model with its configuration that is read from a folder and written to one.
pub trait FolderModel: Compressible {
    /// Loads the model of a folder, whichever architecture it is.
    ///
    /// # Errors
    /// As [`crate::checkpoint::load_pretrained`], and if the architecture is not supported.
    fn load(folder: &Path, device: &Device, options: &LoadOptions) -> Result<(Self, LoadReport)>;

    /// Writes the model to a folder.
    ///
    /// # Errors
    /// As [`crate::checkpoint::save_pretrained`].
    fn save(&self, folder: &Path, options: &SaveOptions) -> Result<()>;

    /// Labels and kind of task.
    fn labels(&self) -> &LabelConfig;

    /// Longest input, in tokens.
    fn max_length(&self) -> usize;

    /// Number of tokens in the vocabulary.
    fn vocab_size(&self) -> usize;

    /// Id of the token that every input must hold, because the answer is read at it; most models
    /// need none.
    fn end_token(&self) -> Option<usize>;

    /// The configuration as it is in `config.json`.
    ///
    /// # Errors
    /// If it cannot be written as JSON.
    fn config_json(&self) -> Result<serde_json::Value>;

    /// Computes the model's answer to `[batch, length]` tokens without padding, and waits for it:
    /// what is timed.
    ///
    /// # Errors
    /// If the device fails.
    ///
    /// # Panics
    /// If sequences are longer than [`FolderModel::max_length`] or lack the
    /// [`FolderModel::end_token`].
    fn run(&self, input_ids: Tensor<2, Int>) -> Result<()>;
}

/// Waits for a tensor's values.
pub(super) fn await_values(tensor: Tensor<2>) -> Result<()> {
    let read = tensor.try_into_data().map(|_| ());
    read.map_err(|e| Error::Training(format!("reading logits from the device: {e:?}")))
}

/// An enum of models with the same head on different architectures: to support another one, name
/// it here. `$output` is what their `forward` gives.
macro_rules! any_model {
    (
        $(#[$about:meta])*
        $name:ident($input:ty) -> $output:ty {
            $($(#[$about_variant:meta])* $variant:ident($model:ty),)+
        }
    ) => {
        $(#[$about])*
        #[derive(burn::module::Module, Debug)]
        #[allow(clippy::large_enum_variant)] // One a process.
        pub enum $name {
            $($(#[$about_variant])* $variant($model),)+
        }

        impl $name {
            /// The values of `model_type` that can be loaded.
            pub const SUPPORTED: &'static [&'static str] =
                &[$(<$model as $crate::checkpoint::PretrainedModel>::MODEL_TYPE),+];

            /// Loads the model of a folder, whichever architecture it is.
            ///
            /// # Errors
            /// As [`crate::checkpoint::load_pretrained`], and if the architecture is not supported.
            pub fn load(
                folder: impl AsRef<std::path::Path>,
                device: &burn::tensor::Device,
                options: &$crate::checkpoint::LoadOptions,
            ) -> $crate::Result<(Self, $crate::checkpoint::LoadReport)> {
                let folder = folder.as_ref();
                let kind = $crate::checkpoint::model_type(folder)?;
                $(if kind == <$model as $crate::checkpoint::PretrainedModel>::MODEL_TYPE {
                    let loaded = $crate::checkpoint::load_pretrained(folder, device, options);
                    return loaded.map(|(model, report)| (Self::$variant(model), report));
                })+
                Err($crate::Error::format(
                    folder.join("config.json"),
                    format!(
                        "architecture not supported: {kind}; supported: {}",
                        Self::SUPPORTED.join(", ")
                    ),
                ))
            }

            /// Writes the model to a folder.
            ///
            /// # Errors
            /// As [`crate::checkpoint::save_pretrained`].
            pub fn save(
                &self,
                folder: impl AsRef<std::path::Path>,
                options: &$crate::checkpoint::SaveOptions,
            ) -> $crate::Result<()> {
                match self {
                    $(Self::$variant(model) => {
                        $crate::checkpoint::save_pretrained(model, folder, options)
                    })+
                }
            }

            /// The model's answer, see its own `forward`.
            ///
            /// # Panics
            /// If sequences are longer than [`Self::max_length`], lack a token that the model needs,
            /// or shapes differ.
            pub fn forward(&self, input: $input) -> $output {
                match self { $(Self::$variant(model) => model.forward(input),)+ }
            }

            /// Labels and kind of task.
            pub fn labels(&self) -> &$crate::models::LabelConfig {
                use $crate::models::ModelConfig;
                match self { $(Self::$variant(model) => model.config().labels(),)+ }
            }

            /// Longest input, in tokens.
            pub fn max_length(&self) -> usize {
                use $crate::models::ModelConfig;
                match self { $(Self::$variant(model) => model.config().max_length(),)+ }
            }

            /// Number of tokens in the vocabulary.
            pub fn vocab_size(&self) -> usize {
                use $crate::models::ModelConfig;
                match self { $(Self::$variant(model) => model.config().vocab_size(),)+ }
            }

            /// The configuration as it is in `config.json`.
            ///
            /// # Errors
            /// If it cannot be written as JSON.
            pub fn config_json(&self) -> $crate::Result<serde_json::Value> {
                let json = match self {
                    $(Self::$variant(model) => serde_json::to_value(model.config()),)+
                };
                json.map_err(|e| $crate::Error::format("config.json", e.to_string()))
            }
        }

        impl $crate::linear::Compressible for $name {
            fn for_each_linear_mut(
                &mut self,
                f: &mut dyn FnMut(&str, &mut $crate::linear::CompressibleLinear),
            ) {
                match self { $(Self::$variant(model) => model.for_each_linear_mut(f),)+ }
            }

            fn for_each_feed_forward_mut(
                &mut self,
                f: &mut dyn FnMut($crate::linear::FeedForward<'_>),
            ) {
                match self { $(Self::$variant(model) => model.for_each_feed_forward_mut(f),)+ }
            }
        }

        impl $crate::models::FolderModel for $name {
            fn load(
                folder: &std::path::Path,
                device: &burn::tensor::Device,
                options: &$crate::checkpoint::LoadOptions,
            ) -> $crate::Result<(Self, $crate::checkpoint::LoadReport)> {
                Self::load(folder, device, options)
            }

            fn save(
                &self,
                folder: &std::path::Path,
                options: &$crate::checkpoint::SaveOptions,
            ) -> $crate::Result<()> {
                self.save(folder, options)
            }

            fn labels(&self) -> &$crate::models::LabelConfig {
                self.labels()
            }

            fn max_length(&self) -> usize {
                self.max_length()
            }

            fn vocab_size(&self) -> usize {
                self.vocab_size()
            }

            fn end_token(&self) -> Option<usize> {
                use $crate::checkpoint::PretrainedModel;
                match self { $(Self::$variant(model) => model.end_token(),)+ }
            }

            fn config_json(&self) -> $crate::Result<serde_json::Value> {
                self.config_json()
            }

            fn run(
                &self,
                input_ids: burn::tensor::Tensor<2, burn::tensor::Int>,
            ) -> $crate::Result<()> {
                self.run(input_ids)
            }
        }
    };
}
pub(super) use any_model;

any_model! {
    /// A sequence classifier of any supported architecture. `forward` gives logits
    /// `[batch, num_labels]`.
    AnySequenceClassifier(EncoderInput) -> Tensor<2> {
        /// `model_type` `bert`.
        Bert(BertForSequenceClassification),
        /// `model_type` `roberta`.
        Roberta(RobertaForSequenceClassification),
        /// `model_type` `mpnet`.
        Mpnet(MpnetForSequenceClassification),
        /// `model_type` `deberta-v2`, which DeBERTa-v3 has too.
        DebertaV2(DebertaV2ForSequenceClassification),
        /// `model_type` `bart`.
        Bart(BartForSequenceClassification),
    }
}

impl AnySequenceClassifier {
    /// The loss `[1]` that `problem_type` asks for, mean over the batch.
    ///
    /// # Panics
    /// If labels do not fit the logits.
    pub fn loss(&self, logits: Tensor<2>, labels: Labels) -> Tensor<1> {
        sequence_classification_loss(self.labels().problem_type(), logits, labels)
    }

    fn run(&self, input_ids: Tensor<2, Int>) -> Result<()> {
        await_values(self.forward(EncoderInput::new(input_ids)))
    }
}
