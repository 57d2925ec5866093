//! Access to the sparse parts of the layers of a model.

use std::sync::Arc;

use burn::module::{Param, ParamId};
use burn::tensor::Tensor;

use crate::kernels::ActiveNeurons;
use crate::linear::{Compressible, CompressibleLinear};

/// Zeroes the entries of `sparse` where `mask` is zero.
pub(super) fn apply_mask(sparse: &mut Param<Tensor<2>>, mask: Tensor<2>) {
    // Taken out so that nothing else holds the values, which are then masked in place.
    let nothing = Param::initialized(ParamId::new(), Tensor::zeros([0, 0], &mask.device()));
    let param = std::mem::replace(sparse, nothing);
    *sparse = param.map(|tensor| {
        let trained = tensor.is_require_grad();
        let autodiff = tensor.is_autodiff();
        let masked = masked(tensor.inner(), mask);
        let masked = if autodiff { Tensor::from_inner(masked) } else { masked };
        masked.set_require_grad(trained && autodiff)
    });
}

fn masked(tensor: Tensor<2>, mask: Tensor<2>) -> Tensor<2> {
    #[cfg(feature = "flex")]
    let tensor = match crate::kernels::passes::mask_columns(tensor, &mask) {
        Ok(masked) => return masked,
        Err(tensor) => tensor,
    };
    tensor * mask
}

/// Calls `f` with the sparse part of every layer that has one.
pub(super) fn for_each_sparse<M: Compressible>(
    model: &mut M,
    mut f: impl FnMut(&str, &mut Param<Tensor<2>>),
) {
    model.for_each_linear_mut(&mut |name, linear| {
        if let CompressibleLinear::LowRankSparse(layer) = linear
            && let Some(sparse) = &mut layer.sparse
        {
            f(name, sparse);
        }
    });
}

/// [`for_each_sparse`], with the neurons that the layer knows to be pruned for good.
pub(super) fn for_each_frozen<M: Compressible>(
    model: &mut M,
    mut f: impl FnMut(&mut Param<Tensor<2>>, &mut Option<Arc<ActiveNeurons>>),
) {
    model.for_each_linear_mut(&mut |_, linear| {
        if let CompressibleLinear::LowRankSparse(layer) = linear
            && let Some(sparse) = &mut layer.sparse
        {
            f(sparse, &mut layer.frozen);
        }
    });
}
