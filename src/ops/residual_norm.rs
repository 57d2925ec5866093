//! The end of every block: dropout, residual, layer normalisation.

use burn::nn::{Dropout, LayerNorm};
use burn::tensor::Tensor;

/// `LayerNorm(dropout(x) + residual)`, all `[batch, length, d]`, with the normalisation's epsilon.
pub(crate) fn residual_norm(
    x: Tensor<3>,
    residual: Tensor<3>,
    dropout: &Dropout,
    norm: (&LayerNorm, f64),
) -> Tensor<3> {
    try_fused!(crate::kernels::fused::residual_norm(&x, &residual, dropout, norm));
    norm.0.forward(dropout.forward(x) + residual)
}
