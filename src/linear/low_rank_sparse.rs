//! `W ≈ L·R + S`, the form that is trained (Li et al. 2023, eq. 3).

use burn::module::{Module, Param};
use burn::tensor::module::linear;
use burn::tensor::{Tensor, assert_shape};

use crate::kernels::layers;

/// The low-rank part, transposed to Burn's orientation.
#[derive(Module, Debug)]
pub struct LowRank {
    /// `Rᵀ: [d_input, rank]`.
    pub right: Param<Tensor<2>>,
    /// `Lᵀ: [rank, d_output]`.
    pub left: Param<Tensor<2>>,
}

impl LowRank {
    /// The rank `r`.
    pub fn rank(&self) -> usize {
        self.right.lazy_shape().dims::<2>()[1]
    }

    /// `(L·R)ᵀ: [d_input, d_output]`.
    pub fn product(&self) -> Tensor<2> {
        self.right.val().matmul(self.left.val())
    }
}

/// A linear layer as a low-rank part plus a sparse part, both trained.
///
/// Without a low-rank part this is iterative structured pruning (ITP); without a sparse part it is
/// the low-rank baseline.
#[derive(Module, Debug)]
pub struct LowRankSparseLinear {
    /// `L` and `R`; `None` at rank 0.
    pub low_rank: Option<LowRank>,
    /// `Sᵀ: [d_input, d_output]`; a pruned neuron is a zero column. `None`: low-rank only.
    pub sparse: Option<Param<Tensor<2>>>,
    /// `[d_output]`.
    pub bias: Option<Param<Tensor<1>>>,
    /// Whether pruned neurons are pruned for good, so that no gradient of their part of `S` is
    /// asked for; [`crate::pruning::Pruner`] says so.
    #[module(skip)]
    pub frozen: bool,
}

impl LowRankSparseLinear {
    /// A layer of these parts, all of which are trained.
    pub fn new(
        low_rank: Option<LowRank>,
        sparse: Option<Param<Tensor<2>>>,
        bias: Option<Param<Tensor<1>>>,
    ) -> Self {
        Self { low_rank, sparse, bias, frozen: false }
    }

    /// `[d_input, d_output]`.
    pub fn dims(&self) -> [usize; 2] {
        match (&self.sparse, &self.low_rank) {
            (Some(sparse), _) => sparse.lazy_shape().dims(),
            (None, Some(low_rank)) => {
                [low_rank.right.lazy_shape()[0], low_rank.left.lazy_shape()[1]]
            }
            (None, None) => [0, 0],
        }
    }

    /// The rank of the low-rank part, 0 without one.
    pub fn rank(&self) -> usize {
        self.low_rank.as_ref().map_or(0, LowRank::rank)
    }

    /// Elements of `L`, `R` and `S`.
    pub fn weight_elements(&self) -> usize {
        let [d_input, d_output] = self.dims();
        let sparse = self.sparse.as_ref().map_or(0, |_| d_input * d_output);
        self.rank() * (d_input + d_output) + sparse
    }

    /// `Wᵀ = (L·R + S)ᵀ: [d_input, d_output]`.
    pub fn effective_weight(&self) -> Tensor<2> {
        match (&self.low_rank, &self.sparse) {
            (Some(low_rank), Some(sparse)) => low_rank.product() + self.trained(sparse),
            (Some(low_rank), None) => low_rank.product(),
            (None, Some(sparse)) => self.trained(sparse),
            (None, None) => unreachable!("a decomposed layer has a low-rank or a sparse part"),
        }
    }

    /// `S`, its pruned neurons without gradient if they are pruned for good.
    fn trained(&self, sparse: &Param<Tensor<2>>) -> Tensor<2> {
        let sparse = sparse.val();
        if !self.frozen || !sparse.is_autodiff() {
            return sparse;
        }
        let alive = sparse.clone().inner().abs().max_dim(0).greater_elem(0.0).float();
        sparse * Tensor::from_inner(alive)
    }

    /// Applies the layer.
    ///
    /// With many tokens `W` is composed once and applied in one product, which is cheaper than the
    /// three products of `(x Rᵀ) Lᵀ + x Sᵀ` and has the same gradients
    /// (`∂S = ∂W`, `∂L = ∂W Rᵀ`, `∂R = Lᵀ ∂W`).
    ///
    /// Where neurons are pruned for good and few are left, only those take part, where a backend can.
    ///
    /// # Shapes
    /// - input: `[.., d_input]`
    /// - output: `[.., d_output]`
    ///
    /// # Panics
    /// If the last axis of `input` is not `d_input`.
    pub fn forward<const D: usize>(&self, input: Tensor<D>) -> Tensor<D> {
        let [d_input, d_output] = self.dims();
        assert_shape!(input, [.., d_input]);
        let bias = self.bias.as_ref().map(|b| b.val());
        let tokens = input.shape().num_elements() / d_input;
        let low_rank = || self.low_rank.as_ref().map(|l| [l.right.val(), l.left.val()]);
        if self.frozen
            && let Some(sparse) = &self.sparse
            && let Some(output) =
                layers::active_dense(&input, &sparse.val(), low_rank(), bias.as_ref())
        {
            return output;
        }
        let compose = tokens * (d_input + d_output) > d_input * d_output;
        match (&self.low_rank, &self.sparse) {
            (Some(low_rank), Some(sparse)) if !compose => {
                let hidden = linear(input.clone(), low_rank.right.val(), None);
                let sparse = self.trained(sparse);
                linear(hidden, low_rank.left.val(), None) + linear(input, sparse, bias)
            }
            (Some(low_rank), None) => {
                linear(linear(input, low_rank.right.val(), None), low_rank.left.val(), bias)
            }
            _ => {
                let weight = self.effective_weight();
                layers::dense(&input, &weight, bias.as_ref())
                    .unwrap_or_else(|| linear(input, weight, bias))
            }
        }
    }
}
