//! The compressible linear layer `y = x Wᵀ + b` and its states. Begin with [`CompressibleLinear`].
//!
//! ```text
//! Dense          W                                  pretrained weights
//!   │ decompose
//! LowRankSparse  W = L·R + S                        training: S loses neurons step by step
//!   │ compact
//! Compact        [K; R], L′, order                  deployment: kept neurons folded to K = L·R + S
//! InputCompact   [D, L], R′, order                  the same after inputs were pruned
//! Quantized      Dense or Compact in 8-bit integers inference
//! ```
//!
//! Everything that happens to the layers of a model goes through one traversal, [`Compressible`], and
//! uses nothing above: this folder knows tensors, kernels and precision, no method and no model.
//!
//! Orientation: the paper and Hugging Face write `W: [out, in]`, where a neuron is a row and an input a
//! column; Burn keeps `[in, out]`, so here every matrix is the transpose of the paper's. Code says
//! *neurons* and *inputs*, which mean the same in both.

mod compact;
mod feed_forward;
mod input_compact;
mod input_moments;
mod low_rank_sparse;
mod quantized;
mod round;
mod select;
mod shared_input;
mod state;
mod traverse;
mod word_embedding;

pub use compact::CompactLinear;
pub use feed_forward::FeedForward;
pub use input_compact::InputCompactLinear;
pub(crate) use input_moments::InputMoments;
pub(crate) use low_rank_sparse::alive;
pub use low_rank_sparse::{LowRank, LowRankSparseLinear};
pub(crate) use quantized::quantize_rows;
pub use quantized::{Int8Matrix, QuantizedLinear};
pub use round::round_weights;
pub use select::{LayerMatch, LayerSelection};
pub use shared_input::SharedInput;
pub use state::{LayerSpec, LayerState, layer_specs, restore_layers};
pub use traverse::{
    Compressible, EmbeddingVisitor, FeedForwardVisitor, LinearVisitor, linear_names,
};
pub use word_embedding::{Int8Rows, WordEmbedding};

use burn::config::Config;
use burn::module::{Content, DisplaySettings, Module, ModuleDisplay};
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Tensor};

use crate::kernels::{LayerWeights, Matrix, NeuronWeights};
use crate::ops::{self, PackableLinear};

/// A linear layer that can be compressed: the building block of every model here. Made by
/// [`CompressibleLinearConfig`].
#[derive(Module, Debug)]
#[module(custom_display)]
#[allow(clippy::large_enum_variant)] // A handful per model, always behind a struct field.
pub enum CompressibleLinear {
    /// One weight matrix, as pretrained.
    Dense(Linear),
    /// `W = L·R + S`, while training.
    LowRankSparse(LowRankSparseLinear),
    /// Kept neurons folded, for deployment.
    Compact(CompactLinear),
    /// Kept inputs folded, for deployment after inputs were pruned.
    InputCompact(InputCompactLinear),
    /// One matrix or kept neurons folded, in 8-bit integers.
    Quantized(QuantizedLinear),
}

/// Settings of a dense [`CompressibleLinear`], as of [`burn::nn::Linear`].
#[derive(Config, Debug)]
pub struct CompressibleLinearConfig {
    /// Number of inputs.
    pub d_input: usize,
    /// Number of outputs (neurons).
    pub d_output: usize,
    /// Whether a bias is added.
    #[config(default = true)]
    pub bias: bool,
}

impl CompressibleLinearConfig {
    /// A dense layer with freshly initialised weights.
    pub fn init(&self, device: &Device) -> CompressibleLinear {
        let config = LinearConfig::new(self.d_input, self.d_output).with_bias(self.bias);
        CompressibleLinear::Dense(config.init(device))
    }
}

impl ModuleDisplay for CompressibleLinear {
    fn custom_settings(&self) -> Option<DisplaySettings> {
        DisplaySettings::new().with_new_line_after_attribute(false).optional()
    }

    fn custom_content(&self, content: Content) -> Option<Content> {
        let ([d_input, d_output], state) = (self.dims(), self.state());
        content
            .add_debug_attribute("state", &format_args!("{state}"))
            .add("d_input", &d_input)
            .add("d_output", &d_output)
            .add("rank", &state.rank())
            .add("kept", &state.kept())
            .add("bias", &self.bias().is_some())
            .optional()
    }
}

impl CompressibleLinear {
    /// Applies the layer.
    ///
    /// # Shapes
    /// - input: `[.., d_input]`
    /// - output: `[.., d_output]`
    pub fn forward<const D: usize>(&self, input: Tensor<D>) -> Tensor<D> {
        match self {
            Self::Dense(linear) => {
                let bias = linear.bias.as_ref().map(|b| b.val());
                ops::linear(input, linear.weight.val(), bias)
            }
            Self::LowRankSparse(linear) => linear.forward(input),
            Self::Compact(linear) => linear.forward(input),
            Self::InputCompact(linear) => linear.forward(input),
            Self::Quantized(linear) => linear.forward(input),
        }
    }

    /// `[d_input, d_output]`.
    pub fn dims(&self) -> [usize; 2] {
        match self {
            Self::Dense(linear) => linear.weight.lazy_shape().dims(),
            Self::LowRankSparse(linear) => linear.dims(),
            Self::Compact(linear) => linear.dims(),
            Self::InputCompact(linear) => linear.dims(),
            Self::Quantized(linear) => linear.dims(),
        }
    }

    /// Allocated weight elements, without biases and orders, as the papers' ratio counts them. A layer in
    /// training form will store fewer once compacted: see [`crate::inspect::LinearAccount`].
    pub fn weight_elements(&self) -> usize {
        match self {
            Self::Dense(linear) => linear.weight.lazy_shape().num_elements(),
            Self::LowRankSparse(linear) => linear.weight_elements(),
            Self::Compact(linear) => linear.weight_elements(),
            Self::InputCompact(linear) => linear.weight_elements(),
            Self::Quantized(linear) => linear.weight_elements(),
        }
    }

    /// The state with its sizes.
    pub fn state(&self) -> LayerState {
        match self {
            Self::Dense(_) => LayerState::Dense,
            Self::LowRankSparse(linear) => {
                LayerState::LowRankSparse { rank: linear.rank(), sparse: linear.sparse.is_some() }
            }
            Self::Compact(linear) => LayerState::Compact {
                kept: linear.kept,
                rank: linear.rank(),
                ordered: linear.order.is_some(),
            },
            Self::InputCompact(linear) => {
                LayerState::InputCompact { kept: linear.kept, rank: linear.rank() }
            }
            Self::Quantized(linear) => LayerState::Quantized {
                kept: linear.kept,
                rank: linear.rank(),
                ordered: linear.order.is_some(),
            },
        }
    }

    /// Whether it is anything but one dense matrix, in whatever numbers.
    pub(crate) fn is_compressed(&self) -> bool {
        match self {
            Self::Dense(_) => false,
            Self::Quantized(linear) => !linear.is_dense(),
            Self::LowRankSparse(_) | Self::Compact(_) | Self::InputCompact(_) => true,
        }
    }

    /// The dense `[d_input, d_output]` weight that this layer computes with.
    pub fn effective_weight(&self) -> Tensor<2> {
        match self {
            Self::Dense(linear) => linear.weight.val(),
            Self::LowRankSparse(linear) => linear.effective_weight(),
            Self::Compact(linear) => linear.effective_weight(),
            Self::InputCompact(linear) => linear.effective_weight(),
            Self::Quantized(linear) => linear.dequantize().effective_weight(),
        }
    }

    /// The bias `[d_output]`, if there is one.
    pub fn bias(&self) -> Option<Tensor<1>> {
        match self {
            Self::Dense(linear) => linear.bias.as_ref().map(|b| b.val()),
            Self::LowRankSparse(linear) => linear.bias.as_ref().map(|b| b.val()),
            Self::Compact(linear) => linear.bias.as_ref().map(|b| b.val()),
            Self::InputCompact(linear) => linear.bias.as_ref().map(|b| b.val()),
            Self::Quantized(linear) => linear.bias.as_ref().map(|b| b.val()),
        }
    }
}

impl PackableLinear for CompressibleLinear {
    fn weights(&self) -> Option<LayerWeights> {
        match self {
            Self::Dense(linear) => {
                let weight = linear.weight.val();
                let [_, d_output] = weight.dims();
                Some(LayerWeights {
                    first: Matrix::Float(weight),
                    left: None,
                    order: None,
                    bias: self.bias(),
                    kept: d_output,
                    d_output,
                })
            }
            Self::Compact(linear) => {
                let NeuronWeights { left, order, bias, kept, d_output } = linear.neuron_weights();
                Some(LayerWeights {
                    first: Matrix::Float(linear.first.val()),
                    left: left.map(Matrix::Float),
                    order,
                    bias,
                    kept,
                    d_output,
                })
            }
            Self::Quantized(linear) => linear.weights(),
            Self::LowRankSparse(_) | Self::InputCompact(_) => None,
        }
    }
}

/// The values of a tensor in f32, row by row.
pub(crate) fn to_vec<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    let data = tensor.into_data().convert::<f32>();
    data.try_into_vec().unwrap_or_default()
}

/// A fresh trainable parameter of the values of `tensor`.
pub(crate) fn leaf<const D: usize>(tensor: Tensor<D>) -> burn::module::Param<Tensor<D>> {
    burn::module::Param::from_tensor(tensor.detach())
}

/// A parameter of `values`.
fn indices(values: Vec<i64>, device: &Device) -> burn::module::Param<Tensor<1, burn::tensor::Int>> {
    let tensor = Tensor::from_data(values.as_slice(), device);
    burn::module::Param::initialized(burn::module::ParamId::new(), tensor)
}
