//! The weights of compact layers.

use burn::tensor::{Int, Tensor};

/// The parameters of a compact layer behind its first product.
#[derive(Debug)]
pub struct NeuronWeights {
    /// `L′ᵀ: [rank, d_output − kept]`.
    pub left: Option<Tensor<2>>,
    /// `[d_output]`: position of every output in `[kept | others]`.
    pub order: Option<Tensor<1, Int>>,
    /// `[d_output]`.
    pub bias: Option<Tensor<1>>,
    /// Number of kept neurons.
    pub kept: usize,
    /// Number of outputs.
    pub d_output: usize,
}
