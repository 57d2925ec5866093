//! Parts of a layer in one operation each, in training too; `None` where the kernel does not take
//! the operands.

use std::sync::Arc;

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

/// Whether kernels take `tensor` beside an operand that is tracked by autodiff, or not, as `autodiff`
/// says.
fn fits<const D: usize>(tensor: &Tensor<D>, autodiff: bool) -> bool {
    is_flex_f32(tensor) && tensor.is_autodiff() == autodiff
}

/// `x Φ(x)`, the GELU with `erf`, of [`is_flex_f32`] values, in place if nothing else holds them.
pub(crate) fn gelu<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    Tensor::from_dispatch(apply(Gelu, [x.into_dispatch()]))
}

/// Products of fewer operations are not worth packing a weight.
const SMALLEST: usize = 1 << 18;
/// Nor are weights that meet fewer rows.
const FEWEST_ROWS: usize = 16;

/// Rows of an input `[.., d_input]`, if a weight is worth packing for them.
fn rows_worth_packing(shape: &[usize], d_output: usize) -> Option<usize> {
    let (d_input, rows) = shape.split_last()?;
    let rows = rows.iter().product::<usize>();
    let worth = rows >= FEWEST_ROWS && rows * d_input * d_output >= SMALLEST;
    (worth && !is_reduced()).then_some(rows)
}

/// `x · weight + bias` for `x: [.., d_input]`, `weight: [d_input, d_output]`.
pub(crate) fn dense<const D: usize>(
    x: &Tensor<D>,
    weight: &Tensor<2>,
    bias: Option<&Tensor<1>>,
) -> Option<Tensor<D>> {
    let bias = bias?;
    let [d_input, d_output] = weight.dims();
    let mut shape = x.dims();
    let rows = rows_worth_packing(&shape, d_output)?;
    let autodiff = x.is_autodiff();
    if !(fits(x, autodiff) && fits(weight, autodiff) && fits(bias, autodiff)) {
        return None;
    }
    let x = x.clone().reshape([rows, d_input]).into_dispatch();
    let (weight, bias) = (weight.clone().into_dispatch(), bias.clone().into_dispatch());
    let output = apply(Dense, [x, weight, bias]);
    shape[D - 1] = d_output;
    Some(Tensor::<2>::from_dispatch(output).reshape(shape))
}

/// See [`ActiveNeurons::of_sparse`].
fn nonzero_columns(sparse: &Tensor<2>, rank: usize) -> Option<Arc<ActiveNeurons>> {
    let plain = contiguous(&sparse.clone().inner())?;
    ActiveNeurons::of_sparse(slice(&plain), sparse.dims()[1], rank).map(Arc::new)
}

/// `[S, R, L]`, if kernels take them; `low_rank`: `R` and `L`.
fn parts(sparse: &Tensor<2>, low_rank: Option<[Tensor<2>; 2]>) -> Option<[Tensor<2>; 3]> {
    let ([d_input, d_output], device) = (sparse.dims(), sparse.device());
    let [right, left] = low_rank.unwrap_or_else(|| {
        [Tensor::zeros([d_input, 0], &device), Tensor::zeros([0, d_output], &device)]
    });
    let parts = [sparse.clone(), right, left];
    let autodiff = sparse.is_autodiff();
    parts.iter().all(|part| fits(part, autodiff)).then_some(parts)
}

/// `R·L + S`; with `columns`, the gradient of `S` is as those say.
pub(crate) fn composed_weight(
    sparse: &Tensor<2>,
    low_rank: Option<[Tensor<2>; 2]>,
    columns: Option<&Arc<ActiveNeurons>>,
) -> Option<Tensor<2>> {
    let [sparse, right, left] = parts(sparse, low_rank)?.map(Tensor::into_dispatch);
    let weight = apply(ComposedWeight(columns.cloned()), [right, left, sparse]);
    Some(Tensor::from_dispatch(weight))
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
    let bias = bias?;
    let [d_input, d_output] = sparse.dims();
    let mut shape = x.dims();
    let rows = rows_worth_packing(&shape, d_output)?;
    let autodiff = sparse.is_autodiff();
    let rank = low_rank.as_ref().map_or(0, |[right, _]| right.dims()[1]);
    if !(fits(x, autodiff) && fits(bias, autodiff)) {
        return None;
    }
    let columns = match columns {
        Some(columns) => columns.pays(d_input, rank).then(|| columns.clone())?,
        None => nonzero_columns(sparse, rank)?,
    };
    let [sparse, right, left] = parts(sparse, low_rank)?.map(Tensor::into_dispatch);
    let x = x.clone().reshape([rows, d_input]).into_dispatch();
    let bias = bias.clone().into_dispatch();
    let output = apply(ActiveDense(columns), [x, sparse, right, left, bias]);
    shape[D - 1] = d_output;
    Some(Tensor::<2>::from_dispatch(output).reshape(shape))
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
    let autodiff = inputs[0].is_autodiff();
    if is_reduced()
        || !inputs.iter().all(|input| fits(input, autodiff))
        || bias.is_some_and(|bias| !fits(bias, autodiff))
    {
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
    Some(Tensor::from_dispatch(apply(settings, [query, key, value, bias])))
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
    let autodiff = inputs[0].is_autodiff();
    if is_reduced()
        || tables.iter().all(Option::is_none)
        || !inputs.iter().all(|input| fits(input, autodiff))
        || !tables.iter().flatten().all(|table| fits(table, autodiff))
    {
        return None;
    }
    let none = || Tensor::zeros([0, 0], (&inputs[0].device(), inputs[0].dtype()));
    let [query, key] = inputs.map(|tensor| tensor.clone().into_dispatch());
    let [keys, queries] = tables.map(|table| table.unwrap_or_else(none).into_dispatch());
    let sequences = heads.sequences.cloned();
    let settings = PositionSettings { heads: heads.count, scale: heads.scale as f32, sequences };
    Some(Tensor::from_dispatch(apply(settings, [query, key, keys, queries])))
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
    let autodiff = x.is_autodiff();
    let rows_fit = fits(x, autodiff) && fits(residual, autodiff);
    if !(rows_fit && fits(&gamma, autodiff) && fits(&beta, autodiff)) {
        return None;
    }
    let shape = x.dims();
    let rows = |tensor: &Tensor<3>| {
        tensor.clone().reshape([shape[0] * shape[1], shape[2]]).into_dispatch()
    };
    let dropout = dropout_mask(dropout, x);
    let settings = NormSettings { epsilon: epsilon as f32, dropout };
    let (gamma, beta) = (gamma.into_dispatch(), beta.into_dispatch());
    let output = apply(settings, [rows(x), rows(residual), gamma, beta]);
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
