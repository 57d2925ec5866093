//! Operations that Burn's CPU backend `flex` is slow at, as loops over plain slices.
//!
//! An `Operation` computes its output and, under autodiff, the gradients of its operands. A whole encoder
//! layer, or a token's way through a decoder, in one go (`block`) is for inference only. On a GPU there
//! are no kernels of ours: `Fusion` merges Burn's operations.
//!
//! ```text
//! ops ─────────── flex/fused.rs ─ operation.rs: apply ─ operations.rs ─ slices   training, inference
//!              └─ flex/block: packed weights ─ slices                            inference
//! optim, pruning ── flex/passes.rs: slices in place
//! ```
//!
//! Everything in `flex` needs the feature of that name. A kernel answers `None`, or gives its operands
//! back, if it does not take them; the caller, in `ops` or the optimizer, then composes the
//! result. To add one, begin with a function in `flex/fused.rs` and an `Operation` in
//! `flex/operations.rs`: its forward and its backward pass.

mod active_neurons;
mod allocator;
#[cfg(feature = "flex")]
mod flex;
mod neurons;
mod sequences;

pub use active_neurons::{ActiveNeurons, SparseGradient};
pub use allocator::keep_freed_memory;
#[cfg(feature = "flex")]
pub(crate) use flex::*;
pub use neurons::NeuronWeights;
pub(crate) use neurons::{LayerWeights, Matrix};
pub use sequences::Sequences;

use burn::tensor::{Int, Tensor};

use crate::device::is_flex;
use crate::precision::products;

/// The scores that relative positions add, for query `i` and key `j`:
/// `scale · q_i · keys[j − i + length − 1] + k_j · queries[i − j + length − 1]`.
///
/// Each part is a table `[.., hidden_size]` and `[2·length]`: which of its rows stands for each
/// difference, the last one not used.
#[derive(Debug, Clone)]
pub(crate) struct RelativeScores {
    /// For the differences `length − 1, …, 1 − length` of query and key.
    pub(crate) keys: Option<(Tensor<2>, Tensor<1, Int>)>,
    /// For the differences `1 − length, …, length − 1`.
    pub(crate) queries: Option<(Tensor<2>, Tensor<1, Int>)>,
}

/// Whether `tensor` holds 32-bit floats on the `flex` backend, tracked by autodiff or not.
pub(crate) fn is_flex_f32<const D: usize>(tensor: &Tensor<D>) -> bool {
    is_flex(&tensor.device()) && tensor.dtype() == burn::tensor::DType::F32
}

/// Whether kernels compute products with `factor`.
pub(crate) fn fuses_products<const D: usize>(factor: &Tensor<D>) -> bool {
    is_flex_f32(factor) && products().half().is_none()
}
