//! `L·R + S` on a Burn model whose code stays as it is.
//!
//! [`reparameterize`] attaches `L` and `R` to the weights of a model's own [`burn::nn::Linear`]
//! layers and leaves `S = W − L·R` as the stored weight: the model's code still asks for
//! `weight.val()` and gets `L·R + S`.
//!
//! - `L`, `R` and `S` are trained by any optimizer, and travel in records.
//! - `S` is an ordinary parameter under the weight's own path and id (`gradients.get(weight.id)`,
//!   `weight.base()`), so it can be scored and masked.
//! - [`Module::materialize`] merges all of it back into one dense weight.
//! - **Not compaction**: the layer stays a `Linear` with a weight of full size, so nothing becomes
//!   smaller or faster. For that use [`crate::linear::CompressibleLinear`] in the model.

use std::collections::{HashMap, HashSet};

use burn::module::{
    Module, ModuleVisitor, Param, Reparameterization, Reparameterizer as BurnReparameterizer,
};
use burn::tensor::Tensor;
use rayon::prelude::*;

use super::{Decomposed, Factors, Rank, decompose_matrix};
use crate::linear::{LayerSelection, LowRank, to_vec};
use crate::{Error, Result};

/// The low-rank part attached to a weight: the effective value is `base + (L·R)ᵀ`.
#[derive(Module, Debug)]
pub struct AddLowRank {
    /// `L` and `R`.
    pub low_rank: LowRank,
}

impl Reparameterization for AddLowRank {
    const NAME: &'static str = "low_rank";

    /// # Shapes
    /// - `base`: `[d_input, d_output]`; it is only ever attached to matrices
    fn apply<const D: usize>(&self, base: Tensor<D>) -> Tensor<D> {
        let shape = base.shape();
        base + self.low_rank.product().reshape(shape)
    }
}

/// Splits every selected `Linear` weight of `model` into `L·R` and `S`; the model computes the same
/// as before. Patterns are those of [`LayerSelection`], on the paths of the layers (`encoder.up`).
///
/// # Errors
/// If a pattern is malformed or selects no `Linear`, the rank is impossible, a weight is not finite,
/// or the model has a reparameterized weight already. The model is lost then: keep a clone, which
/// shares its tensors.
pub fn reparameterize<M: Module>(
    model: M,
    selection: &LayerSelection,
    rank: Rank,
) -> Result<(M, Vec<Decomposed>)> {
    let mut collector = Collector::default();
    model.visit(&mut collector);
    if let Some(layer) = collector.reparameterized {
        return Err(Error::layer(
            layer,
            "its weight is reparameterized already; call materialize() on the model first",
        ));
    }
    let names = collector.weights.iter().map(|(name, _)| name.clone()).collect();
    let selected: HashSet<String> = selection.resolve_names(names)?.into_iter().collect();
    let done: Vec<(String, Factors)> = collector
        .weights
        .par_iter()
        .filter(|(name, _)| selected.contains(name))
        .map(|(name, weight)| {
            let [d_input, d_output] = weight.lazy_shape().dims();
            let rank = rank.resolve(d_output, d_input)?;
            if rank == 0 {
                return Err(Error::option("rank", "is 0; without a low-rank part nothing changes"));
            }
            let values = to_vec(weight.val());
            Ok((name.clone(), decompose_matrix(name, &values, d_input, d_output, rank)?))
        })
        .collect::<Result<_>>()?;
    let report =
        done.iter().map(|(name, factors)| Decomposed::new(name.clone(), factors)).collect();
    // A layer that is the module itself has no name.
    let path = |name: String| match name.as_str() {
        "" => "weight".to_string(),
        name => format!("{name}.weight"),
    };
    let factors = done.into_iter().map(|(name, factors)| (path(name), factors)).collect();
    Ok((model.apply_reparameterization(Reparameterizer { factors }), report))
}

/// Finds the weights of `burn::nn::Linear` layers: an embedding's is a matrix too.
#[derive(Default)]
struct Collector {
    path: Vec<(String, bool)>,
    weights: Vec<(String, Param<Tensor<2>>)>,
    reparameterized: Option<String>,
}

impl ModuleVisitor for Collector {
    fn enter_module(&mut self, name: &str, container_type: &str) {
        if container_type == "Reparameterization" {
            let path: Vec<&str> = self.path.iter().map(|(part, _)| part.as_str()).collect();
            self.reparameterized.get_or_insert(path.join("."));
        }
        self.path.push((name.to_string(), container_type == "Struct:Linear"));
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let Some(((field, true), above)) = self.path.split_last() else { return };
        if D != 2 || field != "weight" {
            return;
        }
        let path: Vec<&str> = above.iter().map(|(part, _)| part.as_str()).collect();
        // `D` is 2 here, which the reshape shows to the compiler.
        let shape: [usize; 2] = param.lazy_shape().dims();
        let weight = Param::initialized(param.id, param.val().detach().reshape(shape));
        self.weights.push((path.join("."), weight));
    }
}

/// Burn's hook: takes each path's factors, leaves every other parameter alone.
struct Reparameterizer {
    factors: HashMap<String, Factors>,
}

impl BurnReparameterizer for Reparameterizer {
    type Reparam = AddLowRank;

    fn reparameterize<const D: usize>(
        &mut self,
        path: &str,
        param: Param<Tensor<D>>,
    ) -> (Param<Tensor<D>>, Option<AddLowRank>) {
        let Some(factors) = self.factors.remove(path) else { return (param, None) };
        let mut low_rank = None;
        let base = param.map(|weight| {
            let (parts, sparse) = factors.tensors(&weight);
            low_rank = parts;
            let trained = weight.is_require_grad() && weight.is_autodiff();
            sparse.reshape(weight.shape()).detach().set_require_grad(trained)
        });
        (base, low_rank.map(|low_rank| AddLowRank { low_rank }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::nn::{Embedding, EmbeddingConfig, Linear, LinearConfig};
    use burn::optim::{AdamWConfig, GradientsParams};
    use burn::tensor::{Device, Distribution, Int};

    /// A module that knows nothing of this crate.
    #[derive(Module, Debug)]
    struct Plain {
        tokens: Embedding,
        up: Linear,
        down: Vec<Linear>,
    }

    impl Plain {
        fn new(device: &Device) -> Self {
            Self {
                tokens: EmbeddingConfig::new(11, 8).init(device),
                up: LinearConfig::new(8, 24).init(device),
                down: vec![LinearConfig::new(24, 6).with_bias(false).init(device)],
            }
        }

        fn forward(&self, ids: Tensor<2, Int>) -> Tensor<3> {
            self.down[0].forward(self.up.forward(self.tokens.forward(ids)).tanh())
        }
    }

    fn ids(device: &Device) -> Tensor<2, Int> {
        Tensor::from_ints([[1, 5, 10], [0, 7, 3]], device)
    }

    fn distance(a: Tensor<3>, b: Tensor<3>) -> f32 {
        let (a, b) = (a.into_data(), b.into_data());
        let (a, b): (Vec<f32>, Vec<f32>) = (a.try_into_vec().unwrap(), b.try_into_vec().unwrap());
        a.iter().zip(&b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
    }

    #[test]
    fn attached_and_merged_outputs_are_those_of_the_dense_model() {
        let device = Device::default();
        let dense = Plain::new(&device);
        let (model, report) =
            reparameterize(dense.clone(), &LayerSelection::all(), Rank::Fixed(3)).unwrap();
        let names: Vec<&str> = report.iter().map(|d| d.name.as_str()).collect();
        assert_eq!(names, ["up", "down.0"], "the embedding is no Linear");
        let adapter = model.up.weight.reparameterization::<AddLowRank>().unwrap();
        assert_eq!(adapter.low_rank.rank(), 3);
        assert_eq!(model.num_params(), dense.num_params() + 3 * (8 + 24) + 3 * (24 + 6));
        assert_eq!(model.up.weight.id, dense.up.weight.id);

        let expected = dense.forward(ids(&device));
        assert!(distance(model.forward(ids(&device)), expected.clone()) < 1e-5);
        let merged = model.materialize();
        assert_eq!(merged.num_params(), dense.num_params());
        assert!(distance(merged.forward(ids(&device)), expected) < 1e-5);
    }

    /// It has no name, and Burn's path to its weight no dot.
    #[test]
    fn a_layer_that_is_the_whole_module_has_its_low_rank_part() {
        let device = Device::default();
        let dense = LinearConfig::new(8, 24).init(&device);
        let (model, report) =
            reparameterize(dense.clone(), &LayerSelection::all(), Rank::Fixed(3)).unwrap();
        assert_eq!(report.len(), 1);
        assert_eq!(model.num_params(), dense.num_params() + 3 * (8 + 24));
        let x = Tensor::<3>::random([2, 3, 8], Distribution::Default, &device);
        assert!(distance(model.forward(x.clone()), dense.forward(x)) < 1e-5);
    }

    #[test]
    fn all_three_parts_are_trained_and_merge() {
        let device = Device::default().autodiff();
        let selection = LayerSelection::new(["up"]);
        let (mut model, _) =
            reparameterize(Plain::new(&device), &selection, Rank::Fixed(2)).unwrap();
        let before = model.clone();
        let mut optimizer = AdamWConfig::new().init();
        let target = Tensor::<3>::random([2, 3, 6], Distribution::Default, &device);
        for _ in 0..3 {
            let loss = (model.forward(ids(&device)) - target.clone()).square().mean();
            let gradients = GradientsParams::from_grads(loss.backward(), &model);
            assert!(gradients.get::<2>(model.up.weight.id).is_some(), "S has a gradient");
            model = optimizer.step(1e-2, model, gradients);
        }
        let parts = |model: &Plain| {
            let adapter = model.up.weight.reparameterization::<AddLowRank>().unwrap();
            [model.up.weight.base(), adapter.low_rank.right.val(), adapter.low_rank.left.val()]
        };
        for (old, new) in parts(&before).into_iter().zip(parts(&model)) {
            assert!((old - new).abs().max().into_scalar::<f32>() > 1e-3);
        }
        let device = device.without_autodiff();
        let trained = model.valid();
        let merged = trained.clone().materialize();
        assert!(merged.up.weight.reparameterization::<AddLowRank>().is_none());
        let difference = distance(trained.forward(ids(&device)), merged.forward(ids(&device)));
        assert!(difference < 1e-5, "{difference}");
    }

    #[test]
    fn patterns_and_states_that_cannot_be_are_errors() {
        let device = Device::default();
        let message = |patterns: &[&str], rank| {
            let selection = LayerSelection::new(patterns.iter().copied());
            reparameterize(Plain::new(&device), &selection, rank).unwrap_err().to_string()
        };
        assert!(message(&["sideways"], Rank::Fixed(2)).contains("`sideways` matches no layer"));
        assert!(
            message(&["tokens"], Rank::Fixed(2)).contains("the model has 2 compressible layers")
        );
        assert!(message(&["up", "!up"], Rank::Fixed(2)).contains("select no layer"));
        assert!(message(&["up"], Rank::Fixed(9)).contains("full rank 8"));
        assert!(message(&["up"], Rank::Fixed(0)).contains("rank"));

        let (once, _) =
            reparameterize(Plain::new(&device), &LayerSelection::new(["up"]), Rank::Fixed(2))
                .unwrap();
        let twice = reparameterize(once, &LayerSelection::all(), Rank::Fixed(2));
        let text = twice.unwrap_err().to_string();
        assert!(text.contains("up") && text.contains("materialize"), "{text}");
    }
}
