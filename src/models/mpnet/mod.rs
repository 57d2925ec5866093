//! MPNet (Song et al. 2020): BERT's layers without token types, with a bias of the attention scores
//! by distance that all layers share, as Hugging Face's `modeling_mpnet.py` defines it.
//!
//! <https://github.com/huggingface/transformers/blob/v5.0.0/src/transformers/models/mpnet/modeling_mpnet.py>

mod config;

pub use config::MpnetConfig;

use super::bert::{BertRelative, ForQuestionAnswering, ForSequenceClassification};

/// `MPNetModel`.
pub type MpnetModel = BertRelative<MpnetConfig>;

/// MPNet with a classification head on `<s>`.
pub type MpnetForSequenceClassification = ForSequenceClassification<MpnetModel>;

/// MPNet with a start and an end logit for every token.
pub type MpnetForQuestionAnswering = ForQuestionAnswering<MpnetModel>;
