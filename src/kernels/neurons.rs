//! The plan of a compact layer, kept with the layer.

#[cfg(feature = "flex")]
use std::sync::{Arc, RwLock};

use burn::tensor::{Int, Tensor};

/// The parameters of a compact layer behind its first product.
#[derive(Debug)]
pub struct NeuronWeights {
    /// `L′ᵀ: [rank, d_output − kept]`.
    pub left: Option<Tensor<2>>,
    /// `[d_output]`: position of every output in `[kept | others]`.
    pub order: Option<Tensor<1, Int>>,
    /// `[d_output]`.
    pub bias: Option<Tensor<1>>,
    /// Number of kept neurons.
    pub kept: usize,
    /// Number of outputs.
    pub d_output: usize,
}

/// Computes a compact layer's outputs in one pass where a backend can, and remembers the
/// layer's preparation for it. Clones start with what is prepared.
#[derive(Default)]
pub struct NeuronCache {
    #[cfg(feature = "flex")]
    prepared: RwLock<Option<Arc<Prepared>>>,
}

#[cfg(feature = "flex")]
struct Prepared {
    /// Held, so that their storage can be neither changed in place nor reused: the same address
    /// means the same values.
    left: Option<Tensor<2>>,
    order: Option<Tensor<1, Int>>,
    kept: usize,
    plan: Arc<super::NeuronPlan>,
}

impl NeuronCache {
    /// The layer's outputs, `None` where they must be composed of Burn's operations: under
    /// autodiff, in other precisions, and on all backends but `flex`.
    ///
    /// # Shapes
    /// - `hidden`: `[.., kept + rank]`
    /// - output: `[.., d_output]`
    #[cfg(feature = "flex")]
    pub fn outputs<const D: usize>(
        &self,
        hidden: &Tensor<D>,
        weights: &NeuronWeights,
    ) -> Option<Tensor<D>> {
        use super::{Kernels, is_flex_f32};
        use crate::precision::is_reduced;
        use burn::backend::Dispatch;

        let plain = |tensor: &Tensor<1>| is_flex_f32(tensor) && !tensor.is_autodiff();
        if is_reduced()
            || !is_flex_f32(hidden)
            || hidden.is_autodiff()
            || !weights.bias.iter().all(plain)
        {
            return None;
        }
        let prepared = self.prepare(weights)?;
        let mut shape = hidden.dims();
        let width = shape[D - 1];
        if width == 0 || width != weights.kept + prepared.plan.rank {
            return None;
        }
        let bias = match &weights.bias {
            Some(bias) => bias.clone(),
            None => Tensor::zeros([weights.d_output], &hidden.device()),
        };
        let tokens = shape.iter().product::<usize>() / width;
        let output = <Dispatch as Kernels>::neuron_outputs(
            hidden.clone().reshape([tokens, width]).into_dispatch(),
            bias.into_dispatch(),
            prepared.plan.clone(),
        );
        shape[D - 1] = weights.d_output;
        Some(Tensor::<2>::from_dispatch(output).reshape(shape))
    }

    /// The layer's outputs: without the `flex` feature always `None`.
    #[cfg(not(feature = "flex"))]
    pub fn outputs<const D: usize>(&self, _: &Tensor<D>, _: &NeuronWeights) -> Option<Tensor<D>> {
        None
    }

    #[cfg(feature = "flex")]
    fn prepare(&self, weights: &NeuronWeights) -> Option<Arc<Prepared>> {
        let slot = self.prepared.read().ok()?.clone();
        if let Some(prepared) = slot.filter(|prepared| prepared.fits(weights)) {
            return Some(prepared);
        }
        let left = match &weights.left {
            Some(left) => Some(super::host::plain(left)?),
            None => None,
        };
        let order =
            weights.order.as_ref().map(|order| order.to_data().iter().collect::<Vec<i64>>());
        let left = match &left {
            Some(left) => Some(left.as_slice::<f32>()?),
            None => None,
        };
        let (kept, d_output) = (weights.kept, weights.d_output);
        let plan = super::NeuronPlan::new(left, order.as_deref(), kept, d_output)?;
        let prepared = Arc::new(Prepared {
            left: weights.left.clone(),
            order: weights.order.clone(),
            kept,
            plan: Arc::new(plan),
        });
        *self.prepared.write().ok()? = Some(prepared.clone());
        Some(prepared)
    }
}

#[cfg(feature = "flex")]
impl Prepared {
    fn fits(&self, weights: &NeuronWeights) -> bool {
        let left = self.left.as_ref().map(|left| (float_address(left), left.dims()));
        let order = self.order.as_ref().map(int_address);
        self.kept == weights.kept
            && self.plan.d_output == weights.d_output
            && left == weights.left.as_ref().map(|left| (float_address(left), left.dims()))
            && order == weights.order.as_ref().map(int_address)
            && left.is_none_or(|(address, _)| address.is_some())
            && order.is_none_or(|address| address.is_some())
    }
}

/// Where a tensor of 32-bit floats lies.
#[cfg(feature = "flex")]
pub(crate) fn float_address(tensor: &Tensor<2>) -> Option<usize> {
    super::host::plain(tensor)?.as_slice::<f32>().map(|values| values.as_ptr() as usize)
}

#[cfg(feature = "flex")]
fn int_address(tensor: &Tensor<1, Int>) -> Option<usize> {
    use burn::backend::{BackendTensor, DispatchTensorKind};
    match tensor.clone().into_dispatch().kind {
        DispatchTensorKind::Flex(BackendTensor::Int(tensor)) if tensor.is_contiguous() => {
            Some(tensor.bytes().as_ptr() as usize + tensor.layout().start_offset())
        }
        _ => None,
    }
}

impl Clone for NeuronCache {
    fn clone(&self) -> Self {
        Self {
            #[cfg(feature = "flex")]
            prepared: RwLock::new(self.prepared.read().ok().and_then(|slot| slot.clone())),
        }
    }
}

impl std::fmt::Debug for NeuronCache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("NeuronCache")
    }
}
