//! MPNet (Song et al. 2020): BERT's layers without token types, with a bias of the attention scores
//! by distance that all layers share, as Hugging Face's `modeling_mpnet.py` defines it.
//!
//! <https://github.com/huggingface/transformers/blob/v5.0.0/src/transformers/models/mpnet/modeling_mpnet.py>

mod config;
mod model;

pub use config::MpnetConfig;
pub use model::{MpnetForQuestionAnswering, MpnetForSequenceClassification, MpnetModel};
