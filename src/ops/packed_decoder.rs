//! A decoder's weights packed for the kernel, and generations by it.

use std::sync::Arc;

use burn::tensor::Tensor;

use super::packing::{pack, pack_feed_forward, pack_norm};
use super::{AttentionParts, DecoderLayerParts, DecoderParts};
use crate::kernels::block::{
    Decoder, DecoderBlock, Norm, Remembered, Rows, Values, WordRows, refill,
};

#[derive(Debug)]
pub(super) struct Packed {
    decoder: Decoder,
    /// `[vocab_size, size]`
    words: WordRows,
    /// Multiplies embedded words.
    word_scale: f32,
    /// `[offset + positions, size]`
    positions: Values,
    position_offset: usize,
    norm: Norm,
}

/// One generation.
#[derive(Debug)]
pub(crate) struct FusedDecoding {
    packed: Arc<Packed>,
    remembered: Remembered,
    /// `[rows, size]`
    states: Vec<f32>,
    /// The last logits, whose memory the next ones take once nobody else holds it.
    logits: Option<Tensor<2>>,
}

impl Packed {
    /// `None` for forms, precisions and backends that the kernel does not take.
    pub(super) fn new(parts: DecoderParts<'_>) -> Option<Self> {
        let layer = |layer| pack_layer(layer, parts.epsilon);
        let layers = parts.layers.iter().map(layer).collect::<Option<_>>()?;
        let [_, size] = parts.words.dims();
        let words = WordRows::of(&parts.words)?;
        Some(Self {
            decoder: Decoder {
                layers,
                head: words.head(),
                head_bias: Values::of(&parts.head_bias)?.as_slice().to_vec(),
                size,
                heads: parts.num_heads,
                scale: 1.0 / ((size / parts.num_heads) as f32).sqrt(),
            },
            words,
            word_scale: parts.word_scale as f32,
            positions: Values::of(&parts.positions.weight.val())?,
            position_offset: parts.position_offset,
            norm: pack_norm(parts.embedding_norm, parts.epsilon)?,
        })
    }

    /// Writes `[rows, size]`, the tokens' embeddings at `position`.
    fn embed(&self, tokens: &[u32], position: usize, states: &mut Vec<f32>) {
        let size = self.decoder.size;
        let longest = self.positions.as_slice().len() / size - self.position_offset;
        let length = position + 1;
        assert!(
            length <= longest,
            "input of {length} tokens, but max_position_embeddings is {longest}"
        );
        states.clear();
        for &token in tokens {
            self.words.push(token as usize, self.word_scale, states);
        }
        let row = self.position_offset + position;
        let values = &self.positions.as_slice()[row * size..][..size];
        // The same row for all.
        self.norm.add_and_normalise(states, Rows { values, stride: 0, rows: tokens.len() });
    }
}

fn pack_layer(layer: &DecoderLayerParts<'_>, epsilon: f64) -> Option<DecoderBlock> {
    let DecoderLayerParts { own, cross, feed_forward } = layer;
    let [intermediate, output] = pack_feed_forward(*feed_forward)?;
    let norm = |attention: &AttentionParts<'_>| pack_norm(attention.norm, epsilon);
    Some(DecoderBlock {
        projections: pack(&[own.query, own.key, own.value])?,
        attention_output: pack(&[own.output])?,
        attention_norm: norm(own)?,
        query: pack(&[cross.query])?,
        keys_values: pack(&[cross.key, cross.value])?,
        cross_output: pack(&[cross.output])?,
        cross_norm: norm(cross)?,
        intermediate,
        output,
        output_norm: pack_norm(feed_forward.norm, epsilon)?,
    })
}

impl FusedDecoding {
    /// Makes ready to decode `beams` rows for every example of `encoded: [batch, source, size]`; `mask:
    /// [batch, 1, 1, source]` is added to the cross-attention scores.
    pub(super) fn start(
        packed: Arc<Packed>,
        encoded: &Tensor<3>,
        mask: Option<&Tensor<4>>,
        beams: usize,
    ) -> Option<Self> {
        let mask = match mask {
            Some(mask) => Some(Values::of(mask)?.as_slice().to_vec()),
            None => None,
        };
        let [_, source, _] = encoded.dims();
        let encoded = Values::of(encoded)?;
        let remembered = packed.decoder.start(encoded.as_slice(), source, beams, mask);
        Some(Self { packed, remembered, states: Vec::new(), logits: None })
    }

    /// See [`super::Decoding::step`].
    pub(crate) fn step(&mut self, tokens: &[u32], paths: &[Vec<usize>]) -> Tensor<2> {
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
