//! BART (Lewis et al. 2020), as Hugging Face's `modeling_bart.py` defines it.
//!
//! ```text
//! input_ids ───────── shared ─ + embed_positions ─ LayerNorm ─ layer 0 ─ … ─ layer n−1 ─┐
//! decoder_input_ids ─ shared ─ + embed_positions ─ LayerNorm ─ layer 0 ─ … ─ layer m−1 ─┴─ head
//!
//! encoder layer:  x ─ self_attn ─ + x ─ LayerNorm = a
//!                 a ─ fc1 ─ activation ─ fc2 ─ + a ─ LayerNorm
//! decoder layer:  x ─ causal self_attn ─ + x ─ LayerNorm = a
//!                 a ─ encoder_attn(keys and values: encoder's output) ─ + a ─ LayerNorm = b
//!                 b ─ fc1 ─ activation ─ fc2 ─ + b ─ LayerNorm
//! ```
//!
//! One matrix, `shared`, embeds the tokens of both sides and is the language-model head.

mod attention;
mod cache;
mod classifier;
mod config;
mod decode;
#[cfg(all(test, feature = "flex"))]
mod decode_tests;
mod decoder;
mod embeddings;
mod encoder;
mod feed_forward;
mod generator;
mod model;
mod pretrained;
#[cfg(test)]
mod tests;

pub use attention::BartAttention;
pub use classifier::BartForSequenceClassification;
pub use config::BartConfig;
pub use decode::BartCache;
pub use decoder::{BartDecoder, BartDecoderLayer, DecoderAttentions, DecoderContext};
pub use embeddings::BartEmbeddings;
pub use encoder::{BartEncoder, BartEncoderLayer};
pub use feed_forward::BartFeedForward;
pub use generator::BartForConditionalGeneration;
pub use model::BartModel;
