//! Decoding token by token, with a cache outside the model.

use burn::tensor::Tensor;

use super::cache::DecoderCache;
use super::config::OFFSET;
use super::embeddings::LAYER_NORM_EPS;
use super::{BartDecoderLayer, BartForConditionalGeneration};
use crate::generation::CachedDecoder;
use crate::models::{EncoderInput, ModelConfig};
use crate::ops::{DecoderParts, Decoding};
use crate::{Error, Result};

/// The state of a generation.
#[derive(Debug)]
pub struct BartCache {
    decoding: Decoding<Box<DecoderCache>>,
    /// For each row, in which row each of its tokens was read.
    paths: Vec<Vec<usize>>,
}

impl BartForConditionalGeneration {
    pub(super) fn parts(&self) -> DecoderParts<'_> {
        let decoder = &self.model.decoder;
        DecoderParts {
            words: self.model.shared.matrix(),
            word_scale: self.config().embed_scale(),
            positions: &decoder.embeddings.embed_positions,
            position_offset: OFFSET,
            embedding_norm: &decoder.embeddings.layernorm_embedding,
            layers: decoder.layers.iter().map(BartDecoderLayer::parts).collect(),
            num_heads: self.config().decoder_attention_heads,
            head_bias: self.final_logits_bias.val(),
            epsilon: LAYER_NORM_EPS,
        }
    }
}

impl CachedDecoder for BartForConditionalGeneration {
    type Cache = BartCache;
    type Input = EncoderInput;

    fn examples(input: &EncoderInput) -> usize {
        input.input_ids.dims()[0]
    }

    fn vocab_size(&self) -> usize {
        self.config().vocab_size
    }

    fn max_length(&self) -> usize {
        self.config().max_position_embeddings
    }

    fn start(&self, input: &EncoderInput, beams: usize, max_length: usize) -> Result<BartCache> {
        let [batch, source] = input.input_ids.dims();
        let longest = self.config().max_length();
        if source > longest {
            let message =
                format!("{source} tokens, but the model reads at most {longest}; truncate them");
            return Err(Error::option("input_ids", message));
        }
        if self.final_logits_bias.val().is_autodiff() {
            let message = "a model under training drops out; generate with `model.valid()`";
            return Err(Error::option("device", message));
        }
        // The last token is written, not read.
        let capacity = max_length.saturating_sub(1).max(1);
        let (encoded, cross) = self.model.encode(input, |_, _| {});
        let (decoder, parts) = (&self.model.decoder, self.parts());
        let decoding = self.packed.start(decoder, parts, (&encoded, &cross), beams, || {
            let cross = cross.clone();
            Box::new(DecoderCache::start(self, &encoded, cross, beams, capacity))
        });
        Ok(BartCache { decoding, paths: vec![Vec::new(); batch * beams] })
    }

    fn step(&self, tokens: &[u32], cache: &mut BartCache) -> Tensor<2> {
        cache.paths.iter_mut().enumerate().for_each(|(row, path)| path.push(row));
        let BartCache { decoding, paths } = cache;
        decoding.step(tokens, paths, |cache| cache.step(self, tokens, paths))
    }

    fn reorder(&self, parents: &[usize], cache: &mut BartCache) {
        cache.paths = parents.iter().map(|&parent| cache.paths[parent].clone()).collect();
    }
}
