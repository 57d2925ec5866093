//! The kernels of the CPU backend `flex`, and what makes them operations of Burn.

mod active;
pub(crate) mod adamw;
mod attention;
#[cfg(test)]
mod attention_training_tests;
pub(crate) mod block;
#[cfg(test)]
mod composed_reference;
#[cfg(test)]
mod composed_tests;
#[cfg(test)]
mod difference_tests;
mod dropout;
pub(crate) mod exp;
pub(crate) mod fused;
mod gelu;
mod lanes;
mod neuron_plan;
mod operation;
mod operations;
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

pub(crate) use attention::{AttentionMask, AttentionSettings};
pub(crate) use dropout::DropoutMask;
pub(crate) use neuron_plan::NeuronPlan;
pub(crate) use positions::PositionSettings;
pub(crate) use residual_norm::NormSettings;
#[cfg(test)]
pub(crate) use slices::float_address;

#[cfg(test)]
use super::SparseGradient;
use super::{
    ActiveNeurons, NeuronWeights, RelativeScores, Sequences, active_neurons, is_flex_f32, sequences,
};
