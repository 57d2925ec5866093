//! Multi-head self-attention.

use burn::module::Module;
use burn::nn::Dropout;
use burn::tensor::{Device, Tensor};

use super::{BertConfig, BertOutput};
use crate::linear::{CompressibleLinear, SharedInput};
use crate::models::{Attended, init};
use crate::ops::{ForwardContext, Heads};

/// `BertAttention`: self-attention and its output projection.
///
/// <https://github.com/huggingface/transformers/blob/v5.0.0/src/transformers/models/bert/modeling_bert.py>
#[derive(Module, Debug)]
pub struct BertAttention {
    /// `attention.self`.
    pub self_attention: BertSelfAttention,
    /// `attention.output`.
    pub output: BertSelfOutput,
}

/// `BertSelfAttention`: `softmax(Q Kᵀ / √d + mask) V` for each head.
///
/// <https://github.com/huggingface/transformers/blob/v5.0.0/src/transformers/models/bert/modeling_bert.py>
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

/// `BertSelfOutput`: projection `[hidden_size, hidden_size]`, residual and normalisation.
pub type BertSelfOutput = BertOutput;

impl BertAttention {
    /// A freshly initialised block.
    pub fn new(config: &BertConfig, device: &Device) -> Self {
        Self {
            self_attention: BertSelfAttention::new(config, device),
            output: BertSelfOutput::new(config, config.hidden_size, device),
        }
    }

    /// Attends within each sequence; also returns the probabilities `[batch, heads, length, length]`, if
    /// `context` asks for them.
    ///
    /// # Shapes
    /// - `hidden_states`, output: `[batch, length, hidden_size]`
    pub fn forward(&self, hidden_states: Tensor<3>, context: &ForwardContext) -> Attended {
        let (attended, probabilities) = self.self_attention.forward(hidden_states.clone(), context);
        (self.output.forward(attended, hidden_states), probabilities)
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

    /// The heads' outputs side by side, and the probabilities `[batch, heads, length, length]`, if
    /// `context` asks for them.
    ///
    /// # Shapes
    /// - `hidden_states`, output: `[batch, length, hidden_size]`
    pub fn forward(&self, hidden_states: Tensor<3>, context: &ForwardContext) -> Attended {
        let layers = [&self.query, &self.key, &self.value];
        let projected = self.projections.forward(layers, hidden_states);
        self.heads().attend(projected, context, None)
    }

    pub(super) fn heads(&self) -> Heads<'_> {
        Heads {
            count: self.num_attention_heads,
            scale: 1.0 / (self.head_size as f64).sqrt(),
            dropout: &self.dropout,
        }
    }
}
