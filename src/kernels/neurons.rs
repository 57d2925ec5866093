//! The weights of layers, as kernels take them.

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

/// A matrix of a layer.
#[derive(Debug)]
#[allow(clippy::large_enum_variant)] // Passed on once, when weights are packed.
pub(crate) enum Matrix {
    /// In floats.
    Float(Tensor<2>),
    /// In 8-bit integers.
    Int8 {
        /// `[rows, columns]`.
        values: Tensor<2, Int>,
        /// `[columns]`.
        scales: Tensor<1>,
    },
}

/// The parameters of a dense layer, which keeps all neurons, or of a compact one.
#[derive(Debug)]
pub(crate) struct LayerWeights {
    /// `[K; R]ᵀ: [d_input, kept + rank]`.
    pub(crate) first: Matrix,
    /// `L′ᵀ: [rank, d_output − kept]`.
    pub(crate) left: Option<Matrix>,
    /// `[d_output]`: position of every output in `[kept | others]`.
    pub(crate) order: Option<Tensor<1, Int>>,
    /// `[d_output]`.
    pub(crate) bias: Option<Tensor<1>>,
    /// Number of kept neurons.
    pub(crate) kept: usize,
    /// Number of outputs.
    pub(crate) d_output: usize,
}

impl Matrix {
    pub(crate) fn dims(&self) -> [usize; 2] {
        match self {
            Self::Float(matrix) => matrix.dims(),
            Self::Int8 { values, .. } => values.dims(),
        }
    }
}
