//! One encoder layer: attention, then BERT's feed-forward network.

use std::sync::Arc;

use burn::module::Module;
use burn::tensor::{Bool, Device, Tensor};

use super::{DebertaV2Attention, DebertaV2Config, RelativePositions};
use crate::kernels::Sequences;
use crate::models::bert::{BertIntermediate, BertOutput};
use crate::models::fused::{FeedForwardParts, FusedLayer, LayerParts};

/// `DebertaV2Layer`.
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
    pub(super) fused: FusedLayer,
}

impl DebertaV2Layer {
    /// A freshly initialised layer.
    pub fn new(config: &DebertaV2Config, device: &Device) -> Self {
        let bert = config.bert();
        let attention = DebertaV2Attention::new(config, device);
        let scale = attention.self_attention.scale();
        Self {
            attention,
            intermediate: BertIntermediate::new(&bert, device),
            output: BertOutput::new(&bert, device),
            fused: FusedLayer::new(config.num_attention_heads, scale, config.layer_norm_eps),
        }
    }

    /// [`DebertaV2Layer::forward`] without the probabilities in one kernel, or the states as they
    /// are where there is none.
    ///
    /// # Shapes
    /// - `hidden_states`, output: `[batch, length, hidden_size]`
    /// - `masks`: `[batch, 1, length, length]`, true where a query does not attend to a key, and
    ///   what is added to the scores for it
    /// - with `sequences`, in training: `hidden_states`, output: `[1, tokens, hidden_size]`
    pub(crate) fn forward_fused(
        &self,
        hidden_states: Tensor<3>,
        masks: Option<(&Tensor<4, Bool>, &Tensor<4>)>,
        positions: Option<&RelativePositions>,
        sequences: Option<&Arc<Sequences>>,
    ) -> Tensor<3> {
        let done = match hidden_states.is_autodiff() {
            true => Err(hidden_states),
            false => self.in_one_kernel(hidden_states, masks.map(|(_, added)| added), positions),
        };
        match done {
            Ok(output) => output,
            Err(states) => {
                let attended = self.attention.forward_fused(states, masks, positions, sequences);
                let inner = self.intermediate.forward(attended.clone());
                self.output.forward(inner, attended)
            }
        }
    }

    #[allow(clippy::result_large_err)] // The states themselves, given back.
    pub(crate) fn in_one_kernel(
        &self,
        hidden_states: Tensor<3>,
        mask: Option<&Tensor<4>>,
        positions: Option<&RelativePositions>,
    ) -> Result<Tensor<3>, Tensor<3>> {
        let attention = &self.attention.self_attention;
        let parts = LayerParts {
            query: &attention.query_proj,
            key: &attention.key_proj,
            value: &attention.value_proj,
            attention_output: &self.attention.output.dense,
            attention_norm: &self.attention.output.layer_norm,
            feed_forward: FeedForwardParts::of_bert(&self.intermediate, &self.output),
        };
        let scores = positions.map(|positions| attention.relative_scores(positions));
        self.fused.forward(self, parts, hidden_states, mask, scores.as_ref())
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
