//! State for deployment after inputs were pruned: kept inputs folded, the others low-rank.

use burn::module::{Module, Param};
use burn::tensor::{Int, Tensor, assert_shape};

use super::{indices, leaf};
use crate::precision::linear;

/// A linear layer whose kept inputs `C` have their dense weights `D = L·R_C + S_C` and whose other inputs
/// are low-rank: `y = [D, L]·[x_C; R′·x_rest]`. It mirrors [`super::CompactLinear`].
#[derive(Module, Debug)]
pub struct InputCompactLinear {
    /// `[d_input]`: kept inputs first, then the others.
    pub order: Param<Tensor<1, Int>>,
    /// `R′ᵀ: [d_input − kept, rank]`; `None` at rank 0 or when every input is kept.
    pub right: Option<Param<Tensor<2>>>,
    /// `[D, L]ᵀ: [kept + rank, d_output]`.
    pub second: Param<Tensor<2>>,
    /// `[d_output]`.
    pub bias: Option<Param<Tensor<1>>>,
    /// Number of kept inputs.
    pub kept: usize,
}

impl InputCompactLinear {
    /// Builds the layer from its matrices (Burn's orientation) and the indices of kept inputs.
    ///
    /// # Shapes
    /// - `folded`: `[kept, d_output]`, rows in the order of `kept_inputs`
    /// - `right`: `[d_input − kept, rank]`, other inputs in order; `left`: `[rank, d_output]`
    pub fn new(
        folded: Tensor<2>,
        low_rank: Option<(Tensor<2>, Tensor<2>)>,
        bias: Option<Tensor<1>>,
        kept_inputs: &[usize],
        d_input: usize,
    ) -> Self {
        let kept = kept_inputs.len();
        let mut order: Vec<i64> = kept_inputs.iter().map(|&at| at as i64).collect();
        order.extend((0..d_input as i64).filter(|at| !kept_inputs.contains(&(*at as usize))));
        let (right, second) = match low_rank {
            Some((right, left)) if kept == 0 => (Some(right), left),
            Some((right, left)) => (Some(right), Tensor::cat(vec![folded, left], 0)),
            None => (None, folded),
        };
        Self {
            order: indices(order, &second.device()),
            right: right.map(leaf),
            second: leaf(second),
            bias: bias.map(leaf),
            kept,
        }
    }

    /// `[d_input, d_output]`.
    pub fn dims(&self) -> [usize; 2] {
        [self.order.lazy_shape()[0], self.second.lazy_shape()[1]]
    }

    /// The rank of the low-rank part, 0 without one.
    pub fn rank(&self) -> usize {
        self.second.lazy_shape()[0] - self.kept
    }

    /// Elements of `D`, `L` and `R′`.
    pub fn weight_elements(&self) -> usize {
        self.second.lazy_shape().num_elements()
            + self.right.as_ref().map_or(0, |right| right.lazy_shape().num_elements())
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
        let last = D - 1;
        let input = input.select(last, self.order.val());
        let hidden = match &self.right {
            Some(right) if self.kept == 0 => linear(input, right.val(), None),
            Some(right) => {
                let kept = input.clone().narrow(last, 0, self.kept);
                let rest = input.narrow(last, self.kept, d_input - self.kept);
                Tensor::cat(vec![kept, linear(rest, right.val(), None)], last)
            }
            None => input.narrow(last, 0, self.kept),
        };
        linear(hidden, self.second.val(), self.bias.as_ref().map(|b| b.val()))
    }

    /// `Wᵀ: [d_input, d_output]`, composed.
    pub fn effective_weight(&self) -> Tensor<2> {
        let [d_input, d_output] = self.dims();
        let second = self.second.val();
        let device = second.device();
        let mut parts = Vec::new();
        if self.kept > 0 {
            parts.push(second.clone().narrow(0, 0, self.kept));
        }
        if self.kept < d_input {
            parts.push(match &self.right {
                Some(right) => right.val().matmul(second.narrow(0, self.kept, self.rank())),
                None => Tensor::zeros([d_input - self.kept, d_output], &device),
            });
        }
        let order = self.order.val().argsort(0);
        Tensor::cat(parts, 0).select(0, order)
    }
}
