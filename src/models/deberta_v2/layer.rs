//! One encoder layer: attention, then BERT's feed-forward network.

use burn::module::Module;
use burn::tensor::{Bool, Device, Tensor};

use super::{DebertaV2Attention, DebertaV2Config, RelativePositions};
use crate::models::bert::{BertIntermediate, BertOutput};

/// `DebertaV2Layer`.
#[derive(Module, Debug)]
pub struct DebertaV2Layer {
    /// Self-attention.
    pub attention: DebertaV2Attention,
    /// First half of the feed-forward network.
    pub intermediate: BertIntermediate,
    /// Second half of the feed-forward network.
    pub output: BertOutput,
}

impl DebertaV2Layer {
    /// A freshly initialised layer.
    pub fn new(config: &DebertaV2Config, device: &Device) -> Self {
        let bert = config.bert();
        Self {
            attention: DebertaV2Attention::new(config, device),
            intermediate: BertIntermediate::new(&bert, device),
            output: BertOutput::new(&bert, device),
        }
    }

    /// Applies the layer; also gives the attention probabilities.
    ///
    /// # Shapes
    /// - `hidden_states`, output: `[batch, length, hidden_size]`
    /// - `masked`: `[batch, 1, length, length]`, true where a query does not attend to a key
    pub fn forward(
        &self,
        hidden_states: Tensor<3>,
        masked: Option<&Tensor<4, Bool>>,
        positions: Option<&RelativePositions>,
    ) -> (Tensor<3>, Tensor<4>) {
        let (attended, probabilities) = self.attention.forward(hidden_states, masked, positions);
        let inner = self.intermediate.forward(attended.clone());
        (self.output.forward(inner, attended), probabilities)
    }
}
