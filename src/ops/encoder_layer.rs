//! An encoder layer that normalises after each residual: one kernel in inference.

#[cfg(feature = "flex")]
use std::sync::Arc;

use burn::module::Module;
use burn::tensor::Tensor;

use super::{EncoderLayerParts, ForwardContext};
use crate::kernels::RelativeScores;
#[cfg(feature = "flex")]
use crate::{
    kernels::{block::EncoderBlock, is_flex_f32},
    ops::{
        Memo, Sources,
        packing::{pack, pack_feed_forward, pack_norm},
    },
};

/// The weights of an encoder layer packed for the kernel, kept while they stay the same.
#[derive(Debug, Clone, Default)]
pub(crate) struct PackedEncoderLayer {
    #[cfg(feature = "flex")]
    packed: Memo<Option<Arc<EncoderBlock>>>,
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
        parts: EncoderLayerParts<'_>,
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
        parts: EncoderLayerParts<'_>,
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
fn pack_layer(parts: EncoderLayerParts<'_>) -> Option<EncoderBlock> {
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
