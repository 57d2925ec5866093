//! One encoder layer: attention, then a feed-forward network.

use burn::module::Module;
use burn::nn::{Dropout, LayerNorm};
use burn::tensor::{Device, Tensor};

use super::{BertAttention, BertConfig};
use crate::linear::CompressibleLinear;
use crate::models::{Attended, init};
use crate::ops::{
    Activation, EncoderLayerParts, FeedForwardParts, ForwardContext, PackedEncoderLayer,
    residual_norm,
};

/// `BertLayer`.
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

/// `BertIntermediate`: widening projection and activation.
#[derive(Module, Debug)]
pub struct BertIntermediate {
    /// `[hidden_size, intermediate_size]`.
    pub dense: CompressibleLinear,
    #[module(skip)]
    activation: Activation,
    #[module(skip)]
    width: usize,
}

/// `BertOutput` and `BertSelfOutput`: projection, residual and normalisation.
#[derive(Module, Debug)]
pub struct BertOutput {
    /// `[intermediate_size, hidden_size]`, or square behind attention.
    pub dense: CompressibleLinear,
    /// Normalisation of the sum.
    pub layer_norm: LayerNorm,
    /// Dropout of the projection.
    pub dropout: Dropout,
    pub(crate) epsilon: f64,
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

impl BertIntermediate {
    /// A freshly initialised projection.
    pub fn new(config: &BertConfig, device: &Device) -> Self {
        let (hidden, inner) = (config.hidden_size, config.intermediate_size);
        Self {
            dense: init::compressible(hidden, inner, config.initializer_range, device),
            activation: config.hidden_act,
            width: inner,
        }
    }

    /// `[batch, length, hidden_size]` → `[batch, length, intermediate_size]`.
    pub fn forward(&self, hidden_states: Tensor<3>) -> Tensor<3> {
        self.activation.forward(self.dense.forward(hidden_states))
    }

    /// The activation, which compaction folds constants through.
    pub fn activation(&self) -> Activation {
        self.activation
    }

    /// `intermediate_size`, of which compaction may leave less.
    pub fn width(&self) -> usize {
        self.width
    }
}

impl BertOutput {
    /// A freshly initialised projection of `d_input` values.
    pub fn new(config: &BertConfig, d_input: usize, device: &Device) -> Self {
        let hidden = config.hidden_size;
        Self {
            dense: init::compressible(d_input, hidden, config.initializer_range, device),
            layer_norm: init::layer_norm(hidden, config.layer_norm_eps, device),
            dropout: init::dropout(config.hidden_dropout_prob),
            epsilon: config.layer_norm_eps,
        }
    }

    /// The feed-forward network that begins with `intermediate`.
    pub(crate) fn feed_forward<'a>(
        &'a self,
        intermediate: &'a BertIntermediate,
    ) -> FeedForwardParts<'a> {
        FeedForwardParts {
            intermediate: &intermediate.dense,
            activation: intermediate.activation,
            output: &self.dense,
            norm: &self.layer_norm,
        }
    }

    /// `LayerNorm(dense(inner) + residual)`: `[batch, length, hidden_size]`.
    pub fn forward(&self, inner: Tensor<3>, residual: Tensor<3>) -> Tensor<3> {
        let output = self.dense.forward(inner);
        residual_norm(output, residual, &self.dropout, (&self.layer_norm, self.epsilon))
    }
}
