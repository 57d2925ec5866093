//! One encoder layer: attention, then BERT's feed-forward network.

use burn::module::Module;
use burn::tensor::{Device, Tensor};

use super::{DebertaV2Attention, DebertaV2Config, RelativePositions};
use crate::models::Attended;
use crate::models::bert::{BertIntermediate, BertOutput};
use crate::ops::{EncoderLayerParts, ForwardContext, PackedEncoderLayer};

/// `DebertaV2Layer`.
///
/// <https://github.com/huggingface/transformers/blob/v5.0.0/src/transformers/models/deberta_v2/modeling_deberta_v2.py>
#[derive(Module, Debug)]
pub struct DebertaV2Layer {
    /// Self-attention.
    pub attention: DebertaV2Attention,
    /// First half of the feed-forward network.
    pub intermediate: BertIntermediate,
    /// Second half of the feed-forward network.
    pub output: BertOutput,
    /// The layer packed for inference.
    #[module(skip)]
    pub(crate) packed: PackedEncoderLayer,
}

impl DebertaV2Layer {
    /// A freshly initialised layer.
    pub fn new(config: &DebertaV2Config, device: &Device) -> Self {
        let bert = config.bert();
        Self {
            attention: DebertaV2Attention::new(config, device),
            intermediate: BertIntermediate::new(&bert, device),
            output: BertOutput::new(&bert, config.intermediate_size, device),
            packed: PackedEncoderLayer::default(),
        }
    }

    pub(crate) fn parts(&self) -> EncoderLayerParts<'_> {
        let DebertaV2Attention { self_attention, output } = &self.attention;
        EncoderLayerParts {
            query: &self_attention.query_proj,
            key: &self_attention.key_proj,
            value: &self_attention.value_proj,
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
    pub fn forward(
        &self,
        hidden_states: Tensor<3>,
        context: &ForwardContext,
        positions: Option<&RelativePositions>,
    ) -> Attended {
        let relative = positions.map(|p| self.attention.self_attention.relative_scores(p));
        let relative = relative.as_ref();
        let composed = |hidden_states| {
            let (attended, probabilities) =
                self.attention.forward(hidden_states, context, relative);
            let inner = self.intermediate.forward(attended.clone());
            (self.output.forward(inner, attended), probabilities)
        };
        self.packed.forward(self, self.parts(), hidden_states, context, relative, composed)
    }
}
