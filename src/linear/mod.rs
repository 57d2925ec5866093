//! The compressible linear layer `y = x Wᵀ + b` and its states.
//!
//! ```text
//! Dense          W                                  pretrained weights
//!   │ decompose
//! LowRankSparse  W = L·R + S                        training: S loses neurons step by step
//!   │ compact
//! Compact        [K; R], L′, order                  deployment: kept neurons folded to K = L·R + S
//! ```
//!
//! Orientation: the paper and Hugging Face write `W: [out, in]` and prune *rows* of `S`; Burn keeps
//! `[in, out]`, so here every matrix is the transpose of the paper's and a neuron is a *column*.

mod column;
mod compact;
mod feed_forward;
mod low_rank_sparse;
pub mod reparameterize;
mod select;
mod shared;
mod traverse;

pub use column::ColumnCompactLinear;
pub use compact::CompactLinear;
pub use feed_forward::FeedForward;
pub use low_rank_sparse::{LowRank, LowRankSparseLinear};
pub use select::{LayerMatch, LayerSelection};
pub use shared::SharedInput;
pub use traverse::{Compressible, linear_names};

use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Tensor};

use crate::kernels::NeuronWeights;
use crate::ops::{self, PackableLinear};

/// A linear layer that can be compressed: the building block of every model here.
#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant)] // A handful per model, always behind a struct field.
pub enum CompressibleLinear {
    /// One weight matrix, as pretrained.
    Dense(Linear),
    /// `W = L·R + S`, while training.
    LowRankSparse(LowRankSparseLinear),
    /// Neurons folded, for deployment.
    Compact(CompactLinear),
    /// Input columns folded, for deployment after column pruning.
    ColumnCompact(ColumnCompactLinear),
}

impl CompressibleLinear {
    /// A dense layer with freshly initialised weights.
    pub fn new(d_input: usize, d_output: usize, device: &Device) -> Self {
        Self::Dense(LinearConfig::new(d_input, d_output).init(device))
    }

    /// Applies the layer.
    ///
    /// # Shapes
    /// - input: `[.., d_input]`
    /// - output: `[.., d_output]`
    pub fn forward<const D: usize>(&self, input: Tensor<D>) -> Tensor<D> {
        match self {
            Self::Dense(linear) => {
                let bias = linear.bias.as_ref().map(|b| b.val());
                ops::linear(input, linear.weight.val(), bias)
            }
            Self::LowRankSparse(linear) => linear.forward(input),
            Self::Compact(linear) => linear.forward(input),
            Self::ColumnCompact(linear) => linear.forward(input),
        }
    }

    /// `[d_input, d_output]`.
    pub fn dims(&self) -> [usize; 2] {
        match self {
            Self::Dense(linear) => linear.weight.lazy_shape().dims(),
            Self::LowRankSparse(linear) => linear.dims(),
            Self::Compact(linear) => linear.dims(),
            Self::ColumnCompact(linear) => linear.dims(),
        }
    }

    /// Stored weight elements, biases and orders left out (what the papers' ratio counts).
    ///
    /// In training form: what compaction by folding would store, `r·(in + out) + …` is measured by
    /// [`crate::inspect::LinearAccount`]; here every allocated element counts.
    pub fn weight_elements(&self) -> usize {
        match self {
            Self::Dense(linear) => linear.weight.lazy_shape().num_elements(),
            Self::LowRankSparse(linear) => linear.weight_elements(),
            Self::Compact(linear) => linear.weight_elements(),
            Self::ColumnCompact(linear) => linear.weight_elements(),
        }
    }

    /// The state's name: `dense`, `low-rank + sparse`, `compact` or `column-compact`.
    pub fn state(&self) -> &'static str {
        match self {
            Self::Dense(_) => "dense",
            Self::LowRankSparse(_) => "low-rank + sparse",
            Self::Compact(_) => "compact",
            Self::ColumnCompact(_) => "column-compact",
        }
    }

    /// The dense `[d_input, d_output]` weight that this layer computes with.
    pub fn effective_weight(&self) -> Tensor<2> {
        match self {
            Self::Dense(linear) => linear.weight.val(),
            Self::LowRankSparse(linear) => linear.effective_weight(),
            Self::Compact(linear) => linear.effective_weight(),
            Self::ColumnCompact(linear) => linear.effective_weight(),
        }
    }

    /// The bias `[d_output]`, if there is one.
    pub fn bias(&self) -> Option<Tensor<1>> {
        match self {
            Self::Dense(linear) => linear.bias.as_ref().map(|b| b.val()),
            Self::LowRankSparse(linear) => linear.bias.as_ref().map(|b| b.val()),
            Self::Compact(linear) => linear.bias.as_ref().map(|b| b.val()),
            Self::ColumnCompact(linear) => linear.bias.as_ref().map(|b| b.val()),
        }
    }
}

impl PackableLinear for CompressibleLinear {
    fn weights(&self) -> Option<(Tensor<2>, NeuronWeights)> {
        match self {
            Self::Dense(linear) => {
                let weight = linear.weight.val();
                let [_, d_output] = weight.dims();
                let bias = self.bias();
                let weights =
                    NeuronWeights { left: None, order: None, bias, kept: d_output, d_output };
                Some((weight, weights))
            }
            Self::Compact(linear) => Some((linear.first.val(), linear.neuron_weights())),
            Self::LowRankSparse(_) | Self::ColumnCompact(_) => None,
        }
    }
}

/// `param` holding `tensor` as a fresh trainable leaf.
pub(crate) fn leaf<const D: usize>(tensor: Tensor<D>) -> burn::module::Param<Tensor<D>> {
    burn::module::Param::from_tensor(tensor.detach())
}
