//! An encoder layer that normalises after each residual: one kernel in inference.

#[cfg(feature = "flex")]
use std::sync::Arc;

use burn::module::Module;
use burn::nn::LayerNorm;
use burn::tensor::Tensor;

use super::{Activation, ForwardContext, Heads, PackableLinear};
use crate::kernels::RelativeScores;
#[cfg(feature = "flex")]
use crate::{
    kept::{Kept, Sources},
    kernels::{block::EncoderBlock, is_flex_f32},
    ops::packing::{pack, pack_feed_forward, pack_norm},
};

/// The weights of an encoder layer packed for the kernel, kept while they stay the same.
#[derive(Debug, Clone, Default)]
pub(crate) struct PackedEncoderLayer {
    #[cfg(feature = "flex")]
    packed: Kept<Option<Arc<EncoderBlock>>>,
}

/// The parts of an encoder layer.
#[derive(Clone, Copy)]
pub(crate) struct LayerParts<'a> {
    pub(crate) query: &'a dyn PackableLinear,
    pub(crate) key: &'a dyn PackableLinear,
    pub(crate) value: &'a dyn PackableLinear,
    pub(crate) heads: Heads<'a>,
    pub(crate) attention_output: &'a dyn PackableLinear,
    pub(crate) attention_norm: &'a LayerNorm,
    pub(crate) feed_forward: FeedForwardParts<'a>,
    /// Added to the variance by both normalisations.
    pub(crate) epsilon: f64,
}

/// A feed-forward network and the normalisation behind it.
#[derive(Clone, Copy)]
pub(crate) struct FeedForwardParts<'a> {
    pub(crate) intermediate: &'a dyn PackableLinear,
    pub(crate) activation: Activation,
    pub(crate) output: &'a dyn PackableLinear,
    pub(crate) norm: &'a LayerNorm,
}

impl PackedEncoderLayer {
    /// The output of `layer`, which is made of `parts`: from the kernel, or from `composed` in training,
    /// in training form, in other precisions, on other backends, and if `context` asks for
    /// probabilities.
    ///
    /// # Shapes
    /// - `hidden_states`, output: `[batch, length, hidden_size]`
    pub(crate) fn forward<M: Module>(
        &self,
        layer: &M,
        parts: LayerParts<'_>,
        hidden_states: Tensor<3>,
        context: &ForwardContext,
        relative: Option<&RelativeScores>,
        composed: impl FnOnce(Tensor<3>) -> (Tensor<3>, Option<Tensor<4>>),
    ) -> (Tensor<3>, Option<Tensor<4>>) {
        #[cfg(feature = "flex")]
        if !context.attentions && context.sequences.is_none() {
            return match self.fused(layer, parts, hidden_states, context, relative) {
                Ok(output) => (output, None),
                Err(hidden_states) => composed(hidden_states),
            };
        }
        composed(hidden_states)
    }

    /// The kernel's output, or the states themselves, so that it may otherwise write in place.
    #[cfg(feature = "flex")]
    #[allow(clippy::result_large_err)] // The states themselves, given back.
    pub(super) fn fused<M: Module>(
        &self,
        layer: &M,
        parts: LayerParts<'_>,
        hidden_states: Tensor<3>,
        context: &ForwardContext,
        relative: Option<&RelativeScores>,
    ) -> Result<Tensor<3>, Tensor<3>> {
        if hidden_states.is_autodiff() || !is_flex_f32(&hidden_states) {
            return Err(hidden_states);
        }
        // None under autodiff: nothing would be kept then.
        let Some(sources) = Sources::default().and(layer) else { return Err(hidden_states) };
        match self.packed.get(Some(sources), || pack_layer(parts).map(Arc::new)) {
            Some(packed) => {
                let mask = context.mask.as_ref().map(|mask| &mask.added);
                packed.apply(hidden_states, mask, relative)
            }
            None => Err(hidden_states),
        }
    }
}

#[cfg(feature = "flex")]
fn pack_layer(parts: LayerParts<'_>) -> Option<EncoderBlock> {
    let [intermediate, output] = pack_feed_forward(parts.feed_forward)?;
    Some(EncoderBlock {
        projections: pack(&[parts.query, parts.key, parts.value])?,
        attention_output: pack(&[parts.attention_output])?,
        attention_norm: pack_norm(parts.attention_norm, parts.epsilon)?,
        intermediate,
        output,
        output_norm: pack_norm(parts.feed_forward.norm, parts.epsilon)?,
        heads: parts.heads.count,
        scale: parts.heads.scale as f32,
    })
}

#[cfg(all(test, feature = "flex"))]
mod tests;
