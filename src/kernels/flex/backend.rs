//! The extension on `Flex`: plain slices, split over rayon's threads.

use std::sync::Arc;

use burn::backend::flex::{Flex, FlexTensor};
use burn::tensor::{Shape, TensorData};
use rayon::prelude::*;

use super::active::{ActiveLayer, gather, scatter};
use super::active_neurons::{ActiveNeurons, SparseGradient};
use super::attention::{Attention, AttentionSettings};
use super::extension::{InferenceKernels, KernelGradients};
use super::gelu::{gelu_backward_in_place, gelu_in_place};
use super::neuron_plan::NeuronPlan;
use super::positions::{PositionSettings, Positions};
use super::residual_norm::{NormSettings, ResidualNorm};
use super::slices::{row_major, slice};
use super::{Kernels, products};

/// Elements a task of an elementwise function takes: 64 KiB, some ten microseconds of work.
const CHUNK: usize = 16 * 1024;

impl Kernels for Flex {
    fn gelu_erf(x: FlexTensor) -> FlexTensor {
        map_chunks(x, |_, chunk| gelu_in_place(chunk))
    }

    fn dense(x: FlexTensor, weight: FlexTensor, bias: FlexTensor) -> FlexTensor {
        let [x, weight, bias] = [x, weight, bias].map(row_major);
        let shape = [rows(&x), width(&weight)];
        let output = products::forward(slice(&x), slice(&weight), slice(&bias));
        tensor(output, shape)
    }

    fn composed_weight(
        sparse: FlexTensor,
        right: FlexTensor,
        left: FlexTensor,
        _: Option<Arc<ActiveNeurons>>,
    ) -> FlexTensor {
        if width(&right) == 0 {
            return sparse;
        }
        let [sparse, right, left] = [sparse, right, left].map(row_major);
        let weight = products::onto(slice(&sparse), slice(&right), slice(&left), width(&left));
        like(&sparse, weight)
    }

    fn active_dense(
        x: FlexTensor,
        sparse: FlexTensor,
        right: FlexTensor,
        left: FlexTensor,
        bias: FlexTensor,
        columns: Arc<ActiveNeurons>,
    ) -> FlexTensor {
        let inputs = [x, sparse, right, left].map(row_major);
        let bias = row_major(bias);
        let shape = [rows(&inputs[0]), width(&inputs[1])];
        tensor(active_layer(&inputs, &columns).forward(slice(&bias)), shape)
    }

    fn attention_heads(
        query: FlexTensor,
        key: FlexTensor,
        value: FlexTensor,
        bias: FlexTensor,
        settings: AttentionSettings,
    ) -> FlexTensor {
        let inputs = [query, key, value, bias].map(row_major);
        let output = attention(&inputs, &settings).forward();
        like(&inputs[0], output)
    }

    fn position_scores(
        query: FlexTensor,
        key: FlexTensor,
        keys: FlexTensor,
        queries: FlexTensor,
        settings: PositionSettings,
    ) -> FlexTensor {
        let inputs = [query, key, keys, queries].map(row_major);
        let positions = positions(&inputs, &settings);
        let [batch, length, _] = positions.dims;
        tensor(positions.forward(), [batch, settings.heads, length, length])
    }

    fn residual_norm(
        x: FlexTensor,
        residual: FlexTensor,
        gamma: FlexTensor,
        beta: FlexTensor,
        settings: NormSettings,
    ) -> FlexTensor {
        let inputs = [x, residual, gamma].map(row_major);
        let beta = row_major(beta);
        let output = norm(&inputs, settings).forward(slice(&beta));
        like(&inputs[0], output)
    }
}

impl InferenceKernels for Flex {
    fn neuron_outputs(hidden: FlexTensor, bias: FlexTensor, plan: Arc<NeuronPlan>) -> FlexTensor {
        let tokens = hidden.layout().shape()[0];
        let hidden = row_major(hidden);
        let bias = row_major(bias);
        let mut output = vec![0.0; tokens * plan.d_output];
        super::rows::write_outputs(&plan, slice(&hidden), slice(&bias), &mut output);
        tensor(output, [tokens, plan.d_output])
    }
}

impl KernelGradients for Flex {
    fn gelu_erf_backward(x: FlexTensor, grad: FlexTensor) -> FlexTensor {
        let x = row_major(x);
        let x = slice(&x);
        map_chunks(grad, |from, chunk| gelu_backward_in_place(&x[from..][..chunk.len()], chunk))
    }

    fn dense_input_gradient(grad: FlexTensor, weight: FlexTensor) -> FlexTensor {
        let [grad, weight] = [grad, weight].map(row_major);
        let shape = [rows(&grad), rows(&weight)];
        let gradient = products::input_gradient(slice(&grad), slice(&weight), width(&weight));
        tensor(gradient, shape)
    }

    fn dense_weight_gradient(x: FlexTensor, grad: FlexTensor) -> FlexTensor {
        let [x, grad] = [x, grad].map(row_major);
        let shape = [width(&x), width(&grad)];
        let gradient = products::weight_gradient(slice(&x), slice(&grad), width(&grad));
        tensor(gradient, shape)
    }

    fn dense_bias_gradient(grad: FlexTensor) -> FlexTensor {
        let grad = row_major(grad);
        tensor(products::column_sums(slice(&grad), width(&grad)), [width(&grad)])
    }

    fn composed_weight_gradients(
        factors: [FlexTensor; 2],
        columns: Option<Arc<ActiveNeurons>>,
        grad: FlexTensor,
    ) -> [FlexTensor; 3] {
        let [right, left] = factors.map(row_major);
        let grad = row_major(grad);
        let (d_input, d_output, rank) = (rows(&grad), width(&grad), width(&right));
        let [right, left] = match rank {
            0 => [right, left],
            _ => {
                let of_right = products::input_gradient(slice(&grad), slice(&left), d_output);
                let of_left = products::weight_gradient(slice(&right), slice(&grad), d_output);
                [tensor(of_right, [d_input, rank]), tensor(of_left, [rank, d_output])]
            }
        };
        let sparse = match columns {
            None => grad,
            Some(columns) if columns.gradient == SparseGradient::Whole => grad,
            Some(columns) => {
                let gathered = gather(slice(&grad), d_output, &columns.active);
                sparse_gradient(gathered, &columns, d_input)
            }
        };
        [sparse, right, left]
    }

    fn active_dense_gradients(
        inputs: [FlexTensor; 4],
        columns: Arc<ActiveNeurons>,
        grad: FlexTensor,
    ) -> [FlexTensor; 5] {
        let inputs = inputs.map(row_major);
        let grad = row_major(grad);
        let [x, sparse, right, left, bias] = active_layer(&inputs, &columns).backward(slice(&grad));
        [
            like(&inputs[0], x),
            sparse_gradient(sparse, &columns, rows(&inputs[1])),
            like(&inputs[2], right),
            like(&inputs[3], left),
            tensor(bias, [width(&grad)]),
        ]
    }

    fn attention_gradients(
        inputs: [FlexTensor; 4],
        settings: AttentionSettings,
        grad: FlexTensor,
    ) -> [FlexTensor; 4] {
        let inputs = inputs.map(row_major);
        let grad = row_major(grad);
        all_like(&inputs, attention(&inputs, &settings).backward(slice(&grad)))
    }

    fn position_gradients(
        inputs: [FlexTensor; 4],
        settings: PositionSettings,
        grad: FlexTensor,
    ) -> [FlexTensor; 4] {
        let inputs = inputs.map(row_major);
        let grad = row_major(grad);
        all_like(&inputs, positions(&inputs, &settings).backward(slice(&grad)))
    }

    fn residual_norm_gradients(
        inputs: [FlexTensor; 3],
        settings: NormSettings,
        grad: FlexTensor,
    ) -> [FlexTensor; 4] {
        let inputs = inputs.map(row_major);
        let grad = row_major(grad);
        let [x, residual, gamma, beta] = norm(&inputs, settings).backward(slice(&grad));
        let residual = like(&grad, residual);
        let x = if x.is_empty() { residual.clone() } else { like(&grad, x) };
        [x, residual, like(&inputs[2], gamma), like(&inputs[2], beta)]
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

fn active_layer<'a>(inputs: &'a [FlexTensor; 4], columns: &'a ActiveNeurons) -> ActiveLayer<'a> {
    let [x, sparse, right, left] = inputs.each_ref().map(slice);
    let dims = [rows(&inputs[0]), rows(&inputs[1]), width(&inputs[1]), width(&inputs[2])];
    ActiveLayer { x, sparse, right, left, dims, columns }
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

/// Gradients in the shapes of the inputs that they are of.
fn all_like<const N: usize>(inputs: &[FlexTensor; N], values: [Vec<f32>; N]) -> [FlexTensor; N] {
    let mut values = values.into_iter();
    std::array::from_fn(|at| like(&inputs[at], values.next().unwrap_or_default()))
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
