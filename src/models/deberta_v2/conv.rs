//! The convolution beside the first layer, in v2-xlarge and v2-xxlarge.

use burn::module::Module;
use burn::nn::conv::{Conv1d, Conv1dConfig};
use burn::nn::{Dropout, Initializer, LayerNorm, PaddingConfig1d};
use burn::tensor::{Bool, Device, Tensor};

use super::DebertaV2Config;
use crate::models::{Activation, init};

/// `ConvLayer`: a convolution of the embeddings over tokens, added to the first layer's output.
///
/// <https://github.com/huggingface/transformers/blob/v5.0.0/src/transformers/models/deberta_v2/modeling_deberta_v2.py>
#[derive(Module, Debug)]
pub struct ConvLayer {
    /// `[hidden_size, hidden_size / conv_groups, conv_kernel_size]`.
    pub conv: Conv1d,
    /// Normalisation of the sum.
    pub layer_norm: LayerNorm,
    /// Dropout of the convolution.
    pub dropout: Dropout,
    #[module(skip)]
    activation: Activation,
}

impl ConvLayer {
    /// A freshly initialised convolution.
    pub fn new(config: &DebertaV2Config, device: &Device) -> Self {
        let size = config.hidden_size;
        let padding = config.conv_kernel_size.saturating_sub(1) / 2;
        let mut conv = Conv1dConfig::new(size, size, config.conv_kernel_size)
            .with_groups(config.conv_groups)
            .with_padding(PaddingConfig1d::Explicit(padding, padding))
            .with_initializer(Initializer::Normal { mean: 0.0, std: config.initializer_range })
            .init(device);
        conv.bias = Some(Initializer::Zeros.init([size], device));
        Self {
            conv,
            layer_norm: init::layer_norm(size, config.layer_norm_eps, device),
            dropout: init::dropout(config.hidden_dropout_prob),
            activation: config.conv_act,
        }
    }

    /// `LayerNorm(conv_act(conv(embedded)) + residual)`, zero at padding.
    ///
    /// # Shapes
    /// - `embedded`, `residual`, output: `[batch, length, hidden_size]`
    /// - `padding`: `[batch, length, 1]`
    pub fn forward(
        &self,
        embedded: Tensor<3>,
        residual: Tensor<3>,
        padding: Option<&Tensor<3, Bool>>,
    ) -> Tensor<3> {
        let without_padding = |states: Tensor<3>| match padding {
            Some(padding) => states.clone().mask_fill(padding.clone().expand(states.dims()), 0.0),
            None => states,
        };
        // Channels are the second axis of a convolution: [batch, hidden_size, length]
        let convolved = self.conv.forward(embedded.swap_dims(1, 2)).swap_dims(1, 2);
        let convolved = self.dropout.forward(without_padding(convolved));
        let sum = self.activation.forward(convolved) + residual;
        without_padding(self.layer_norm.forward(sum))
    }
}
