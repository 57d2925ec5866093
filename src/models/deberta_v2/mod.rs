//! DeBERTa-v2 and v3 (He et al. 2021), as Hugging Face's `modeling_deberta_v2.py` defines them.
//!
//! ```text
//! input_ids ─ embeddings · mask ─ layer 0 [─ + conv] ─ … ─ layer n−1 ─ pooler ─ classifier
//!                                                              └─ qa_outputs
//!
//! layer:  as BERT's, with disentangled self-attention: from query i to key j,
//!         (Qᵢ·Kⱼ + Qᵢ·Kʳ[δ(i−j)] + Qʳ[δ(i−j)]·Kⱼ) / √(3d)
//!                  content → position  position → content
//!         Qʳ, Kʳ: projections of the embeddings of relative positions, δ: log buckets
//! ```

mod attention;
mod config;
mod conv;
mod embeddings;
mod encoder;
mod heads;
mod layer;
mod model;
mod pretrained;
mod relative;

pub use attention::{DebertaV2Attention, DisentangledSelfAttention};
pub use config::DebertaV2Config;
pub use conv::ConvLayer;
pub use embeddings::DebertaV2Embeddings;
pub use encoder::DebertaV2Encoder;
pub use heads::{ContextPooler, DebertaV2ForQuestionAnswering, DebertaV2ForSequenceClassification};
pub use layer::DebertaV2Layer;
pub use model::DebertaV2Model;
pub use relative::{RelativeBuckets, RelativePositions};
