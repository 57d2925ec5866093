//! One encoder layer: attention, then a feed-forward network.

use std::sync::Arc;

use burn::module::Module;
use burn::nn::{Dropout, LayerNorm};
use burn::tensor::{Device, Tensor};

use super::attention::ScoreMask;
use super::{BertAttention, BertConfig};
use crate::kernels::Sequences;
use crate::linear::CompressibleLinear;
use crate::models::fused::{FeedForwardParts, FusedLayer, LayerParts};
use crate::models::{Activation, init, residual_norm};

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
    pub(crate) fused: FusedLayer,
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

/// `BertOutput`: narrowing projection, residual and normalisation.
#[derive(Module, Debug)]
pub struct BertOutput {
    /// `[intermediate_size, hidden_size]`.
    pub dense: CompressibleLinear,
    /// Normalisation of the sum.
    pub layer_norm: LayerNorm,
    /// Dropout of the projection.
    pub dropout: Dropout,
    epsilon: f64,
}

impl BertLayer {
    /// A freshly initialised layer.
    pub fn new(config: &BertConfig, device: &Device) -> Self {
        Self {
            attention: BertAttention::new(config, device),
            intermediate: BertIntermediate::new(config, device),
            output: BertOutput::new(config, device),
            fused: FusedLayer::new(
                config.num_attention_heads,
                1.0 / (config.head_size() as f64).sqrt(),
                config.layer_norm_eps,
            ),
        }
    }

    pub(crate) fn parts(&self) -> LayerParts<'_> {
        let attention = &self.attention.self_attention;
        LayerParts {
            query: &attention.query,
            key: &attention.key,
            value: &attention.value,
            attention_output: &self.attention.output.dense,
            attention_norm: &self.attention.output.layer_norm,
            feed_forward: FeedForwardParts::of_bert(&self.intermediate, &self.output),
        }
    }

    /// [`BertLayer::forward`] without the probabilities, in one kernel where there is one. In training,
    /// with `sequences`, of tokens alone: `[1, tokens, hidden_size]`.
    pub(crate) fn forward_fused(
        &self,
        hidden_states: Tensor<3>,
        mask: Option<&ScoreMask>,
        sequences: Option<&Arc<Sequences>>,
    ) -> Tensor<3> {
        let scores = mask.map(|mask| &mask.scores);
        match self.fused.forward(self, self.parts(), hidden_states, scores, None) {
            Ok(output) => output,
            Err(hidden_states) => {
                let attended = self.attention.forward_fused(hidden_states, mask, sequences);
                let inner = self.intermediate.forward(attended.clone());
                self.output.forward(inner, attended)
            }
        }
    }

    /// Applies the layer; also gives the attention probabilities.
    ///
    /// # Shapes
    /// - `hidden_states`, output: `[batch, length, hidden_size]`
    /// - `mask`: `[batch or 1, heads or 1, length or 1, length]`, added to the attention scores
    pub fn forward(
        &self,
        hidden_states: Tensor<3>,
        mask: Option<&Tensor<4>>,
    ) -> (Tensor<3>, Tensor<4>) {
        let (attended, probabilities) = self.attention.forward(hidden_states, mask);
        let inner = self.intermediate.forward(attended.clone());
        (self.output.forward(inner, attended), probabilities)
    }
}

impl<'a> FeedForwardParts<'a> {
    /// Of a layer whose second half is BERT's.
    pub(crate) fn of_bert(intermediate: &'a BertIntermediate, output: &'a BertOutput) -> Self {
        Self {
            intermediate: &intermediate.dense,
            activation: intermediate.activation,
            output: &output.dense,
            norm: &output.layer_norm,
        }
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
    /// A freshly initialised projection.
    pub fn new(config: &BertConfig, device: &Device) -> Self {
        let (hidden, inner) = (config.hidden_size, config.intermediate_size);
        Self {
            dense: init::compressible(inner, hidden, config.initializer_range, device),
            layer_norm: init::layer_norm(hidden, config.layer_norm_eps, device),
            dropout: init::dropout(config.hidden_dropout_prob),
            epsilon: config.layer_norm_eps,
        }
    }

    /// `LayerNorm(dense(inner) + residual)`: `[batch, length, hidden_size]`.
    pub fn forward(&self, inner: Tensor<3>, residual: Tensor<3>) -> Tensor<3> {
        let output = self.dense.forward(inner);
        residual_norm(output, residual, &self.dropout, (&self.layer_norm, self.epsilon))
    }
}
