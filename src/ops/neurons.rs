//! The outputs of compact layers.

#[cfg(feature = "flex")]
use std::sync::Arc;

use burn::tensor::Tensor;

use crate::kernels::{LayerWeights, NeuronWeights};
use crate::precision::linear;
#[cfg(feature = "flex")]
use crate::{
    kernels::{InferenceKernels, NeuronPlan, fuses_products},
    ops::{Memo, Sources},
};

/// The preparation of a compact layer for the kernel, kept while its weights stay the same.
#[derive(Debug, Clone, Default)]
pub struct NeuronCache {
    #[cfg(feature = "flex")]
    plan: Memo<Option<Arc<NeuronPlan>>>,
}

impl NeuronCache {
    /// The layer's outputs from those of its first product.
    ///
    /// # Shapes
    /// - `hidden`: `[.., kept + rank]`
    /// - output: `[.., d_output]`
    pub(crate) fn outputs<const D: usize>(
        &self,
        hidden: Tensor<D>,
        weights: NeuronWeights,
    ) -> Tensor<D> {
        try_fused!(self.fused(&hidden, &weights));
        composed(hidden, weights)
    }

    /// In one pass; `None` under autodiff, in other precisions and on other backends.
    #[cfg(feature = "flex")]
    fn fused<const D: usize>(
        &self,
        hidden: &Tensor<D>,
        weights: &NeuronWeights,
    ) -> Option<Tensor<D>> {
        use burn::backend::Dispatch;

        let plain = |tensor: &Tensor<1>| fuses_products(tensor) && !tensor.is_autodiff();
        if hidden.is_autodiff() || !fuses_products(hidden) || !weights.bias.iter().all(plain) {
            return None;
        }
        let plan = self.plan(weights)?;
        let mut shape = hidden.dims();
        let width = shape[D - 1];
        if width == 0 || width != weights.kept + plan.rank() {
            return None;
        }
        let bias = match &weights.bias {
            Some(bias) => bias.clone(),
            None => Tensor::zeros([weights.d_output], &hidden.device()),
        };
        let tokens = shape.iter().product::<usize>() / width;
        let output = <Dispatch as InferenceKernels>::neuron_outputs(
            hidden.clone().reshape([tokens, width]).into_dispatch(),
            bias.into_dispatch(),
            plan,
        );
        shape[D - 1] = weights.d_output;
        Some(Tensor::<2>::from_dispatch(output).reshape(shape))
    }

    #[cfg(feature = "flex")]
    fn plan(&self, weights: &NeuronWeights) -> Option<Arc<NeuronPlan>> {
        let sources = || {
            let sources = Sources::default();
            let sources = match &weights.left {
                Some(left) => sources.and_tensor(left)?,
                None => sources,
            };
            match &weights.order {
                Some(order) => sources.and_int(order),
                None => Some(sources),
            }
        };
        let plan = || NeuronPlan::of(weights).map(Arc::new);
        let kept = self.plan.get(sources(), plan)?;
        // The sizes are not among the sources.
        if kept.is_of(weights.kept, weights.d_output) { Some(kept) } else { plan() }
    }
}

/// A linear layer whose weights a kernel can pack.
pub(crate) trait PackableLinear {
    /// The layer's parameters; `None` in training form and after column pruning.
    fn weights(&self) -> Option<LayerWeights>;
}

/// [`NeuronCache::outputs`] by Burn's operations.
fn composed<const D: usize>(hidden: Tensor<D>, weights: NeuronWeights) -> Tensor<D> {
    let last = D - 1;
    let NeuronWeights { left, order, bias, kept, d_output } = weights;
    let others = d_output - kept;
    let output = match left {
        Some(left) if kept == 0 => linear(hidden, left, None),
        Some(left) => {
            let rank = left.dims()[0];
            let code = hidden.clone().narrow(last, kept, rank);
            let others = linear(code, left, None);
            Tensor::cat(vec![hidden.narrow(last, 0, kept), others], last)
        }
        // Rank 0: a pruned neuron outputs its bias alone.
        None if others > 0 => {
            let mut shape = hidden.shape();
            shape[last] = others;
            let zeros = Tensor::zeros(shape, (&hidden.device(), hidden.dtype()));
            Tensor::cat(vec![hidden, zeros], last)
        }
        None => hidden,
    };
    let output = match order {
        Some(order) => output.select(last, order),
        None => output,
    };
    match bias {
        Some(bias) => output + bias.unsqueeze::<D>(),
        None => output,
    }
}
