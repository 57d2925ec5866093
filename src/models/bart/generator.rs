//! BART as a language model that writes a text given another.

use burn::module::{Module, Param};
use burn::nn::Initializer;
use burn::tensor::{Device, Int, Tensor};

use super::{BartConfig, BartModel};
use crate::models::Seq2SeqInput;
use crate::models::pretrained::compressible_base;
use crate::ops::PackedDecoder;
use crate::precision::matmul;

/// `BartForConditionalGeneration`: the embedding matrix as head on the decoder's output.
///
/// <https://github.com/huggingface/transformers/blob/v5.0.0/src/transformers/models/bart/modeling_bart.py>
#[derive(Module, Debug)]
pub struct BartForConditionalGeneration {
    /// Encoder and decoder.
    pub model: BartModel,
    /// `[1, vocab_size]`: added to the logits; a constant, never trained.
    pub final_logits_bias: Param<Tensor<2>>,
    /// Decoder and head packed for generation.
    #[module(skip)]
    pub(super) packed: PackedDecoder,
}

impl BartForConditionalGeneration {
    /// A freshly initialised model.
    pub fn new(config: &BartConfig, device: &Device) -> Self {
        Self {
            model: BartModel::new(config, device),
            final_logits_bias: Initializer::Zeros.init([1, config.vocab_size], device),
            packed: PackedDecoder::default(),
        }
    }

    /// The configuration.
    pub fn config(&self) -> &BartConfig {
        self.model.config()
    }

    /// Logits `[batch, target, vocab_size]`.
    ///
    /// # Panics
    /// If sequences are longer than `max_position_embeddings`, or shapes differ.
    pub fn forward(&self, input: Seq2SeqInput) -> Tensor<3> {
        self.logits(self.model.forward(input).last_hidden_state)
    }

    /// Logits `[batch, target, vocab_size]` of decoder states `[batch, target, d_model]`.
    pub fn logits(&self, hidden_states: Tensor<3>) -> Tensor<3> {
        let [batch, length, d_model] = hidden_states.dims();
        let head = self.model.shared.weight().transpose();
        // [batch, target, d_model] → [batch · target, d_model], one product for all
        let logits = matmul(hidden_states.reshape([batch * length, d_model]), head);
        let logits = logits + self.final_logits_bias.val().detach();
        logits.reshape([batch as i64, length as i64, -1])
    }

    /// The input with the decoder reading what it needs to predict `labels`, `[batch, target]`.
    pub fn teacher_forced(&self, input: Seq2SeqInput, labels: Tensor<2, Int>) -> Seq2SeqInput {
        input.with_decoder_input_ids(self.model.shift_tokens_right(labels))
    }
}

compressible_base!(BartForConditionalGeneration: model, "model.");
