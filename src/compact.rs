//! Compaction: fold, do not scatter.
//!
//! A kept neuron has a dense row anyway, `w_i = L_i·R + S_i`. So a layer stores the folded rows `K` of
//! its kept neurons, `R`, and `L′` for the other neurons only: exact up to rounding, without an add,
//! and fewer parameters and operations than `L` whole plus a scattered `S`. Feed-forward networks are
//! narrowed first by neurons that are constant.

mod forms;
mod narrow;

pub use forms::{LayerForm, LayerParts, layer_forms, restore_forms};
pub(crate) use narrow::narrow;

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use burn::tensor::{Int, Tensor, TensorData};

use crate::decompose::to_vec;
use crate::linear::{
    ColumnCompactLinear, CompactLinear, Compressible, CompressibleLinear, LowRankSparseLinear, leaf,
};

/// The form a layer was brought to: always the cheapest exact one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Form {
    /// One dense matrix: too many neurons are kept for anything else to be smaller.
    Dense,
    /// Kept neurons folded, the others low-rank.
    Folded,
    /// No neuron is kept.
    LowRank,
    /// Kept input columns folded, the others low-rank.
    ColumnFolded,
}

/// What became of one layer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Compacted {
    /// Full name of the layer.
    pub name: String,
    /// Its form.
    pub form: Form,
    /// Number of inputs, before any network was narrowed.
    pub d_input: usize,
    /// Number of outputs (neurons), before any network was narrowed.
    pub d_output: usize,
    /// Rank of its low-rank part.
    pub rank: usize,
    /// Neurons (or, column-folded, input columns) with any entry left in `S`.
    pub kept: usize,
    /// Weight elements stored now.
    pub elements: usize,
}

/// Brings every `L·R + S` layer of `model` to its cheapest exact form, in place, on a plain (not
/// autodiff) device, after neurons that are constant have been folded through the activation of a
/// feed-forward network (at rank 0). Other layers stay as they are.
///
/// The result computes what the pruned model computes, up to rounding. Its layers have other forms than
/// a new model's: to load a record of it, see [`restore_forms`].
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
            let (compacted, mut entry) = compact_layer(name, layer);
            let [d_input, d_output] = whole.get(name).copied().unwrap_or(linear.dims());
            if entry.d_output < d_output && entry.form == Form::Dense {
                entry.form = Form::Folded;
            }
            (entry.d_input, entry.d_output) = (d_input, d_output);
            report.push(entry);
            *linear = compacted;
        }
    });
    (model, report)
}

/// Which columns (Burn's orientation: neurons) of a plain `S` have any entry that is not zero; with
/// `dim` 1 instead of 0, which rows (inputs). What is not a number was not pruned.
pub(crate) fn alive(sparse: &Tensor<2>, dim: usize) -> Vec<bool> {
    let largest = to_vec(sparse.clone().abs().max_dim(dim));
    largest.into_iter().map(|value| value != 0.0).collect()
}

fn alive_indices(sparse: &Tensor<2>, dim: usize) -> Vec<usize> {
    let alive = alive(sparse, dim).into_iter().enumerate();
    alive.filter_map(|(at, alive)| alive.then_some(at)).collect()
}

fn compact_layer(name: &str, layer: &LowRankSparseLinear) -> (CompressibleLinear, Compacted) {
    let [d_input, d_output] = layer.dims();
    let rank = layer.rank();
    let (neurons, columns) = match &layer.sparse {
        Some(sparse) => {
            let sparse = sparse.val();
            (alive_indices(&sparse, 0), alive_indices(&sparse, 1))
        }
        None => (Vec::new(), Vec::new()),
    };
    let dense = d_input * d_output;
    let folded = d_input * (neurons.len() + rank) + rank * (d_output - neurons.len());
    let column_folded = d_output * (columns.len() + rank) + rank * (d_input - columns.len());
    let (form, kept) = if dense <= folded.min(column_folded) {
        (Form::Dense, neurons.len())
    } else if column_folded < folded {
        (Form::ColumnFolded, columns.len())
    } else if neurons.is_empty() && rank > 0 {
        (Form::LowRank, 0)
    } else {
        (Form::Folded, neurons.len())
    };
    let linear = match form {
        Form::Dense => dense_layer(layer),
        Form::ColumnFolded => fold_columns(layer, &columns),
        Form::Folded | Form::LowRank => fold_neurons(layer, &neurons),
    };
    let elements = linear.weight_elements();
    let name = name.to_string();
    (linear, Compacted { name, form, d_input, d_output, rank, kept, elements })
}

fn dense_layer(layer: &LowRankSparseLinear) -> CompressibleLinear {
    CompressibleLinear::Dense(burn::nn::Linear {
        weight: leaf(layer.effective_weight()),
        bias: layer.bias.as_ref().map(|b| leaf(b.val())),
    })
}

/// `tensor`'s slices at `indices` of `dim`; empty where there are none.
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

fn fold_neurons(layer: &LowRankSparseLinear, kept: &[usize]) -> CompressibleLinear {
    let [_, d_output] = layer.dims();
    let folded = select(layer.effective_weight(), 1, kept);
    let rest = others(kept, d_output);
    let low_rank = layer
        .low_rank
        .as_ref()
        .filter(|_| !rest.is_empty())
        .map(|lr| (lr.right.val(), select(lr.left.val(), 1, &rest)));
    let bias = layer.bias.as_ref().map(|b| b.val());
    CompressibleLinear::Compact(CompactLinear::new(folded, low_rank, bias, kept, d_output))
}

fn fold_columns(layer: &LowRankSparseLinear, kept: &[usize]) -> CompressibleLinear {
    let [d_input, _] = layer.dims();
    let folded = select(layer.effective_weight(), 0, kept);
    let rest = others(kept, d_input);
    let low_rank = layer
        .low_rank
        .as_ref()
        .filter(|_| !rest.is_empty())
        .map(|lr| (select(lr.right.val(), 0, &rest), lr.left.val()));
    let bias = layer.bias.as_ref().map(|b| b.val());
    CompressibleLinear::ColumnCompact(ColumnCompactLinear::new(
        folded, low_rank, bias, kept, d_input,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::module::{Module, Param};
    use burn::tensor::{DType, Device, Distribution};

    use crate::decompose::{DecomposeConfig, Rank, decompose};
    use crate::linear::LayerSelection;

    #[derive(Module, Debug)]
    struct One {
        layer: CompressibleLinear,
    }

    impl Compressible for One {
        fn for_each_linear_mut(&mut self, f: &mut dyn FnMut(&str, &mut CompressibleLinear)) {
            f("layer", &mut self.layer);
        }
    }

    /// A decomposed `[12, 20]` layer of which only the given neurons and columns of `S` are left.
    fn pruned(rank: usize, neurons: &[usize], columns: &[usize]) -> One {
        let device = Device::default();
        let mut model = One { layer: CompressibleLinear::new(12, 20, &device) };
        let config = DecomposeConfig { rank: Rank::Fixed(rank), sparse: true };
        decompose(&mut model, &LayerSelection::all(), config).unwrap();
        if let CompressibleLinear::LowRankSparse(layer) = &mut model.layer {
            let mut mask = vec![0f32; 12 * 20];
            for &row in columns {
                neurons.iter().for_each(|&neuron| mask[row * 20 + neuron] = 1.0);
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
        let mut model = One { layer: CompressibleLinear::new(12, 20, &device) };
        if let CompressibleLinear::Dense(layer) = &mut model.layer {
            let weight = layer.weight.val().cast(DType::F16);
            layer.weight = Param::from_tensor(weight);
        }
        let config = DecomposeConfig { rank: Rank::Fixed(2), sparse: true };
        decompose(&mut model, &LayerSelection::all(), config).unwrap();
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
        assert_eq!(compact(model).1[0].kept, 1);
    }

    fn check(rank: usize, neurons: &[usize], columns: &[usize], form: Form) {
        let model = pruned(rank, neurons, columns);
        let (small, report) = compact(model.clone());
        let case = format!("rank {rank}, {} neurons, {} columns", neurons.len(), columns.len());
        assert_eq!(report[0].form, form, "{case}");
        assert_eq!(report[0].elements, small.layer.weight_elements(), "{case}");
        let x = Tensor::<3>::random([2, 5, 12], Distribution::Default, &Device::default());
        let difference = (model.layer.forward(x.clone()) - small.layer.forward(x)).abs().max();
        assert!(difference.into_scalar::<f32>() < 1e-5, "{case}");
        let weights = model.layer.effective_weight() - small.layer.effective_weight();
        assert!(weights.abs().max().into_scalar::<f32>() < 1e-6, "{case}");
    }

    #[test]
    fn every_form_computes_what_the_pruned_layer_computes() {
        let all: Vec<usize> = (0..20).collect();
        let inputs: Vec<usize> = (0..12).collect();
        check(2, &[0, 3, 4, 17], &inputs, Form::Folded);
        check(2, &[0, 1, 2], &inputs, Form::Folded);
        check(2, &[], &inputs, Form::LowRank);
        check(2, &all, &inputs, Form::Dense);
        check(0, &[19, 2], &inputs, Form::Folded);
        check(0, &[], &inputs, Form::Folded);
        check(12, &[], &inputs, Form::Dense);
        check(2, &all, &[1, 7, 11], Form::ColumnFolded);
        check(0, &all, &[5], Form::ColumnFolded);
    }

    #[test]
    fn a_row_whose_entries_sum_to_zero_is_kept() {
        let mut model = pruned(2, &[], &[]);
        if let CompressibleLinear::LowRankSparse(layer) = &mut model.layer {
            let mut values = vec![0f32; 12 * 20];
            (values[6], values[26]) = (1.0, -1.0);
            let data = TensorData::new(values, [12, 20]);
            layer.sparse = Some(Param::from_tensor(Tensor::from_data(data, &Device::default())));
        }
        let (_, report) = compact(model);
        assert_eq!(report[0].kept, 1);
    }
}
