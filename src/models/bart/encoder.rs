//! The encoder.

use burn::module::Module;
use burn::nn::{Dropout, LayerNorm};
use burn::tensor::{Device, Tensor};

use super::embeddings::LAYER_NORM_EPS;
use super::{BartAttention, BartConfig, BartEmbeddings, BartFeedForward};
use crate::models::{Attended, init};
use crate::ops::{EncoderLayerParts, ForwardContext, PackedEncoderLayer, residual_norm};

/// `BartEncoder`, without the token embeddings, which are the whole model's.
///
/// <https://github.com/huggingface/transformers/blob/v5.0.0/src/transformers/models/bart/modeling_bart.py>
#[derive(Module, Debug)]
pub struct BartEncoder {
    /// Positions and their normalisation.
    pub embeddings: BartEmbeddings,
    /// The layers, first to last.
    pub layers: Vec<BartEncoderLayer>,
}

/// `BartEncoderLayer`.
///
/// <https://github.com/huggingface/transformers/blob/v5.0.0/src/transformers/models/bart/modeling_bart.py>
#[derive(Module, Debug)]
pub struct BartEncoderLayer {
    /// Self-attention.
    pub self_attn: BartAttention,
    /// Normalisation after it.
    pub self_attn_layer_norm: LayerNorm,
    /// Feed-forward network and the last normalisation.
    pub feed_forward: BartFeedForward,
    /// Dropout of the attention's output.
    pub dropout: Dropout,
    /// The layer packed for inference.
    #[module(skip)]
    packed: PackedEncoderLayer,
}

impl BartEncoder {
    /// Freshly initialised layers.
    pub fn new(config: &BartConfig, device: &Device) -> Self {
        let layer = |_| BartEncoderLayer::new(config, device);
        Self {
            embeddings: BartEmbeddings::new(config, device),
            layers: (0..config.encoder_layers).map(layer).collect(),
        }
    }

    /// Encodes embedded tokens; `each` sees the hidden states before the first layer and after every
    /// layer, there with the attention probabilities, if `context` asks for those.
    ///
    /// # Shapes
    /// - `embedded`, output: `[batch, length, d_model]`
    ///
    /// # Panics
    /// If the sequences are longer than `max_position_embeddings`.
    pub fn forward(
        &self,
        embedded: Tensor<3>,
        context: &ForwardContext,
        mut each: impl FnMut(&Tensor<3>, Option<Tensor<4>>),
    ) -> Tensor<3> {
        let hidden_states = self.embeddings.forward(embedded);
        each(&hidden_states, None);
        self.layers.iter().fold(hidden_states, |hidden_states, layer| {
            let (output, probabilities) = layer.forward(hidden_states, context);
            each(&output, probabilities);
            output
        })
    }
}

impl BartEncoderLayer {
    /// A freshly initialised layer.
    pub fn new(config: &BartConfig, device: &Device) -> Self {
        let heads = config.encoder_attention_heads;
        Self {
            self_attn: BartAttention::new(config, heads, device),
            self_attn_layer_norm: init::layer_norm(config.d_model, LAYER_NORM_EPS, device),
            feed_forward: BartFeedForward::new(config, config.encoder_ffn_dim, device),
            dropout: init::dropout(config.dropout),
            packed: PackedEncoderLayer::default(),
        }
    }

    /// Applies the layer; also returns the attention probabilities `[batch, heads, length, length]`, if
    /// `context` asks for them.
    ///
    /// # Shapes
    /// - `hidden_states`, output: `[batch, length, d_model]`
    pub fn forward(&self, hidden_states: Tensor<3>, context: &ForwardContext) -> Attended {
        let composed = |hidden_states: Tensor<3>| {
            let (attended, probabilities) =
                self.self_attn.forward(hidden_states.clone(), None, context);
            let norm = (&self.self_attn_layer_norm, LAYER_NORM_EPS);
            let attended = residual_norm(attended, hidden_states, &self.dropout, norm);
            (self.feed_forward.forward(attended), probabilities)
        };
        self.packed.forward(self, self.parts(), hidden_states, context, None, composed)
    }

    fn parts(&self) -> EncoderLayerParts<'_> {
        EncoderLayerParts {
            query: &self.self_attn.q_proj,
            key: &self.self_attn.k_proj,
            value: &self.self_attn.v_proj,
            heads: self.self_attn.heads(),
            attention_output: &self.self_attn.out_proj,
            attention_norm: &self.self_attn_layer_norm,
            feed_forward: self.feed_forward.parts(),
            epsilon: LAYER_NORM_EPS,
        }
    }
}
