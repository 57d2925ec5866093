//! The architecture that a folder's `config.json` names.

use std::path::Path;

use burn::tensor::{Device, Int, Tensor};
use serde_json::Value;

use super::bart::BartForSequenceClassification;
use super::bert::BertForSequenceClassification;
use super::deberta_v2::DebertaV2ForSequenceClassification;
use super::mpnet::MpnetForSequenceClassification;
use super::roberta::RobertaForSequenceClassification;
use super::{EncoderInput, LabelConfig, Labels, ModelConfig, sequence_classification_loss};
use crate::checkpoint::{LoadOptions, LoadReport, PretrainedModel, SaveOptions, save_pretrained};
use crate::linear::Compressible;
use crate::{Error, Result};

/// A model with its configuration that is read from a folder and written to one.
pub trait FolderModel: Compressible {
    /// Loads the model of a folder, whichever architecture it is.
    ///
    /// # Errors
    /// As [`crate::checkpoint::load_pretrained`], and if the architecture is not supported.
    fn load(
        folder: impl AsRef<Path>,
        device: &Device,
        options: &LoadOptions,
    ) -> Result<(Self, LoadReport)>;

    /// The model itself, without its architecture.
    fn pretrained(&self) -> &dyn AnyPretrained;

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

    /// Writes the model to a folder.
    ///
    /// # Errors
    /// As [`crate::checkpoint::save_pretrained`].
    fn save(&self, folder: impl AsRef<Path>, options: &SaveOptions) -> Result<()> {
        self.pretrained().save_to(folder.as_ref(), options)
    }

    /// Labels and kind of task.
    fn labels(&self) -> &LabelConfig {
        self.pretrained().label_config()
    }

    /// Longest input, in tokens.
    fn max_length(&self) -> usize {
        self.pretrained().sizes().0
    }

    /// Number of tokens in the vocabulary.
    fn vocab_size(&self) -> usize {
        self.pretrained().sizes().1
    }

    /// Id of the token that every input must hold, because the answer is read at it; most models
    /// need none.
    fn end_token(&self) -> Option<usize> {
        self.pretrained().needed_token()
    }

    /// The configuration as it is in `config.json`.
    ///
    /// # Errors
    /// If it cannot be written as JSON.
    fn config_json(&self) -> Result<Value> {
        let json = self.pretrained().to_json();
        json.map_err(|e| Error::format("config.json", e.to_string()))
    }
}

/// A [`PretrainedModel`] of whichever architecture; see the methods of [`FolderModel`].
#[allow(missing_docs)]
pub trait AnyPretrained {
    fn save_to(&self, folder: &Path, options: &SaveOptions) -> Result<()>;
    fn label_config(&self) -> &LabelConfig;
    fn sizes(&self) -> (usize, usize);
    fn needed_token(&self) -> Option<usize>;
    fn to_json(&self) -> serde_json::Result<Value>;
}

impl<M: PretrainedModel> AnyPretrained for M {
    fn save_to(&self, folder: &Path, options: &SaveOptions) -> Result<()> {
        save_pretrained(self, folder, options)
    }

    fn label_config(&self) -> &LabelConfig {
        self.config().labels()
    }

    fn sizes(&self) -> (usize, usize) {
        (self.config().max_length(), self.config().vocab_size())
    }

    fn needed_token(&self) -> Option<usize> {
        self.end_token()
    }

    fn to_json(&self) -> serde_json::Result<Value> {
        serde_json::to_value(self.config())
    }
}

/// Waits for a tensor's values.
pub(super) fn await_values(tensor: Tensor<2>) -> Result<()> {
    let read = tensor.try_into_data().map(|_| ());
    read.map_err(|e| Error::Training(format!("reading logits from the device: {e:?}")))
}

/// An enum of models with the same head on different architectures: to support another one, name
/// it here. `$output` is what their `forward` gives, and `$run` is [`FolderModel::run`].
macro_rules! any_model {
    (
        $(#[$about:meta])*
        $name:ident($input:ty) -> $output:ty {
            $($(#[$about_variant:meta])* $variant:ident($model:ty),)+
        }
        run: $run:expr
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

            /// The model's answer, see its own `forward`.
            ///
            /// # Panics
            /// If sequences are longer than the model's longest, lack a token that the model needs,
            /// or shapes differ.
            pub fn forward(&self, input: $input) -> $output {
                match self { $(Self::$variant(model) => model.forward(input),)+ }
            }
        }

        impl $crate::linear::Compressible for $name {
            fn for_each_linear_mut(&mut self, f: $crate::linear::LinearVisitor<'_>) {
                match self { $(Self::$variant(model) => model.for_each_linear_mut(f),)+ }
            }

            fn for_each_embedding_mut(&mut self, f: $crate::linear::EmbeddingVisitor<'_>) {
                match self { $(Self::$variant(model) => model.for_each_embedding_mut(f),)+ }
            }

            fn for_each_feed_forward_mut(&mut self, f: $crate::linear::FeedForwardVisitor<'_>) {
                match self { $(Self::$variant(model) => model.for_each_feed_forward_mut(f),)+ }
            }
        }

        impl $crate::models::FolderModel for $name {
            fn load(
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

            fn pretrained(&self) -> &dyn $crate::models::any::AnyPretrained {
                match self { $(Self::$variant(model) => model,)+ }
            }

            fn run(
                &self,
                input_ids: burn::tensor::Tensor<2, burn::tensor::Int>,
            ) -> $crate::Result<()> {
                let run: fn(&Self, burn::tensor::Tensor<2, burn::tensor::Int>) -> _ = $run;
                run(self, input_ids)
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
    run: |model, input_ids| await_values(model.forward(EncoderInput::new(input_ids)))
}

impl AnySequenceClassifier {
    /// The loss `[1]` that `problem_type` asks for, mean over the batch.
    ///
    /// # Panics
    /// If labels do not fit the logits.
    pub fn loss(&self, logits: Tensor<2>, labels: Labels) -> Tensor<1> {
        sequence_classification_loss(self.labels().problem_type(), logits, labels)
    }
}
