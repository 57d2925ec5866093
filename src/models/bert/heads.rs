//! BERT with a task's head.

use burn::module::Module;
use burn::nn::{Dropout, Linear};
use burn::tensor::{Device, Tensor};

use super::{BertConfig, BertModel};
use crate::linear::{Compressible, CompressibleLinear};
use crate::models::{EncoderInput, Labels, ModelConfig, init, sequence_classification_loss};

/// `BertForSequenceClassification`: a linear layer on the pooled output.
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

impl Compressible for BertForSequenceClassification {
    fn for_each_linear_mut(&mut self, f: &mut dyn FnMut(&str, &mut CompressibleLinear)) {
        self.bert.encoder.for_each_linear_mut("bert.", f);
    }
}
