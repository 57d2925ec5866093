//! Multi-head attention, to the sequence itself or to the encoder's output.

use burn::module::Module;
use burn::nn::Dropout;
use burn::tensor::{Device, Tensor, activation::softmax};

use super::BartConfig;
use crate::kernels::layers::{self, Heads};
use crate::linear::{CompressibleLinear, SharedInput};
use crate::models::init;
use crate::precision::matmul;

/// `BartAttention`: `out_proj(softmax(Q Kᵀ / √d + mask) V)`, each head on its own.
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

    /// Attends from `hidden_states` to `key_value_states`; also gives the probabilities
    /// `[batch, heads, length, source]`.
    ///
    /// # Shapes
    /// - `hidden_states`, output: `[batch, length, d_model]`
    /// - `key_value_states`: `[batch, source, d_model]`; `None`: `hidden_states`
    /// - `mask`: `[batch or 1, 1, length or 1, source]`, added to the scores
    pub fn forward(
        &self,
        hidden_states: Tensor<3>,
        key_value_states: Option<Tensor<3>>,
        mask: Option<&Tensor<4>>,
    ) -> (Tensor<3>, Tensor<4>) {
        let [query, key, value] = self.project(hidden_states, key_value_states);
        let query = self.heads(query * self.scale());
        self.attend(query, self.heads(key), self.heads(value), mask)
    }

    /// [`BartAttention::forward`] without the probabilities, in fewer operations where there are
    /// such.
    pub(super) fn forward_fused(
        &self,
        hidden_states: Tensor<3>,
        key_value_states: Option<Tensor<3>>,
        mask: Option<&Tensor<4>>,
    ) -> Tensor<3> {
        let [query, key, value] = self.project(hidden_states, key_value_states);
        let heads = Heads {
            count: self.num_heads,
            scale: self.scale(),
            dropout: &self.dropout,
            mask_replaces: false,
            sequences: None,
        };
        match layers::attention([&query, &key, &value], mask, None, heads) {
            Some(context) => self.out_proj.forward(context),
            None => {
                let query = self.heads(query * self.scale());
                self.attend(query, self.heads(key), self.heads(value), mask).0
            }
        }
    }

    fn scale(&self) -> f64 {
        1.0 / (self.head_size as f64).sqrt()
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
        // Scaling the queries costs less than scaling the scores.
        let [query, key, value] = self.project(hidden_states, None);
        [query * self.scale(), key, value].map(|projected| self.heads(projected))
    }

    /// Scaled queries `[batch, heads, length, head_size]` of `[batch, length, d_model]`.
    pub(super) fn queries(&self, hidden_states: Tensor<3>) -> Tensor<4> {
        // Scaling the queries costs less than scaling the scores.
        self.heads(self.q_proj.forward(hidden_states) * self.scale())
    }

    /// Keys and values `[batch, heads, source, head_size]` of `[batch, source, d_model]`.
    pub(super) fn keys_and_values(&self, source: Tensor<3>) -> (Tensor<4>, Tensor<4>) {
        let [key, value] = self.projections.forward([&self.k_proj, &self.v_proj], source);
        (self.heads(key), self.heads(value))
    }

    /// [`BartAttention::forward`] from projected heads on.
    pub(super) fn attend(
        &self,
        query: Tensor<4>,
        key: Tensor<4>,
        value: Tensor<4>,
        mask: Option<&Tensor<4>>,
    ) -> (Tensor<3>, Tensor<4>) {
        let [batch, heads, length, head_size] = query.dims();
        let scores = matmul(query, key.transpose());
        let scores = match mask {
            Some(mask) => scores + mask.clone(),
            None => scores,
        };
        let probabilities = softmax(scores, 3);
        let context = matmul(self.dropout.forward(probabilities.clone()), value);
        // [batch, heads, length, head_size] → [batch, length, d_model]
        let context = context.swap_dims(1, 2).reshape([batch, length, heads * head_size]);
        (self.out_proj.forward(context), probabilities)
    }

    /// `[batch, length, d_model]` → `[batch, heads, length, head_size]`.
    fn heads(&self, projected: Tensor<3>) -> Tensor<4> {
        let [batch, length, _] = projected.dims();
        projected.reshape([batch, length, self.num_heads, self.head_size]).swap_dims(1, 2)
    }

    /// Visits the projections under `prefix`, in the order of computation.
    pub(super) fn for_each_linear_mut(
        &mut self,
        prefix: &str,
        f: &mut dyn FnMut(&str, &mut CompressibleLinear),
    ) {
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
