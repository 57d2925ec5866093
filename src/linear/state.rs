//! State of a layer with its sizes, and the states of all layers of a model as plain data, to be stored
//! beside its record.

use std::fmt;

use burn::module::Module;
use burn::nn::Linear;
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

use super::{
    CompactLinear, Compressible, CompressibleLinear, InputCompactLinear, LowRank,
    LowRankSparseLinear, indices, leaf, linear_names,
};
use crate::{Error, Result};

/// State of a [`CompressibleLinear`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "form", rename_all = "kebab-case")]
pub enum LayerState {
    /// One matrix.
    Dense,
    /// `L·R + S`, in training.
    LowRankSparse {
        /// Rank of `L·R`; 0: none.
        rank: usize,
        /// Whether there is an `S`.
        sparse: bool,
    },
    /// Kept neurons folded, the others low-rank.
    #[serde(rename = "folded", alias = "compact")]
    Compact {
        /// Kept neurons.
        kept: usize,
        /// Rank of the others.
        rank: usize,
        /// Whether an `order` of the outputs is stored.
        ordered: bool,
    },
    /// Kept inputs folded, the others low-rank.
    #[serde(rename = "column-folded", alias = "input-compact")]
    InputCompact {
        /// Kept inputs.
        kept: usize,
        /// Rank of the others.
        rank: usize,
    },
    /// As `Compact`, or dense if all neurons are kept, in 8-bit integers.
    #[serde(rename = "int8")]
    Quantized {
        /// Kept neurons.
        kept: usize,
        /// Rank of the others.
        rank: usize,
        /// Whether an `order` of the outputs is stored.
        ordered: bool,
    },
}

impl LayerState {
    /// The name in reports: `dense`, `low-rank + sparse`, `compact`, `column-compact` or `int8`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Dense => "dense",
            Self::LowRankSparse { .. } => "low-rank + sparse",
            Self::Compact { .. } => "compact",
            Self::InputCompact { .. } => "column-compact",
            Self::Quantized { .. } => "int8",
        }
    }

    /// The rank of the low-rank part, 0 without one.
    pub fn rank(self) -> usize {
        match self {
            Self::Dense => 0,
            Self::LowRankSparse { rank, .. }
            | Self::Compact { rank, .. }
            | Self::InputCompact { rank, .. }
            | Self::Quantized { rank, .. } => rank,
        }
    }

    /// Neurons or inputs that are folded; 0 before compaction.
    pub fn kept(self) -> usize {
        match self {
            Self::Dense | Self::LowRankSparse { .. } => 0,
            Self::Compact { kept, .. }
            | Self::InputCompact { kept, .. }
            | Self::Quantized { kept, .. } => kept,
        }
    }
}

impl LayerState {
    /// Builds a layer `[d_input, d_output]` of this state. `matrix` returns a part in the given shape
    /// (Burn's orientation) by its name in checkpoints; `order` is that of outputs or inputs.
    pub(crate) fn build(
        self,
        [d_input, d_output]: [usize; 2],
        bias: Option<Tensor<1>>,
        order: Option<Vec<i64>>,
        matrix: &dyn Fn(&str, [usize; 2]) -> Result<Tensor<2>>,
    ) -> Result<CompressibleLinear> {
        if let Self::Quantized { kept, rank, ordered } = self {
            let floats = Self::Compact { kept, rank, ordered };
            return Ok(floats.build([d_input, d_output], bias, order, matrix)?.quantize());
        }
        let part = |name, shape| matrix(name, shape).map(leaf);
        let bias = bias.map(leaf);
        Ok(match self {
            Self::Dense => {
                let weight = part("weight", [d_input, d_output])?;
                CompressibleLinear::Dense(Linear { weight, bias })
            }
            Self::LowRankSparse { rank, sparse } => {
                let low_rank = match rank {
                    0 => None,
                    _ => Some(LowRank {
                        right: part("right", [d_input, rank])?,
                        left: part("left", [rank, d_output])?,
                    }),
                };
                let sparse = sparse.then(|| part("sparse", [d_input, d_output])).transpose()?;
                CompressibleLinear::LowRankSparse(LowRankSparseLinear::new(low_rank, sparse, bias))
            }
            Self::Compact { kept, rank, ordered } | Self::Quantized { kept, rank, ordered } => {
                let (mut first, mut left) = (vec![matrix("kept_weight", [d_input, kept])?], None);
                if rank > 0 {
                    first.push(matrix("right", [d_input, rank])?);
                    left = Some(part("left", [rank, d_output - kept])?);
                }
                let first = join(first, 1);
                let order = order.filter(|_| ordered).map(|order| indices(order, &first.device()));
                let (first, cache) = (leaf(first), Default::default());
                let compact = CompactLinear { first, left, bias, order, kept, d_output, cache };
                CompressibleLinear::Compact(compact)
            }
            Self::InputCompact { kept, rank } => {
                let mut second = vec![matrix("kept_columns", [kept, d_output])?];
                let mut right = None;
                if rank > 0 {
                    second.push(matrix("left", [rank, d_output])?);
                    right = Some(part("right", [d_input - kept, rank])?);
                }
                let second = join(second, 0);
                let order = order.unwrap_or_else(|| (0..d_input as i64).collect());
                let (order, second) = (indices(order, &second.device()), leaf(second));
                let compact = InputCompactLinear { order, right, second, bias, kept };
                CompressibleLinear::InputCompact(compact)
            }
        })
    }
}

/// Concatenates `parts`, without those that have no elements.
fn join(parts: Vec<Tensor<2>>, axis: usize) -> Tensor<2> {
    let (mut full, mut empty): (Vec<_>, Vec<_>) =
        parts.into_iter().partition(|part| part.shape().num_elements() > 0);
    match full.len() {
        0 => empty.swap_remove(0),
        1 => full.swap_remove(0),
        _ => Tensor::cat(full, axis),
    }
}

impl fmt::Display for LayerState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Shape and state of one layer, as [`layer_specs`] finds them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerSpec {
    /// Full name of the layer.
    pub name: String,
    /// Number of inputs, as stored.
    pub d_input: usize,
    /// Number of outputs, as stored.
    pub d_output: usize,
    /// Whether it has a bias.
    pub bias: bool,
    /// The state.
    #[serde(flatten)]
    pub state: LayerState,
}

/// Shapes and states of all layers of `model`, to be stored beside its record.
pub fn layer_specs<M: Compressible>(model: &M) -> Vec<LayerSpec> {
    let mut specs = Vec::new();
    model.for_each_linear(&mut |name, linear| {
        let ([d_input, d_output], bias) = (linear.dims(), linear.bias().is_some());
        let state = linear.state();
        specs.push(LayerSpec { name: name.to_string(), d_input, d_output, bias, state });
    });
    specs
}

/// Gives every layer of `model` the shape and state that `specs` say, with values of zero: the model
/// that a record of the model they were taken from can be loaded into.
///
/// ```ignore
/// let (small, _) = compact(model);
/// let specs = layer_specs(&small); // plain `serde` data; save `small` as any module of Burn
/// // later
/// let small = restore_layers(Mlp::new(&device), &specs)?.load_record(record);
/// ```
///
/// # Errors
/// If a layer is in only one of `model` and `specs`, or a state is impossible.
pub fn restore_layers<M: Compressible>(mut model: M, specs: &[LayerSpec]) -> Result<M> {
    let names = linear_names(&model);
    let known = |name: &String| specs.iter().any(|spec| spec.name == *name);
    if let Some(name) = names.iter().find(|name| !known(name)) {
        let message = "has no state among those given: they are another model's";
        return Err(Error::layer(name, message));
    }
    for spec in specs {
        if !names.contains(&spec.name) {
            let message = "has a state, but the model has no such layer: it is another model's";
            return Err(Error::layer(&spec.name, message));
        }
        spec.validate()?;
    }
    let mut result = Ok(());
    model.for_each_linear_mut(&mut |name, linear| {
        let device = Module::devices(linear).into_iter().next().unwrap_or_default();
        if let Some(spec) = specs.iter().find(|spec| spec.name == name) {
            match spec.zeros(&device) {
                Ok(zeros) => *linear = zeros,
                Err(error) => result = Err(error),
            }
        }
    });
    result.map(|()| model)
}

impl LayerSpec {
    fn validate(&self) -> Result<()> {
        let (d_input, d_output) = (self.d_input, self.d_output);
        // Kept neurons or inputs, out of how many; the low-rank part is of the others.
        let (kept, groups, rank) = match self.state {
            LayerState::Dense => (0, 1, 0),
            LayerState::LowRankSparse { rank, sparse } => {
                (0, usize::from(rank > 0 || sparse), rank)
            }
            LayerState::Compact { kept, rank, .. } | LayerState::Quantized { kept, rank, .. } => {
                (kept, d_output, rank)
            }
            LayerState::InputCompact { kept, rank } => (kept, d_input, rank),
        };
        let possible = kept <= groups && groups > 0 && (rank == 0 || kept < groups);
        if possible && d_input > 0 && d_output > 0 {
            return Ok(());
        }
        let message = format!("cannot be {d_input} x {d_output} as {:?}", self.state);
        Err(Error::layer(&self.name, message))
    }

    /// A layer of this shape and state, all zeros.
    fn zeros(&self, device: &Device) -> Result<CompressibleLinear> {
        let bias = self.bias.then(|| Tensor::zeros([self.d_output], device));
        let order = match self.state {
            LayerState::InputCompact { .. } => self.d_input,
            _ => self.d_output,
        };
        let order = Some((0..order as i64).collect());
        let zeros = |_: &str, shape| Ok(Tensor::zeros(shape, device));
        self.state.build([self.d_input, self.d_output], bias, order, &zeros)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linear::CompressibleLinearConfig;
    use burn::store::ModuleRecord;
    use burn::tensor::{Distribution, Int};

    #[derive(Module, Debug)]
    struct Layers {
        layers: Vec<CompressibleLinear>,
    }

    impl Compressible for Layers {
        fn for_each_linear_mut(&mut self, f: &mut dyn FnMut(&str, &mut CompressibleLinear)) {
            for (at, layer) in self.layers.iter_mut().enumerate() {
                f(&format!("layers.{at}"), layer);
            }
        }
    }

    fn random(shape: [usize; 2]) -> Tensor<2> {
        Tensor::random(shape, Distribution::Uniform(-1.0, 1.0), &Device::default())
    }

    fn fresh() -> Layers {
        let layers = (0..6).map(|_| CompressibleLinearConfig::new(6, 6).init(&Device::default()));
        Layers { layers: layers.collect() }
    }

    /// One layer of every state.
    fn compressed() -> Layers {
        let mut model = fresh();
        let bias = || Some(random([1, 6]).reshape([6]));
        let folded = CompactLinear::new(
            random([6, 2]),
            Some((random([6, 1]), random([1, 4]))),
            bias(),
            &[1, 4],
            6,
        );
        let first_two = CompactLinear::new(random([6, 2]), None, None, &[0, 1], 6);
        let inputs = InputCompactLinear::new(
            random([2, 6]),
            Some((random([4, 1]), random([1, 6]))),
            bias(),
            &[2, 5],
            6,
        );
        let low_rank = LowRank { right: leaf(random([6, 2])), left: leaf(random([2, 6])) };
        let training = LowRankSparseLinear::new(Some(low_rank), Some(leaf(random([6, 6]))), None);
        model.layers[1] = CompressibleLinear::Compact(folded);
        model.layers[2] = CompressibleLinear::Compact(first_two);
        model.layers[3] = CompressibleLinear::InputCompact(inputs);
        model.layers[4] = CompressibleLinear::LowRankSparse(training);
        model.layers[5] = model.layers[1].clone().quantize();
        model
    }

    fn outputs(model: &Layers) -> Vec<f32> {
        let x = Tensor::<1, Int>::arange(0..18, &Device::default()).float().reshape([3, 6]);
        let outputs = model.layers.iter().map(|layer| layer.forward(x.clone()));
        Tensor::cat(outputs.collect(), 0).into_data().try_into_vec().unwrap()
    }

    #[test]
    fn a_record_of_a_compressed_model_loads_into_a_fresh_one_of_its_states() {
        let model = compressed();
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("small.bpk");
        model.clone().into_record().save(&file).unwrap();
        let text = serde_json::to_string(&layer_specs(&model)).unwrap();
        assert!(text.contains(r#""form":"folded""#), "{text}");
        #[cfg(feature = "flex")]
        assert!(text.contains(r#""form":"int8""#), "{text}");
        let specs: Vec<LayerSpec> = serde_json::from_str(&text).unwrap();
        assert_eq!(specs, layer_specs(&model));

        let loaded = restore_layers(fresh(), &specs).unwrap();
        assert_eq!(layer_specs(&loaded), specs);
        assert_ne!(outputs(&loaded), outputs(&model));
        let loaded = loaded.try_load_record(ModuleRecord::load(&file).unwrap()).unwrap();
        assert_eq!(outputs(&loaded), outputs(&model));
    }

    #[test]
    fn a_layer_shows_its_state_and_sizes() {
        let shown = compressed().layers[1].to_string();
        for part in ["state: compact", "d_input: 6", "d_output: 6", "rank: 1", "kept: 2"] {
            assert!(shown.contains(part), "{shown}");
        }
    }

    #[test]
    fn states_of_another_model_and_impossible_ones_are_refused() {
        let specs = layer_specs(&compressed());
        let message = |specs: &[LayerSpec]| restore_layers(fresh(), specs).unwrap_err().to_string();
        assert!(message(&specs[1..]).contains("layers.0: has no state"));
        let mut more = specs.clone();
        more.push(LayerSpec { name: "head".into(), ..specs[0].clone() });
        assert!(message(&more).contains("head: has a state"));
        for state in [
            LayerState::Compact { kept: 7, rank: 0, ordered: true },
            LayerState::Compact { kept: 6, rank: 1, ordered: false },
            LayerState::InputCompact { kept: 6, rank: 2 },
            LayerState::LowRankSparse { rank: 0, sparse: false },
        ] {
            let mut wrong = specs.clone();
            wrong[0].state = state;
            assert!(message(&wrong).contains("layers.0: cannot be 6 x 6"), "{state:?}");
        }
    }
}
