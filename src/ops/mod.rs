//! The operations that models and layers are written in.
//!
//! Every operation is total: it takes any operands on any device and answers with a result. Inside it
//! chooses how to compute: by a kernel of ours where one takes the operands, in reduced precision where
//! the process asks for that ([`crate::precision`]), and otherwise composed of Burn's operations. So a
//! model is written once, and a new kernel is added in one place.
//!
//! ```text
//! models ─┬─ linear ─┬─ ops ─┬─ kernels (`flex`, 32-bit floats): fused
//!         └──────────┘       └─ Burn's operations, factors of products rounded by `precision`: composed
//! ```
//!
//! | operation | kernel in training | kernel in inference |
//! |---|---|---|
//! | [`linear()`], [`LowRankSparse`] | packed product, active neurons alone | packed product |
//! | [`Heads::attend`] | heads and relative positions, without padding | as in training |
//! | [`residual_norm`] | one pass | one pass |
//! | [`PackedLinear`] | – | product in 8-bit integers |
//! | [`PackedEncoderLayer`] | – | the whole layer |
//! | [`PackedDecoder`] | – | all layers and the head, a token at a time |
//!
//! To add a kernel, begin with the operation's file here: [`try_fused`] returns the kernel's result if
//! there is one, and the code below it is the composed form. Weights packed for a kernel are kept while
//! they stay the same ([`Memo`]).
// Without kernels, what only they take is not used.
#![cfg_attr(not(feature = "flex"), allow(dead_code, unused_variables))]

/// Returns what a kernel gives, if it takes the operands. Without the `flex` feature there are no kernels.
macro_rules! try_fused {
    ($output:expr) => {
        #[cfg(feature = "flex")]
        if let Some(output) = $output {
            return output;
        }
    };
}

mod activation;
mod attention;
mod context;
mod decoder;
mod embedding;
mod encoder_layer;
mod layer_parts;
mod linear;
mod memo;
mod neurons;
#[cfg(feature = "flex")]
mod packed_decoder;
mod packed_linear;
#[cfg(feature = "flex")]
mod packing;
mod residual_norm;

pub(crate) use crate::kernels::RelativeScores;
pub use activation::Activation;
pub(crate) use attention::Heads;
pub use context::ForwardContext;
pub(crate) use context::hiding_mask;
pub(crate) use decoder::{Decoding, PackedDecoder};
pub(crate) use embedding::word_embeddings;
pub(crate) use encoder_layer::PackedEncoderLayer;
pub(crate) use layer_parts::{
    AttentionParts, DecoderLayerParts, DecoderParts, EncoderLayerParts, FeedForwardParts,
};
pub(crate) use linear::{LowRankSparse, gathers_gradients, linear};
pub(crate) use memo::{Memo, Sources};
pub use neurons::NeuronCache;
pub(crate) use neurons::PackableLinear;
#[cfg(all(test, feature = "flex"))]
pub(crate) use packed_decoder::FusedDecoding;
pub use packed_linear::PackedLinear;
#[cfg(feature = "flex")]
pub(crate) use packing::pack;
pub(crate) use residual_norm::residual_norm;
