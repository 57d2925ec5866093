//! The operations and their kernels.

use std::sync::Arc;

use burn::backend::flex::FlexTensor;
use burn::tensor::{Shape, TensorData};
use rayon::prelude::*;

use super::active::{ActiveLayer, gather, scatter};
use super::active_neurons::{ActiveNeurons, SparseGradient};
use super::attention::{Attention, AttentionSettings};
use super::gelu::{gelu_backward_in_place, gelu_in_place};
use super::operation::{Gradients, Operation};
use super::positions::{PositionSettings, Positions};
use super::products;
use super::residual_norm::{NormSettings, ResidualNorm};
use super::slices::{row_major, slice};

/// Elements a task of an elementwise function takes: 64 KiB, some ten microseconds of work.
const CHUNK: usize = 16 * 1024;

/// `x Φ(x)`, elementwise.
#[derive(Debug, Clone)]
pub(crate) struct Gelu;

impl Operation<1, 1> for Gelu {
    const RECOMPUTED: bool = true;

    fn forward(&self, [x]: [FlexTensor; 1]) -> FlexTensor {
        map_chunks(x, |_, chunk| gelu_in_place(chunk))
    }

    /// `Φ(x) + x φ(x)`, times `grad`.
    fn backward(&self, kept: [FlexTensor; 1], grad: FlexTensor, _: [bool; 1]) -> Gradients<1> {
        let [x] = kept.map(row_major);
        let x = slice(&x);
        let grad = map_chunks(grad, |from, chunk| {
            gelu_backward_in_place(&x[from..][..chunk.len()], chunk);
        });
        [Some(grad)]
    }
}

/// `x · weight + bias`.
///
/// # Shapes
/// - `x`: `[rows, d_input]`, `weight`: `[d_input, d_output]`, `bias`: `[d_output]`
/// - output: `[rows, d_output]`
#[derive(Debug, Clone)]
pub(crate) struct Dense;

impl Operation<3, 2> for Dense {
    fn forward(&self, operands: [FlexTensor; 3]) -> FlexTensor {
        let [x, weight, bias] = operands.map(row_major);
        let shape = [rows(&x), width(&weight)];
        tensor(products::forward(slice(&x), slice(&weight), slice(&bias)), shape)
    }

    /// Only those that are wanted.
    fn backward(&self, kept: [FlexTensor; 2], grad: FlexTensor, wanted: [bool; 3]) -> Gradients<3> {
        let ([x, weight], grad) = (kept.map(row_major), row_major(grad));
        let d_output = width(&grad);
        let of_x = || products::input_gradient(slice(&grad), slice(&weight), d_output);
        let of_weight = || products::weight_gradient(slice(&x), slice(&grad), d_output);
        let of_bias = || products::column_sums(slice(&grad), d_output);
        [
            wanted[0].then(|| like(&x, of_x())),
            wanted[1].then(|| like(&weight, of_weight())),
            wanted[2].then(|| tensor(of_bias(), [d_output])),
        ]
    }
}

/// `R·L + S`. With columns, the gradient of `S` is as those say.
///
/// # Shapes
/// - `right`: `[d_input, rank]`, `left`: `[rank, d_output]`; the rank may be 0
/// - `sparse`, output: `[d_input, d_output]`
#[derive(Debug, Clone)]
pub(crate) struct ComposedWeight(pub(crate) Option<Arc<ActiveNeurons>>);

impl Operation<3, 2> for ComposedWeight {
    fn forward(&self, [right, left, sparse]: [FlexTensor; 3]) -> FlexTensor {
        if width(&right) == 0 {
            return sparse;
        }
        let [sparse, right, left] = [sparse, right, left].map(row_major);
        let weight = products::onto(slice(&sparse), slice(&right), slice(&left), width(&left));
        like(&sparse, weight)
    }

    fn backward(&self, kept: [FlexTensor; 2], grad: FlexTensor, _: [bool; 3]) -> Gradients<3> {
        let ([right, left], grad) = (kept.map(row_major), row_major(grad));
        let d_output = width(&grad);
        let sparse = match &self.0 {
            Some(columns) if columns.gradient != SparseGradient::Whole => {
                let gathered = gather(slice(&grad), d_output, &columns.active);
                sparse_gradient(gathered, columns, rows(&grad))
            }
            _ => grad.clone(),
        };
        if width(&right) == 0 {
            return [right, left, sparse].map(Some);
        }
        let of_right = products::input_gradient(slice(&grad), slice(&left), d_output);
        let of_left = products::weight_gradient(slice(&right), slice(&grad), d_output);
        [like(&right, of_right), like(&left, of_left), sparse].map(Some)
    }
}

/// `x · (R·L + S) + bias` where columns of `S` are pruned: what is not among the columns is zero in `S`,
/// and stays without gradient unless that is to be [`SparseGradient::Whole`].
///
/// # Shapes
/// - `x`: `[rows, d_input]`, `sparse`: `[d_input, d_output]`
/// - `right`: `[d_input, rank]`, `left`: `[rank, d_output]`; the rank may be 0
/// - `bias`: `[d_output]`, output: `[rows, d_output]`
#[derive(Debug, Clone)]
pub(crate) struct ActiveDense(pub(crate) Arc<ActiveNeurons>);

impl ActiveDense {
    fn layer<'a>(&'a self, [x, sparse, right, left]: [&'a FlexTensor; 4]) -> ActiveLayer<'a> {
        let dims = [rows(x), rows(sparse), width(sparse), width(right)];
        let [x, sparse, right, left] = [x, sparse, right, left].map(slice);
        ActiveLayer { x, sparse, right, left, dims, columns: &self.0 }
    }
}

impl Operation<5, 4> for ActiveDense {
    fn forward(&self, operands: [FlexTensor; 5]) -> FlexTensor {
        let [x, sparse, right, left, bias] = operands.map(row_major);
        let output = self.layer([&x, &sparse, &right, &left]).forward(slice(&bias));
        tensor(output, [rows(&x), width(&sparse)])
    }

    fn backward(&self, kept: [FlexTensor; 4], grad: FlexTensor, _: [bool; 5]) -> Gradients<5> {
        let (kept, grad) = (kept.map(row_major), row_major(grad));
        let [x, sparse, right, left, bias] = self.layer(kept.each_ref()).backward(slice(&grad));
        let gradients = [
            like(&kept[0], x),
            sparse_gradient(sparse, &self.0, rows(&kept[1])),
            like(&kept[2], right),
            like(&kept[3], left),
            tensor(bias, [width(&grad)]),
        ];
        gradients.map(Some)
    }
}

/// `softmax(scale · Q Kᵀ + mask + bias) V` for heads side by side, with dropout of the probabilities.
///
/// # Shapes
/// - `query`: `[batch, queries, size]`; `key`, `value`: `[batch, keys, size]`
/// - `bias`: `[batch, heads, queries, keys]`, or `[0, 0, 0, 0]`: none
/// - output: `[batch, queries, size]`
/// - with [`AttentionSettings::sequences`], `[1, tokens, size]` but for the bias
impl Operation<4, 4> for AttentionSettings {
    fn forward(&self, operands: [FlexTensor; 4]) -> FlexTensor {
        let operands = operands.map(row_major);
        like(&operands[0], attention(&operands, self).forward())
    }

    fn backward(&self, kept: [FlexTensor; 4], grad: FlexTensor, _: [bool; 4]) -> Gradients<4> {
        let (kept, grad) = (kept.map(row_major), row_major(grad));
        all_like(&kept, attention(&kept, self).backward(slice(&grad)))
    }
}

/// The scores that relative positions add, for query `i` and key `j`:
/// `scale · qᵢ · keys[j − i + length − 1] + kⱼ · queries[i − j + length − 1]`.
///
/// # Shapes
/// - `query`, `key`: `[batch, length, size]`, heads side by side
/// - `keys`, `queries`: `[2·length, size]`, the last row not used; or `[0, 0]`: none
/// - output: `[batch, heads, length, length]`
/// - with [`PositionSettings::sequences`], `query` and `key`: `[1, tokens, size]`
impl Operation<4, 4> for PositionSettings {
    fn forward(&self, operands: [FlexTensor; 4]) -> FlexTensor {
        let operands = operands.map(row_major);
        let positions = positions(&operands, self);
        let [batch, length, _] = positions.dims;
        tensor(positions.forward(), [batch, self.heads, length, length])
    }

    fn backward(&self, kept: [FlexTensor; 4], grad: FlexTensor, _: [bool; 4]) -> Gradients<4> {
        let (kept, grad) = (kept.map(row_major), row_major(grad));
        all_like(&kept, positions(&kept, self).backward(slice(&grad)))
    }
}

/// `LayerNorm(dropout(x) + residual)`.
///
/// # Shapes
/// - `x`, `residual`, output: `[rows, d]`
/// - `gamma`, `beta`: `[d]`
impl Operation<4, 3> for NormSettings {
    fn forward(&self, operands: [FlexTensor; 4]) -> FlexTensor {
        let [x, residual, gamma, beta] = operands.map(row_major);
        let rows = [x, residual, gamma];
        like(&rows[0], norm(&rows, *self).forward(slice(&beta)))
    }

    fn backward(&self, kept: [FlexTensor; 3], grad: FlexTensor, _: [bool; 4]) -> Gradients<4> {
        let (kept, grad) = (kept.map(row_major), row_major(grad));
        let [x, residual, gamma, beta] = norm(&kept, *self).backward(slice(&grad));
        let residual = like(&grad, residual);
        let x = if x.is_empty() { residual.clone() } else { like(&grad, x) };
        [x, residual, like(&kept[2], gamma), like(&kept[2], beta)].map(Some)
    }
}

/// The gradient of `S` as `columns` asks for it, of that of the active ones or, if it is to be whole, of
/// all.
fn sparse_gradient(found: Vec<f32>, columns: &ActiveNeurons, d_input: usize) -> FlexTensor {
    match columns.gradient {
        SparseGradient::Whole => tensor(found, [d_input, columns.width()]),
        SparseGradient::Gathered => tensor(found, [d_input, columns.active.len()]),
        SparseGradient::Active => {
            let mut all = vec![0.0; d_input * columns.width()];
            scatter(&mut all, columns.width(), &columns.active, &found);
            tensor(all, [d_input, columns.width()])
        }
    }
}

fn attention<'a>(inputs: &'a [FlexTensor; 4], settings: &'a AttentionSettings) -> Attention<'a> {
    let [query, key, value, bias] = inputs.each_ref().map(slice);
    let (queries, keys) = (inputs[0].layout().shape(), inputs[1].layout().shape());
    let dims = match &settings.sequences {
        Some(all) => [all.count(), all.length(), all.length(), queries[2]],
        None => [queries[0], queries[1], keys[1], queries[2]],
    };
    let bias = Some(bias).filter(|bias| !bias.is_empty());
    Attention { query, key, value, bias, dims, settings }
}

fn positions<'a>(inputs: &'a [FlexTensor; 4], settings: &'a PositionSettings) -> Positions<'a> {
    let [query, key, keys, queries] = inputs.each_ref().map(slice);
    let shape = inputs[0].layout().shape();
    let dims = match &settings.sequences {
        Some(all) => [all.count(), all.length(), shape[2]],
        None => [shape[0], shape[1], shape[2]],
    };
    Positions { query, key, keys, queries, dims, settings }
}

fn norm(inputs: &[FlexTensor; 3], settings: NormSettings) -> ResidualNorm<'_> {
    let [x, residual, gamma] = inputs.each_ref().map(slice);
    ResidualNorm { x, residual, gamma, settings }
}

fn tensor(values: Vec<f32>, shape: impl Into<Shape>) -> FlexTensor {
    FlexTensor::from_data(TensorData::new(values, shape))
}

/// In the shape of `other`.
fn like(other: &FlexTensor, values: Vec<f32>) -> FlexTensor {
    tensor(values, other.layout().shape().clone())
}

/// Gradients in the shapes of the operands that they are of.
fn all_like<const N: usize>(operands: &[FlexTensor; N], values: [Vec<f32>; N]) -> Gradients<N> {
    let mut all = operands.iter().zip(values);
    std::array::from_fn(|_| all.next().map(|(operand, values)| like(operand, values)))
}

fn rows(tensor: &FlexTensor) -> usize {
    tensor.layout().shape()[0]
}

fn width(tensor: &FlexTensor) -> usize {
    tensor.layout().shape().last().copied().unwrap_or(0)
}

/// Applies `f(offset, chunk)` to all elements, in place if nothing else holds the tensor.
fn map_chunks(x: FlexTensor, f: impl Fn(usize, &mut [f32]) + Sync) -> FlexTensor {
    let mut x = row_major(x);
    let whole = x.storage::<f32>().len() == slice(&x).len();
    if whole && let Some(values) = x.try_storage_mut::<f32>() {
        let chunks = values.par_chunks_mut(CHUNK).enumerate();
        chunks.for_each(|(at, chunk)| f(at * CHUNK, chunk));
        return x;
    }
    let values = slice(&x);
    let mut output = vec![0.0; values.len()];
    let chunks = output.par_chunks_mut(CHUNK).zip(values.par_chunks(CHUNK)).enumerate();
    chunks.for_each(|(at, (chunk, values))| {
        chunk.copy_from_slice(values);
        f(at * CHUNK, chunk);
    });
    like(&x, output)
}
