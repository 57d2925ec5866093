//! DeBERTa-v2 with a task's head.

use burn::module::Module;
use burn::nn::{Dropout, Linear};
use burn::tensor::{Device, Tensor};

use super::{DebertaV2Config, DebertaV2Model};
use crate::models::pretrained::compressible_base;
use crate::models::{
    Activation, EncoderInput, LabelConfig, Labels, ModelConfig, first_token, init,
    sequence_classification_loss, span_logits,
};

/// `ContextPooler`: a projection of the first token's state.
///
/// <https://github.com/huggingface/transformers/blob/v5.0.0/src/transformers/models/deberta_v2/modeling_deberta_v2.py>
#[derive(Module, Debug)]
pub struct ContextPooler {
    /// `[hidden_size, hidden_size]`.
    pub dense: Linear,
    /// Dropout of the state.
    pub dropout: Dropout,
    #[module(skip)]
    activation: Activation,
}

impl ContextPooler {
    /// A freshly initialised pooler.
    pub fn new(config: &DebertaV2Config, device: &Device) -> Self {
        let size = config.hidden_size;
        Self {
            dense: init::linear(size, size, config.initializer_range, device),
            dropout: init::dropout(config.pooler_dropout),
            activation: config.pooler_hidden_act,
        }
    }

    /// `[batch, length, hidden_size]` → `[batch, hidden_size]`.
    pub fn forward(&self, hidden_states: Tensor<3>) -> Tensor<2> {
        let first = self.dropout.forward(first_token(hidden_states));
        self.activation.forward(self.dense.forward(first))
    }
}

/// `DebertaV2ForSequenceClassification`: a linear layer on the pooled output.
///
/// <https://github.com/huggingface/transformers/blob/v5.0.0/src/transformers/models/deberta_v2/modeling_deberta_v2.py>
#[derive(Module, Debug)]
pub struct DebertaV2ForSequenceClassification {
    /// The encoder.
    pub deberta: DebertaV2Model,
    /// The pooler.
    pub pooler: ContextPooler,
    /// `[hidden_size, num_labels]`.
    pub classifier: Linear,
    /// Dropout of the pooled output.
    pub dropout: Dropout,
}

impl DebertaV2ForSequenceClassification {
    /// A freshly initialised model.
    pub fn new(config: &DebertaV2Config, device: &Device) -> Self {
        let (size, std) = (config.hidden_size, config.initializer_range);
        Self {
            deberta: DebertaV2Model::new(config, device),
            pooler: ContextPooler::new(config, device),
            classifier: init::linear(size, config.labels().num_labels(), std, device),
            dropout: init::dropout(config.cls_dropout()),
        }
    }

    /// The configuration.
    pub fn config(&self) -> &DebertaV2Config {
        self.deberta.config()
    }

    /// Logits `[batch, num_labels]`.
    ///
    /// # Panics
    /// As [`DebertaV2Model::forward`].
    pub fn forward(&self, input: EncoderInput) -> Tensor<2> {
        self.logits(self.deberta.forward(input).last_hidden_state)
    }

    /// Logits `[batch, num_labels]` of the encoder's output `[batch, length, hidden_size]`.
    pub fn logits(&self, hidden_states: Tensor<3>) -> Tensor<2> {
        self.classifier.forward(self.dropout.forward(self.pooler.forward(hidden_states)))
    }

    /// The loss `[1]` that `problem_type` asks for, mean over the batch.
    ///
    /// # Panics
    /// If labels do not fit the logits.
    pub fn loss(&self, logits: Tensor<2>, labels: Labels) -> Tensor<1> {
        sequence_classification_loss(self.config().labels.problem_type(), logits, labels)
    }
}

compressible_base!(DebertaV2ForSequenceClassification: deberta, "deberta.");

/// `DebertaV2ForQuestionAnswering`: for each token, whether the answer begins or ends there.
///
/// <https://github.com/huggingface/transformers/blob/v5.0.0/src/transformers/models/deberta_v2/modeling_deberta_v2.py>
#[derive(Module, Debug)]
pub struct DebertaV2ForQuestionAnswering {
    /// The encoder.
    pub deberta: DebertaV2Model,
    /// `[hidden_size, 2]`.
    pub qa_outputs: Linear,
}

impl DebertaV2ForQuestionAnswering {
    /// A freshly initialised model. A configuration for another number of labels is changed to
    /// the two that this head has.
    pub fn new(config: &DebertaV2Config, device: &Device) -> Self {
        let mut config = config.clone();
        if config.labels.num_labels() != 2 {
            config.labels = LabelConfig::default();
        }
        Self {
            deberta: DebertaV2Model::new(&config, device),
            qa_outputs: init::linear(config.hidden_size, 2, config.initializer_range, device),
        }
    }

    /// The configuration.
    pub fn config(&self) -> &DebertaV2Config {
        self.deberta.config()
    }

    /// Logits of the answer's first and last token, `[batch, length]` each.
    ///
    /// # Panics
    /// As [`DebertaV2Model::forward`].
    pub fn forward(&self, input: EncoderInput) -> (Tensor<2>, Tensor<2>) {
        self.logits(self.deberta.forward(input).last_hidden_state)
    }

    /// Logits of the answer's first and last token of the encoder's output `[batch, length, hidden_size]`.
    pub fn logits(&self, hidden_states: Tensor<3>) -> (Tensor<2>, Tensor<2>) {
        span_logits(self.qa_outputs.forward(hidden_states))
    }
}

compressible_base!(DebertaV2ForQuestionAnswering: deberta, "deberta.");
