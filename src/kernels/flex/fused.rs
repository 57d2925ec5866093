//! Parts of a layer in one operation each, in training too; `None` where the kernel does not take
//! the operands.

use std::sync::Arc;

use burn::backend::DispatchTensor;
use burn::nn::{Dropout, LayerNorm};
use burn::tensor::{Distribution, Int, Tensor};

use super::operation::apply;
use super::operations::{ActiveDense, ComposedWeight, Dense, Gelu};
use super::slices::{contiguous, slice};
use super::{
    ActiveNeurons, AttentionMask, AttentionSettings, DropoutMask, NormSettings, PositionSettings,
    RelativeScores, Sequences, is_flex_f32,
};
use crate::precision::is_reduced;

/// How the heads of an attention compute.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HeadSettings<'a> {
    /// Their number.
    pub(crate) count: usize,
    /// Multiplies the products of queries and keys.
    pub(crate) scale: f64,
    /// Dropout of the probabilities.
    pub(crate) dropout: &'a Dropout,
    /// Whether the mask's smallest number stands in the place of a score rather than being added to it.
    pub(crate) mask_replaces: bool,
    /// With these, rows are those of tokens alone, `[1, tokens, size]`.
    pub(crate) sequences: Option<&'a Arc<Sequences>>,
}

/// `x Φ(x)`, the GELU with `erf`, in place if nothing else holds the values.
///
/// # Panics
/// If these are not 32-bit floats on `flex`, as [`is_flex_f32`] tells.
pub(crate) fn gelu<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    let output = apply(Gelu, [x.into_dispatch()]);
    Tensor::from_dispatch(output.expect("32-bit floats on `flex`"))
}

/// Products of fewer operations are not worth packing a weight.
const SMALLEST: usize = 1 << 18;
/// Nor are weights that meet fewer rows.
const FEWEST_ROWS: usize = 16;

/// The input `[.., d_input]` as rows, if a weight is worth packing for them.
fn rows_worth_packing<const D: usize>(x: &Tensor<D>, d_output: usize) -> Option<Tensor<2>> {
    let d_input = x.dims()[D - 1];
    let rows = x.shape().num_elements().checked_div(d_input)?;
    let worth = rows >= FEWEST_ROWS && rows * d_input * d_output >= SMALLEST;
    (worth && !is_reduced() && is_flex_f32(x)).then(|| x.clone().reshape([rows, d_input]))
}

/// Rows of outputs in the shape of the input `x`.
fn shaped_as<const D: usize>(x: &Tensor<D>, output: DispatchTensor) -> Tensor<D> {
    let output = Tensor::<2>::from_dispatch(output);
    let mut shape = x.dims();
    shape[D - 1] = output.dims()[1];
    output.reshape(shape)
}

/// `x · weight + bias` for `x: [.., d_input]`, `weight: [d_input, d_output]`.
pub(crate) fn dense<const D: usize>(
    x: &Tensor<D>,
    weight: &Tensor<2>,
    bias: Option<&Tensor<1>>,
) -> Option<Tensor<D>> {
    let (weight, bias) = (weight.clone(), bias?.clone().into_dispatch());
    let rows = rows_worth_packing(x, weight.dims()[1])?.into_dispatch();
    apply(Dense, [rows, weight.into_dispatch(), bias]).map(|output| shaped_as(x, output))
}

/// See [`ActiveNeurons::of_sparse`].
fn nonzero_columns(sparse: &Tensor<2>, rank: usize) -> Option<Arc<ActiveNeurons>> {
    let plain = contiguous(&sparse.clone().inner())?;
    ActiveNeurons::of_sparse(slice(&plain), sparse.dims()[1], rank).map(Arc::new)
}

/// `R` and `L`, which may be of rank 0, and `S`.
fn parts(sparse: &Tensor<2>, low_rank: Option<[Tensor<2>; 2]>) -> [DispatchTensor; 3] {
    let ([d_input, d_output], device) = (sparse.dims(), sparse.device());
    let [right, left] = low_rank.unwrap_or_else(|| {
        [Tensor::zeros([d_input, 0], &device), Tensor::zeros([0, d_output], &device)]
    });
    [right, left, sparse.clone()].map(Tensor::into_dispatch)
}

/// `R·L + S`; with `columns`, the gradient of `S` is as those say.
pub(crate) fn composed_weight(
    sparse: &Tensor<2>,
    low_rank: Option<[Tensor<2>; 2]>,
    columns: Option<&Arc<ActiveNeurons>>,
) -> Option<Tensor<2>> {
    if !is_flex_f32(sparse) {
        return None;
    }
    let weight = apply(ComposedWeight(columns.cloned()), parts(sparse, low_rank));
    weight.map(Tensor::from_dispatch)
}

/// `x · (R·L + S) + bias` for a sparse part of which only `columns` are not pruned, where those are
/// few enough; `low_rank`: `R` and `L`. Without `columns` those are taken that are not zero, and all
/// are trained.
///
/// # Shapes
/// As [`ActiveDense`], but `x`: `[.., d_input]`.
pub(crate) fn active_dense<const D: usize>(
    x: &Tensor<D>,
    sparse: &Tensor<2>,
    low_rank: Option<[Tensor<2>; 2]>,
    bias: Option<&Tensor<1>>,
    columns: Option<&Arc<ActiveNeurons>>,
) -> Option<Tensor<D>> {
    let bias = bias?.clone().into_dispatch();
    let [d_input, d_output] = sparse.dims();
    let rows = rows_worth_packing(x, d_output)?.into_dispatch();
    let rank = low_rank.as_ref().map_or(0, |[right, _]| right.dims()[1]);
    let columns = match columns {
        Some(columns) => columns.pays(d_input, rank).then(|| columns.clone())?,
        None => nonzero_columns(sparse, rank)?,
    };
    let [right, left, sparse] = parts(sparse, low_rank);
    let output = apply(ActiveDense(columns), [rows, sparse, right, left, bias]);
    output.map(|output| shaped_as(x, output))
}

/// The heads' outputs side by side, `[batch, queries, size]`.
///
/// # Shapes
/// - query `[batch, queries, size]`; key and value `[batch, keys, size]`
/// - `mask`: `[batch or 1, heads or 1, queries or 1, keys]`, added to the scores; not trained
/// - `bias`: `[batch, heads, queries, keys]`, added to the scores; trained
/// - with [`HeadSettings::sequences`] query, key, value and output: `[1, tokens, size]`
pub(crate) fn attention(
    inputs: [&Tensor<3>; 3],
    mask: Option<&Tensor<4>>,
    bias: Option<&Tensor<4>>,
    heads: HeadSettings<'_>,
) -> Option<Tensor<3>> {
    if is_reduced() || !is_flex_f32(inputs[0]) {
        return None;
    }
    let mask = match mask {
        Some(mask) => {
            let plain = if mask.is_autodiff() { mask.clone().inner() } else { mask.clone() };
            let values = plain.try_into_vec_as::<f32>().ok()?;
            let (dims, replaces) = (mask.dims(), heads.mask_replaces);
            Some(Arc::new(AttentionMask { values, dims, replaces }))
        }
        None => None,
    };
    let settings = AttentionSettings {
        heads: heads.count,
        scale: heads.scale as f32,
        mask,
        dropout: dropout_mask(heads.dropout, inputs[0]),
        sequences: heads.sequences.cloned(),
    };
    let none = || Tensor::zeros([0, 0, 0, 0], (&inputs[0].device(), inputs[0].dtype()));
    let bias = bias.cloned().unwrap_or_else(none).into_dispatch();
    let [query, key, value] = inputs.map(|tensor| tensor.clone().into_dispatch());
    apply(settings, [query, key, value, bias]).map(Tensor::from_dispatch)
}

/// The scores `[batch, heads, length, length]` that relative positions add; `None` also if they add
/// none.
///
/// # Shapes
/// - query and key: `[batch, length, size]`, heads side by side
/// - with [`HeadSettings::sequences`], query and key: `[1, tokens, size]`
pub(crate) fn position_scores(
    inputs: [&Tensor<3>; 2],
    relative: &RelativeScores,
    heads: HeadSettings<'_>,
) -> Option<Tensor<4>> {
    let tables = [&relative.keys, &relative.queries]
        .map(|part| part.as_ref().map(|(table, rows)| table.clone().select(0, rows.clone())));
    if is_reduced() || tables.iter().all(Option::is_none) || !is_flex_f32(inputs[0]) {
        return None;
    }
    let none = || Tensor::zeros([0, 0], (&inputs[0].device(), inputs[0].dtype()));
    let [query, key] = inputs.map(|tensor| tensor.clone().into_dispatch());
    let [keys, queries] = tables.map(|table| table.unwrap_or_else(none).into_dispatch());
    let sequences = heads.sequences.cloned();
    let settings = PositionSettings { heads: heads.count, scale: heads.scale as f32, sequences };
    apply(settings, [query, key, keys, queries]).map(Tensor::from_dispatch)
}

/// `LayerNorm(dropout(x) + residual)`, all `[batch, length, d]`, with the normalisation's
/// epsilon.
pub(crate) fn residual_norm(
    x: &Tensor<3>,
    residual: &Tensor<3>,
    dropout: &Dropout,
    (norm, epsilon): (&LayerNorm, f64),
) -> Option<Tensor<3>> {
    let gamma = norm.gamma.val();
    let beta = norm.beta.as_ref()?.val();
    if !is_flex_f32(x) {
        return None;
    }
    let shape = x.dims();
    let rows = |tensor: &Tensor<3>| {
        tensor.clone().reshape([shape[0] * shape[1], shape[2]]).into_dispatch()
    };
    let dropout = dropout_mask(dropout, x);
    let settings = NormSettings { epsilon: epsilon as f32, dropout };
    let (gamma, beta) = (gamma.into_dispatch(), beta.into_dispatch());
    let output = apply(settings, [rows(x), rows(residual), gamma, beta])?;
    Some(Tensor::<2>::from_dispatch(output).reshape(shape))
}

/// A mask that the device's random numbers choose, if `dropout` acts on `input`.
fn dropout_mask<const D: usize>(dropout: &Dropout, input: &Tensor<D>) -> DropoutMask {
    if !dropout.training.is_enabled() || !input.is_autodiff() || dropout.prob == 0.0 {
        return DropoutMask::new(0.0, 0);
    }
    let device = input.device().without_autodiff();
    let range = Distribution::Uniform(0.0, f64::from(i32::MAX));
    let draws = Tensor::<1, Int>::random([2], range, &device).into_data();
    let seed = draws.iter::<i64>().fold(0u64, |seed, draw| (seed << 31) ^ draw as u64);
    DropoutMask::new(dropout.prob, seed)
}
