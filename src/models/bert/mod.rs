//! BERT (Devlin et al. 2019), as Hugging Face's `modeling_bert.py` defines it.
//!
//! ```text
//! input_ids ─ embeddings ─ layer 0 ─ … ─ layer n−1 ─ pooler ─ classifier
//!
//! layer:  x ─ self-attention(query, key, value) ─ output.dense ─ + x ─ LayerNorm = a
//!         a ─ intermediate.dense ─ hidden_act ─ output.dense ─ + a ─ LayerNorm
//! ```
//!
//! <https://github.com/huggingface/transformers/blob/v5.0.0/src/transformers/models/bert/modeling_bert.py>

mod attention;
mod config;
mod embeddings;
mod encoder;
mod heads;
mod layer;
mod model;
mod pretrained;

pub use attention::{BertAttention, BertSelfAttention, BertSelfOutput};
pub use config::BertConfig;
pub use embeddings::BertEmbeddings;
pub use encoder::BertEncoder;
pub use heads::BertForSequenceClassification;
pub use layer::{BertIntermediate, BertLayer, BertOutput};
pub use model::{BertModel, BertPooler};
