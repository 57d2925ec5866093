//! A linear layer in 8-bit integers: one kernel in inference.

#[cfg(feature = "flex")]
use std::sync::Arc;

use burn::module::Module;
use burn::tensor::Tensor;

use super::PackableLinear;
#[cfg(feature = "flex")]
use crate::{
    kernels::block::LinearsAlone,
    ops::{Memo, Sources, packing::pack},
};

/// The weights of a layer packed for the kernel, kept while they stay the same.
#[derive(Debug, Clone, Default)]
pub struct PackedLinear {
    #[cfg(feature = "flex")]
    packed: Memo<Option<Arc<LinearsAlone>>>,
}

impl PackedLinear {
    /// The outputs of `layer` from the kernel, or from `composed` under autodiff, in other precisions and
    /// on other backends.
    ///
    /// # Shapes
    /// - input: `[.., d_input]`
    /// - output: `[.., d_output]`
    pub(crate) fn forward<M: Module + PackableLinear, const D: usize>(
        &self,
        layer: &M,
        input: Tensor<D>,
        composed: impl FnOnce(Tensor<D>) -> Tensor<D>,
    ) -> Tensor<D> {
        try_fused!(self.fused(layer, &input));
        composed(input)
    }

    #[cfg(feature = "flex")]
    fn fused<M: Module + PackableLinear, const D: usize>(
        &self,
        layer: &M,
        input: &Tensor<D>,
    ) -> Option<Tensor<D>> {
        let sources = Sources::default().and(layer)?;
        let d_input = input.dims()[D - 1];
        let pack = || Some(Arc::new(LinearsAlone { layers: pack(&[layer])?, d_input }));
        self.packed.get(Some(sources), pack)?.apply(input)
    }
}
