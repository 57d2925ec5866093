//! Decoding in one kernel a token, for inference on `flex`.

use std::sync::Arc;

use burn::tensor::Tensor;

use super::embeddings::{LAYER_NORM_EPS, OFFSET};
use super::{BartDecoderLayer, BartForConditionalGeneration};
use crate::kept::{Kept, Sources};
use crate::kernels::block::{
    Decoder, DecoderBlock, Norm, PackedWeight, Remembered, Rows, Values, refill,
};
use crate::kernels::is_flex_f32;
use crate::models::fused::{packed, packed_feed_forward, packed_norm};

/// Decoder and head packed for the kernel, kept while they stay the same.
#[derive(Debug, Clone, Default)]
pub(super) struct FusedDecoder {
    packed: Kept<Option<Arc<Packed>>>,
}

#[derive(Debug)]
struct Packed {
    decoder: Decoder,
    /// `[vocab_size, d_model]`
    words: Values,
    /// What words are multiplied by.
    scale: f32,
    /// `[positions, d_model]`
    positions: Values,
    norm: Norm,
}

/// One generation.
#[derive(Debug)]
pub(super) struct FusedDecoding {
    packed: Arc<Packed>,
    remembered: Remembered,
    /// `[rows, d_model]`
    states: Vec<f32>,
    /// The last logits, whose memory the next ones take once nobody else holds it.
    logits: Option<Tensor<2>>,
}

impl FusedDecoder {
    /// Makes ready to decode `beams` rows for every example of `encoded: [batch, source, d_model]`.
    /// `None` if that must be composed of Burn's operations: in training, in training form, in other
    /// precisions and on other backends.
    ///
    /// `mask: [batch, 1, 1, source]` is added to the cross-attention scores.
    pub(super) fn start(
        &self,
        model: &BartForConditionalGeneration,
        encoded: &Tensor<3>,
        mask: Option<&Tensor<4>>,
        beams: usize,
    ) -> Option<FusedDecoding> {
        if !is_flex_f32(encoded) {
            return None;
        }
        let sources = Sources::default()
            .and(&model.model.decoder)?
            .and(&model.model.shared)?
            .and_tensor(&model.final_logits_bias.val())?;
        let packed = self.packed.get(Some(sources), || Packed::new(model).map(Arc::new))?;
        let mask = match mask {
            Some(mask) => Some(Values::of(mask)?.as_slice().to_vec()),
            None => None,
        };
        let [_, source, _] = encoded.dims();
        let encoded = Values::of(encoded)?;
        let remembered = packed.decoder.start(encoded.as_slice(), source, beams, mask);
        Some(FusedDecoding { packed, remembered, states: Vec::new(), logits: None })
    }
}

impl Packed {
    fn new(model: &BartForConditionalGeneration) -> Option<Self> {
        let (config, bart) = (model.config(), &model.model);
        let (size, heads) = (config.d_model, config.decoder_attention_heads);
        let layers: Option<Vec<_>> = bart.decoder.layers.iter().map(layer).collect();
        let words = Values::of(&bart.shared.weight.val())?;
        let head = PackedWeight::transposed(words.as_slice(), size, config.vocab_size);
        let embeddings = &bart.decoder.embeddings;
        Some(Self {
            decoder: Decoder {
                layers: layers?,
                head,
                head_bias: Values::of(&model.final_logits_bias.val())?.as_slice().to_vec(),
                size,
                heads,
                scale: 1.0 / ((size / heads) as f32).sqrt(),
            },
            words,
            scale: config.embed_scale() as f32,
            positions: Values::of(&embeddings.embed_positions.weight.val())?,
            norm: packed_norm(&embeddings.layernorm_embedding, LAYER_NORM_EPS)?,
        })
    }

    /// Writes `[rows, d_model]`, the tokens' embeddings at `position`.
    fn embed(&self, tokens: &[u32], position: usize, states: &mut Vec<f32>) {
        let size = self.decoder.size;
        let longest = self.positions.as_slice().len() / size - OFFSET;
        let length = position + 1;
        assert!(
            length <= longest,
            "input of {length} tokens, but max_position_embeddings is {longest}"
        );
        states.clear();
        for &token in tokens {
            let word = &self.words.as_slice()[token as usize * size..][..size];
            states.extend(word.iter().map(|x| x * self.scale));
        }
        let values = &self.positions.as_slice()[(OFFSET + position) * size..][..size];
        // The same row for all.
        self.norm.add_and_normalise(states, Rows { values, stride: 0, rows: tokens.len() });
    }
}

fn layer(layer: &BartDecoderLayer) -> Option<DecoderBlock> {
    let (own, cross) = (&layer.self_attn, &layer.encoder_attn);
    let feed_forward = layer.feed_forward.parts();
    let [intermediate, output] = packed_feed_forward(feed_forward)?;
    let norm = |norm| packed_norm(norm, LAYER_NORM_EPS);
    Some(DecoderBlock {
        projections: packed(&[&own.q_proj, &own.k_proj, &own.v_proj])?,
        attention_output: packed(&[&own.out_proj])?,
        attention_norm: norm(&layer.self_attn_layer_norm)?,
        query: packed(&[&cross.q_proj])?,
        keys_values: packed(&[&cross.k_proj, &cross.v_proj])?,
        cross_output: packed(&[&cross.out_proj])?,
        cross_norm: norm(&layer.encoder_attn_layer_norm)?,
        intermediate,
        output,
        output_norm: norm(feed_forward.norm)?,
    })
}

impl FusedDecoding {
    /// The logits `[rows, vocab_size]` behind another token of every row; `paths` say in which row
    /// each position's token was, these included.
    ///
    /// # Panics
    /// If a token or the position is beyond the model's.
    pub(super) fn step(&mut self, tokens: &[u32], paths: &[Vec<usize>]) -> Tensor<2> {
        let Self { packed, remembered, states, logits } = self;
        let position = paths.first().map_or(0, |path| path.len() - 1);
        packed.embed(tokens, position, states);
        let shape = [tokens.len(), packed.decoder.head.d_output()];
        let next = refill(logits.take(), shape, |logits| {
            packed.decoder.step(states, paths, remembered, logits);
        });
        *logits = Some(next.clone());
        next
    }
}

#[cfg(test)]
mod tests;
