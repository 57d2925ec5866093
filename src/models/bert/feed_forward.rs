//! The feed-forward network of a layer, and the projection behind attention, which is like its second half.

use burn::module::Module;
use burn::nn::{Dropout, LayerNorm};
use burn::tensor::{Device, Tensor};

use super::BertConfig;
use crate::linear::{CompressibleLinear, FeedForward, FeedForwardVisitor};
use crate::models::init;
use crate::ops::{Activation, FeedForwardParts, residual_norm};

/// `BertIntermediate`: widening projection and activation.
///
/// <https://github.com/huggingface/transformers/blob/v5.0.0/src/transformers/models/bert/modeling_bert.py>
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
///
/// <https://github.com/huggingface/transformers/blob/v5.0.0/src/transformers/models/bert/modeling_bert.py>
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

/// Calls `f` with a layer's feed-forward network.
pub(crate) fn feed_forward(
    names: [&str; 2],
    intermediate: &mut BertIntermediate,
    output: &mut BertOutput,
    f: FeedForwardVisitor<'_>,
) {
    let (activation, width) = (intermediate.activation(), intermediate.width());
    f(FeedForward {
        names,
        inner: &mut intermediate.dense,
        outer: &mut output.dense,
        activation: &|x| activation.forward(x),
        width,
    });
}
