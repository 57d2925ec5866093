//! BERT with a task's head.

use burn::module::Module;
use burn::nn::{Dropout, Linear};
use burn::tensor::{Device, Tensor};

use super::{BertConfig, BertModel};
use crate::models::pretrained::compressible_base;
use crate::models::{
    EncoderInput, Labels, ModelConfig, first_token, init, sequence_classification_loss,
};

/// `BertForSequenceClassification`: a linear layer on the pooled output.
///
/// <https://github.com/huggingface/transformers/blob/v5.0.0/src/transformers/models/bert/modeling_bert.py>
#[derive(Module, Debug)]
pub struct BertForSequenceClassification {
    /// The encoder.
    pub bert: BertModel,
    /// Dropout of the pooled output.
    pub dropout: Dropout,
    /// `[hidden_size, num_labels]`.
    pub classifier: Linear,
}

impl BertForSequenceClassification {
    /// A freshly initialised model.
    pub fn new(config: &BertConfig, device: &Device) -> Self {
        let num_labels = config.labels().num_labels();
        Self {
            bert: BertModel::new(config, true, device),
            dropout: init::dropout(config.classifier_dropout()),
            classifier: init::linear(
                config.hidden_size,
                num_labels,
                config.initializer_range,
                device,
            ),
        }
    }

    /// The configuration.
    pub fn config(&self) -> &BertConfig {
        self.bert.config()
    }

    /// Logits `[batch, num_labels]`.
    ///
    /// # Panics
    /// If sequences are longer than `max_position_embeddings`, or shapes differ.
    pub fn forward(&self, input: EncoderInput) -> Tensor<2> {
        let output = self.bert.forward(input);
        self.logits(output.pooler_output.expect("a classifier is built with a pooler"))
    }

    /// Logits `[batch, num_labels]` of a pooled output `[batch, hidden_size]`.
    pub fn logits(&self, pooled: Tensor<2>) -> Tensor<2> {
        self.classifier.forward(self.dropout.forward(pooled))
    }

    /// The loss `[1]` that `problem_type` asks for, mean over the batch.
    ///
    /// # Panics
    /// If labels do not fit the logits.
    pub fn loss(&self, logits: Tensor<2>, labels: Labels) -> Tensor<1> {
        sequence_classification_loss(self.config().labels.problem_type(), logits, labels)
    }
}

compressible_base!(BertForSequenceClassification: bert, "bert.");

/// `RobertaClassificationHead` and `BartClassificationHead`: `out_proj(tanh(dense(x)))`.
///
/// <https://github.com/huggingface/transformers/blob/v5.0.0/src/transformers/models/roberta/modeling_roberta.py>
#[derive(Module, Debug)]
pub struct ClassificationHead {
    /// `[hidden_size, hidden_size]`.
    pub dense: Linear,
    /// Dropout before each of the two layers.
    pub dropout: Dropout,
    /// `[hidden_size, num_labels]`.
    pub out_proj: Linear,
}

impl ClassificationHead {
    /// A freshly initialised head.
    pub fn new(size: usize, std: f64, num_labels: usize, dropout: f64, device: &Device) -> Self {
        Self {
            dense: init::linear(size, size, std, device),
            dropout: init::dropout(dropout),
            out_proj: init::linear(size, num_labels, std, device),
        }
    }

    /// Logits `[batch, num_labels]` by the first token of `[batch, length, hidden_size]`.
    pub fn forward(&self, hidden_states: Tensor<3>) -> Tensor<2> {
        self.logits(first_token(hidden_states))
    }

    /// Logits `[batch, num_labels]` of states `[batch, hidden_size]`.
    pub fn logits(&self, states: Tensor<2>) -> Tensor<2> {
        let inner = self.dense.forward(self.dropout.forward(states)).tanh();
        self.out_proj.forward(self.dropout.forward(inner))
    }
}
