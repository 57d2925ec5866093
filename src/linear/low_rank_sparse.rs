//! `W ≈ L·R + S`, the form that is trained (Li et al. 2023, eq. 3).

use std::sync::Arc;

use burn::module::{Module, Param};
use burn::tensor::{Tensor, TensorData, assert_shape};

use crate::kernels::{ActiveColumns, layers};
use crate::precision::linear;

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
    /// Where neurons are pruned for good: those that are not, the only ones whose part of `S` is
    /// trained. [`crate::pruning::Pruner`] says so; the others' must be zero.
    #[module(skip)]
    pub frozen: Option<Arc<ActiveColumns>>,
}

impl LowRankSparseLinear {
    /// A layer of these parts, all of which are trained.
    pub fn new(
        low_rank: Option<LowRank>,
        sparse: Option<Param<Tensor<2>>>,
        bias: Option<Param<Tensor<1>>>,
    ) -> Self {
        Self { low_rank, sparse, bias, frozen: None }
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

    /// `R` and `L`.
    fn factors(&self) -> Option<[Tensor<2>; 2]> {
        self.low_rank.as_ref().map(|low_rank| [low_rank.right.val(), low_rank.left.val()])
    }

    /// `Wᵀ = (L·R + S)ᵀ: [d_input, d_output]`.
    pub fn effective_weight(&self) -> Tensor<2> {
        match (&self.low_rank, &self.sparse) {
            (low_rank, Some(sparse)) => {
                let columns = self.frozen.as_ref();
                let whole = layers::composed_weight(&sparse.val(), self.factors(), columns);
                whole.unwrap_or_else(|| match low_rank {
                    Some(low_rank) => low_rank.product() + self.trained(sparse),
                    None => self.trained(sparse),
                })
            }
            (Some(low_rank), None) => low_rank.product(),
            (None, None) => unreachable!("a decomposed layer has a low-rank or a sparse part"),
        }
    }

    /// `S`, its pruned neurons without gradient if they are pruned for good.
    fn trained(&self, sparse: &Param<Tensor<2>>) -> Tensor<2> {
        let sparse = sparse.val();
        match &self.frozen {
            Some(columns) if sparse.is_autodiff() => {
                let mask = TensorData::new(columns.mask(), [1, columns.width()]);
                let device = sparse.device().without_autodiff();
                let mask = Tensor::from_data(mask, (&device, sparse.dtype()));
                sparse * Tensor::from_inner(mask)
            }
            _ => sparse,
        }
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
        if let (Some(columns), Some(sparse)) = (&self.frozen, &self.sparse)
            && let Some(output) =
                layers::active_dense(&input, &sparse.val(), self.factors(), bias.as_ref(), columns)
        {
            return output;
        }
        // Gradients of some columns alone come from no other products.
        let gathered = self.frozen.as_ref().is_some_and(|columns| columns.gathered);
        let compose = gathered || tokens * (d_input + d_output) > d_input * d_output;
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
