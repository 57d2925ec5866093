//! An encoder layer in one kernel, for inference.

use burn::module::Module;
use burn::tensor::Tensor;

use super::bert::{BertIntermediate, BertOutput, BertSelfOutput};
use crate::kernels::RelativeScores;
use crate::linear::CompressibleLinear;

/// An encoder layer's weights packed for the kernel, kept while they stay the same.
#[derive(Debug, Clone)]
pub(crate) struct FusedLayer {
    #[cfg(feature = "flex")]
    heads: usize,
    #[cfg(feature = "flex")]
    scale: f64,
    #[cfg(feature = "flex")]
    epsilon: f64,
    #[cfg(feature = "flex")]
    packed: super::kept::Kept<Option<std::sync::Arc<crate::kernels::block::EncoderBlock>>>,
}

/// What a layer of BERT's kind is made of.
#[derive(Clone, Copy)]
#[cfg_attr(not(feature = "flex"), allow(dead_code))]
pub(crate) struct LayerParts<'a> {
    pub(crate) query: &'a CompressibleLinear,
    pub(crate) key: &'a CompressibleLinear,
    pub(crate) value: &'a CompressibleLinear,
    pub(crate) context: &'a BertSelfOutput,
    pub(crate) intermediate: &'a BertIntermediate,
    pub(crate) output: &'a BertOutput,
}

#[cfg(not(feature = "flex"))]
impl FusedLayer {
    pub(crate) fn new(_heads: usize, _scale: f64, _epsilon: f64) -> Self {
        Self {}
    }

    /// Without the `flex` feature always the states as they are.
    #[allow(clippy::result_large_err)] // The states themselves, given back.
    pub(crate) fn forward<M: Module>(
        &self,
        _: &M,
        _: LayerParts<'_>,
        hidden_states: Tensor<3>,
        _: Option<&Tensor<4>>,
        _: Option<&RelativeScores>,
    ) -> Result<Tensor<3>, Tensor<3>> {
        Err(hidden_states)
    }
}

#[cfg(feature = "flex")]
impl FusedLayer {
    /// For layers of `heads` heads whose scores are multiplied by `scale` and whose normalisations
    /// add `epsilon` to the variance.
    pub(crate) fn new(heads: usize, scale: f64, epsilon: f64) -> Self {
        Self { heads, scale, epsilon, packed: Default::default() }
    }

    /// What `layer`, made of `parts`, gives, or the states as they are if it must be composed of
    /// Burn's operations: in training, in training form, in other precisions and on other backends.
    ///
    /// # Shapes
    /// - `hidden_states`, output: `[batch, length, hidden_size]`
    /// - `mask`: `[batch or 1, heads or 1, length or 1, length]`, added to the scores
    #[allow(clippy::result_large_err)] // The states themselves, given back.
    pub(crate) fn forward<M: Module>(
        &self,
        layer: &M,
        parts: LayerParts<'_>,
        hidden_states: Tensor<3>,
        mask: Option<&Tensor<4>>,
        relative: Option<&RelativeScores>,
    ) -> Result<Tensor<3>, Tensor<3>> {
        // None under autodiff: nothing would be kept then.
        let Some(sources) = super::kept::Sources::default().and(layer) else {
            return Err(hidden_states);
        };
        match self.packed.get(Some(sources), || self.pack(parts).map(std::sync::Arc::new)) {
            Some(packed) => packed.apply(hidden_states, mask, relative),
            None => Err(hidden_states),
        }
    }

    fn pack(&self, parts: LayerParts<'_>) -> Option<crate::kernels::block::EncoderBlock> {
        use super::Activation;
        use crate::kernels::block::{EncoderBlock, Epilogue, Norm, PackedLayers};
        let epilogue = match parts.intermediate.activation() {
            Activation::Gelu => Epilogue::Gelu,
            Activation::Relu => Epilogue::Relu,
            Activation::Linear => Epilogue::Identity,
            _ => return None,
        };
        let norm = |norm: &burn::nn::LayerNorm| {
            let beta = norm.beta.as_ref().map(|beta| beta.val());
            Norm::from_tensors(&norm.gamma.val(), beta.as_ref(), self.epsilon)
        };
        let none = Epilogue::Identity;
        let (query, key, value) = (parts.query.parts()?, parts.key.parts()?, parts.value.parts()?);
        let sources = [query.source(), key.source(), value.source()];
        let projections = PackedLayers::new(&sources, None, false, none);
        let context = parts.context.dense.parts()?;
        let attention_output = PackedLayers::new(&[context.source()], None, false, none);
        // The order of the inner neurons is free: kept ones first, and the next layer takes them so.
        let (inner, outer) = (parts.intermediate.dense.parts()?, parts.output.dense.parts()?);
        let order = inner.source().outputs();
        Some(EncoderBlock {
            projections,
            attention_output,
            attention_norm: norm(&parts.context.layer_norm)?,
            intermediate: PackedLayers::new(&[inner.source()], None, true, epilogue),
            output: PackedLayers::new(&[outer.source()], Some(&order), false, none),
            output_norm: norm(&parts.output.layer_norm)?,
            heads: self.heads,
            scale: self.scale as f32,
        })
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests;
