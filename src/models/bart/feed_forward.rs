//! The feed-forward network of a layer.

use burn::module::Module;
use burn::nn::{Dropout, LayerNorm};
use burn::tensor::{Device, Tensor};

use super::BartConfig;
use super::embeddings::LAYER_NORM_EPS;
use crate::linear::{CompressibleLinear, FeedForward, FeedForwardVisitor, LinearVisitor};
use crate::models::init;
use crate::ops::{Activation, FeedForwardParts, residual_norm};

/// `fc1`, `fc2` and `final_layer_norm` of a layer of either side.
#[derive(Module, Debug)]
pub struct BartFeedForward {
    /// `[d_model, ffn_dim]`.
    pub fc1: CompressibleLinear,
    /// `[ffn_dim, d_model]`.
    pub fc2: CompressibleLinear,
    /// Normalisation of the sum.
    pub final_layer_norm: LayerNorm,
    /// Dropout after the activation.
    pub activation_dropout: Dropout,
    /// Dropout of the output.
    pub dropout: Dropout,
    #[module(skip)]
    activation: Activation,
    /// `ffn_dim`, of which compaction may leave less.
    #[module(skip)]
    width: usize,
}

impl BartFeedForward {
    /// A freshly initialised network of inner width `ffn_dim`.
    pub fn new(config: &BartConfig, ffn_dim: usize, device: &Device) -> Self {
        let (size, std) = (config.d_model, config.init_std);
        Self {
            fc1: init::compressible(size, ffn_dim, std, device),
            fc2: init::compressible(ffn_dim, size, std, device),
            final_layer_norm: init::layer_norm(size, LAYER_NORM_EPS, device),
            activation_dropout: init::dropout(config.activation_dropout),
            dropout: init::dropout(config.dropout),
            activation: config.activation_function,
            width: ffn_dim,
        }
    }

    /// `LayerNorm(fc2(activation(fc1(x))) + x)`, all `[batch, length, d_model]`.
    pub fn forward(&self, hidden_states: Tensor<3>) -> Tensor<3> {
        let inner = self.activation.forward(self.fc1.forward(hidden_states.clone()));
        let output = self.fc2.forward(self.activation_dropout.forward(inner));
        let norm = (&self.final_layer_norm, LAYER_NORM_EPS);
        residual_norm(output, hidden_states, &self.dropout, norm)
    }

    pub(super) fn parts(&self) -> FeedForwardParts<'_> {
        FeedForwardParts {
            intermediate: &self.fc1,
            activation: self.activation,
            output: &self.fc2,
            norm: &self.final_layer_norm,
        }
    }

    /// Visits both projections of the layer `prefix`.
    pub(super) fn for_each_linear_mut(&mut self, prefix: &str, f: LinearVisitor<'_>) {
        f(&format!("{prefix}.fc1"), &mut self.fc1);
        f(&format!("{prefix}.fc2"), &mut self.fc2);
    }

    /// Calls `f` with the network of the layer `prefix`.
    pub(super) fn visit_mut(&mut self, prefix: &str, f: FeedForwardVisitor<'_>) {
        let activation = self.activation;
        f(FeedForward {
            names: [&format!("{prefix}.fc1"), &format!("{prefix}.fc2")],
            inner: &mut self.fc1,
            outer: &mut self.fc2,
            activation: &|x| activation.forward(x),
            width: self.width,
        });
    }
}
