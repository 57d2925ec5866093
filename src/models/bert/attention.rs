//! Multi-head self-attention.

use std::sync::Arc;

use burn::module::Module;
use burn::nn::{Dropout, LayerNorm};
use burn::tensor::{Device, Tensor, activation::softmax};

use super::BertConfig;
use crate::kernels::Sequences;
use crate::kernels::layers::{self, Heads};
use crate::linear::{CompressibleLinear, SharedInput};
use crate::models::{init, residual_norm};
use crate::precision::matmul;

/// What is added to attention scores.
#[derive(Debug, Clone)]
pub(crate) struct ScoreMask {
    /// `[batch or 1, heads or 1, length or 1, length]`.
    pub(crate) scores: Tensor<4>,
    /// Whether gradients flow into it: a relative bias is in it.
    pub(crate) trained: bool,
}

/// `BertAttention`: self-attention and its output projection.
#[derive(Module, Debug)]
pub struct BertAttention {
    /// `attention.self`.
    pub self_attention: BertSelfAttention,
    /// `attention.output`.
    pub output: BertSelfOutput,
}

/// `BertSelfAttention`: `softmax(Q Kᵀ / √d + mask) V` for each head.
#[derive(Module, Debug)]
pub struct BertSelfAttention {
    /// `[hidden_size, hidden_size]`.
    pub query: CompressibleLinear,
    /// `[hidden_size, hidden_size]`.
    pub key: CompressibleLinear,
    /// `[hidden_size, hidden_size]`.
    pub value: CompressibleLinear,
    /// Dropout of the probabilities.
    pub dropout: Dropout,
    num_attention_heads: usize,
    head_size: usize,
    #[module(skip)]
    projections: SharedInput,
}

/// `BertSelfOutput`: projection, residual and normalisation.
#[derive(Module, Debug)]
pub struct BertSelfOutput {
    /// `[hidden_size, hidden_size]`.
    pub dense: CompressibleLinear,
    /// Normalisation of the sum.
    pub layer_norm: LayerNorm,
    /// Dropout of the projection.
    pub dropout: Dropout,
    epsilon: f64,
}

impl BertAttention {
    /// A freshly initialised block.
    pub fn new(config: &BertConfig, device: &Device) -> Self {
        Self {
            self_attention: BertSelfAttention::new(config, device),
            output: BertSelfOutput::new(config, device),
        }
    }

    /// Attends within each sequence; also gives the probabilities `[batch, heads, length, length]`.
    ///
    /// # Shapes
    /// - `hidden_states`, output: `[batch, length, hidden_size]`
    /// - `mask`: `[batch or 1, heads or 1, length or 1, length]`, added to the scores
    pub fn forward(
        &self,
        hidden_states: Tensor<3>,
        mask: Option<&Tensor<4>>,
    ) -> (Tensor<3>, Tensor<4>) {
        let (context, probabilities) = self.self_attention.forward(hidden_states.clone(), mask);
        (self.output.forward(context, hidden_states), probabilities)
    }

    /// [`BertAttention::forward`] without the probabilities, in fewer operations where there are
    /// such.
    pub(crate) fn forward_fused(
        &self,
        hidden_states: Tensor<3>,
        mask: Option<&ScoreMask>,
        sequences: Option<&Arc<Sequences>>,
    ) -> Tensor<3> {
        let context = self.self_attention.context(hidden_states.clone(), mask, sequences);
        self.output.forward(context, hidden_states)
    }
}

impl BertSelfAttention {
    /// Freshly initialised projections.
    pub fn new(config: &BertConfig, device: &Device) -> Self {
        let (size, std) = (config.hidden_size, config.initializer_range);
        let projection = || init::compressible(size, size, std, device);
        Self {
            query: projection(),
            key: projection(),
            value: projection(),
            dropout: init::dropout(config.attention_probs_dropout_prob),
            num_attention_heads: config.num_attention_heads,
            head_size: config.head_size(),
            projections: SharedInput::default(),
        }
    }

    /// The heads' outputs side by side, and the probabilities `[batch, heads, length, length]`.
    ///
    /// # Shapes
    /// - `hidden_states`, output: `[batch, length, hidden_size]`
    /// - `mask`: `[batch or 1, heads or 1, length or 1, length]`, added to the scores
    pub fn forward(
        &self,
        hidden_states: Tensor<3>,
        mask: Option<&Tensor<4>>,
    ) -> (Tensor<3>, Tensor<4>) {
        self.attend(self.project(hidden_states), mask)
    }

    /// The heads' outputs side by side.
    fn context(
        &self,
        hidden_states: Tensor<3>,
        mask: Option<&ScoreMask>,
        sequences: Option<&Arc<Sequences>>,
    ) -> Tensor<3> {
        let projected = self.project(hidden_states);
        let [batch, length] = match sequences {
            Some(sequences) => [sequences.count(), sequences.length()],
            None => [projected[0].dims()[0], projected[0].dims()[1]],
        };
        let heads = self.num_attention_heads;
        let bias = mask.filter(|mask| mask.trained).map(|mask| {
            // The kernel adds as many scores as there are.
            mask.scores.clone().expand([batch, heads, length, length])
        });
        let fixed = mask.filter(|mask| !mask.trained).map(|mask| &mask.scores);
        let settings = Heads {
            count: heads,
            scale: self.scale(),
            dropout: &self.dropout,
            mask_replaces: false,
            sequences,
        };
        match layers::attention(projected.each_ref(), fixed, bias.as_ref(), settings) {
            Some(context) => context,
            None if sequences.is_some() => unreachable!("sequences only where attention is fused"),
            None => self.attend(projected, mask.map(|mask| &mask.scores)).0,
        }
    }

    /// Queries, keys and values, `[batch, length, hidden_size]`.
    fn project(&self, hidden_states: Tensor<3>) -> [Tensor<3>; 3] {
        self.projections.forward([&self.query, &self.key, &self.value], hidden_states)
    }

    fn scale(&self) -> f64 {
        1.0 / (self.head_size as f64).sqrt()
    }

    fn attend(
        &self,
        [query, key, value]: [Tensor<3>; 3],
        mask: Option<&Tensor<4>>,
    ) -> (Tensor<3>, Tensor<4>) {
        let [batch, length, hidden_size] = query.dims();
        // [batch, length, hidden_size] → [batch, heads, length, head_size]
        let heads = |projected: Tensor<3>| {
            projected
                .reshape([batch, length, self.num_attention_heads, self.head_size])
                .swap_dims(1, 2)
        };
        // Scaling the queries costs less than scaling the scores.
        let scores = matmul(heads(query * self.scale()), heads(key).transpose());
        let scores = match mask {
            Some(mask) => scores + mask.clone(),
            None => scores,
        };
        let probabilities = softmax(scores, 3);
        let context = matmul(self.dropout.forward(probabilities.clone()), heads(value));
        // [batch, heads, length, head_size] → [batch, length, hidden_size]
        (context.swap_dims(1, 2).reshape([batch, length, hidden_size]), probabilities)
    }
}

impl BertSelfOutput {
    /// A freshly initialised projection.
    pub fn new(config: &BertConfig, device: &Device) -> Self {
        let size = config.hidden_size;
        Self {
            dense: init::compressible(size, size, config.initializer_range, device),
            layer_norm: init::layer_norm(size, config.layer_norm_eps, device),
            dropout: init::dropout(config.hidden_dropout_prob),
            epsilon: config.layer_norm_eps,
        }
    }

    /// `LayerNorm(dense(context) + residual)`, all `[batch, length, hidden_size]`.
    pub fn forward(&self, context: Tensor<3>, residual: Tensor<3>) -> Tensor<3> {
        let output = self.dense.forward(context);
        residual_norm(output, residual, &self.dropout, (&self.layer_norm, self.epsilon))
    }
}
