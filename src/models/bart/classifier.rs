//! BART as a classifier of sequences.

use burn::module::Module;
use burn::tensor::{Device, Int, Tensor};

use super::{BartConfig, BartModel};
use crate::models::bert::ClassificationHead;
use crate::models::pretrained::compressible_base;
use crate::models::{
    EncoderInput, Labels, ModelConfig, Seq2SeqInput, sequence_classification_loss,
};

/// `BartForSequenceClassification`: both sides read the sequence; the decoder's state at the last
/// end token decides.
///
/// <https://github.com/huggingface/transformers/blob/v5.0.0/src/transformers/models/bart/modeling_bart.py>
#[derive(Module, Debug)]
pub struct BartForSequenceClassification {
    /// Encoder and decoder.
    pub model: BartModel,
    /// The head.
    pub classification_head: ClassificationHead,
}

impl BartForSequenceClassification {
    /// A freshly initialised model.
    pub fn new(config: &BartConfig, device: &Device) -> Self {
        Self {
            model: BartModel::new(config, device),
            classification_head: ClassificationHead::new(
                config.d_model,
                config.init_std,
                config.labels().num_labels(),
                config.classifier_dropout,
                device,
            ),
        }
    }

    /// The configuration.
    pub fn config(&self) -> &BartConfig {
        self.model.config()
    }

    /// Logits `[batch, num_labels]`.
    ///
    /// # Panics
    /// If sequences are longer than `max_position_embeddings`, have no end token, or shapes differ.
    pub fn forward(&self, input: EncoderInput) -> Tensor<2> {
        let input_ids = input.input_ids.clone();
        let output = self.model.forward(Seq2SeqInput::new(input));
        self.logits(output.last_hidden_state, input_ids)
    }

    /// Logits `[batch, num_labels]` of decoder states `[batch, length, d_model]` and the tokens
    /// `[batch, length]` that they are of.
    ///
    /// # Panics
    /// If a sequence has no end token.
    pub fn logits(&self, hidden_states: Tensor<3>, input_ids: Tensor<2, Int>) -> Tensor<2> {
        let [batch, length, d_model] = hidden_states.dims();
        let eos = self.config().eos_token().map_or(-1, |token| token as i64);
        // 1 + the position of each end token, 0 elsewhere: [batch, length]
        let places = Tensor::<1, Int>::arange(1..length as i64 + 1, &input_ids.device());
        let ends = input_ids.equal_elem(eos).int() * places.unsqueeze::<2>();
        let last = ends.max_dim(1);
        let missing = last.clone().min().into_scalar::<i64>() == 0;
        assert!(!missing, "every sequence must have an end token (eos_token_id {eos})");
        // [batch, 1] → [batch, 1, d_model]: the same position of every channel
        let index = (last - 1).unsqueeze_dim::<3>(2).expand([batch, 1, d_model]);
        let pooled = hidden_states.gather(1, index).reshape([batch, d_model]);
        self.classification_head.logits(pooled)
    }

    /// The loss `[1]` that `problem_type` asks for, mean over the batch.
    ///
    /// # Panics
    /// If labels do not fit the logits.
    pub fn loss(&self, logits: Tensor<2>, labels: Labels) -> Tensor<1> {
        sequence_classification_loss(self.config().labels.problem_type(), logits, labels)
    }
}

compressible_base!(BartForSequenceClassification: model, "model.");
