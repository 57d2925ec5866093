//! RoBERTa (Liu et al. 2019): BERT's layers, with positions counted from the padding token's and a
//! head of two layers, as Hugging Face's `modeling_roberta.py` defines it.
//!
//! <https://github.com/huggingface/transformers/blob/v5.0.0/src/transformers/models/roberta/modeling_roberta.py>

mod config;
mod model;

pub use config::RobertaConfig;
pub use model::{RobertaForQuestionAnswering, RobertaForSequenceClassification, RobertaModel};
