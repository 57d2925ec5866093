//! Word, position and token-type embeddings.

use burn::module::Module;
use burn::nn::{Dropout, Embedding, LayerNorm};
use burn::tensor::{Int, Tensor, assert_shape};

use super::{BertConfig, BertVariation, Positions};
use crate::linear::WordEmbedding;
use crate::models::{EncoderInput, init};
use crate::ops::word_embeddings;

/// `BertEmbeddings`: the sum of two or three embeddings, normalised.
///
/// <https://github.com/huggingface/transformers/blob/v5.0.0/src/transformers/models/bert/modeling_bert.py>
#[derive(Module, Debug)]
pub struct BertEmbeddings {
    /// `[vocab_size, hidden_size]`.
    pub word_embeddings: WordEmbedding,
    /// `[max_position_embeddings, hidden_size]`.
    pub position_embeddings: Embedding,
    /// `[type_vocab_size, hidden_size]`, if the architecture tells segments apart.
    pub token_type_embeddings: Option<Embedding>,
    /// Normalisation of the sum.
    pub layer_norm: LayerNorm,
    /// Dropout of the result.
    pub dropout: Dropout,
    /// Token whose embedding gets no gradient.
    #[module(skip)]
    pad_token_id: Option<usize>,
    #[module(skip)]
    positions: Positions,
}

impl BertEmbeddings {
    /// Freshly initialised embeddings.
    pub fn new(
        config: &BertConfig,
        variation: &BertVariation,
        device: &burn::tensor::Device,
    ) -> Self {
        let (hidden, std) = (config.hidden_size, config.initializer_range);
        let embedding = |n, padding| init::embedding(n, hidden, std, padding, device);
        let padding = variation.padding_token(config);
        let types = variation.token_types.then(|| embedding(config.type_vocab_size, None));
        let position = match variation.positions {
            Positions::FromZero => None,
            Positions::AfterPadding(padding) => Some(padding),
        };
        Self {
            word_embeddings: WordEmbedding::Float(embedding(config.vocab_size, padding)),
            position_embeddings: embedding(config.max_position_embeddings, position),
            token_type_embeddings: types,
            layer_norm: init::layer_norm(hidden, config.layer_norm_eps, device),
            dropout: init::dropout(config.hidden_dropout_prob),
            pad_token_id: padding,
            positions: variation.positions,
        }
    }

    /// Embeds a batch.
    ///
    /// # Shapes
    /// - output: `[batch, length, hidden_size]`
    ///
    /// # Panics
    /// If the sequences are longer than the positions there are, or shapes differ.
    pub fn forward(&self, input: &EncoderInput) -> Tensor<3> {
        let mut embeddings = self.word_embeddings.forward(&input.input_ids, self.pad_token_id);
        if let Some(types) = &self.token_type_embeddings {
            embeddings = embeddings + token_types(types, input);
        }
        embeddings = embeddings + self.places(input);
        self.dropout.forward(self.layer_norm.forward(embeddings))
    }

    /// Embeddings of the positions, `[batch, length, hidden_size]` or `[1, length, hidden_size]`.
    fn places(&self, input: &EncoderInput) -> Tensor<3> {
        let [batch, length] = input.input_ids.dims();
        let most = self.positions.room(self.position_embeddings.weight.lazy_shape()[0]);
        assert!(length <= most, "input of {length} tokens, but the model has positions for {most}");
        let ids = match (&input.position_ids, self.positions) {
            (Some(ids), _) => {
                assert_shape!(ids, [batch, length]);
                ids.clone()
            }
            // [length] → [1, length], the same for the whole batch
            (None, Positions::FromZero) => {
                Tensor::<1, Int>::arange(0..length as i64, &input.input_ids.device()).unsqueeze()
            }
            // Tokens are counted from the place after padding's; padding has its own.
            (None, Positions::AfterPadding(padding)) => {
                let token = input.input_ids.clone().not_equal_elem(padding as i64).int();
                token.clone().cumsum(1) * token + padding as i64
            }
        };
        let padding = match self.positions {
            Positions::FromZero => None,
            Positions::AfterPadding(padding) => Some(padding),
        };
        // Padding's position gets no gradient either.
        word_embeddings(&self.position_embeddings, &ids, padding)
    }
}

/// Embeddings of the token types, `[batch, length, hidden_size]` or `[1, 1, hidden_size]`.
pub(crate) fn token_types(embedding: &Embedding, input: &EncoderInput) -> Tensor<3> {
    // With a single type (RoBERTa) there is nothing to tell apart.
    let single = embedding.weight.lazy_shape()[0] == 1;
    match &input.token_type_ids {
        Some(ids) if !single => {
            let [batch, length] = input.input_ids.dims();
            assert_shape!(ids, [batch, length]);
            embedding.forward(ids.clone())
        }
        _ => embedding.forward(Tensor::zeros([1, 1], &input.input_ids.device())),
    }
}
