//! Decoding token by token, with a cache.
//!
//! The hypotheses of an example are queries of one attention: its keys and values hold every
//! hypothesis' tokens, `beams` places a position, and a mask shows each the path it came by. So
//! nothing is copied when hypotheses change places, and the encoder's keys and values exist once
//! for all of them.

use burn::tensor::{Bool, Device, Int, Tensor, TensorData};

use super::BartForConditionalGeneration;
use crate::generation::CachedDecoder;
use crate::models::{EncoderInput, ModelConfig};
use crate::{Error, Result};

/// What a generation remembers.
#[derive(Debug)]
pub struct BartCache {
    layers: Vec<LayerCache>,
    /// `[batch, 1, 1, source]`, added to the cross-attention scores.
    encoder_mask: Option<Tensor<4>>,
    batch: usize,
    beams: usize,
    /// Tokens read of each hypothesis.
    length: usize,
    /// Greatest number of tokens read.
    capacity: usize,
    /// For each row, which of its position's `beams` places each of its tokens is in.
    paths: Vec<Vec<usize>>,
}

/// Keys and values of a layer, `[batch, heads, …, head_size]`.
#[derive(Debug)]
struct LayerCache {
    /// Of the tokens so far, `capacity · beams` places of which `length · beams` are filled; taken
    /// out to be written in place.
    own: Option<(Tensor<4>, Tensor<4>)>,
    /// Of the encoder's output.
    cross: (Tensor<4>, Tensor<4>),
}

impl LayerCache {
    /// Writes keys and values `[batch, heads, beams, head_size]` behind the `filled` places; gives
    /// all that are filled now.
    fn append(
        &mut self,
        new: (Tensor<4>, Tensor<4>),
        filled: usize,
        capacity: usize,
    ) -> (Tensor<4>, Tensor<4>) {
        let [batch, heads, beams, head_size] = new.0.dims();
        let (keys, values) = self.own.take().unwrap_or_else(|| {
            let empty = || {
                let shape = [batch, heads, capacity * beams, head_size];
                Tensor::zeros(shape, (&new.0.device(), new.0.dtype()))
            };
            (empty(), empty())
        });
        let place = [0..batch, 0..heads, filled..filled + beams, 0..head_size];
        // The only reference to either, so a backend may write in place.
        let keys = keys.slice_assign(place.clone(), new.0);
        let values = values.slice_assign(place, new.1);
        let so_far = filled + beams;
        let all = (keys.clone().narrow(2, 0, so_far), values.clone().narrow(2, 0, so_far));
        self.own = Some((keys, values));
        all
    }
}

impl BartCache {
    /// `[batch, 1, beams, length · beams]`: hides what is not on a hypothesis' path; `None` where
    /// there is one path.
    fn path_mask(&self, like: &Tensor<3>) -> Option<Tensor<4>> {
        if self.beams == 1 {
            return None;
        }
        let places = self.length * self.beams;
        let mut hidden = vec![true; self.paths.len() * places];
        for (row, path) in hidden.chunks_mut(places).zip(&self.paths) {
            for (position, place) in path.iter().enumerate() {
                row[position * self.beams + place] = false;
            }
        }
        let device: Device = like.device();
        let shape = [self.batch, 1, self.beams, places];
        let hidden = Tensor::<4, Bool>::from_data(TensorData::new(hidden, shape), &device);
        let min = like.dtype().finfo().map_or(f64::from(f32::MIN), |info| info.min);
        Some(Tensor::zeros(shape, (&device, like.dtype())).mask_fill(hidden, min))
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
        let (encoded, encoder_mask) = self.model.encode(input, |_, _| {});
        let layers = self.model.decoder.layers.iter().map(|layer| LayerCache {
            own: None,
            cross: layer.encoder_attn.keys_and_values(encoded.clone()),
        });
        Ok(BartCache {
            layers: layers.collect(),
            encoder_mask,
            batch,
            beams,
            length: 0,
            // The last token is written, not read.
            capacity: max_length.saturating_sub(1).max(1),
            paths: vec![Vec::new(); batch * beams],
        })
    }

    fn step(&self, tokens: &[u32], cache: &mut BartCache) -> Tensor<2> {
        let (batch, beams) = (cache.batch, cache.beams);
        let device = self.final_logits_bias.val().device();
        let tokens: Vec<i64> = tokens.iter().map(|&token| i64::from(token)).collect();
        // One position of `beams` hypotheses each, side by side: [batch, beams]
        let tokens = Tensor::<2, Int>::from_data(TensorData::new(tokens, [batch, beams]), &device);
        let filled = cache.length * beams;
        let embedded = self.model.embed(tokens);
        let decoder = &self.model.decoder;
        let mut hidden_states = decoder.embeddings.forward_at(embedded, cache.length);

        cache.length += 1;
        cache.paths.iter_mut().enumerate().for_each(|(row, path)| path.push(row % beams));
        let mask = cache.path_mask(&hidden_states);
        for (layer, remembered) in decoder.layers.iter().zip(&mut cache.layers) {
            let query = layer.self_attn.queries(hidden_states.clone());
            let new = layer.self_attn.keys_and_values(hidden_states.clone());
            let (keys, values) = remembered.append(new, filled, cache.capacity);
            let (attended, _) = layer.self_attn.attend(query, keys, values, mask.as_ref());
            hidden_states = layer.after_self_attention(attended, hidden_states);

            let query = layer.encoder_attn.queries(hidden_states.clone());
            let (keys, values) = remembered.cross.clone();
            let cross_mask = cache.encoder_mask.as_ref();
            let (attended, _) = layer.encoder_attn.attend(query, keys, values, cross_mask);
            hidden_states = layer.after_cross_attention(attended, hidden_states);
        }
        let vocab_size = self.config().vocab_size;
        self.logits(hidden_states).reshape([batch * beams, vocab_size])
    }

    fn reorder(&self, parents: &[usize], cache: &mut BartCache) {
        cache.paths = parents.iter().map(|&parent| cache.paths[parent].clone()).collect();
    }
}
