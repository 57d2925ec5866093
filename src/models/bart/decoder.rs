//! The decoder.

use burn::module::Module;
use burn::nn::{Dropout, LayerNorm};
use burn::tensor::{Device, Tensor};

use super::embeddings::LAYER_NORM_EPS;
use super::{BartAttention, BartConfig, BartEmbeddings, BartFeedForward};
use crate::models::init;
use crate::ops::{DecoderLayerParts, ForwardContext, residual_norm};

/// `BartDecoder`, without the token embeddings, which are the whole model's.
///
/// <https://github.com/huggingface/transformers/blob/v5.0.0/src/transformers/models/bart/modeling_bart.py>
#[derive(Module, Debug)]
pub struct BartDecoder {
    /// Positions and their normalisation.
    pub embeddings: BartEmbeddings,
    /// The layers, first to last.
    pub layers: Vec<BartDecoderLayer>,
}

/// `BartDecoderLayer`.
///
/// <https://github.com/huggingface/transformers/blob/v5.0.0/src/transformers/models/bart/modeling_bart.py>
#[derive(Module, Debug)]
pub struct BartDecoderLayer {
    /// Attention to the tokens so far.
    pub self_attn: BartAttention,
    /// Normalisation after it.
    pub self_attn_layer_norm: LayerNorm,
    /// Attention to the encoder's output.
    pub encoder_attn: BartAttention,
    /// Normalisation after it.
    pub encoder_attn_layer_norm: LayerNorm,
    /// Feed-forward network and the last normalisation.
    pub feed_forward: BartFeedForward,
    /// Dropout of the attentions' outputs.
    pub dropout: Dropout,
}

/// The states that a decoder attends to, and where it may look.
#[derive(Debug, Clone)]
pub struct DecoderContext {
    /// `[batch, source, d_model]`: the encoder's output.
    pub encoder_hidden_states: Tensor<3>,
    /// Masks the encoder's padding, `[batch, 1, 1, source]`.
    pub cross: ForwardContext,
    /// Masks later tokens and padding, `[batch or 1, 1, length, length]`.
    pub own: ForwardContext,
}

/// Self- and cross-attention probabilities of a layer, if asked for: `[batch, heads, length, length]`
/// and `[batch, heads, length, source]`.
pub type DecoderAttentions = (Option<Tensor<4>>, Option<Tensor<4>>);

impl BartDecoder {
    /// Freshly initialised layers.
    pub fn new(config: &BartConfig, device: &Device) -> Self {
        let layer = |_| BartDecoderLayer::new(config, device);
        Self {
            embeddings: BartEmbeddings::new(config, device),
            layers: (0..config.decoder_layers).map(layer).collect(),
        }
    }

    /// Decodes embedded tokens `[batch, length, d_model]`; `each` sees the hidden states before the
    /// first layer and after every layer, there with the attention probabilities, if `context` asks for
    /// those.
    ///
    /// # Panics
    /// If the sequences are longer than `max_position_embeddings`.
    pub fn forward(
        &self,
        embedded: Tensor<3>,
        context: &DecoderContext,
        mut each: impl FnMut(&Tensor<3>, DecoderAttentions),
    ) -> Tensor<3> {
        let hidden_states = self.embeddings.forward(embedded);
        each(&hidden_states, (None, None));
        self.layers.iter().fold(hidden_states, |hidden_states, layer| {
            let (output, probabilities) = layer.forward(hidden_states, context);
            each(&output, probabilities);
            output
        })
    }
}

impl BartDecoderLayer {
    /// A freshly initialised layer.
    pub fn new(config: &BartConfig, device: &Device) -> Self {
        let attention = || BartAttention::new(config, config.decoder_attention_heads, device);
        let norm = || init::layer_norm(config.d_model, LAYER_NORM_EPS, device);
        Self {
            self_attn: attention(),
            self_attn_layer_norm: norm(),
            encoder_attn: attention(),
            encoder_attn_layer_norm: norm(),
            feed_forward: BartFeedForward::new(config, config.decoder_ffn_dim, device),
            dropout: init::dropout(config.dropout),
        }
    }

    /// Applies the layer to `[batch, length, d_model]`; also returns the attention probabilities.
    pub fn forward(
        &self,
        hidden_states: Tensor<3>,
        context: &DecoderContext,
    ) -> (Tensor<3>, DecoderAttentions) {
        let (attended, own) = self.self_attn.forward(hidden_states.clone(), None, &context.own);
        let hidden_states = self.after_self_attention(attended, hidden_states);
        let source = context.encoder_hidden_states.clone();
        let (attended, cross) =
            self.encoder_attn.forward(hidden_states.clone(), Some(source), &context.cross);
        (self.after_cross_attention(attended, hidden_states), (own, cross))
    }

    pub(super) fn parts(&self) -> DecoderLayerParts<'_> {
        DecoderLayerParts {
            own: self.self_attn.parts(&self.self_attn_layer_norm),
            cross: self.encoder_attn.parts(&self.encoder_attn_layer_norm),
            feed_forward: self.feed_forward.parts(),
        }
    }

    /// Residual and normalisation of the self-attention's output, `[batch, length, d_model]`.
    pub(super) fn after_self_attention(
        &self,
        attended: Tensor<3>,
        residual: Tensor<3>,
    ) -> Tensor<3> {
        let norm = (&self.self_attn_layer_norm, LAYER_NORM_EPS);
        residual_norm(attended, residual, &self.dropout, norm)
    }

    /// Everything after the cross-attention, `[batch, length, d_model]`.
    pub(super) fn after_cross_attention(
        &self,
        attended: Tensor<3>,
        residual: Tensor<3>,
    ) -> Tensor<3> {
        let norm = (&self.encoder_attn_layer_norm, LAYER_NORM_EPS);
        self.feed_forward.forward(residual_norm(attended, residual, &self.dropout, norm))
    }
}
