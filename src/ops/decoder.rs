//! Decoding token by token: one kernel a step in inference.

use burn::module::Module;
use burn::tensor::Tensor;

#[cfg(feature = "flex")]
use super::packed_decoder::{FusedDecoding, Packed};
use super::{DecoderParts, ForwardContext};

/// Decoder and language-model head packed for the kernel, kept while they stay the same.
#[derive(Debug, Clone, Default)]
pub(crate) struct PackedDecoder {
    #[cfg(feature = "flex")]
    packed: crate::ops::Memo<Option<std::sync::Arc<Packed>>>,
}

/// One generation: by the kernel, or with the cache `C` of composed steps.
#[derive(Debug)]
pub(crate) enum Decoding<C> {
    #[cfg(feature = "flex")]
    Fused(Box<FusedDecoding>),
    Composed(C),
}

impl PackedDecoder {
    /// Starts to decode `beams` rows for every example of `encoded: [batch, source, size]`, whose padding
    /// `cross` masks. The kernel decodes `decoder`, which is made of `parts`; in training, in training
    /// form, in other precisions and on other backends the steps are composed, from `cache` on.
    pub(crate) fn start<M: Module, C>(
        &self,
        decoder: &M,
        parts: DecoderParts<'_>,
        (encoded, cross): (&Tensor<3>, &ForwardContext),
        beams: usize,
        cache: impl FnOnce() -> C,
    ) -> Decoding<C> {
        #[cfg(feature = "flex")]
        if let Some(fused) = self.fused(decoder, parts, (encoded, cross), beams) {
            return Decoding::Fused(Box::new(fused));
        }
        Decoding::Composed(cache())
    }

    #[cfg(feature = "flex")]
    pub(crate) fn fused<M: Module>(
        &self,
        decoder: &M,
        parts: DecoderParts<'_>,
        (encoded, cross): (&Tensor<3>, &ForwardContext),
        beams: usize,
    ) -> Option<FusedDecoding> {
        if !crate::kernels::is_flex_f32(encoded) {
            return None;
        }
        let sources = crate::ops::Sources::default()
            .and(decoder)?
            .and_matrix(&parts.words)?
            .and_tensor(&parts.head_bias)?;
        let packed = || Packed::new(parts).map(std::sync::Arc::new);
        let packed = self.packed.get(Some(sources), packed)?;
        FusedDecoding::start(packed, encoded, cross.mask.as_ref().map(|mask| &mask.added), beams)
    }
}

impl<C> Decoding<C> {
    /// The logits `[rows, vocab_size]` behind another token of every row; `paths` say in which row each
    /// position's token was, these included. `composed` computes them if there is no kernel.
    ///
    /// # Panics
    /// If a token or the position is beyond the model's.
    pub(crate) fn step(
        &mut self,
        tokens: &[u32],
        paths: &[Vec<usize>],
        composed: impl FnOnce(&mut C) -> Tensor<2>,
    ) -> Tensor<2> {
        match self {
            #[cfg(feature = "flex")]
            Self::Fused(fused) => fused.step(tokens, paths),
            Self::Composed(cache) => composed(cache),
        }
    }
}
