//! The kernels of the CPU backend `flex`, and the extension that makes them operations of Burn.

mod active;
pub(crate) mod adamw;
mod attention;
mod autodiff;
mod backend;
pub(crate) mod block;
#[cfg(test)]
mod composed_reference;
#[cfg(test)]
mod composed_tests;
#[cfg(test)]
mod difference_tests;
mod dropout;
pub(crate) mod exp;
mod extension;
pub(crate) mod fused;
mod gelu;
mod lanes;
mod neuron_plan;
#[cfg(test)]
mod padded_reference;
pub(crate) mod passes;
mod positions;
mod products;
mod residual_norm;
mod rows;
mod scratch;
mod slices;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod training_tests;

pub use attention::{AttentionMask, AttentionSettings};
pub use dropout::DropoutMask;
pub use extension::{InferenceKernels, KernelGradients, Kernels};
pub use neuron_plan::NeuronPlan;
pub use positions::PositionSettings;
pub use residual_norm::NormSettings;
#[cfg(test)]
pub(crate) use slices::float_address;

#[cfg(test)]
use super::SparseGradient;
use super::{
    ActiveNeurons, NeuronWeights, RelativeScores, Sequences, active_neurons, is_flex_f32, sequences,
};
