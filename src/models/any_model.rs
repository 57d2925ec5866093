//! The model of a folder, whatever its head.

use std::path::Path;

use burn::module::Module;
use burn::tensor::{Device, Int, Tensor};
use serde_json::Value;

use super::any::AnyPretrained;
use super::{
    AnyQuestionAnswerer, AnySeq2Seq, AnySequenceClassifier, EncoderInput, FolderModel, Seq2SeqInput,
};
use crate::checkpoint::format::shown;
use crate::checkpoint::{LoadOptions, LoadReport, model_type};
use crate::linear::{Compressible, EmbeddingVisitor, FeedForwardVisitor, LinearVisitor};
use crate::{Error, Result};

/// A model of any supported architecture with any supported head.
#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant)] // One a process.
pub enum AnyModel {
    /// Labels or a score for a text.
    SequenceClassifier(AnySequenceClassifier),
    /// Answers out of a context.
    QuestionAnswerer(AnyQuestionAnswerer),
    /// A text for a text.
    Seq2Seq(AnySeq2Seq),
}

/// Runs an expression on whichever model it is.
macro_rules! each {
    ($any:expr, $model:ident => $body:expr) => {
        match $any {
            AnyModel::SequenceClassifier($model) => $body,
            AnyModel::QuestionAnswerer($model) => $body,
            AnyModel::Seq2Seq($model) => $body,
        }
    };
}

impl Compressible for AnyModel {
    fn for_each_linear_mut(&mut self, f: LinearVisitor<'_>) {
        each!(self, model => model.for_each_linear_mut(f))
    }

    fn for_each_embedding_mut(&mut self, f: EmbeddingVisitor<'_>) {
        each!(self, model => model.for_each_embedding_mut(f))
    }

    fn for_each_feed_forward_mut(&mut self, f: FeedForwardVisitor<'_>) {
        each!(self, model => model.for_each_feed_forward_mut(f))
    }
}

impl AnyModel {
    /// All that the model answers to a batch, one value after another: logits, those of starts and ends, or
    /// of the first token that it writes.
    ///
    /// # Errors
    /// If the device fails.
    ///
    /// # Panics
    /// As [`FolderModel::run`].
    pub fn answers(&self, input: EncoderInput) -> Result<Vec<f32>> {
        let logits = match self {
            Self::SequenceClassifier(model) => model.forward(input),
            Self::QuestionAnswerer(model) => {
                let (starts, ends) = model.forward(input);
                Tensor::cat(vec![starts, ends], 1)
            }
            Self::Seq2Seq(model) => {
                let first = input.input_ids.clone().narrow(1, 0, 1);
                let logits = model.forward(Seq2SeqInput::new(input).with_decoder_input_ids(first));
                logits.flatten(1, 2)
            }
        };
        let data = logits
            .try_into_data()
            .map_err(|e| Error::Training(format!("reading logits from the device: {e:?}")))?;
        Ok(data.iter::<f32>().collect())
    }
}

impl FolderModel for AnyModel {
    /// Loads a folder's model with the head that `architectures` in `config.json` names. Where that
    /// is none of ours, as in pretrained models, it is what the architecture was made for: BART
    /// writes texts, encoders classify sequences.
    fn load(
        folder: impl AsRef<Path>,
        device: &Device,
        options: &LoadOptions,
    ) -> Result<(Self, LoadReport)> {
        let folder = folder.as_ref();
        let config: Value = crate::files::read_json(folder.join("config.json"))?;
        let architectures = match config.get("architectures") {
            None | Some(Value::Null) => None,
            Some(Value::Array(names)) => Some(names),
            Some(other) => {
                let message =
                    format!("architectures: expected a list of names, found {}", shown(other));
                return Err(Error::format(folder.join("config.json"), message));
            }
        };
        let names = |head: &str| {
            let mut each = architectures.into_iter().flatten().filter_map(Value::as_str);
            each.any(|name| name.ends_with(head))
        };
        if names("ForQuestionAnswering") {
            let loaded = AnyQuestionAnswerer::load(folder, device, options);
            return loaded.map(|(model, report)| (Self::QuestionAnswerer(model), report));
        }
        let kind = model_type(folder)?;
        let writes = AnySeq2Seq::SUPPORTED.contains(&&*kind) && !names("ForSequenceClassification");
        if writes || names("ForConditionalGeneration") {
            let loaded = AnySeq2Seq::load(folder, device, options);
            return loaded.map(|(model, report)| (Self::Seq2Seq(model), report));
        }
        let loaded = AnySequenceClassifier::load(folder, device, options);
        loaded.map(|(model, report)| (Self::SequenceClassifier(model), report))
    }

    fn pretrained(&self) -> &dyn AnyPretrained {
        each!(self, model => model.pretrained())
    }

    fn run(&self, input_ids: Tensor<2, Int>) -> Result<()> {
        each!(self, model => model.run(input_ids))
    }
}
