//! Fresh layers initialised as Hugging Face does: weights from `N(0, initializer_range)`, biases
//! and the padding embedding zero. Random numbers come from the device, so `device.seed` decides.

use burn::module::Param;
use burn::nn::{Dropout, DropoutConfig, Linear};
use burn::nn::{Embedding, EmbeddingConfig, Initializer, LayerNorm, LayerNormConfig};
use burn::tensor::{Device, Tensor};

use crate::linear::CompressibleLinear;

/// A dense layer, `weight: [d_input, d_output]`.
pub(crate) fn linear(d_input: usize, d_output: usize, std: f64, device: &Device) -> Linear {
    Linear {
        weight: normal(std).init([d_input, d_output], device),
        bias: Some(Initializer::Zeros.init([d_output], device)),
    }
}

/// [`linear`] as a compressible layer.
pub(crate) fn compressible(
    d_input: usize,
    d_output: usize,
    std: f64,
    device: &Device,
) -> CompressibleLinear {
    CompressibleLinear::Dense(linear(d_input, d_output, std, device))
}

/// An embedding `[n, d_model]`, the row of `padding` zero.
pub(crate) fn embedding(
    n: usize,
    d_model: usize,
    std: f64,
    padding: Option<usize>,
    device: &Device,
) -> Embedding {
    let mut embedding = EmbeddingConfig::new(n, d_model).with_initializer(normal(std)).init(device);
    if let Some(row) = padding {
        let weight: Param<Tensor<2>> = embedding.weight;
        embedding.weight = weight.init_mapper(move |weight| {
            let zeros = Tensor::zeros([1, d_model], &weight.device());
            weight.slice_assign([row..row + 1, 0..d_model], zeros)
        });
    }
    embedding
}

/// Layer normalisation with its `epsilon`.
pub(crate) fn layer_norm(d_model: usize, epsilon: f64, device: &Device) -> LayerNorm {
    LayerNormConfig::new(d_model).with_epsilon(epsilon).init(device)
}

/// Dropout with probability `prob`, which the config has checked.
pub(crate) fn dropout(prob: f64) -> Dropout {
    DropoutConfig::new(prob).init()
}

fn normal(std: f64) -> Initializer {
    Initializer::Normal { mean: 0.0, std }
}
