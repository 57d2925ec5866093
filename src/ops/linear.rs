//! Products of linear layers, by the form of their weights.

use std::sync::Arc;

use burn::tensor::{Tensor, TensorData};

use crate::kernels::{ActiveNeurons, SparseGradient, is_flex_f32};
use crate::precision;

/// `x · weight + bias`.
///
/// # Shapes
/// - `x`: `[.., d_input]`, `weight`: `[d_input, d_output]`, `bias`: `[d_output]`
/// - output: `[.., d_output]`
pub(crate) fn linear<const D: usize>(
    x: Tensor<D>,
    weight: Tensor<2>,
    bias: Option<Tensor<1>>,
) -> Tensor<D> {
    try_fused!(crate::kernels::fused::dense(&x, &weight, bias.as_ref()));
    precision::linear(x, weight, bias)
}

/// The weight `R·L + S`, of which one part may be missing.
#[derive(Debug)]
pub(crate) struct LowRankSparse<'a> {
    /// `[d_input, d_output]`.
    pub(crate) sparse: Option<Tensor<2>>,
    /// `R: [d_input, rank]` and `L: [rank, d_output]`.
    pub(crate) low_rank: Option<[Tensor<2>; 2]>,
    /// The columns of `S` that are not pruned for good; the others are zero.
    pub(crate) frozen: Option<&'a Arc<ActiveNeurons>>,
}

impl LowRankSparse<'_> {
    /// `[d_input, d_output]`.
    ///
    /// # Panics
    /// If both parts are missing.
    pub(crate) fn weight(self) -> Tensor<2> {
        if let Some(sparse) = &self.sparse {
            let low_rank = self.low_rank.clone();
            try_fused!(crate::kernels::fused::composed_weight(sparse, low_rank, self.frozen));
        }
        let product = self.low_rank.map(|[right, left]| right.matmul(left));
        let sparse = self.sparse.map(|sparse| trained(sparse, self.frozen));
        match (product, sparse) {
            (Some(product), Some(sparse)) => product + sparse,
            (product, sparse) => product.or(sparse).expect("a low-rank or a sparse part"),
        }
    }

    /// `x · (R·L + S) + bias`.
    ///
    /// With many tokens the weight is composed once and applied in one product, which is cheaper than
    /// the three products of `(x R) L + x S` and has the same gradients (`∂S = ∂W`, `∂L = Rᵀ ∂W`,
    /// `∂R = ∂W Lᵀ`). Where few columns of `S` are not zero, a kernel takes those alone.
    ///
    /// # Shapes
    /// - `x`: `[.., d_input]`, `bias`: `[d_output]`
    /// - output: `[.., d_output]`
    ///
    /// # Panics
    /// If both parts are missing, or the shapes do not fit.
    pub(crate) fn forward<const D: usize>(
        self,
        x: Tensor<D>,
        bias: Option<Tensor<1>>,
    ) -> Tensor<D> {
        // Gradients of some columns alone come from no other products.
        let gathered = self.frozen.is_some_and(|columns| columns.gathered());
        let compose = gathered || self.composing_pays(&x);
        // Zero columns are looked for every time, so that they are whatever has changed `S` since.
        if let Some(sparse) = &self.sparse
            && (self.frozen.is_some() || compose || self.low_rank.is_none())
        {
            let low_rank = self.low_rank.clone();
            let bias = bias.as_ref();
            try_fused!(crate::kernels::fused::active_dense(
                &x,
                sparse,
                low_rank,
                bias,
                self.frozen
            ));
        }
        match (self.low_rank, self.sparse) {
            (Some([right, left]), Some(sparse)) if !compose => {
                let hidden = precision::linear(x.clone(), right, None);
                let sparse = trained(sparse, self.frozen);
                precision::linear(hidden, left, None) + precision::linear(x, sparse, bias)
            }
            (Some([right, left]), None) => {
                precision::linear(precision::linear(x, right, None), left, bias)
            }
            (low_rank, sparse) => linear(x, Self { low_rank, sparse, ..self }.weight(), bias),
        }
    }

    /// Whether one product with the composed weight is cheaper than one with each part.
    fn composing_pays<const D: usize>(&self, x: &Tensor<D>) -> bool {
        let (d_input, d_output) = match (&self.sparse, &self.low_rank) {
            (Some(sparse), _) => (sparse.dims()[0], sparse.dims()[1]),
            (None, Some([right, left])) => (right.dims()[0], left.dims()[1]),
            (None, None) => return false,
        };
        let tokens = x.shape().num_elements() / d_input;
        tokens * (d_input + d_output) > d_input * d_output
    }
}

/// `S`, with no gradient for columns that are pruned for good.
fn trained(sparse: Tensor<2>, frozen: Option<&Arc<ActiveNeurons>>) -> Tensor<2> {
    match frozen {
        Some(columns) if sparse.is_autodiff() && columns.gradient != SparseGradient::Whole => {
            let mask = TensorData::new(columns.mask(), [1, columns.width()]);
            let device = sparse.device().without_autodiff();
            let mask = Tensor::from_data(mask, (&device, sparse.dtype()));
            sparse * Tensor::from_inner(mask)
        }
        _ => sparse,
    }
}

/// Whether the gradient of `sparse` can be that of its active columns alone.
pub(crate) fn gathers_gradients(sparse: &Tensor<2>) -> bool {
    is_flex_f32(sparse)
}
