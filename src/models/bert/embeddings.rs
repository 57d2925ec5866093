//! Word, position and token-type embeddings.

use burn::module::Module;
use burn::nn::{Dropout, Embedding, LayerNorm};
use burn::tensor::{Int, Tensor, assert_shape};

use super::BertConfig;
use crate::models::{EncoderInput, init};

/// `BertEmbeddings`: the sum of three embeddings, normalised.
#[derive(Module, Debug)]
pub struct BertEmbeddings {
    /// `[vocab_size, hidden_size]`.
    pub word_embeddings: Embedding,
    /// `[max_position_embeddings, hidden_size]`.
    pub position_embeddings: Embedding,
    /// `[type_vocab_size, hidden_size]`.
    pub token_type_embeddings: Embedding,
    /// Normalisation of the sum.
    pub layer_norm: LayerNorm,
    /// Dropout of the result.
    pub dropout: Dropout,
    /// Token whose embedding gets no gradient.
    #[module(skip)]
    pad_token_id: Option<usize>,
}

impl BertEmbeddings {
    /// Freshly initialised embeddings.
    pub fn new(config: &BertConfig, device: &burn::tensor::Device) -> Self {
        let (hidden, std) = (config.hidden_size, config.initializer_range);
        let embedding = |n, padding| init::embedding(n, hidden, std, padding, device);
        Self {
            word_embeddings: embedding(config.vocab_size, config.pad_token_id),
            position_embeddings: embedding(config.max_position_embeddings, None),
            token_type_embeddings: embedding(config.type_vocab_size, None),
            layer_norm: init::layer_norm(hidden, config.layer_norm_eps, device),
            dropout: init::dropout(config.hidden_dropout_prob),
            pad_token_id: config.pad_token_id,
        }
    }

    /// Embeds a batch.
    ///
    /// # Shapes
    /// - output: `[batch, length, hidden_size]`
    ///
    /// # Panics
    /// If the sequences are longer than `max_position_embeddings`, or shapes differ.
    pub fn forward(&self, input: &EncoderInput) -> Tensor<3> {
        let [batch, length] = input.input_ids.dims();
        let device = input.input_ids.device();
        let max = self.position_embeddings.weight.lazy_shape()[0];
        assert!(length <= max, "input of {length} tokens, but max_position_embeddings is {max}");
        let positions = match &input.position_ids {
            Some(ids) => {
                assert_shape!(ids, [batch, length]);
                self.position_embeddings.forward(ids.clone())
            }
            // [length] → [1, length], the same for the whole batch
            None => self
                .position_embeddings
                .forward(Tensor::<1, Int>::arange(0..length as i64, &device).unsqueeze()),
        };
        let token_types = match &input.token_type_ids {
            Some(ids) => {
                assert_shape!(ids, [batch, length]);
                self.token_type_embeddings.forward(ids.clone())
            }
            None => self.token_type_embeddings.forward(Tensor::zeros([1, 1], &device)),
        };
        let embeddings = self.words(&input.input_ids) + token_types + positions;
        self.dropout.forward(self.layer_norm.forward(embeddings))
    }

    /// `[batch, length, hidden_size]`; as with PyTorch's `padding_idx`, the padding token's row
    /// gets no gradient.
    fn words(&self, input_ids: &Tensor<2, Int>) -> Tensor<3> {
        let words = self.word_embeddings.forward(input_ids.clone());
        match self.pad_token_id {
            Some(pad) if words.is_autodiff() => {
                // [batch, length] → [batch, length, 1]
                let padding = input_ids.clone().equal_elem(pad as i64).unsqueeze_dim::<3>(2);
                let padding = padding.expand(words.dims());
                words.clone().mask_where(padding, words.detach())
            }
            _ => words,
        }
    }
}
