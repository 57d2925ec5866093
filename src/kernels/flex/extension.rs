//! The extension traits.

use std::sync::Arc;

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, backend_extension};

use super::active_neurons::ActiveNeurons;
use super::attention::AttentionSettings;
use super::neuron_plan::NeuronPlan;
use super::positions::PositionSettings;
use super::residual_norm::NormSettings;

/// Operations beyond Burn's [`Backend`] that are differentiated. All tensors are of 32-bit floats, else
/// they panic.
#[backend_extension(Flex, Autodiff)]
pub trait Kernels: Backend {
    /// `x Φ(x)`, elementwise.
    fn gelu_erf(x: FloatTensor<Self>) -> FloatTensor<Self>;

    /// `x · weight + bias`.
    ///
    /// # Shapes
    /// - `x`: `[rows, d_input]`, `weight`: `[d_input, d_output]`, `bias`: `[d_output]`
    /// - output: `[rows, d_output]`
    fn dense(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
    ) -> FloatTensor<Self>;

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
    ) -> FloatTensor<Self>;

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
    ) -> FloatTensor<Self>;

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
    ) -> FloatTensor<Self>;

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
    ) -> FloatTensor<Self>;

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
    ) -> FloatTensor<Self>;
}

/// Operations beyond Burn's [`Backend`] for inference alone. All tensors are of 32-bit floats, else they
/// panic.
#[backend_extension(Flex)]
pub trait InferenceKernels: Backend {
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
    ) -> FloatTensor<Self>;
}

/// Gradients of [`Kernels`], for backends that `Autodiff` wraps.
pub trait KernelGradients: Kernels {
    /// The gradient of [`Kernels::gelu_erf`] at `x`, `Φ(x) + x φ(x)`, times `grad`.
    fn gelu_erf_backward(x: FloatTensor<Self>, grad: FloatTensor<Self>) -> FloatTensor<Self>;

    /// The gradient of [`Kernels::dense`]'s input: `grad · weightᵀ`.
    fn dense_input_gradient(
        grad: FloatTensor<Self>,
        weight: FloatTensor<Self>,
    ) -> FloatTensor<Self>;

    /// The gradient of [`Kernels::dense`]'s weight: `xᵀ · grad`.
    fn dense_weight_gradient(x: FloatTensor<Self>, grad: FloatTensor<Self>) -> FloatTensor<Self>;

    /// The gradient of [`Kernels::dense`]'s bias: sums over rows.
    fn dense_bias_gradient(grad: FloatTensor<Self>) -> FloatTensor<Self>;

    /// The gradients of [`Kernels::composed_weight`]'s `sparse`, `right` and `left`, from the last two.
    fn composed_weight_gradients(
        factors: [FloatTensor<Self>; 2],
        columns: Option<Arc<ActiveNeurons>>,
        grad: FloatTensor<Self>,
    ) -> [FloatTensor<Self>; 3];

    /// The gradients of [`Kernels::active_dense`]'s `x`, `sparse`, `right`, `left` and bias, from the
    /// first four.
    fn active_dense_gradients(
        inputs: [FloatTensor<Self>; 4],
        columns: Arc<ActiveNeurons>,
        grad: FloatTensor<Self>,
    ) -> [FloatTensor<Self>; 5];

    /// The gradients of [`Kernels::attention_heads`]' query, key, value and bias.
    fn attention_gradients(
        inputs: [FloatTensor<Self>; 4],
        settings: AttentionSettings,
        grad: FloatTensor<Self>,
    ) -> [FloatTensor<Self>; 4];

    /// The gradients of [`Kernels::position_scores`]' query, key, keys and queries.
    fn position_gradients(
        inputs: [FloatTensor<Self>; 4],
        settings: PositionSettings,
        grad: FloatTensor<Self>,
    ) -> [FloatTensor<Self>; 4];

    /// The gradients of [`Kernels::residual_norm`]'s `x`, `residual`, `gamma` and `beta`, from the first
    /// three.
    fn residual_norm_gradients(
        inputs: [FloatTensor<Self>; 3],
        settings: NormSettings,
        grad: FloatTensor<Self>,
    ) -> [FloatTensor<Self>; 4];
}
