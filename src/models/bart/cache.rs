//! The keys and values of a generation, and its steps composed of operations.
//!
//! The hypotheses of an example are queries of one attention: its keys and values hold every
//! hypothesis' tokens, `beams` places a position, and a mask shows each the path it came by. So
//! nothing is copied when hypotheses change places, and the encoder's keys and values exist once
//! for all of them.

use burn::tensor::{Int, Tensor, TensorData};

use super::BartForConditionalGeneration;
use crate::ops::{ForwardContext, hiding_mask};

/// Keys and values of one generation.
#[derive(Debug)]
pub(super) struct DecoderCache {
    layers: Vec<LayerCache>,
    /// Masks the encoder's padding, `[batch, 1, 1, source]`.
    cross: ForwardContext,
    beams: usize,
    /// Greatest number of tokens read.
    capacity: usize,
}

/// Keys and values of a layer, `[batch, heads, …, head_size]`.
#[derive(Debug)]
struct LayerCache {
    /// Keys and values of the tokens so far, `capacity · beams` places of which `length · beams` are filled; taken
    /// out to be written in place.
    own: Option<(Tensor<4>, Tensor<4>)>,
    /// Keys and values of the encoder's output.
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

impl DecoderCache {
    /// Makes ready to decode `beams` rows, of up to `capacity` tokens, for every example of `encoded:
    /// [batch, source, d_model]`, whose padding `cross` masks.
    pub(super) fn start(
        model: &BartForConditionalGeneration,
        encoded: &Tensor<3>,
        cross: ForwardContext,
        beams: usize,
        capacity: usize,
    ) -> Self {
        let layers = model.model.decoder.layers.iter().map(|layer| LayerCache {
            own: None,
            cross: layer.encoder_attn.keys_and_values(encoded.clone()),
        });
        Self { layers: layers.collect(), cross, beams, capacity }
    }

    /// The logits `[rows, vocab_size]` behind another token of every row; `paths` say in which row
    /// each position's token was, these included.
    pub(super) fn step(
        &mut self,
        model: &BartForConditionalGeneration,
        tokens: &[u32],
        paths: &[Vec<usize>],
    ) -> Tensor<2> {
        let (rows, beams) = (tokens.len(), self.beams);
        let position = paths.first().map_or(0, |path| path.len() - 1);
        let device = model.final_logits_bias.val().device();
        let tokens: Vec<i64> = tokens.iter().map(|&token| i64::from(token)).collect();
        // One position of `beams` hypotheses each, side by side: [batch, beams]
        let shape = [rows / beams, beams];
        let tokens = Tensor::<2, Int>::from_data(TensorData::new(tokens, shape), &device);
        let embedded = model.model.embed(tokens);
        let decoder = &model.model.decoder;
        let mut hidden_states = decoder.embeddings.forward_at(embedded, position);

        let own = ForwardContext::new(self.path_mask(paths, &hidden_states));
        for (layer, remembered) in decoder.layers.iter().zip(&mut self.layers) {
            let [query, key, value] = layer.self_attn.own(hidden_states.clone());
            let (keys, values) = remembered.append((key, value), position * beams, self.capacity);
            let attended = layer.self_attn.attend([query, keys, values], &own);
            hidden_states = layer.after_self_attention(attended, hidden_states);

            let query = layer.encoder_attn.queries(hidden_states.clone());
            let (keys, values) = remembered.cross.clone();
            let attended = layer.encoder_attn.attend([query, keys, values], &self.cross);
            hidden_states = layer.after_cross_attention(attended, hidden_states);
        }
        model.logits(hidden_states).reshape([rows, model.config().vocab_size])
    }

    /// `[batch, 1, beams, length · beams]`: hides what is not on a hypothesis' path; `None` where
    /// there is one path.
    fn path_mask(&self, paths: &[Vec<usize>], like: &Tensor<3>) -> Option<Tensor<4>> {
        let beams = self.beams;
        if beams == 1 {
            return None;
        }
        let places = paths.first().map_or(0, Vec::len) * beams;
        let mut hidden = vec![true; paths.len() * places];
        for (mask, path) in hidden.chunks_mut(places).zip(paths) {
            for (position, row) in path.iter().enumerate() {
                mask[position * beams + row % beams] = false;
            }
        }
        let shape = [paths.len() / beams, 1, beams, places];
        let hidden = Tensor::from_data(TensorData::new(hidden, shape), &like.device());
        Some(hiding_mask(hidden, like))
    }
}
