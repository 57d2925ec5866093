//! Word embeddings, with positions and token types where the configuration has them.

use burn::module::Module;
use burn::nn::{Dropout, Embedding, LayerNorm, Linear};
use burn::tensor::{Device, Int, Tensor, assert_shape};

use super::DebertaV2Config;
use crate::linear::WordEmbedding;
use crate::models::bert::token_types;
use crate::models::{EncoderInput, init};

/// `DebertaV2Embeddings`: the sum of embeddings, projected, normalised and zero at padding.
///
/// <https://github.com/huggingface/transformers/blob/v5.0.0/src/transformers/models/deberta_v2/modeling_deberta_v2.py>
#[derive(Module, Debug)]
pub struct DebertaV2Embeddings {
    /// `[vocab_size, embedding_size]`.
    pub word_embeddings: WordEmbedding,
    /// `[max_position_embeddings, embedding_size]`, with `position_biased_input`.
    pub position_embeddings: Option<Embedding>,
    /// `[type_vocab_size, embedding_size]`, unless that is 0.
    pub token_type_embeddings: Option<Embedding>,
    /// `[embedding_size, hidden_size]`, where they differ.
    pub embed_proj: Option<Linear>,
    /// Normalisation of the sum.
    pub layer_norm: LayerNorm,
    /// Dropout of the result.
    pub dropout: Dropout,
    /// Token whose embedding gets no gradient.
    #[module(skip)]
    pad_token_id: Option<usize>,
}

impl DebertaV2Embeddings {
    /// Freshly initialised embeddings.
    pub fn new(config: &DebertaV2Config, device: &Device) -> Self {
        let (size, hidden) = (config.embedding_size(), config.hidden_size);
        let std = config.initializer_range;
        let embedding = |n, padding| init::embedding(n, size, std, padding, device);
        let types = config.type_vocab_size;
        Self {
            word_embeddings: WordEmbedding::Float(embedding(
                config.vocab_size,
                config.pad_token_id,
            )),
            position_embeddings: config
                .position_biased_input
                .then(|| embedding(config.max_position_embeddings, None)),
            token_type_embeddings: (types > 0).then(|| embedding(types, None)),
            embed_proj: (size != hidden)
                .then(|| Linear { bias: None, ..init::linear(size, hidden, std, device) }),
            layer_norm: init::layer_norm(hidden, config.layer_norm_eps, device),
            dropout: init::dropout(config.hidden_dropout_prob),
            pad_token_id: config.pad_token_id,
        }
    }

    /// Embeds a batch. Positions and token types are not looked at where there are no embeddings
    /// of them.
    ///
    /// # Shapes
    /// - output: `[batch, length, hidden_size]`
    ///
    /// # Panics
    /// If there are position embeddings and sequences are longer than `max_position_embeddings`,
    /// or if shapes differ.
    pub fn forward(&self, input: &EncoderInput) -> Tensor<3> {
        let [batch, length] = input.input_ids.dims();
        let device = input.input_ids.device();
        let mut embeddings = self.word_embeddings.forward(&input.input_ids, self.pad_token_id);
        if let Some(positions) = &self.position_embeddings {
            let max = positions.weight.lazy_shape()[0];
            assert!(
                length <= max,
                "input of {length} tokens, but max_position_embeddings is {max}"
            );
            embeddings = embeddings
                + match &input.position_ids {
                    Some(ids) => {
                        assert_shape!(ids, [batch, length]);
                        positions.forward(ids.clone())
                    }
                    // [length] → [1, length], the same for the whole batch
                    None => positions
                        .forward(Tensor::<1, Int>::arange(0..length as i64, &device).unsqueeze()),
                };
        }
        if let Some(types) = &self.token_type_embeddings {
            embeddings = embeddings + token_types(types, input);
        }
        if let Some(projection) = &self.embed_proj {
            embeddings = projection.forward(embeddings);
        }
        embeddings = self.layer_norm.forward(embeddings);
        if let Some(mask) = &input.attention_mask {
            assert_shape!(mask, [batch, length]);
            // [batch, length] → [batch, length, 1]
            let mask = mask.clone().float().cast(embeddings.dtype());
            embeddings = embeddings * mask.unsqueeze_dim::<3>(2);
        }
        self.dropout.forward(embeddings)
    }
}
