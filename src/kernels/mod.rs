//! Operations that Burn's CPU backend is slow at, as backend extensions.
//!
//! [`Kernels`] is generic over the backend: its default bodies are composed of Burn's own operations,
//! `Flex` overrides them with loops over plain slices, and `Autodiff` adds the backward pass, by
//! [`KernelGradients`]. What is public beside it picks the extension for 32-bit floats on `flex`, and
//! Burn's tensor operations everywhere else: on a GPU `Fusion` merges those already. A whole encoder
//! layer, or a token's way through a decoder, in one go (`block`) is for inference on `flex` only; its
//! composed form is the model's own layer.
//!
//! ```text
//! models, linear ── gelu, layers, NeuronCache ─┬─ flex, f32: Kernels ─ Autodiff<B> ─ Flex ─ slices
//!                                              └─ otherwise: Burn's tensor operations
//! optim, pruning ── passes: slices in place on flex, otherwise Burn's operations
//! ```

#[cfg(feature = "flex")]
mod active;
#[cfg(feature = "flex")]
pub(crate) mod adamw;
mod allocator;
#[cfg(feature = "flex")]
mod attention;
#[cfg(feature = "flex")]
mod autodiff;
#[cfg(feature = "flex")]
pub(crate) mod block;
mod columns;
#[cfg(feature = "flex")]
mod composed;
#[cfg(all(test, feature = "flex"))]
mod composed_tests;
#[cfg(all(test, feature = "flex"))]
mod difference_tests;
#[cfg(feature = "flex")]
mod dropout;
#[cfg(feature = "flex")]
pub(crate) mod exp;
#[cfg(feature = "flex")]
#[cfg_attr(feature = "ndarray", allow(deprecated))] // Burn deprecates the backend.
mod extension;
#[cfg(feature = "flex")]
mod flex;
#[cfg(feature = "flex")]
pub(crate) mod fused;
#[cfg(feature = "flex")]
mod gelu;
#[cfg(feature = "flex")]
mod host;
#[cfg(feature = "flex")]
mod lanes;
#[cfg(feature = "flex")]
mod neuron_plan;
mod neurons;
#[cfg(feature = "flex")]
mod padded;
#[cfg(feature = "flex")]
pub(crate) mod passes;
#[cfg(feature = "flex")]
mod positions;
#[cfg(feature = "flex")]
mod products;
#[cfg(feature = "flex")]
mod residual_norm;
#[cfg(feature = "flex")]
mod rows;
#[cfg(feature = "flex")]
mod scratch;
mod sequences;
#[cfg(all(test, feature = "flex"))]
mod tests;
#[cfg(all(test, feature = "flex"))]
mod training_tests;

pub use allocator::keep_freed_memory;
#[cfg(feature = "flex")]
pub use attention::{AttentionMask, AttentionSettings};
pub use columns::{ActiveColumns, SparseGradient};
#[cfg(feature = "flex")]
pub use dropout::DropoutMask;
#[cfg(feature = "flex")]
pub use extension::{KernelGradients, Kernels, NormSettings};
#[cfg(all(test, feature = "flex"))]
pub(crate) use host::float_address;
#[cfg(feature = "flex")]
pub use neuron_plan::NeuronPlan;
pub use neurons::NeuronWeights;
#[cfg(feature = "flex")]
pub use positions::PositionSettings;
pub use sequences::Sequences;

use burn::tensor::{Int, Tensor};

use crate::precision::{Precision, products};

/// `x Φ(x)`, the GELU with `erf`, elementwise; differentiable.
///
/// On `flex` it is vectorised, runs on all cores, and stays precise in the negative tail.
pub fn gelu<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    #[cfg(feature = "flex")]
    if is_flex_f32(&x) {
        use burn::backend::Dispatch;
        return Tensor::from_dispatch(<Dispatch as Kernels>::gelu_erf(x.into_dispatch()));
    }
    if !x.is_autodiff() {
        return burn::tensor::activation::gelu(x);
    }
    // Burn differentiates the `tanh` approximation in its place, up to 9e-4 off.
    let cdf = ((x.clone() * std::f64::consts::FRAC_1_SQRT_2).erf() + 1.0) * 0.5;
    x * cdf
}

/// What attention to relative positions adds to the scores: of query `i` and key `j`,
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
    match tensor.device().without_autodiff().as_dispatch() {
        #[cfg(feature = "flex")]
        burn::backend::DispatchDevice::Flex(_) => tensor.dtype() == burn::tensor::DType::F32,
        #[allow(unreachable_patterns)] // On `flex` alone.
        _ => false,
    }
}

/// Whether kernels compute products with `factor`.
pub(crate) fn fuses_products<const D: usize>(factor: &Tensor<D>) -> bool {
    is_flex_f32(factor) && products() == Precision::F32
}
