//! Multi-head attention, to the sequence itself or to the encoder's output.

use burn::module::Module;
use burn::nn::{Dropout, LayerNorm};
use burn::tensor::{Device, Tensor};

use super::BartConfig;
use crate::linear::{CompressibleLinear, LinearVisitor, SharedInput};
use crate::models::{Attended, init};
use crate::ops::{AttentionParts, ForwardContext, Heads};

/// `BartAttention`: `out_proj(softmax(Q Kᵀ / √d + mask) V)`, each head on its own.
///
/// <https://github.com/huggingface/transformers/blob/v5.0.0/src/transformers/models/bart/modeling_bart.py>
#[derive(Module, Debug)]
pub struct BartAttention {
    /// `[d_model, d_model]`.
    pub q_proj: CompressibleLinear,
    /// `[d_model, d_model]`.
    pub k_proj: CompressibleLinear,
    /// `[d_model, d_model]`.
    pub v_proj: CompressibleLinear,
    /// `[d_model, d_model]`.
    pub out_proj: CompressibleLinear,
    /// Dropout of the probabilities.
    pub dropout: Dropout,
    num_heads: usize,
    head_size: usize,
    #[module(skip)]
    projections: SharedInput,
}

impl BartAttention {
    /// Freshly initialised projections for `num_heads` heads.
    pub fn new(config: &BartConfig, num_heads: usize, device: &Device) -> Self {
        let (size, std) = (config.d_model, config.init_std);
        let projection = || init::compressible(size, size, std, device);
        Self {
            q_proj: projection(),
            k_proj: projection(),
            v_proj: projection(),
            out_proj: projection(),
            dropout: init::dropout(config.attention_dropout),
            num_heads,
            head_size: size / num_heads,
            projections: SharedInput::default(),
        }
    }

    /// Attends from `hidden_states` to `key_value_states`; also returns the probabilities
    /// `[batch, heads, length, source]`, if `context` asks for them.
    ///
    /// # Shapes
    /// - `hidden_states`, output: `[batch, length, d_model]`
    /// - `key_value_states`: `[batch, source, d_model]`; `None`: `hidden_states`
    pub fn forward(
        &self,
        hidden_states: Tensor<3>,
        key_value_states: Option<Tensor<3>>,
        context: &ForwardContext,
    ) -> Attended {
        let projected = self.project(hidden_states, key_value_states);
        let (output, probabilities) = self.heads().attend(projected, context, None);
        (self.out_proj.forward(output), probabilities)
    }

    pub(super) fn heads(&self) -> Heads<'_> {
        Heads {
            count: self.num_heads,
            scale: 1.0 / (self.head_size as f64).sqrt(),
            dropout: &self.dropout,
        }
    }

    /// Queries `[batch, length, d_model]`, keys and values `[batch, source, d_model]`.
    fn project(
        &self,
        hidden_states: Tensor<3>,
        key_value_states: Option<Tensor<3>>,
    ) -> [Tensor<3>; 3] {
        let Some(source) = key_value_states else {
            let layers = [&self.q_proj, &self.k_proj, &self.v_proj];
            return self.projections.forward(layers, hidden_states);
        };
        let query = self.q_proj.forward(hidden_states);
        let [key, value] = self.projections.forward([&self.k_proj, &self.v_proj], source);
        [query, key, value]
    }

    /// Heads `[batch, heads, length, head_size]` of self-attention's queries, scaled, keys and values.
    pub(super) fn own(&self, hidden_states: Tensor<3>) -> [Tensor<4>; 3] {
        let heads = self.heads();
        // Scaling the queries costs less than scaling the scores.
        let [query, key, value] = self.project(hidden_states, None);
        [query * heads.scale, key, value].map(|projected| heads.split(projected))
    }

    /// Scaled queries `[batch, heads, length, head_size]` of `[batch, length, d_model]`.
    pub(super) fn queries(&self, hidden_states: Tensor<3>) -> Tensor<4> {
        let heads = self.heads();
        heads.split(self.q_proj.forward(hidden_states) * heads.scale)
    }

    /// Keys and values `[batch, heads, source, head_size]` of `[batch, source, d_model]`.
    pub(super) fn keys_and_values(&self, source: Tensor<3>) -> (Tensor<4>, Tensor<4>) {
        let heads = self.heads();
        let [key, value] = self.projections.forward([&self.k_proj, &self.v_proj], source);
        (heads.split(key), heads.split(value))
    }

    /// [`BartAttention::forward`] from split heads on.
    pub(super) fn attend(&self, split: [Tensor<4>; 3], context: &ForwardContext) -> Tensor<3> {
        self.out_proj.forward(self.heads().attend_split(split, context, None).0)
    }

    pub(super) fn parts<'a>(&'a self, norm: &'a LayerNorm) -> AttentionParts<'a> {
        AttentionParts {
            query: &self.q_proj,
            key: &self.k_proj,
            value: &self.v_proj,
            output: &self.out_proj,
            norm,
        }
    }

    /// Visits the projections under `prefix`, in the order of computation.
    pub(super) fn for_each_linear_mut(&mut self, prefix: &str, f: LinearVisitor<'_>) {
        for (name, linear) in [
            ("q_proj", &mut self.q_proj),
            ("k_proj", &mut self.k_proj),
            ("v_proj", &mut self.v_proj),
            ("out_proj", &mut self.out_proj),
        ] {
            f(&format!("{prefix}.{name}"), linear);
        }
    }
}
