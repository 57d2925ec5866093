//! The extension trait and its composed default bodies.

use std::sync::Arc;

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, TensorMetadata, backend_extension};
use burn::tensor::{FloatDType, IndexingUpdateOp, Shape, Slice, TensorData};

use super::plan::NeuronPlan;

/// Operations beyond Burn's [`Backend`], composed of its own unless a backend knows better.
#[backend_extension(Flex, Autodiff)]
pub trait Kernels: Backend {
    /// `x Φ(x)`, elementwise.
    fn gelu_erf(x: FloatTensor<Self>) -> FloatTensor<Self> {
        Self::gelu(x)
    }

    /// The gradient of [`Kernels::gelu_erf`] at `x`, `Φ(x) + x φ(x)`, times `grad`.
    fn gelu_erf_backward(x: FloatTensor<Self>, grad: FloatTensor<Self>) -> FloatTensor<Self> {
        Self::gelu_backward(x, grad)
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
        let (device, tokens) = (hidden.device(), hidden.shape()[0]);
        let (kept, rank, d_output) = (plan.neurons.len(), plan.rank, plan.d_output);
        let columns = |from: usize, to: usize| {
            let slices = [Slice::from(0..tokens), Slice::from(from..to)];
            Self::float_slice(hidden.clone(), &slices)
        };
        let output = match rank {
            0 => Self::float_zeros(Shape::new([tokens, d_output]), &device, FloatDType::F32),
            _ => {
                let spread = TensorData::new(plan.spread.clone(), [rank, d_output]);
                let spread = Self::float_from_data(spread, &device);
                Self::float_matmul(columns(kept, kept + rank), spread)
            }
        };
        let bias = Self::float_reshape(bias, Shape::new([1, d_output]));
        let output = Self::float_add(output, bias);
        if kept == 0 {
            return output;
        }
        let neurons: Vec<i64> = plan.neurons.iter().map(|&neuron| neuron as i64).collect();
        let neurons = Self::int_from_data(TensorData::new(neurons, [kept]), &device);
        Self::float_select_assign(output, 1, neurons, columns(0, kept), IndexingUpdateOp::Add)
    }
}
