//! One encoder layer: attention, then a feed-forward network.

use burn::module::Module;
use burn::tensor::{Device, Tensor};

use super::{BertAttention, BertConfig, BertIntermediate, BertOutput};
use crate::models::Attended;
use crate::ops::{EncoderLayerParts, ForwardContext, PackedEncoderLayer};

/// `BertLayer`.
///
/// <https://github.com/huggingface/transformers/blob/v5.0.0/src/transformers/models/bert/modeling_bert.py>
#[derive(Module, Debug)]
pub struct BertLayer {
    /// Self-attention.
    pub attention: BertAttention,
    /// First half of the feed-forward network.
    pub intermediate: BertIntermediate,
    /// Second half of the feed-forward network.
    pub output: BertOutput,
    /// The layer packed for inference.
    #[module(skip)]
    pub(crate) packed: PackedEncoderLayer,
}

impl BertLayer {
    /// A freshly initialised layer.
    pub fn new(config: &BertConfig, device: &Device) -> Self {
        Self {
            attention: BertAttention::new(config, device),
            intermediate: BertIntermediate::new(config, device),
            output: BertOutput::new(config, config.intermediate_size, device),
            packed: PackedEncoderLayer::default(),
        }
    }

    pub(crate) fn parts(&self) -> EncoderLayerParts<'_> {
        let BertAttention { self_attention, output } = &self.attention;
        EncoderLayerParts {
            query: &self_attention.query,
            key: &self_attention.key,
            value: &self_attention.value,
            heads: self_attention.heads(),
            attention_output: &output.dense,
            attention_norm: &output.layer_norm,
            feed_forward: self.output.feed_forward(&self.intermediate),
            epsilon: output.epsilon,
        }
    }

    /// Applies the layer; also returns the attention probabilities `[batch, heads, length, length]`, if
    /// `context` asks for them.
    ///
    /// # Shapes
    /// - `hidden_states`, output: `[batch, length, hidden_size]`
    pub fn forward(&self, hidden_states: Tensor<3>, context: &ForwardContext) -> Attended {
        let composed = |hidden_states| {
            let (attended, probabilities) = self.attention.forward(hidden_states, context);
            let inner = self.intermediate.forward(attended.clone());
            (self.output.forward(inner, attended), probabilities)
        };
        self.packed.forward(self, self.parts(), hidden_states, context, None, composed)
    }
}
