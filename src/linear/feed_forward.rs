//! Pairs of layers between which there is only an activation.

use burn::tensor::Tensor;

use super::CompressibleLinear;

/// A feed-forward network `outer(activation(inner(x)))`: each input of `outer` comes from one output of
/// `inner`, and nothing else uses these outputs.
///
/// So compaction can fold an output that is the same for every `x` (a pruned neuron at rank 0) into the
/// bias of `outer`, and narrow the network by it.
pub struct FeedForward<'a> {
    /// Full names of `inner` and `outer`, as in [`super::Compressible::for_each_linear_mut`].
    pub names: [&'a str; 2],
    /// `[d_input, width]`, or narrower.
    pub inner: &'a mut CompressibleLinear,
    /// `[width, d_output]`, or narrower.
    pub outer: &'a mut CompressibleLinear,
    /// The elementwise function between them.
    pub activation: &'a dyn Fn(Tensor<1>) -> Tensor<1>,
    /// The width in the configuration of the model; compaction may leave less.
    pub width: usize,
}
