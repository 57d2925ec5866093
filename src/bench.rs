//! Operations of layers one by one, for `benches/`: no part of the interface, and without promises.

use burn::nn::{Dropout, DropoutConfig, LayerNorm};
use burn::tensor::Tensor;

use crate::kernels::{block, fused};
use crate::linear::CompressibleLinear;
use crate::ops;

/// A layer packed as for inference.
pub struct PackedLinear(block::LinearsAlone);

impl PackedLinear {
    /// `None` in training form, and where it is not of 32-bit floats on `flex`.
    pub fn new(linear: &CompressibleLinear) -> Option<Self> {
        let [d_input, _] = linear.dims();
        Some(Self(block::LinearsAlone { layers: ops::pack(&[linear])?, d_input }))
    }

    /// Writes `output: [rows, d_output]` of `input: [rows, d_input]`.
    ///
    /// # Panics
    /// If the slices are not of as many rows.
    pub fn forward(&self, input: &[f32], output: &mut [f32]) {
        self.0.forward(input, output);
    }
}

/// Attention of an encoder layer in inference, behind the projections.
pub struct Attention(block::HeadsAlone);

impl Attention {
    /// Attention of `heads` heads that are `size` wide together.
    pub fn new(heads: usize, size: usize) -> Self {
        Self(block::HeadsAlone::new(heads, size))
    }

    /// Replaces the queries in `projected: [batch · length, 3 · size]` by their contexts; disentangled
    /// with a table of relative `positions: [2 · length − 1, size]`.
    ///
    /// # Panics
    /// If these are not whole sequences.
    pub fn forward(&self, projected: &mut [f32], length: usize, positions: Option<&[f32]>) {
        self.0.attend(projected, length, positions);
    }
}

/// Residual and layer normalisation in inference.
pub struct Norm(block::Norm);

impl Norm {
    /// `d` wide, adding `epsilon` to the variance.
    pub fn new(d: usize, epsilon: f32) -> Self {
        Self(block::Norm { gamma: vec![1.0; d], beta: vec![0.0; d], epsilon })
    }

    /// `x ← LayerNorm(x + added)` over rows.
    ///
    /// # Panics
    /// If the slices are not equally long.
    pub fn forward(&self, x: &mut [f32], added: &[f32]) {
        self.0.apply(x, added);
    }
}

/// Attention in training, from projections `[batch, length, size]`, with dropout of the probabilities
/// and a `bias` `[batch, heads, length, length]` of the scores.
///
/// # Panics
/// Where the kernel does not take such tensors.
pub fn attention(
    inputs: [&Tensor<3>; 3],
    bias: Option<&Tensor<4>>,
    heads: usize,
    dropout: f64,
) -> Tensor<3> {
    let dropout: Dropout = DropoutConfig::new(dropout).init();
    let [_, _, size] = inputs[0].dims();
    let scale = 1.0 / ((size / heads) as f64).sqrt();
    let heads = fused::HeadSettings {
        count: heads,
        scale,
        dropout: &dropout,
        mask_replaces: false,
        sequences: None,
    };
    fused::attention(inputs, None, bias, heads).expect("tensors on flex")
}

/// Dropout, residual and layer normalisation in training, of `[batch, length, d]`.
///
/// # Panics
/// Where the kernel does not take such tensors.
pub fn residual_norm(
    x: &Tensor<3>,
    residual: &Tensor<3>,
    norm: &LayerNorm,
    dropout: f64,
) -> Tensor<3> {
    let dropout: Dropout = DropoutConfig::new(dropout).init();
    fused::residual_norm(x, residual, &dropout, (norm, 1e-12)).expect("tensors on flex")
}

#[cfg(test)]
mod tests {
    use burn::tensor::activation::softmax;
    use burn::tensor::{Device, Distribution, TensorData};

    use super::*;
    use crate::linear::CompressibleLinearConfig;

    fn random<const D: usize>(shape: [usize; D]) -> Tensor<D> {
        Tensor::random(shape, Distribution::Default, &Device::flex())
    }

    fn values<const D: usize>(tensor: &Tensor<D>) -> Vec<f32> {
        tensor.clone().try_into_vec_as().unwrap()
    }

    fn assert_close<const D: usize>(actual: Vec<f32>, expected: Tensor<D>) {
        let actual =
            Tensor::<D>::from_data(TensorData::new(actual, expected.dims()), &Device::flex());
        // Sums of some dozen products of numbers up to 1.
        assert!((actual - expected).abs().max().into_scalar::<f32>() <= 1e-5);
    }

    /// Parts that are timed alone compute the same as in layers.
    #[test]
    fn parts_equal_burns_operations() {
        let linear = CompressibleLinearConfig::new(40, 70).init(&Device::flex());
        let x = random([150, 40]);
        let mut output = vec![0.0; 150 * 70];
        PackedLinear::new(&linear).unwrap().forward(&values(&x), &mut output);
        assert_close(output, linear.forward(x));

        let [batch, length, heads, size] = [3, 20, 2, 16];
        let projected = random([batch, length, 3 * size]);
        let mut done = values(&projected);
        Attention::new(heads, size).forward(&mut done, length, None);
        let part = |at: usize| {
            let part = projected.clone().narrow(2, at * size, size);
            part.reshape([batch, length, heads, size / heads]).swap_dims(1, 2)
        };
        let scores = part(0).matmul(part(1).transpose()) / ((size / heads) as f64).sqrt();
        let context = softmax(scores, 3).matmul(part(2)).swap_dims(1, 2);
        let context = context.reshape([batch, length, size]);
        assert_close(done, Tensor::cat(vec![context, projected.narrow(2, size, 2 * size)], 2));

        let (x, added) = (random([130, 33]), random([130, 33]));
        let mut sum = values(&x);
        Norm::new(33, 1e-5).forward(&mut sum, &values(&added));
        let norm = burn::nn::LayerNormConfig::new(33).init(&Device::flex());
        assert_close(sum, norm.forward(x + added));
    }
}
