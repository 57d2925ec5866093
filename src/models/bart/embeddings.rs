//! Positions and normalisation, which encoder and decoder have each.

use burn::module::Module;
use burn::nn::{Dropout, Embedding, LayerNorm};
use burn::tensor::{Device, Int, Tensor};

use super::BartConfig;
use super::config::OFFSET;
use crate::linear::WordEmbedding;
use crate::models::init;

/// PyTorch's default, which BART uses everywhere.
pub(super) const LAYER_NORM_EPS: f64 = 1e-5;

/// `embed_positions` and `layernorm_embedding`: what one side adds to its embedded tokens.
#[derive(Module, Debug)]
pub struct BartEmbeddings {
    /// `BartLearnedPositionalEmbedding: [max_position_embeddings + 2, d_model]`.
    pub embed_positions: Embedding,
    /// Normalisation of the sum.
    pub layernorm_embedding: LayerNorm,
    /// Dropout of the result.
    pub dropout: Dropout,
}

impl BartEmbeddings {
    /// Freshly initialised positions.
    pub fn new(config: &BartConfig, device: &Device) -> Self {
        let (rows, size) = (config.max_position_embeddings + OFFSET, config.d_model);
        Self {
            embed_positions: init::embedding(rows, size, config.init_std, None, device),
            layernorm_embedding: init::layer_norm(size, LAYER_NORM_EPS, device),
            dropout: init::dropout(config.dropout),
        }
    }

    /// Adds the positions `0..length` to embedded tokens `[batch, length, d_model]`.
    ///
    /// # Panics
    /// If the sequences are longer than `max_position_embeddings`.
    pub fn forward(&self, embedded: Tensor<3>) -> Tensor<3> {
        let [_, length, _] = embedded.dims();
        self.add(embedded, 0, length)
    }

    /// Adds position `position` to every one of `[batch, rows, d_model]`.
    pub(super) fn forward_at(&self, embedded: Tensor<3>, position: usize) -> Tensor<3> {
        self.add(embedded, position, 1)
    }

    fn add(&self, embedded: Tensor<3>, start: usize, length: usize) -> Tensor<3> {
        let max = self.embed_positions.weight.lazy_shape()[0] - OFFSET;
        let needed = start + length;
        assert!(needed <= max, "input of {needed} tokens, but max_position_embeddings is {max}");
        let positions = self.embed_positions.weight.val().narrow(0, OFFSET + start, length);
        // [length, d_model] → [1, length, d_model], the same for the whole batch
        let embedded = embedded + positions.unsqueeze::<3>();
        self.dropout.forward(self.layernorm_embedding.forward(embedded))
    }
}

/// `BartScaledWordEmbedding`: `[batch, length]` → `[batch, length, d_model]`.
pub(super) fn embed_tokens(
    shared: &WordEmbedding,
    config: &BartConfig,
    input_ids: Tensor<2, Int>,
) -> Tensor<3> {
    let words = shared.forward(&input_ids, Some(config.pad_token_id));
    if config.scale_embedding { words * config.embed_scale() } else { words }
}
