//! Compaction: fold, do not scatter. Begin with [`compact`].
//!
//! The weights of a kept neuron are dense anyway, `w_i = L_i·R + S_i`. So a layer stores the folded
//! weights `K` of its kept neurons, `R`, and `L′` for the other neurons only: exact up to rounding,
//! without an add, and fewer parameters and operations than `L` whole plus a scattered `S`.
//! Feed-forward networks are narrowed first, by their constant neurons.

mod narrow;

pub(crate) use narrow::narrow;

use std::collections::HashMap;

use burn::tensor::{Int, Tensor, TensorData};
use serde::{Deserialize, Serialize};

use crate::linear::{
    CompactLinear, Compressible, CompressibleLinear, InputCompactLinear, LayerState,
    LowRankSparseLinear, alive, leaf,
};

/// Report of one compacted layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Compacted {
    /// Full name of the layer.
    pub name: String,
    /// Number of inputs, before any network was narrowed.
    pub d_input: usize,
    /// Number of outputs (neurons), before any network was narrowed.
    pub d_output: usize,
    /// Its state now: the smallest that computes the same.
    pub state: LayerState,
    /// Weight elements stored now.
    pub elements: usize,
}

/// Brings every `L·R + S` layer of `model` to its smallest exact state, on a plain (not autodiff)
/// device. Other layers stay as they are. Before, neurons of a feed-forward network that are constant
/// (pruned, at rank 0) are folded through its activation into the next layer's bias.
///
/// The result computes what the pruned model computes, up to rounding. Its layers have other states
/// than a new model's: to load a record of it, see [`crate::linear::restore_layers`].
pub fn compact<M: Compressible>(model: M) -> (M, Vec<Compacted>) {
    let mut model = model.valid();
    let mut whole = HashMap::new();
    model.for_each_linear(&mut |name, linear| {
        whole.insert(name.to_string(), linear.dims());
    });
    narrow(&mut model);
    let mut report = Vec::new();
    model.for_each_linear_mut(&mut |name, linear| {
        if let CompressibleLinear::LowRankSparse(layer) = &*linear {
            let [_, narrowed] = linear.dims();
            let [d_input, d_output] = whole.get(name).copied().unwrap_or(linear.dims());
            *linear = compact_layer(layer);
            let state = match linear.state() {
                // Dense, but without the neurons that were constant.
                LayerState::Dense if narrowed < d_output => {
                    LayerState::Compact { kept: narrowed, rank: 0, ordered: false }
                }
                state => state,
            };
            let elements = linear.weight_elements();
            report.push(Compacted { name: name.to_string(), d_input, d_output, state, elements });
        }
    });
    (model, report)
}

fn alive_indices(sparse: &Tensor<2>, dim: usize) -> Vec<usize> {
    let alive = alive(sparse, dim).into_iter().enumerate();
    alive.filter_map(|(at, alive)| alive.then_some(at)).collect()
}

fn compact_layer(layer: &LowRankSparseLinear) -> CompressibleLinear {
    let [d_input, d_output] = layer.dims();
    let rank = layer.rank();
    let (neurons, inputs) = match &layer.sparse {
        Some(sparse) => {
            let sparse = sparse.val();
            (alive_indices(&sparse, 0), alive_indices(&sparse, 1))
        }
        None => (Vec::new(), Vec::new()),
    };
    let dense = d_input * d_output;
    let by_neurons = folded_elements(d_input, d_output, rank, neurons.len());
    let by_inputs = folded_elements(d_output, d_input, rank, inputs.len());
    if dense <= by_neurons.min(by_inputs) {
        dense_layer(layer)
    } else if by_inputs < by_neurons {
        fold(layer, 0, &inputs)
    } else {
        fold(layer, 1, &neurons)
    }
}

fn dense_layer(layer: &LowRankSparseLinear) -> CompressibleLinear {
    CompressibleLinear::Dense(burn::nn::Linear {
        weight: leaf(layer.effective_weight()),
        bias: layer.bias.as_ref().map(|b| leaf(b.val())),
    })
}

/// Slices of `tensor` at `indices` of `dim`; empty if there are none.
fn select(tensor: Tensor<2>, dim: usize, indices: &[usize]) -> Tensor<2> {
    if indices.is_empty() {
        let mut shape: [usize; 2] = tensor.dims();
        shape[dim] = 0;
        return Tensor::empty(shape, (&tensor.device(), tensor.dtype()));
    }
    let device = tensor.device();
    let indices: Vec<i64> = indices.iter().map(|&i| i as i64).collect();
    let count = indices.len();
    let indices = Tensor::<1, Int>::from_data(TensorData::new(indices, [count]), &device);
    tensor.select(dim, indices)
}

fn others(kept: &[usize], count: usize) -> Vec<usize> {
    let mut is_kept = vec![false; count];
    kept.iter().for_each(|&at| is_kept[at] = true);
    (0..count).filter(|&at| !is_kept[at]).collect()
}

/// Folds a layer to its kept neurons (`dim` 1) or inputs (`dim` 0).
fn fold(layer: &LowRankSparseLinear, dim: usize, kept: &[usize]) -> CompressibleLinear {
    let count = layer.dims()[dim];
    let folded = select(layer.effective_weight(), dim, kept);
    let rest = others(kept, count);
    let low_rank = layer.low_rank.as_ref().filter(|_| !rest.is_empty());
    let low_rank = low_rank.map(|lr| match dim {
        0 => (select(lr.right.val(), 0, &rest), lr.left.val()),
        _ => (lr.right.val(), select(lr.left.val(), 1, &rest)),
    });
    let bias = layer.bias.as_ref().map(|b| b.val());
    match dim {
        0 => CompressibleLinear::InputCompact(InputCompactLinear::new(
            folded, low_rank, bias, kept, count,
        )),
        _ => CompressibleLinear::Compact(CompactLinear::new(folded, low_rank, bias, kept, count)),
    }
}

/// Weights of a layer folded to `kept` of its `groups`: `[K; R]` and `L′`.
pub(crate) fn folded_elements(across: usize, groups: usize, rank: usize, kept: usize) -> usize {
    across * (kept + rank) + rank * (groups - kept)
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::module::{Module, Param};
    use burn::tensor::{DType, Device, Distribution};

    use crate::decompose::{DecomposeConfig, Rank, decompose};
    use crate::linear::{CompressibleLinearConfig, LayerSelection};

    #[derive(Module, Debug)]
    struct One {
        layer: CompressibleLinear,
    }

    crate::compressible!(One { layer });

    /// A decomposed `[12, 20]` layer of which only the given neurons and inputs of `S` are left.
    fn pruned(rank: usize, neurons: &[usize], inputs: &[usize]) -> One {
        let device = Device::default();
        let model = One { layer: CompressibleLinearConfig::new(12, 20).init(&device) };
        let config = DecomposeConfig::new(Rank::Fixed(rank));
        let (mut model, _) = decompose(model, &LayerSelection::all(), config).unwrap();
        if let CompressibleLinear::LowRankSparse(layer) = &mut model.layer {
            let mut mask = vec![0f32; 12 * 20];
            for &input in inputs {
                neurons.iter().for_each(|&neuron| mask[input * 20 + neuron] = 1.0);
            }
            let mask = Tensor::from_data(TensorData::new(mask, [12, 20]), &device);
            let sparse = layer.sparse.take().unwrap().val() * mask;
            layer.sparse = Some(Param::from_tensor(sparse));
        }
        model
    }

    #[test]
    fn parts_have_the_weights_format_and_what_is_no_number_is_not_pruned() {
        let device = Device::default();
        let mut model = One { layer: CompressibleLinearConfig::new(12, 20).init(&device) };
        if let CompressibleLinear::Dense(layer) = &mut model.layer {
            let weight = layer.weight.val().cast(DType::F16);
            layer.weight = Param::from_tensor(weight);
        }
        let config = DecomposeConfig::new(Rank::Fixed(2));
        let (mut model, _) = decompose(model, &LayerSelection::all(), config).unwrap();
        let CompressibleLinear::LowRankSparse(layer) = &mut model.layer else { unreachable!() };
        let parts = layer.low_rank.as_ref().unwrap();
        let formats = [&parts.right, &parts.left].map(|part| part.val().dtype());
        let sparse = layer.sparse.take().unwrap().val();
        assert_eq!((formats, sparse.dtype()), ([DType::F16; 2], DType::F16));
        let mut values = vec![0f32; 12 * 20];
        values[5] = f32::NAN;
        let values = TensorData::new(values, [12, 20]);
        let values = Tensor::from_data(values, (&device, DType::F16));
        layer.sparse = Some(Param::from_tensor(values));
        assert_eq!(compact(model).1[0].state.kept(), 1);
    }

    fn check(rank: usize, neurons: &[usize], inputs: &[usize], state: &str) {
        let model = pruned(rank, neurons, inputs);
        let (small, report) = compact(model.clone());
        let case = format!("rank {rank}, {} neurons, {} inputs", neurons.len(), inputs.len());
        assert_eq!(
            (report[0].state, state),
            (small.layer.state(), report[0].state.name()),
            "{case}"
        );
        assert_eq!(report[0].elements, small.layer.weight_elements(), "{case}");
        let x = Tensor::<3>::random([2, 5, 12], Distribution::Default, &Device::default());
        let difference = (model.layer.forward(x.clone()) - small.layer.forward(x)).abs().max();
        assert!(difference.into_scalar::<f32>() < 1e-5, "{case}");
        let weights = model.layer.effective_weight() - small.layer.effective_weight();
        assert!(weights.abs().max().into_scalar::<f32>() < 1e-6, "{case}");
    }

    #[test]
    fn every_state_computes_what_the_pruned_layer_computes() {
        let all: Vec<usize> = (0..20).collect();
        let inputs: Vec<usize> = (0..12).collect();
        check(2, &[0, 3, 4, 17], &inputs, "compact");
        check(2, &[0, 1, 2], &inputs, "compact");
        check(2, &[], &inputs, "compact");
        check(2, &all, &inputs, "dense");
        check(0, &[19, 2], &inputs, "compact");
        check(0, &[], &inputs, "compact");
        check(12, &[], &inputs, "dense");
        check(2, &all, &[1, 7, 11], "column-compact");
        check(0, &all, &[5], "column-compact");
    }

    #[test]
    fn a_neuron_whose_weights_sum_to_zero_is_kept() {
        let mut model = pruned(2, &[], &[]);
        if let CompressibleLinear::LowRankSparse(layer) = &mut model.layer {
            let mut values = vec![0f32; 12 * 20];
            (values[6], values[26]) = (1.0, -1.0);
            let data = TensorData::new(values, [12, 20]);
            layer.sparse = Some(Param::from_tensor(Tensor::from_data(data, &Device::default())));
        }
        let (_, report) = compact(model);
        assert_eq!(report[0].state.kept(), 1);
    }
}
