//! State for deployment after neurons were pruned: kept neurons folded, the others low-rank.

use burn::module::{Module, Param};
use burn::tensor::{Int, Tensor, assert_shape};

use super::{indices, leaf};
use crate::kernels::NeuronWeights;
use crate::ops::NeuronCache;
use crate::precision::linear;

/// A linear layer whose kept neurons have their dense weights `w_i = L_i·R + S_i` and whose other neurons
/// are low-rank, `L_i·R`.
///
/// One product with `[K; R]ᵀ` gives the kept outputs and the low-rank code of the others:
/// exact, without an add, and smaller than keeping `L` whole.
#[derive(Module, Debug)]
pub struct CompactLinear {
    /// `[K; R]ᵀ: [d_input, kept + rank]`.
    pub first: Param<Tensor<2>>,
    /// `L′ᵀ: [rank, d_output − kept]`; `None` at rank 0 or when every neuron is kept.
    pub left: Option<Param<Tensor<2>>>,
    /// `[d_output]`, in the layer's own order of outputs.
    pub bias: Option<Param<Tensor<1>>>,
    /// `[d_output]`: position of each output in `[kept | others]`; `None`: in order already.
    pub order: Option<Param<Tensor<1, Int>>>,
    /// Number of kept neurons.
    pub kept: usize,
    /// Number of outputs.
    pub d_output: usize,
    /// Packed weights that a backend prepares for [`CompactLinear::forward`].
    #[module(skip)]
    pub cache: NeuronCache,
}

impl CompactLinear {
    /// Builds the layer from its matrices (Burn's orientation) and the indices of kept neurons.
    ///
    /// # Shapes
    /// - `folded`: `[d_input, kept]`, in the order of `kept_neurons`
    /// - `right`: `[d_input, rank]`; `left`: `[rank, d_output − kept]`, other neurons in order
    pub fn new(
        folded: Tensor<2>,
        low_rank: Option<(Tensor<2>, Tensor<2>)>,
        bias: Option<Tensor<1>>,
        kept_neurons: &[usize],
        d_output: usize,
    ) -> Self {
        let kept = kept_neurons.len();
        let (first, left) = match low_rank {
            Some((right, left)) if kept == 0 => (right, Some(left)),
            Some((right, left)) => (Tensor::cat(vec![folded, right], 1), Some(left)),
            None => (folded, None),
        };
        let positions = output_positions(kept_neurons, d_output);
        let sorted = positions.iter().enumerate().all(|(output, &at)| output as i64 == at);
        let order = (!sorted).then(|| indices(positions, &first.device()));
        Self {
            first: leaf(first),
            left: left.map(leaf),
            bias: bias.map(leaf),
            order,
            kept,
            d_output,
            cache: NeuronCache::default(),
        }
    }

    /// `[d_input, d_output]`.
    pub fn dims(&self) -> [usize; 2] {
        [self.first.lazy_shape()[0], self.d_output]
    }

    /// The rank of the low-rank part, 0 without one.
    pub fn rank(&self) -> usize {
        self.first.lazy_shape()[1] - self.kept
    }

    /// Elements of `K`, `R` and `L′`.
    pub fn weight_elements(&self) -> usize {
        self.first.lazy_shape().num_elements()
            + self.left.as_ref().map_or(0, |left| left.lazy_shape().num_elements())
    }

    /// Applies the layer.
    ///
    /// # Shapes
    /// - input: `[.., d_input]`
    /// - output: `[.., d_output]`
    ///
    /// # Panics
    /// If the last axis of `input` is not `d_input`.
    pub fn forward<const D: usize>(&self, input: Tensor<D>) -> Tensor<D> {
        let [d_input, _] = self.dims();
        assert_shape!(input, [.., d_input]);
        if self.is_constant() {
            return self.constant(&input);
        }
        self.outputs(linear(input, self.first.val(), None))
    }

    /// Whether every neuron is pruned at rank 0: the output is the bias for every input.
    pub(super) fn is_constant(&self) -> bool {
        self.kept + self.rank() == 0
    }

    /// The bias for every row of `input`; backends have no product over no elements.
    fn constant<const D: usize>(&self, input: &Tensor<D>) -> Tensor<D> {
        let mut shape = input.shape();
        shape[D - 1] = self.d_output;
        let zeros = Tensor::zeros(shape, (&input.device(), input.dtype()));
        match &self.bias {
            Some(bias) => zeros + bias.val().unsqueeze::<D>(),
            None => zeros,
        }
    }

    /// The outputs from the result of the first product, `[.., kept + rank]`.
    pub(super) fn outputs<const D: usize>(&self, hidden: Tensor<D>) -> Tensor<D> {
        self.cache.outputs(hidden, self.neuron_weights())
    }

    /// The parameters behind the first product.
    pub(super) fn neuron_weights(&self) -> NeuronWeights {
        NeuronWeights {
            left: self.left.as_ref().map(|left| left.val()),
            order: self.order.as_ref().map(|order| order.val()),
            bias: self.bias.as_ref().map(|bias| bias.val()),
            kept: self.kept,
            d_output: self.d_output,
        }
    }

    /// `Wᵀ: [d_input, d_output]`, composed.
    pub fn effective_weight(&self) -> Tensor<2> {
        let [d_input, d_output] = self.dims();
        let first = self.first.val();
        let device = first.device();
        let others = d_output - self.kept;
        let mut parts = Vec::new();
        if self.kept > 0 {
            parts.push(first.clone().narrow(1, 0, self.kept));
        }
        if others > 0 {
            parts.push(match &self.left {
                Some(left) => first.narrow(1, self.kept, self.rank()).matmul(left.val()),
                None => Tensor::zeros([d_input, others], (&device, first.dtype())),
            });
        }
        let weight = Tensor::cat(parts, 1);
        match &self.order {
            Some(order) => weight.select(1, order.val()),
            None => weight,
        }
    }
}

/// Position of every output in `[kept | others]`.
pub(crate) fn output_positions(kept: &[usize], d_output: usize) -> Vec<i64> {
    let mut positions = vec![-1i64; d_output];
    for (at, &neuron) in kept.iter().enumerate() {
        positions[neuron] = at as i64;
    }
    let others = positions.iter_mut().filter(|p| **p < 0);
    others.zip(kept.len() as i64..).for_each(|(position, at)| *position = at);
    positions
}
