//! The extension on `Flex`: plain slices, split over rayon's threads.

use std::sync::Arc;

use burn::backend::flex::{Flex, FlexTensor};
use burn::backend::ops::ActivationOps;
use burn::backend::tensor::FloatTensor;
use burn::tensor::{DType, TensorData};
use rayon::prelude::*;

use super::gelu::{gelu_backward_in_place, gelu_in_place};
use super::plan::NeuronPlan;
use super::{Kernels, rows};

/// Elements a task of an elementwise function takes: 64 KiB, some ten microseconds of work.
const CHUNK: usize = 16 * 1024;

impl Kernels for Flex {
    fn gelu_erf(x: FloatTensor<Self>) -> FloatTensor<Self> {
        match x.dtype() {
            DType::F32 => map_chunks(x, |_, chunk| gelu_in_place(chunk)),
            _ => <Self as ActivationOps<Self>>::gelu(x),
        }
    }

    fn gelu_erf_backward(x: FloatTensor<Self>, grad: FloatTensor<Self>) -> FloatTensor<Self> {
        if x.dtype() != DType::F32 || grad.dtype() != DType::F32 {
            return <Self as ActivationOps<Self>>::gelu_backward(x, grad);
        }
        let x = contiguous(x);
        let x = f32_slice(&x);
        map_chunks(grad, |from, chunk| gelu_backward_in_place(&x[from..][..chunk.len()], chunk))
    }

    /// # Panics
    /// If a tensor is not of 32-bit floats.
    fn neuron_outputs(
        hidden: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        plan: Arc<NeuronPlan>,
    ) -> FloatTensor<Self> {
        let tokens = hidden.layout().shape()[0];
        let hidden = contiguous(hidden);
        let bias = contiguous(bias);
        let mut output = vec![0.0; tokens * plan.d_output];
        rows::write_outputs(&plan, f32_slice(&hidden), f32_slice(&bias), &mut output);
        FlexTensor::from_data(TensorData::new(output, [tokens, plan.d_output]))
    }
}

/// Applies `f(offset, chunk)` to all elements, in place if nothing else holds the tensor.
fn map_chunks(x: FlexTensor, f: impl Fn(usize, &mut [f32]) + Sync) -> FlexTensor {
    let mut x = contiguous(x);
    let whole = x.storage::<f32>().len() == f32_slice(&x).len();
    if whole && let Some(values) = x.try_storage_mut::<f32>() {
        let chunks = values.par_chunks_mut(CHUNK).enumerate();
        chunks.for_each(|(at, chunk)| f(at * CHUNK, chunk));
        return x;
    }
    let values = f32_slice(&x);
    let mut output = vec![0.0; values.len()];
    let chunks = output.par_chunks_mut(CHUNK).zip(values.par_chunks(CHUNK)).enumerate();
    chunks.for_each(|(at, (chunk, values))| {
        chunk.copy_from_slice(values);
        f(at * CHUNK, chunk);
    });
    FlexTensor::from_data(TensorData::new(output, x.layout().shape().clone()))
}

/// Without a second handle to storage that could be used in place.
fn contiguous(tensor: FlexTensor) -> FlexTensor {
    if tensor.is_contiguous() { tensor } else { tensor.to_contiguous() }
}

fn f32_slice(tensor: &FlexTensor) -> &[f32] {
    tensor.as_slice().expect("a contiguous tensor of 32-bit floats")
}
