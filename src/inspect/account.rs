//! Parameter counts: those stored, and those of the dense model.
//!
//! The ratio in papers covers the compressed layers' weights only. Embeddings stay whole, so a model at
//! 20% has more than a fifth of all parameters (BERT-base: 38%). Reports give both ratios.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::compact::folded_elements;
use crate::linear::{Compressible, CompressibleLinear, LowRankSparseLinear, alive, round_weights};
use crate::precision::Precision;
use crate::{Error, Result};

/// Parameter count of one layer: its weights, without biases and index vectors.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinearAccount {
    /// Full name of the layer.
    pub name: String,
    /// Its state, see [`CompressibleLinear::state`].
    pub state: String,
    /// Number of inputs.
    pub d_input: usize,
    /// Number of outputs.
    pub d_output: usize,
    /// Rank of the low-rank part, 0 without one.
    pub rank: usize,
    /// Kept neurons; of a layer pruned by column, kept input columns.
    pub kept: usize,
    /// Number of all neurons, or of all input columns, that `kept` counts.
    pub groups: usize,
    /// Weights of the dense layer, `d_input · d_output`.
    pub dense_elements: usize,
    /// Weights stored; for the training form, those that compaction would store.
    pub stored_elements: usize,
    /// Whether the layer counts in the linear ratio.
    pub selected: bool,
}

impl LinearAccount {
    /// Counts one layer; it is `selected` unless it is dense.
    fn of(name: &str, linear: &CompressibleLinear) -> Self {
        let [d_input, d_output] = linear.dims();
        let (rank, kept, groups) = match linear {
            CompressibleLinear::Dense(_) => (0, d_output, d_output),
            CompressibleLinear::Compact(layer) => (layer.rank(), layer.kept, d_output),
            CompressibleLinear::InputCompact(layer) => (layer.rank(), layer.kept, d_input),
            CompressibleLinear::Quantized(layer) => (layer.rank(), layer.kept, d_output),
            CompressibleLinear::LowRankSparse(layer) => {
                let (neurons, columns) = kept(layer);
                let rank = layer.rank();
                let by_column = folded_elements(d_output, d_input, rank, columns);
                if by_column < folded_elements(d_input, d_output, rank, neurons) {
                    (rank, columns, d_input)
                } else {
                    (rank, neurons, d_output)
                }
            }
        };
        let dense_elements = d_input * d_output;
        let stored_elements = match linear {
            CompressibleLinear::LowRankSparse(_) => {
                let across = dense_elements.checked_div(groups).unwrap_or(0);
                folded_elements(across, groups, rank, kept).min(dense_elements)
            }
            _ => linear.weight_elements(),
        };
        Self {
            name: name.to_string(),
            state: linear.state().to_string(),
            d_input,
            d_output,
            rank,
            kept,
            groups,
            dense_elements,
            stored_elements,
            selected: linear.is_compressed(),
        }
    }

    /// Adjusts the count for a feed-forward network that compaction narrowed.
    fn within(self, part: Part) -> Self {
        match part {
            Part::Inner(width) if self.d_output < width => Self {
                state: match self.state.as_str() {
                    "dense" => "compact".to_string(),
                    _ => self.state,
                },
                // The layer is pruned by neuron unless it keeps input columns.
                groups: if self.groups == self.d_output { width } else { self.groups },
                d_output: width,
                dense_elements: self.d_input * width,
                selected: true,
                ..self
            },
            Part::Outer(width) if self.d_input < width => {
                Self { d_input: width, dense_elements: width * self.d_output, ..self }
            }
            _ => self,
        }
    }

    /// The count of a layer with this rank and number of kept neurons, without making it.
    #[cfg(test)]
    pub(crate) fn planned(name: &str, dims: [usize; 2], rank: usize, kept: usize) -> Self {
        let [d_input, d_output] = dims;
        let dense_elements = d_input * d_output;
        Self {
            name: name.to_string(),
            state: "planned".to_string(),
            d_input,
            d_output,
            rank,
            kept,
            groups: d_output,
            dense_elements,
            stored_elements: folded_elements(d_input, d_output, rank, kept).min(dense_elements),
            selected: true,
        }
    }

    /// Ratio of stored to dense weights.
    pub fn ratio(&self) -> f64 {
        ratio(self.stored_elements, self.dense_elements)
    }
}

/// Neurons and input columns that have any non-zero entry in `S`.
fn kept(layer: &LowRankSparseLinear) -> (usize, usize) {
    let Some(sparse) = &layer.sparse else { return (0, 0) };
    let sparse = sparse.val().inner();
    let count = |dim| alive(&sparse, dim).into_iter().filter(|alive| *alive).count();
    (count(0), count(1))
}

/// A layer's place in a feed-forward network, with the width of the dense network.
#[derive(Debug, Clone, Copy)]
enum Part {
    Inner(usize),
    Outer(usize),
}

/// Parameter count of a model.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ModelAccount {
    /// Every compressible layer, in the model's order.
    pub layers: Vec<LinearAccount>,
    /// Float parameters besides the weights of `layers`: embeddings, biases, norms, heads.
    pub other_elements: usize,
}

impl ModelAccount {
    /// Counts a model. The linear ratio is over the layers that are not dense; see
    /// [`ModelAccount::over`].
    ///
    /// A feed-forward network that compaction narrowed is compared with its dense width, and one that
    /// compaction would narrow counts as narrowed. All its biases count as stored.
    pub fn of<M: Compressible>(model: &M) -> Self {
        // Modules count parameters in floats alone.
        let floats = round_weights(model.clone(), Precision::F32);
        let mut allocated = 0;
        floats.for_each_linear(&mut |_, linear| allocated += linear.weight_elements());
        let mut other_elements = floats.num_params().saturating_sub(allocated);
        let mut model = model.clone().valid();
        let mut widths = HashMap::new();
        model.for_each_feed_forward_mut(&mut |pair| {
            let [_, found] = pair.inner.dims();
            let [inner, outer] = pair.names.map(str::to_string);
            other_elements += pair.width - found.min(pair.width);
            widths.insert(inner, Part::Inner(pair.width));
            widths.insert(outer, Part::Outer(pair.width));
        });
        crate::compact::narrow(&mut model);
        let mut layers = Vec::new();
        model.for_each_linear(&mut |name, linear| {
            let account = LinearAccount::of(name, linear);
            layers.push(match widths.get(name) {
                Some(part) => account.within(*part),
                None => account,
            });
        });
        Self { layers, other_elements }
    }

    /// Makes the linear ratio cover the layers called `names`: all that were compressed, some of which
    /// may be stored dense because that is smallest.
    pub fn over<S: AsRef<str>>(mut self, names: &[S]) -> Self {
        let names: HashSet<&str> = names.iter().map(AsRef::as_ref).collect();
        for layer in &mut self.layers {
            layer.selected = names.contains(layer.name.as_str());
        }
        self
    }

    /// Layers that count in the linear ratio.
    pub fn selected(&self) -> impl Iterator<Item = &LinearAccount> {
        self.layers.iter().filter(|layer| layer.selected)
    }

    /// Linear ratio: stored to dense weights of the compressed layers; 1 if there is none.
    pub fn linear_ratio(&self) -> f64 {
        let stored = self.selected().map(|layer| layer.stored_elements).sum();
        ratio(stored, self.selected().map(|layer| layer.dense_elements).sum())
    }

    /// Whole-model ratio: all stored parameters to those of the dense model.
    pub fn whole_ratio(&self) -> f64 {
        ratio(self.stored_elements(), self.dense_elements())
    }

    /// Number of parameters stored.
    pub fn stored_elements(&self) -> usize {
        self.other_elements + self.layers.iter().map(|l| l.stored_elements).sum::<usize>()
    }

    /// Number of parameters of the dense model.
    pub fn dense_elements(&self) -> usize {
        self.other_elements + self.layers.iter().map(|l| l.dense_elements).sum::<usize>()
    }
}

fn ratio(stored: usize, dense: usize) -> f64 {
    if dense == 0 { 1.0 } else { stored as f64 / dense as f64 }
}

/// Bytes of the weights in a model folder: `model.safetensors`, or all files of a sharded or older
/// format.
///
/// # Errors
/// If the folder cannot be read or has no weights.
pub fn bytes_on_disk(folder: impl AsRef<Path>) -> Result<u64> {
    let folder = folder.as_ref();
    let single = folder.join("model.safetensors");
    if single.is_file() {
        return std::fs::metadata(&single).map(|m| m.len()).map_err(|e| Error::io(&single, e));
    }
    let mut bytes = [0, 0];
    for entry in std::fs::read_dir(folder).map_err(|e| Error::io(folder, e))? {
        let entry = entry.map_err(|e| Error::io(folder, e))?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let size = || entry.metadata().map(|m| m.len()).map_err(|e| Error::io(entry.path(), e));
        if name.starts_with("model-") && name.ends_with(".safetensors") {
            bytes[0] += size()?;
        } else if name.starts_with("pytorch_model") && name.ends_with(".bin") {
            bytes[1] += size()?;
        }
    }
    match bytes {
        [0, 0] => Err(Error::format(folder, "no weights here: expected model.safetensors")),
        [0, pytorch] => Ok(pytorch),
        [sharded, _] => Ok(sharded),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use burn::module::{Module, Param};
    use burn::tensor::{Device, Tensor, TensorData};

    use crate::compact::compact;
    use crate::decompose::{DecomposeConfig, Rank, decompose};
    use crate::linear::{CompressibleLinearConfig, LayerSelection, linear_names};
    use crate::models::bert::{BertConfig, BertForSequenceClassification};

    /// BERT-base as it would be at a low-rank and a kept share. Its weights are never made: Burn
    /// initialises a parameter when it is first read.
    fn bert_base(low_rank: f64, keep: f64) -> ModelAccount {
        let model = BertForSequenceClassification::new(&BertConfig::default(), &Device::default());
        let dense = ModelAccount::of(&model);
        assert_eq!(dense.layers.len(), 72);
        assert_eq!(dense.whole_ratio(), 1.0);
        assert_eq!(dense.linear_ratio(), 1.0);
        assert_eq!(dense.dense_elements(), 109_483_778);
        let layers = dense.layers.iter().map(|layer| {
            let [d_input, d_output] = [layer.d_input, layer.d_output];
            let rank = Rank::Budget(low_rank).resolve(d_output, d_input).unwrap();
            let kept = (keep * d_output as f64).round() as usize;
            LinearAccount::planned(&layer.name, [d_input, d_output], rank, kept)
        });
        ModelAccount { layers: layers.collect(), other_elements: dense.other_elements }
    }

    #[test]
    fn bert_base_has_the_papers_ratios() {
        let twenty = bert_base(0.05, 0.15);
        assert!((twenty.linear_ratio() - 0.20).abs() < 0.01, "{}", twenty.linear_ratio());
        assert_eq!((twenty.whole_ratio() * 100.0).round(), 38.0, "{}", twenty.whole_ratio());
        let ten = bert_base(0.05, 0.05);
        assert!((ten.linear_ratio() - 0.10).abs() < 0.01, "{}", ten.linear_ratio());
        assert_eq!((ten.whole_ratio() * 100.0).round(), 30.0, "{}", ten.whole_ratio());
    }

    #[derive(Module, Debug)]
    struct Pair {
        up: CompressibleLinear,
        down: CompressibleLinear,
        head: burn::nn::Linear,
    }

    impl Compressible for Pair {
        fn for_each_linear_mut(&mut self, f: &mut dyn FnMut(&str, &mut CompressibleLinear)) {
            f("up", &mut self.up);
            f("down", &mut self.down);
        }
    }

    /// `up` decomposed at rank 2 with some neurons and columns of `S` left, `down` dense.
    fn pruned(neurons: &[usize], columns: &[usize]) -> Pair {
        let device = Device::default();
        let model = Pair {
            up: CompressibleLinearConfig::new(12, 20).init(&device),
            down: CompressibleLinearConfig::new(20, 12).init(&device),
            head: burn::nn::LinearConfig::new(12, 3).init(&device),
        };
        let config = DecomposeConfig::new(Rank::Fixed(2));
        let (mut model, _) = decompose(model, &LayerSelection::new(["up"]), config).unwrap();
        if let CompressibleLinear::LowRankSparse(layer) = &mut model.up {
            let mut values = vec![0f32; 12 * 20];
            // An entry and its opposite: a sum of zero is no empty neuron.
            for &column in columns {
                neurons
                    .iter()
                    .for_each(|n| values[column * 20 + n] = 1.0 - 2.0 * (column % 2) as f32);
            }
            let data = TensorData::new(values, [12, 20]);
            layer.sparse = Some(Param::from_tensor(Tensor::from_data(data, &device)));
        }
        model
    }

    #[test]
    fn the_training_form_counts_what_compaction_stores() {
        let (all_neurons, all_columns) = ((0..20).collect::<Vec<_>>(), (0..12).collect::<Vec<_>>());
        for (neurons, columns, kept, groups) in [
            (vec![0, 7, 19], all_columns.clone(), 3, 20),
            (vec![], all_columns.clone(), 0, 20),
            (all_neurons.clone(), vec![1, 6], 2, 12),
            (all_neurons.clone(), all_columns.clone(), 20, 20),
        ] {
            let model = pruned(&neurons, &columns);
            let account = ModelAccount::of(&model);
            let up = &account.layers[0];
            assert_eq!((up.kept, up.groups, up.rank), (kept, groups, 2), "{neurons:?} {columns:?}");
            let (small, report) = compact(model);
            assert_eq!(up.stored_elements, report[0].elements, "{neurons:?} {columns:?}");
            let folded = ModelAccount::of(&small).over(&["up"]);
            assert_eq!(folded.stored_elements(), account.stored_elements());
            assert_eq!(folded.linear_ratio(), account.linear_ratio());
            assert_eq!(folded.other_elements, 20 + 12 + 12 * 3 + 3);
        }
    }

    #[test]
    fn ratios_are_over_the_selected_layers_and_over_everything() {
        let account = ModelAccount::of(&pruned(&[3], &[0, 1]));
        let stored = 12 * (1 + 2) + 2 * 19;
        assert_eq!(account.layers[0].stored_elements, stored.min(20 * (2 + 2) + 2 * 10));
        assert_eq!(account.linear_ratio(), account.layers[0].ratio());
        let names = linear_names(&pruned(&[3], &[0, 1]));
        let both = account.clone().over(&names);
        let elements = (account.layers[0].stored_elements + 240) as f64;
        assert_eq!(both.linear_ratio(), elements / 480.0);
        assert_eq!(both.whole_ratio(), (elements + 71.0) / (480.0 + 71.0));
    }

    #[test]
    fn bytes_are_those_of_the_weights_only() {
        let folder = tempfile::tempdir().unwrap();
        assert!(bytes_on_disk(folder.path()).unwrap_err().to_string().contains("no weights"));
        assert!(bytes_on_disk(folder.path().join("absent")).is_err());
        let write = |name: &str, bytes: usize| {
            std::fs::write(folder.path().join(name), vec![0; bytes]).unwrap();
        };
        write("config.json", 5);
        write("pytorch_model.bin", 7);
        assert_eq!(bytes_on_disk(folder.path()).unwrap(), 7);
        write("model-00001-of-00002.safetensors", 11);
        write("model-00002-of-00002.safetensors", 13);
        assert_eq!(bytes_on_disk(folder.path()).unwrap(), 24);
        write("model.safetensors", 17);
        assert_eq!(bytes_on_disk(folder.path()).unwrap(), 17);
    }
}
