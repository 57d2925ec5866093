//! The architectures, built from [`crate::linear::CompressibleLinear`] and the operations of `ops`.
//!
//! Each computes exactly what the Hugging Face model of the same name does, with the same names of
//! layers and the same `config.json`.
//!
//! A model is written once, for training and inference on every device: the operations choose how to
//! compute. Begin with [`bert`]; RoBERTa and MPNet are its layers with few differences. A new
//! architecture is a folder here (config, layers, heads, `pretrained.rs` with its table of names), an
//! `impl Compressible`, and a line in `any.rs`, which picks the architecture by `model_type`.

mod any;
mod any_model;
mod any_question_answerer;
mod any_seq2seq;
pub mod bart;
pub mod bert;
mod classification;
pub mod deberta_v2;
mod encoder;
pub(crate) mod init;
pub mod mpnet;
mod pretrained;
mod question_answering;
pub mod roberta;
mod seq2seq;

pub(crate) use crate::checkpoint::config;
#[cfg(feature = "train")]
pub(crate) use crate::checkpoint::label_index;
pub use crate::checkpoint::{
    LabelAlignment, LabelConfig, LabelMismatch, ModelConfig, ProblemType, Shown, SizeShown,
};
pub use any::{AnyPretrained, AnySequenceClassifier, FolderModel};
pub use any_model::AnyModel;
pub use any_question_answerer::AnyQuestionAnswerer;
pub use any_seq2seq::AnySeq2Seq;
pub use classification::{Labels, sequence_classification_loss};
pub use encoder::{Attended, EncoderInput, EncoderOutput};
pub(crate) use encoder::{Collected, first_token};
pub use question_answering::{question_answering_loss, span_logits};
pub use seq2seq::{Seq2SeqInput, Seq2SeqOutput, language_model_loss, shift_tokens_right};

pub use crate::ops::{Activation, ForwardContext};
