//! The extension traits; their default bodies are composed of Burn's own operations.

use std::sync::Arc;

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, backend_extension};

use super::active_neurons::ActiveNeurons;
use super::attention::AttentionSettings;
use super::composed;
use super::neuron_plan::NeuronPlan;
use super::padded;
use super::positions::PositionSettings;
use super::residual_norm::NormSettings;

/// Operations beyond Burn's [`Backend`], composed of its own unless a backend knows better.
///
/// `Cube` is every GPU and `Fusion` around it: there the composed operations are lazy, each by itself.
#[backend_extension(
    Flex,
    NdArray: cfg(feature = "ndarray"),
    Cube: cfg(feature = "_gpu"),
    Autodiff
)]
pub trait Kernels: Backend {
    /// `x Φ(x)`, elementwise.
    fn gelu_erf(x: FloatTensor<Self>) -> FloatTensor<Self> {
        Self::gelu(x)
    }

    /// The gradient of [`Kernels::gelu_erf`] at `x`, `Φ(x) + x φ(x)`, times `grad`.
    fn gelu_erf_backward(x: FloatTensor<Self>, grad: FloatTensor<Self>) -> FloatTensor<Self> {
        composed::gelu_gradient::<Self>(x, grad)
    }

    /// The outputs of a layer whose neurons are kept (dense) or low-rank, from the outputs of
    /// the kept ones and the code of the others.
    ///
    /// # Shapes
    /// - `hidden`: `[tokens, kept + rank]`
    /// - `bias`: `[d_output]`
    /// - output: `[tokens, d_output]`
    fn neuron_outputs(
        hidden: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        plan: Arc<NeuronPlan>,
    ) -> FloatTensor<Self> {
        composed::neuron_outputs::<Self>(hidden, bias, &plan)
    }

    /// `x · weight + bias`.
    ///
    /// # Shapes
    /// - `x`: `[rows, d_input]`, `weight`: `[d_input, d_output]`, `bias`: `[d_output]`
    /// - output: `[rows, d_output]`
    fn dense(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        Self::linear(x, weight, Some(bias))
    }

    /// `softmax(scale · Q Kᵀ + mask + bias) V` for heads side by side, with dropout of the
    /// probabilities.
    ///
    /// # Shapes
    /// - `query`: `[batch, queries, size]`; `key`, `value`: `[batch, keys, size]`
    /// - `bias`: `[batch, heads, queries, keys]`, or `[0, 0, 0, 0]`: none
    /// - output: `[batch, queries, size]`
    /// - with [`AttentionSettings::sequences`], `[1, tokens, size]` but for the bias
    fn attention_heads(
        query: FloatTensor<Self>,
        key: FloatTensor<Self>,
        value: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        settings: AttentionSettings,
    ) -> FloatTensor<Self> {
        padded::attention::<Self>([query, key, value, bias], &settings)
    }

    /// The scores that relative positions add, for query `i` and key `j`:
    /// `scale · qᵢ · keys[j − i + length − 1] + kⱼ · queries[i − j + length − 1]`.
    ///
    /// # Shapes
    /// - `query`, `key`: `[batch, length, size]`, heads side by side
    /// - `keys`, `queries`: `[2·length, size]`, the last row not used; or `[0, 0]`: none
    /// - output: `[batch, heads, length, length]`
    /// - with [`PositionSettings::sequences`], `query` and `key`: `[1, tokens, size]`
    fn position_scores(
        query: FloatTensor<Self>,
        key: FloatTensor<Self>,
        keys: FloatTensor<Self>,
        queries: FloatTensor<Self>,
        settings: PositionSettings,
    ) -> FloatTensor<Self> {
        padded::position_scores::<Self>([query, key, keys, queries], &settings)
    }

    /// `R·L + S`. With `columns`, the gradient of `S` is as those say.
    ///
    /// # Shapes
    /// - `sparse`, output: `[d_input, d_output]`
    /// - `right`: `[d_input, rank]`, `left`: `[rank, d_output]`; the rank may be 0
    fn composed_weight(
        sparse: FloatTensor<Self>,
        right: FloatTensor<Self>,
        left: FloatTensor<Self>,
        columns: Option<Arc<ActiveNeurons>>,
    ) -> FloatTensor<Self> {
        let _ = columns;
        composed::weight::<Self>(sparse, right, left)
    }

    /// `x · (R·L + S) + bias` where columns of `S` are pruned: what is not among `columns` is zero in
    /// `S`, and stays without gradient unless that is to be [`crate::kernels::SparseGradient::Whole`].
    ///
    /// # Shapes
    /// - `x`: `[rows, d_input]`, `sparse`: `[d_input, d_output]`
    /// - `right`: `[d_input, rank]`, `left`: `[rank, d_output]`; the rank may be 0
    /// - `bias`: `[d_output]`, output: `[rows, d_output]`
    fn active_dense(
        x: FloatTensor<Self>,
        sparse: FloatTensor<Self>,
        right: FloatTensor<Self>,
        left: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        columns: Arc<ActiveNeurons>,
    ) -> FloatTensor<Self> {
        let _ = columns;
        let weight = composed::weight::<Self>(sparse, right, left);
        Self::linear(x, weight, Some(bias))
    }

    /// `LayerNorm(dropout(x) + residual)`.
    ///
    /// # Shapes
    /// - `x`, `residual`, output: `[rows, d]`
    /// - `gamma`, `beta`: `[d]`
    fn residual_norm(
        x: FloatTensor<Self>,
        residual: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        settings: NormSettings,
    ) -> FloatTensor<Self> {
        composed::residual_norm::<Self>([x, residual, gamma, beta], settings)
    }
}

#[cfg(feature = "ndarray")]
impl Kernels for burn::backend::NdArray {}

#[cfg(feature = "ndarray")]
impl KernelGradients for burn::backend::NdArray {}

#[cfg(feature = "_gpu")]
mod cube {
    use burn::backend::Cube;

    impl super::Kernels for Cube {}

    impl super::KernelGradients for Cube {}
}

/// Gradients of [`Kernels`], for backends that `Autodiff` wraps.
pub trait KernelGradients: Kernels {
    /// The gradient of [`Kernels::dense`]'s input: `grad · weightᵀ`.
    fn dense_input_gradient(
        grad: FloatTensor<Self>,
        weight: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        Self::float_matmul(grad, Self::float_transpose(weight))
    }

    /// The gradient of [`Kernels::dense`]'s weight: `xᵀ · grad`.
    fn dense_weight_gradient(x: FloatTensor<Self>, grad: FloatTensor<Self>) -> FloatTensor<Self> {
        Self::float_matmul(Self::float_transpose(x), grad)
    }

    /// The gradient of [`Kernels::dense`]'s bias: sums over rows.
    fn dense_bias_gradient(grad: FloatTensor<Self>) -> FloatTensor<Self> {
        composed::column_sums::<Self>(grad)
    }

    /// The gradients of [`Kernels::composed_weight`]'s `sparse`, `right` and `left`, from the last two.
    fn composed_weight_gradients(
        factors: [FloatTensor<Self>; 2],
        columns: Option<Arc<ActiveNeurons>>,
        grad: FloatTensor<Self>,
    ) -> [FloatTensor<Self>; 3] {
        composed::weight_gradients::<Self>(factors, columns.as_deref(), grad)
    }

    /// The gradients of [`Kernels::active_dense`]'s `x`, `sparse`, `right`, `left` and bias, from the
    /// first four.
    fn active_dense_gradients(
        inputs: [FloatTensor<Self>; 4],
        columns: Arc<ActiveNeurons>,
        grad: FloatTensor<Self>,
    ) -> [FloatTensor<Self>; 5] {
        composed::active_dense_gradients::<Self>(inputs, &columns, grad)
    }

    /// The gradients of [`Kernels::attention_heads`]' query, key, value and bias.
    fn attention_gradients(
        inputs: [FloatTensor<Self>; 4],
        settings: AttentionSettings,
        grad: FloatTensor<Self>,
    ) -> [FloatTensor<Self>; 4] {
        padded::attention_gradients::<Self>(inputs, &settings, grad)
    }

    /// The gradients of [`Kernels::position_scores`]' query, key, keys and queries.
    fn position_gradients(
        inputs: [FloatTensor<Self>; 4],
        settings: PositionSettings,
        grad: FloatTensor<Self>,
    ) -> [FloatTensor<Self>; 4] {
        padded::position_gradients::<Self>(inputs, &settings, grad)
    }

    /// The gradients of [`Kernels::residual_norm`]'s `x`, `residual`, `gamma` and `beta`, from the first
    /// three.
    fn residual_norm_gradients(
        inputs: [FloatTensor<Self>; 3],
        settings: NormSettings,
        grad: FloatTensor<Self>,
    ) -> [FloatTensor<Self>; 4] {
        composed::residual_norm_gradients::<Self>(inputs, settings, grad)
    }
}
