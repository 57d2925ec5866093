//! RoBERTa (Liu et al. 2019): BERT's layers, with positions counted from the padding token's and a
//! head of two layers, as Hugging Face's `modeling_roberta.py` defines it.
//!
//! <https://github.com/huggingface/transformers/blob/v5.0.0/src/transformers/models/roberta/modeling_roberta.py>

mod config;

pub use config::RobertaConfig;

use super::bert::{BertRelative, ForQuestionAnswering, ForSequenceClassification};

/// `RobertaModel`.
pub type RobertaModel = BertRelative<RobertaConfig>;

/// RoBERTa with a classification head on `<s>`.
pub type RobertaForSequenceClassification = ForSequenceClassification<RobertaModel>;

/// RoBERTa with a start and an end logit for every token.
pub type RobertaForQuestionAnswering = ForQuestionAnswering<RobertaModel>;
