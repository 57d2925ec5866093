//! An encoder layer in one kernel, for inference.

use burn::module::Module;
use burn::nn::LayerNorm;
use burn::tensor::Tensor;

use super::Activation;
use crate::kernels::RelativeScores;
#[cfg(feature = "flex")]
use crate::kernels::block::{Epilogue, Norm, PackedLayers};
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
    packed: crate::kept::Kept<Option<std::sync::Arc<crate::kernels::block::EncoderBlock>>>,
}

/// What a layer is made of that normalises after each residual.
#[derive(Clone, Copy)]
#[cfg_attr(not(feature = "flex"), allow(dead_code))]
pub(crate) struct LayerParts<'a> {
    pub(crate) query: &'a CompressibleLinear,
    pub(crate) key: &'a CompressibleLinear,
    pub(crate) value: &'a CompressibleLinear,
    pub(crate) attention_output: &'a CompressibleLinear,
    pub(crate) attention_norm: &'a LayerNorm,
    pub(crate) feed_forward: FeedForwardParts<'a>,
}

/// A feed-forward network and the normalisation behind it.
#[derive(Clone, Copy)]
#[cfg_attr(not(feature = "flex"), allow(dead_code))]
pub(crate) struct FeedForwardParts<'a> {
    pub(crate) intermediate: &'a CompressibleLinear,
    pub(crate) activation: Activation,
    pub(crate) output: &'a CompressibleLinear,
    pub(crate) norm: &'a LayerNorm,
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
        if !crate::kernels::is_flex_f32(&hidden_states) {
            return Err(hidden_states);
        }
        // None under autodiff: nothing would be kept then.
        let Some(sources) = crate::kept::Sources::default().and(layer) else {
            return Err(hidden_states);
        };
        match self.packed.get(Some(sources), || self.pack(parts).map(std::sync::Arc::new)) {
            Some(packed) => packed.apply(hidden_states, mask, relative),
            None => Err(hidden_states),
        }
    }

    fn pack(&self, parts: LayerParts<'_>) -> Option<crate::kernels::block::EncoderBlock> {
        let [intermediate, output] = packed_feed_forward(parts.feed_forward)?;
        Some(crate::kernels::block::EncoderBlock {
            projections: packed(&[parts.query, parts.key, parts.value])?,
            attention_output: packed(&[parts.attention_output])?,
            attention_norm: packed_norm(parts.attention_norm, self.epsilon)?,
            intermediate,
            output,
            output_norm: packed_norm(parts.feed_forward.norm, self.epsilon)?,
            heads: self.heads,
            scale: self.scale as f32,
        })
    }
}

/// Layers that share their input, outputs side by side.
#[cfg(feature = "flex")]
pub(crate) fn packed(linears: &[&CompressibleLinear]) -> Option<PackedLayers> {
    let parts: Option<Vec<_>> = linears.iter().map(|linear| linear.parts()).collect();
    let parts = parts?;
    let sources: Vec<_> = parts.iter().map(|parts| parts.source()).collect();
    Some(PackedLayers::new(&sources, None, false, Epilogue::Identity))
}

/// Both halves of a feed-forward network; `None` also for activations that the kernel lacks.
#[cfg(feature = "flex")]
pub(crate) fn packed_feed_forward(parts: FeedForwardParts<'_>) -> Option<[PackedLayers; 2]> {
    let epilogue = match parts.activation {
        Activation::Gelu => Epilogue::Gelu,
        Activation::Relu => Epilogue::Relu,
        Activation::Linear => Epilogue::Identity,
        _ => return None,
    };
    let (inner, outer) = (parts.intermediate.parts()?, parts.output.parts()?);
    // The order of the inner neurons is free: kept ones first, and the next layer takes them so.
    let order = inner.source().outputs();
    Some([
        PackedLayers::new(&[inner.source()], None, true, epilogue),
        PackedLayers::new(&[outer.source()], Some(&order), false, Epilogue::Identity),
    ])
}

/// A normalisation that adds `epsilon` to the variance.
#[cfg(feature = "flex")]
pub(crate) fn packed_norm(norm: &LayerNorm, epsilon: f64) -> Option<Norm> {
    let beta = norm.beta.as_ref().map(|beta| beta.val());
    Norm::from_tensors(&norm.gamma.val(), beta.as_ref(), epsilon)
}

#[cfg(all(test, feature = "flex"))]
mod tests;
