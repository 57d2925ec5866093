//! The forms of a model's layers, for a record of theirs to be loaded.

use burn::module::{Module, Param, ParamId};
use burn::nn::Linear;
use burn::tensor::{Device, Int, Tensor};
use serde::{Deserialize, Serialize};

use crate::linear::{
    ColumnCompactLinear, CompactLinear, Compressible, CompressibleLinear, LowRank,
    LowRankSparseLinear, leaf,
};
use crate::{Error, Result};

/// The form of one layer, as [`layer_forms`] finds it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerForm {
    /// Full name of the layer.
    pub name: String,
    /// Number of inputs, as stored.
    pub d_input: usize,
    /// Number of outputs, as stored.
    pub d_output: usize,
    /// Whether it has a bias.
    pub bias: bool,
    /// What it is made of.
    #[serde(flatten)]
    pub parts: LayerParts,
}

/// What a layer is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "form", rename_all = "kebab-case")]
pub enum LayerParts {
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
    Folded {
        /// Kept neurons.
        kept: usize,
        /// Rank of the others'.
        rank: usize,
        /// Whether outputs are put in order.
        ordered: bool,
    },
    /// Kept input columns folded, the others low-rank.
    ColumnFolded {
        /// Kept columns.
        kept: usize,
        /// Rank of the others'.
        rank: usize,
    },
}

/// The forms of all layers of `model`, to be stored beside its record (they are plain `serde` data).
pub fn layer_forms<M: Compressible>(model: &M) -> Vec<LayerForm> {
    let mut forms = Vec::new();
    model.for_each_linear(&mut |name, linear| {
        let [d_input, d_output] = linear.dims();
        let parts = match linear {
            CompressibleLinear::Dense(_) => LayerParts::Dense,
            CompressibleLinear::LowRankSparse(layer) => {
                LayerParts::LowRankSparse { rank: layer.rank(), sparse: layer.sparse.is_some() }
            }
            CompressibleLinear::Compact(layer) => LayerParts::Folded {
                kept: layer.kept,
                rank: layer.rank(),
                ordered: layer.order.is_some(),
            },
            CompressibleLinear::ColumnCompact(layer) => {
                LayerParts::ColumnFolded { kept: layer.kept, rank: layer.rank() }
            }
        };
        let bias = linear.bias().is_some();
        forms.push(LayerForm { name: name.to_string(), d_input, d_output, bias, parts });
    });
    forms
}

/// Gives every layer of `model` its form in `forms`, with values of zero: a model that a record of
/// the model they were taken from can be loaded into.
///
/// ```ignore
/// let (small, _) = compact(model);
/// let forms = layer_forms(&small); // write them down, and save `small` as any module of Burn
/// // later
/// let mut model = Mlp::new(&device);
/// restore_forms(&mut model, &forms)?;
/// let small = model.load_record(record);
/// ```
///
/// # Errors
/// If a layer is in only one of `model` and `forms`, or a form is impossible. The model is then as it
/// was.
pub fn restore_forms<M: Compressible>(model: &mut M, forms: &[LayerForm]) -> Result<()> {
    let mut names = Vec::new();
    model.for_each_linear(&mut |name, _| names.push(name.to_string()));
    let known = |name: &String| forms.iter().any(|form| form.name == *name);
    if let Some(name) = names.iter().find(|name| !known(name)) {
        return Err(Error::layer(name, "has no form among those given: they are another model's"));
    }
    for form in forms {
        if !names.contains(&form.name) {
            let message = "has a form, but the model no such layer: it is another one's";
            return Err(Error::layer(&form.name, message));
        }
        form.validate()?;
    }
    model.for_each_linear_mut(&mut |name, linear| {
        let device = Module::devices(linear).into_iter().next().unwrap_or_default();
        if let Some(form) = forms.iter().find(|form| form.name == name) {
            *linear = form.zeros(&device);
        }
    });
    Ok(())
}

impl LayerForm {
    fn validate(&self) -> Result<()> {
        let (d_input, d_output) = (self.d_input, self.d_output);
        // What is kept of how many; a low-rank part is of the others.
        let (kept, groups, rank) = match self.parts {
            LayerParts::Dense => (0, 1, 0),
            LayerParts::LowRankSparse { rank, sparse } => {
                (0, usize::from(rank > 0 || sparse), rank)
            }
            LayerParts::Folded { kept, rank, .. } => (kept, d_output, rank),
            LayerParts::ColumnFolded { kept, rank } => (kept, d_input, rank),
        };
        let possible = kept <= groups && groups > 0 && (rank == 0 || kept < groups);
        if possible && d_input > 0 && d_output > 0 {
            return Ok(());
        }
        let message = format!("cannot be {d_input} x {d_output} as {:?}", self.parts);
        Err(Error::layer(&self.name, message))
    }

    /// A layer of this form, all zeros.
    fn zeros(&self, device: &Device) -> CompressibleLinear {
        let (d_input, d_output) = (self.d_input, self.d_output);
        let matrix = |rows, columns| leaf(Tensor::<2>::zeros([rows, columns], device));
        let order = |count: usize| {
            let order = Tensor::<1, Int>::arange(0..count as i64, device);
            Param::initialized(ParamId::new(), order)
        };
        let bias = self.bias.then(|| leaf(Tensor::<1>::zeros([d_output], device)));
        match self.parts {
            LayerParts::Dense => {
                CompressibleLinear::Dense(Linear { weight: matrix(d_input, d_output), bias })
            }
            LayerParts::LowRankSparse { rank, sparse } => {
                let low_rank = (rank > 0).then(|| LowRank {
                    right: matrix(d_input, rank),
                    left: matrix(rank, d_output),
                });
                let sparse = sparse.then(|| matrix(d_input, d_output));
                CompressibleLinear::LowRankSparse(LowRankSparseLinear::new(low_rank, sparse, bias))
            }
            LayerParts::Folded { kept, rank, ordered } => {
                CompressibleLinear::Compact(CompactLinear {
                    first: matrix(d_input, kept + rank),
                    left: (rank > 0).then(|| matrix(rank, d_output - kept)),
                    bias,
                    order: ordered.then(|| order(d_output)),
                    kept,
                    d_output,
                    cache: Default::default(),
                })
            }
            LayerParts::ColumnFolded { kept, rank } => {
                CompressibleLinear::ColumnCompact(ColumnCompactLinear {
                    order: order(d_input),
                    right: (rank > 0).then(|| matrix(d_input - kept, rank)),
                    second: matrix(kept + rank, d_output),
                    bias,
                    kept,
                })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::store::ModuleRecord;
    use burn::tensor::Distribution;

    #[derive(Module, Debug)]
    struct Five {
        layers: Vec<CompressibleLinear>,
    }

    impl Compressible for Five {
        fn for_each_linear_mut(&mut self, f: &mut dyn FnMut(&str, &mut CompressibleLinear)) {
            for (at, layer) in self.layers.iter_mut().enumerate() {
                f(&format!("layers.{at}"), layer);
            }
        }
    }

    fn random(shape: [usize; 2]) -> Tensor<2> {
        Tensor::random(shape, Distribution::Uniform(-1.0, 1.0), &Device::default())
    }

    fn fresh() -> Five {
        let layers = (0..5).map(|_| CompressibleLinear::new(6, 6, &Device::default()));
        Five { layers: layers.collect() }
    }

    /// One layer of every form.
    fn compressed() -> Five {
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
        let columns = ColumnCompactLinear::new(
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
        model.layers[3] = CompressibleLinear::ColumnCompact(columns);
        model.layers[4] = CompressibleLinear::LowRankSparse(training);
        model
    }

    fn outputs(model: &Five) -> Vec<f32> {
        let x = Tensor::<1, Int>::arange(0..18, &Device::default()).float().reshape([3, 6]);
        let outputs = model.layers.iter().map(|layer| layer.forward(x.clone()));
        Tensor::cat(outputs.collect(), 0).into_data().try_into_vec().unwrap()
    }

    #[test]
    fn a_record_of_a_compressed_model_loads_into_a_fresh_one_of_its_forms() {
        let model = compressed();
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("small.bpk");
        model.clone().into_record().save(&file).unwrap();
        let text = serde_json::to_string(&layer_forms(&model)).unwrap();
        assert!(text.contains(r#""form":"folded""#), "{text}");
        let forms: Vec<LayerForm> = serde_json::from_str(&text).unwrap();
        assert_eq!(forms, layer_forms(&model));

        let mut loaded = fresh();
        restore_forms(&mut loaded, &forms).unwrap();
        assert_eq!(layer_forms(&loaded), forms);
        assert_ne!(outputs(&loaded), outputs(&model));
        let loaded = loaded.try_load_record(ModuleRecord::load(&file).unwrap()).unwrap();
        assert_eq!(outputs(&loaded), outputs(&model));
    }

    #[test]
    fn forms_of_another_model_and_impossible_ones_change_nothing() {
        let forms = layer_forms(&compressed());
        let message = |forms: &[LayerForm]| {
            let mut model = fresh();
            let message = restore_forms(&mut model, forms).unwrap_err().to_string();
            assert_eq!(layer_forms(&model), layer_forms(&fresh()));
            message
        };
        assert!(message(&forms[1..]).contains("layers.0: has no form"));
        let mut more = forms.clone();
        more.push(LayerForm { name: "head".into(), ..forms[0].clone() });
        assert!(message(&more).contains("head: has a form"));
        for parts in [
            LayerParts::Folded { kept: 7, rank: 0, ordered: true },
            LayerParts::Folded { kept: 6, rank: 1, ordered: false },
            LayerParts::ColumnFolded { kept: 6, rank: 2 },
            LayerParts::LowRankSparse { rank: 0, sparse: false },
        ] {
            let mut wrong = forms.clone();
            wrong[0].parts = parts;
            assert!(message(&wrong).contains("layers.0: cannot be 6 x 6"), "{parts:?}");
        }
    }
}
