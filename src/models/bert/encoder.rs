//! The stack of layers.

use burn::module::Module;
use burn::tensor::{Device, Tensor};

use super::{BertConfig, BertLayer, BertVariation, RelativeAttentionBias, feed_forward};
use crate::linear::{FeedForwardVisitor, LinearVisitor};
use crate::ops::ForwardContext;

/// `BertEncoder`.
///
/// <https://github.com/huggingface/transformers/blob/v5.0.0/src/transformers/models/bert/modeling_bert.py>
#[derive(Module, Debug)]
pub struct BertEncoder {
    /// The layers, first to last.
    pub layer: Vec<BertLayer>,
    /// The bias by distance that all layers add to their attention scores (MPNet).
    pub relative_attention_bias: Option<RelativeAttentionBias>,
}

/// Names of a layer's projections, in the order of computation.
pub(crate) type LayerNames = [&'static str; 6];

/// BERT's and RoBERTa's.
pub(crate) const LAYER_NAMES: LayerNames = [
    "attention.self.query",
    "attention.self.key",
    "attention.self.value",
    "attention.output.dense",
    "intermediate.dense",
    "output.dense",
];

impl BertEncoder {
    /// Freshly initialised layers.
    pub fn new(config: &BertConfig, variation: &BertVariation, device: &Device) -> Self {
        let bias = variation.relative_attention_num_buckets.map(|buckets| {
            let (heads, std) = (config.num_attention_heads, config.initializer_range);
            RelativeAttentionBias::new(buckets, heads, std, device)
        });
        Self {
            layer: (0..config.num_hidden_layers).map(|_| BertLayer::new(config, device)).collect(),
            relative_attention_bias: bias,
        }
    }

    /// Applies all layers; `each` sees every layer's output and attention probabilities, if `context`
    /// asks for those.
    ///
    /// # Shapes
    /// - `hidden_states`, output: `[batch, length, hidden_size]`; without padding, `each` sees
    ///   `[1, tokens, hidden_size]`, and the output has any token's row where padding is
    pub fn forward(
        &self,
        hidden_states: Tensor<3>,
        context: &ForwardContext,
        mut each: impl FnMut(&Tensor<3>, Option<Tensor<4>>),
    ) -> Tensor<3> {
        let [_, length, _] = hidden_states.dims();
        // One sum for all layers.
        let biased = self
            .relative_attention_bias
            .as_ref()
            .map(|bias| context.with_bias(bias.forward(length, &hidden_states.device())));
        let context = biased.as_ref().unwrap_or(context);
        let rows = context.rows(hidden_states);
        context.padded(self.layer.iter().fold(rows, |rows, layer| {
            let (output, probabilities) = layer.forward(rows, context);
            each(&output, probabilities);
            output
        }))
    }

    /// Visits the layers' projections, in the order of computation.
    pub(crate) fn for_each_linear_mut(&mut self, names: &LayerNames, f: LinearVisitor<'_>) {
        for (i, layer) in self.layer.iter_mut().enumerate() {
            let attention = &mut layer.attention.self_attention;
            let projections = [
                &mut attention.query,
                &mut attention.key,
                &mut attention.value,
                &mut layer.attention.output.dense,
                &mut layer.intermediate.dense,
                &mut layer.output.dense,
            ];
            for (name, linear) in names.iter().zip(projections) {
                f(&format!("encoder.layer.{i}.{name}"), linear);
            }
        }
    }

    /// Visits the layers' feed-forward networks.
    pub(crate) fn for_each_feed_forward_mut(
        &mut self,
        names: &LayerNames,
        f: FeedForwardVisitor<'_>,
    ) {
        for (i, layer) in self.layer.iter_mut().enumerate() {
            let names = [names[4], names[5]].map(|name| format!("encoder.layer.{i}.{name}"));
            feed_forward([&names[0], &names[1]], &mut layer.intermediate, &mut layer.output, f);
        }
    }
}

/// Fields here and parts of Hugging Face's names that Rust does not allow as field names.
pub(crate) fn hugging_face_name(path: &str) -> String {
    path.replace("self_attention", "self").replace("layer_norm", "LayerNorm")
}
