//! Pairs of layers between which there is only an activation.

use burn::tensor::Tensor;

use super::CompressibleLinear;

/// A feed-forward network `outer(activation(inner(x)))`: each input of `outer` is made of one output
/// of `inner`, and nothing else takes these outputs.
///
/// An output that is the same for every `x` (a pruned neuron at rank 0) can so be folded into the bias
/// of `outer`: compaction narrows the network by it.
pub struct FeedForward<'a> {
    /// Full names of `inner` and `outer`, as in [`super::Compressible::for_each_linear_mut`].
    pub names: [&'a str; 2],
    /// `[d_input, width]`, or narrower.
    pub inner: &'a mut CompressibleLinear,
    /// `[width, d_output]`, or narrower.
    pub outer: &'a mut CompressibleLinear,
    /// What is between them, elementwise.
    pub activation: &'a dyn Fn(Tensor<1>) -> Tensor<1>,
    /// The width of the model's configuration, of which compaction may leave less.
    pub width: usize,
}
