//! The encoder.

use burn::module::Module;
use burn::nn::{Dropout, LayerNorm};
use burn::tensor::{Device, Tensor};

use super::embeddings::LAYER_NORM_EPS;
use super::{BartAttention, BartConfig, BartEmbeddings, BartFeedForward};
use crate::linear::CompressibleLinear;
use crate::models::fused::{FusedLayer, LayerParts};
use crate::models::{init, residual_norm};

/// `BartEncoder`, without the token embeddings, which are the whole model's.
#[derive(Module, Debug)]
pub struct BartEncoder {
    /// Positions and their normalisation.
    pub embeddings: BartEmbeddings,
    /// The layers, first to last.
    pub layers: Vec<BartEncoderLayer>,
}

/// `BartEncoderLayer`.
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
    fused: FusedLayer,
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

    /// Encodes embedded tokens; `each` sees the hidden states before the first layer, and after
    /// every layer with, if asked for with `attentions`, its attention probabilities. Without them
    /// layers are faster.
    ///
    /// # Shapes
    /// - `embedded`, output: `[batch, length, d_model]`
    /// - `mask`: `[batch, 1, 1, length]`, added to the attention scores
    ///
    /// # Panics
    /// If the sequences are longer than `max_position_embeddings`.
    pub fn forward(
        &self,
        embedded: Tensor<3>,
        mask: Option<&Tensor<4>>,
        attentions: bool,
        mut each: impl FnMut(&Tensor<3>, Option<Tensor<4>>),
    ) -> Tensor<3> {
        let hidden_states = self.embeddings.forward(embedded);
        each(&hidden_states, None);
        self.layers.iter().fold(hidden_states, |hidden_states, layer| {
            let (output, probabilities) = match attentions {
                true => {
                    let (output, probabilities) = layer.forward(hidden_states, mask);
                    (output, Some(probabilities))
                }
                false => (layer.forward_fused(hidden_states, mask), None),
            };
            each(&output, probabilities);
            output
        })
    }

    /// Visits the layers' projections under `prefix`, in the order of computation.
    pub(super) fn for_each_linear_mut(
        &mut self,
        prefix: &str,
        f: &mut dyn FnMut(&str, &mut CompressibleLinear),
    ) {
        for (i, layer) in self.layers.iter_mut().enumerate() {
            let name = format!("{prefix}encoder.layers.{i}");
            layer.self_attn.for_each_linear_mut(&format!("{name}.self_attn"), f);
            layer.feed_forward.for_each_linear_mut(&name, f);
        }
    }
}

impl BartEncoderLayer {
    /// A freshly initialised layer.
    pub fn new(config: &BartConfig, device: &Device) -> Self {
        let heads = config.encoder_attention_heads;
        let scale = 1.0 / ((config.d_model / heads) as f64).sqrt();
        Self {
            self_attn: BartAttention::new(config, heads, device),
            self_attn_layer_norm: init::layer_norm(config.d_model, LAYER_NORM_EPS, device),
            feed_forward: BartFeedForward::new(config, config.encoder_ffn_dim, device),
            dropout: init::dropout(config.dropout),
            fused: FusedLayer::new(heads, scale, LAYER_NORM_EPS),
        }
    }

    /// [`BartEncoderLayer::forward`] without the probabilities, in one kernel where there is one.
    pub fn forward_fused(&self, hidden_states: Tensor<3>, mask: Option<&Tensor<4>>) -> Tensor<3> {
        let parts = LayerParts {
            query: &self.self_attn.q_proj,
            key: &self.self_attn.k_proj,
            value: &self.self_attn.v_proj,
            attention_output: &self.self_attn.out_proj,
            attention_norm: &self.self_attn_layer_norm,
            feed_forward: self.feed_forward.parts(),
        };
        match self.fused.forward(self, parts, hidden_states, mask, None) {
            Ok(output) => output,
            Err(hidden_states) => {
                let attended = self.self_attn.forward_fused(hidden_states.clone(), None, mask);
                self.after_attention(attended, hidden_states)
            }
        }
    }

    /// Applies the layer; also gives the attention probabilities `[batch, heads, length, length]`.
    ///
    /// # Shapes
    /// - `hidden_states`, output: `[batch, length, d_model]`
    /// - `mask`: `[batch, 1, 1, length]`, added to the attention scores
    pub fn forward(
        &self,
        hidden_states: Tensor<3>,
        mask: Option<&Tensor<4>>,
    ) -> (Tensor<3>, Tensor<4>) {
        let (attended, probabilities) = self.self_attn.forward(hidden_states.clone(), None, mask);
        (self.after_attention(attended, hidden_states), probabilities)
    }

    fn after_attention(&self, attended: Tensor<3>, residual: Tensor<3>) -> Tensor<3> {
        let norm = (&self.self_attn_layer_norm, LAYER_NORM_EPS);
        self.feed_forward.forward(residual_norm(attended, residual, &self.dropout, norm))
    }
}
