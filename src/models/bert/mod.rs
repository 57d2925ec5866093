//! BERT (Devlin et al. 2019), as Hugging Face's `modeling_bert.py` defines it.
//!
//! ```text
//! input_ids ─ embeddings ─ layer 0 ─ … ─ layer n−1 ─ pooler ─ classifier
//!
//! layer:  x ─ self-attention(query, key, value) ─ output.dense ─ + x ─ LayerNorm = a
//!         a ─ intermediate.dense ─ hidden_act ─ output.dense ─ + a ─ LayerNorm
//! ```
//!
//! RoBERTa and MPNet are the same layers with the few differences of a [`BertVariation`].

mod attention;
mod config;
mod embeddings;
mod encoder;
mod family;
mod feed_forward;
mod heads;
mod layer;
mod model;
mod pretrained;
mod relative;
mod variation;

pub use attention::{BertAttention, BertSelfAttention, BertSelfOutput};
pub use config::BertConfig;
pub use embeddings::BertEmbeddings;
pub use encoder::BertEncoder;
pub use family::{
    BertFamily, BertForQuestionAnswering, BertRelative, ForQuestionAnswering,
    ForSequenceClassification, RelativeConfig,
};
pub use feed_forward::{BertIntermediate, BertOutput};
pub use heads::{BertForSequenceClassification, ClassificationHead};
pub use layer::BertLayer;
pub use model::{BertModel, BertPooler};
pub use relative::RelativeAttentionBias;
pub use variation::{BertVariation, Positions};

pub(crate) use embeddings::token_types;
pub(crate) use encoder::{LAYER_NAMES, LayerNames, hugging_face_name};
pub(crate) use feed_forward::feed_forward;
pub(crate) use relative::BUCKETS;
