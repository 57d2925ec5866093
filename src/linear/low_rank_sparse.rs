//! `W ≈ L·R + S`, the form that is trained (Li et al. 2023, eq. 3).

use std::sync::Arc;

use burn::module::{Module, Param};
use burn::tensor::{Tensor, assert_shape};

use super::InputMoments;
use crate::kernels::ActiveNeurons;
use crate::ops::LowRankSparse;

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
    /// Neurons that are not pruned for good, if some are: only their part of `S` is trained, the other is
    /// zero. Set by [`crate::pruning::Pruner`].
    #[module(skip)]
    pub frozen: Option<Arc<ActiveNeurons>>,
    /// Receives every input of the layer, while moments are measured.
    #[module(skip)]
    pub(crate) moments: Option<Arc<InputMoments>>,
}

impl LowRankSparseLinear {
    /// A layer of these parts, all trained.
    pub fn new(
        low_rank: Option<LowRank>,
        sparse: Option<Param<Tensor<2>>>,
        bias: Option<Param<Tensor<1>>>,
    ) -> Self {
        Self { low_rank, sparse, bias, frozen: None, moments: None }
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

    /// Both parts as they are multiplied.
    fn parts(&self) -> LowRankSparse<'_> {
        LowRankSparse {
            sparse: self.sparse.as_ref().map(|sparse| sparse.val()),
            low_rank: self.factors(),
            frozen: self.frozen.as_ref(),
        }
    }

    /// `Wᵀ = (L·R + S)ᵀ: [d_input, d_output]`.
    pub fn effective_weight(&self) -> Tensor<2> {
        self.parts().weight()
    }

    /// Applies the layer.
    ///
    /// If few neurons are left, a backend may compute only those; all are trained all the same, unless the
    /// others are pruned for good.
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
        if let Some(moments) = &self.moments {
            moments.add(&input);
        }
        self.parts().forward(input, self.bias.as_ref().map(|b| b.val()))
    }
}

/// Which neurons of a plain `S` have any weight that is not zero; with `dim` 1 instead of 0, which
/// inputs. A weight that is not a number was not pruned.
pub(crate) fn alive(sparse: &Tensor<2>, dim: usize) -> Vec<bool> {
    let largest = super::to_vec(sparse.clone().abs().max_dim(dim));
    largest.into_iter().map(|value| value != 0.0).collect()
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use burn::module::ParamId;
    use burn::tensor::{Device, Distribution, TensorData};

    use super::*;
    use crate::kernels::fused;

    const D: [usize; 2] = [96, 120];
    const RANK: usize = 4;

    /// Output and the gradients of input, `S`, `R`, `L` and bias, each flat.
    fn run(layer: &LowRankSparseLinear, x: &Tensor<2>, by_layer: bool) -> Vec<Vec<f32>> {
        let x = Tensor::from_inner(x.clone()).require_grad();
        let low_rank = layer.low_rank.as_ref().unwrap();
        let (sparse, bias) = (layer.sparse.as_ref().unwrap(), layer.bias.as_ref().unwrap());
        let output = match by_layer {
            true => layer.forward(x.clone()),
            false => x.clone().matmul(low_rank.product() + sparse.val()) + bias.val().unsqueeze(),
        };
        let grads = (output.clone() * output.clone()).mean().backward();
        let flat = |tensor: Option<Tensor<2>>| tensor.unwrap().try_into_vec_as::<f32>().unwrap();
        let matrices = [&x, &sparse.val(), &low_rank.right.val(), &low_rank.left.val()];
        let mut all = vec![flat(Some(output.inner()))];
        all.extend(matrices.map(|matrix| flat(matrix.grad(&grads))));
        all.push(flat(bias.val().grad(&grads).map(Tensor::unsqueeze)));
        all
    }

    /// For every kind of `S`: dense, pruned, grown again.
    #[test]
    fn neurons_that_are_zero_now_take_no_part_but_are_trained() {
        let device = Device::flex();
        let random =
            |shape: [usize; 2]| Tensor::<2>::random(shape, Distribution::Normal(0.0, 1.0), &device);
        let param = |tensor: Tensor<2>| {
            Param::initialized(ParamId::new(), Tensor::from_inner(tensor).require_grad())
        };
        let [d_input, d_output] = D;
        let (right, left) = (param(random([d_input, RANK])), param(random([RANK, d_output])));
        let bias = Tensor::from_inner(random([1, d_output]).squeeze_dim::<1>(0)).require_grad();
        let bias = Some(Param::initialized(ParamId::new(), bias));
        let low_rank = Some(LowRank { right, left });
        let mut layer = LowRankSparseLinear::new(low_rank, None, bias);
        let x = random([64, d_input]);
        for every in [1, 6, 1000, 2] {
            let kept = |column: usize| f32::from(u8::from(column % every == every - 1));
            let mask: Vec<f32> = (0..d_output).map(kept).collect();
            let mask = Tensor::from_data(TensorData::new(mask, [1, d_output]), &device);
            let sparse = param(random(D) * mask);
            let factors = layer.factors();
            let active = fused::active_dense(
                &Tensor::from_inner(x.clone()),
                &sparse.val(),
                factors,
                layer.bias.as_ref().map(|bias| bias.val()).as_ref(),
                None,
            );
            assert_eq!(active.is_some(), every > 1);
            layer.sparse = Some(sparse);
            let (ours, expected) = (run(&layer, &x, true), run(&layer, &x, false));
            for (at, (ours, expected)) in ours.iter().zip(&expected).enumerate() {
                let size = expected.iter().fold(1f32, |size, value| size.max(value.abs()));
                for (ours, expected) in ours.iter().zip(expected) {
                    let off = (ours - expected).abs();
                    assert!(off <= 2e-5 * size, "every {every}, {at}: {ours}, {expected}");
                }
            }
            // Pruned neurons included.
            assert!(expected[2].iter().all(|gradient| *gradient != 0.0));
        }
    }
}
