//! Decoding token by token, with a cache outside the model.

use burn::tensor::Tensor;

use super::BartForConditionalGeneration;
use super::composed::ComposedDecoding;
#[cfg(feature = "flex")]
use super::fused::FusedDecoding;
use crate::generation::CachedDecoder;
use crate::models::{EncoderInput, ModelConfig};
use crate::{Error, Result};

/// What a generation remembers.
#[derive(Debug)]
pub struct BartCache {
    steps: Steps,
    /// For each row, in which row each of its tokens was read.
    paths: Vec<Vec<usize>>,
}

#[derive(Debug)]
enum Steps {
    #[cfg(feature = "flex")]
    Fused(Box<FusedDecoding>),
    Composed(Box<ComposedDecoding>),
}

impl BartForConditionalGeneration {
    /// One kernel a step where there is one, or Burn's operations.
    fn steps(&self, input: &EncoderInput, beams: usize, capacity: usize) -> Steps {
        let (encoded, mask) = self.model.encode(input, |_, _| {});
        #[cfg(feature = "flex")]
        if let Some(fused) = self.fused.start(self, &encoded, mask.as_ref(), beams) {
            return Steps::Fused(Box::new(fused));
        }
        let composed = ComposedDecoding::start(self, &encoded, mask, beams, capacity);
        Steps::Composed(Box::new(composed))
    }
}

impl CachedDecoder for BartForConditionalGeneration {
    type Cache = BartCache;

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
        if self.model.shared.weight.val().is_autodiff() {
            let message = "a model under training drops out; generate with `model.valid()`";
            return Err(Error::option("device", message));
        }
        // The last token is written, not read.
        let capacity = max_length.saturating_sub(1).max(1);
        let steps = self.steps(input, beams, capacity);
        Ok(BartCache { steps, paths: vec![Vec::new(); batch * beams] })
    }

    fn step(&self, tokens: &[u32], cache: &mut BartCache) -> Tensor<2> {
        cache.paths.iter_mut().enumerate().for_each(|(row, path)| path.push(row));
        match &mut cache.steps {
            #[cfg(feature = "flex")]
            Steps::Fused(fused) => fused.step(tokens, &cache.paths),
            Steps::Composed(composed) => composed.step(self, tokens, &cache.paths),
        }
    }

    fn reorder(&self, parents: &[usize], cache: &mut BartCache) {
        cache.paths = parents.iter().map(|&parent| cache.paths[parent].clone()).collect();
    }
}
