//! Removal of constant neurons from feed-forward networks: the gain of iterative structured pruning.
//!
//! Without a low-rank part, a pruned neuron `j` outputs its bias `b_j` for every input, and `act(b_j)`
//! behind the activation. So `act(b_j)` times the weights of that input is added to the bias of the next
//! layer, and neuron and input are removed. If all are pruned, one neuron without weights stands for
//! them, and the network outputs the bias of the next layer.

use burn::module::Param;
use burn::nn::Linear;
use burn::tensor::Tensor;

use super::{alive_indices, others, select};
use crate::linear::{
    Compressible, CompressibleLinear, FeedForward, LowRank, LowRankSparseLinear, leaf,
};

/// Narrows every feed-forward network of `model`, which is on a plain device, to the neurons that are
/// not constant. Layers stay in training form; the result computes the same, up to rounding.
pub(crate) fn narrow<M: Compressible>(model: &mut M) {
    model.for_each_feed_forward_mut(&mut |pair| {
        if let Some((inner, outer)) = narrowed(&pair) {
            *pair.inner = inner;
            *pair.outer = outer;
        }
    });
}

/// Both layers without constant neurons; `None` if there are none, or no bias to add them to.
fn narrowed(pair: &FeedForward<'_>) -> Option<(CompressibleLinear, CompressibleLinear)> {
    let CompressibleLinear::LowRankSparse(inner) = &*pair.inner else { return None };
    let (None, Some(sparse)) = (&inner.low_rank, &inner.sparse) else { return None };
    let sparse = sparse.val();
    let [_, width] = sparse.dims();
    let kept = alive_indices(&sparse, 0);
    if kept.len() == width {
        return None;
    }
    let constant = others(&kept, width);
    let bias = match &inner.bias {
        Some(bias) => bias.val(),
        None => Tensor::zeros([width], &sparse.device()),
    };
    // [1, constants] · [constants, d_output]
    let values = select((pair.activation)(bias).unsqueeze::<2>(), 1, &constant);
    let columns = select(pair.outer.effective_weight(), 0, &constant);
    let moved = values.matmul(columns).squeeze_dim::<1>(0);
    if kept.is_empty() {
        return nothing(inner, pair.outer, moved);
    }
    let inner_bias = inner
        .bias
        .as_ref()
        .map(|bias| leaf(select(bias.val().unsqueeze::<2>(), 1, &kept).squeeze_dim::<1>(0)));
    let inner = LowRankSparseLinear::new(None, Some(leaf(select(sparse, 1, &kept))), inner_bias);
    let outer = match &*pair.outer {
        CompressibleLinear::Dense(outer) => CompressibleLinear::Dense(Linear {
            weight: leaf(select(outer.weight.val(), 0, &kept)),
            bias: Some(leaf(outer.bias.as_ref()?.val() + moved)),
        }),
        CompressibleLinear::LowRankSparse(outer) => {
            let rows = |matrix: Tensor<2>| leaf(select(matrix, 0, &kept));
            let low_rank = outer.low_rank.as_ref().map(|low_rank| LowRank {
                right: rows(low_rank.right.val()),
                left: leaf(low_rank.left.val()),
            });
            let sparse = outer.sparse.as_ref().map(|sparse| rows(sparse.val()));
            let bias = Some(leaf(outer.bias.as_ref()?.val() + moved));
            CompressibleLinear::LowRankSparse(LowRankSparseLinear::new(low_rank, sparse, bias))
        }
        _ => return None,
    };
    Some((CompressibleLinear::LowRankSparse(inner), outer))
}

/// A network that outputs its bias, plus `moved`, for every input. It has one neuron without weights, since
/// tensors without elements are a special case everywhere.
fn nothing(
    inner: &LowRankSparseLinear,
    outer: &CompressibleLinear,
    moved: Tensor<1>,
) -> Option<(CompressibleLinear, CompressibleLinear)> {
    let [d_input, _] = inner.dims();
    let [_, d_output] = outer.dims();
    let device = moved.device();
    let zeros = |shape: [usize; 2]| leaf(Tensor::zeros(shape, &device));
    let first = |bias: &Param<Tensor<1>>| leaf(bias.val().narrow(0, 0, 1));
    let inner =
        LowRankSparseLinear::new(None, Some(zeros([d_input, 1])), inner.bias.as_ref().map(first));
    let (weight, bias) = (zeros([1, d_output]), Some(leaf(outer.bias()? + moved)));
    let outer = match outer {
        CompressibleLinear::Dense(_) => CompressibleLinear::Dense(Linear { weight, bias }),
        CompressibleLinear::LowRankSparse(_) => {
            CompressibleLinear::LowRankSparse(LowRankSparseLinear::new(None, Some(weight), bias))
        }
        _ => return None,
    };
    Some((CompressibleLinear::LowRankSparse(inner), outer))
}

#[cfg(test)]
#[path = "narrow_tests.rs"]
mod tests;
