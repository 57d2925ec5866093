//! The stack of layers.

use burn::module::Module;
use burn::tensor::{Device, Tensor};

use super::{BertConfig, BertLayer};
use crate::linear::CompressibleLinear;

/// `BertEncoder`.
#[derive(Module, Debug)]
pub struct BertEncoder {
    /// The layers, first to last.
    pub layer: Vec<BertLayer>,
}

impl BertEncoder {
    /// Freshly initialised layers.
    pub fn new(config: &BertConfig, device: &Device) -> Self {
        Self {
            layer: (0..config.num_hidden_layers).map(|_| BertLayer::new(config, device)).collect(),
        }
    }

    /// Applies all layers; `each` sees every layer's output and attention probabilities.
    ///
    /// # Shapes
    /// - `hidden_states`, output: `[batch, length, hidden_size]`
    /// - `mask`: `[batch, 1, 1, length]`, added to the attention scores
    pub fn forward(
        &self,
        hidden_states: Tensor<3>,
        mask: Option<&Tensor<4>>,
        mut each: impl FnMut(&Tensor<3>, Tensor<4>),
    ) -> Tensor<3> {
        self.layer.iter().fold(hidden_states, |hidden_states, layer| {
            let (output, probabilities) = layer.forward(hidden_states, mask);
            each(&output, probabilities);
            output
        })
    }

    /// Visits the layers' projections under `prefix`, in the order of computation.
    pub(crate) fn for_each_linear_mut(
        &mut self,
        prefix: &str,
        f: &mut dyn FnMut(&str, &mut CompressibleLinear),
    ) {
        for (i, layer) in self.layer.iter_mut().enumerate() {
            let attention = &mut layer.attention.self_attention;
            let projections = [
                ("attention.self.query", &mut attention.query),
                ("attention.self.key", &mut attention.key),
                ("attention.self.value", &mut attention.value),
                ("attention.output.dense", &mut layer.attention.output.dense),
                ("intermediate.dense", &mut layer.intermediate.dense),
                ("output.dense", &mut layer.output.dense),
            ];
            for (name, linear) in projections {
                f(&format!("{prefix}encoder.layer.{i}.{name}"), linear);
            }
        }
    }
}
