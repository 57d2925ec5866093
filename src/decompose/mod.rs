//! Initialisation by truncated SVD: `W ≈ L·R`, `S = W − L·R` (Li et al. 2023, algorithm 1). Begin with
//! [`decompose`]; the SVD itself is in `svd.rs`. [`decompose_for_inputs`] takes the SVD of `W·C`, with
//! the moments `C·Cᵀ` of the layer's inputs that a [`Calibration`] has measured (`data_aware.rs`).
//! [`decompose_in_order`] does that layer after layer, for a model that is not trained afterwards
//! (`sequential.rs`).

mod calibration;
mod data_aware;
#[cfg(test)]
mod data_aware_tests;
mod lanczos;
mod rank;
mod reparameterize;
mod sequential;
#[cfg(test)]
mod sequential_tests;
mod svd;
#[cfg(test)]
mod tests;

pub use calibration::Calibration;
pub use rank::Rank;
pub use reparameterize::{AddLowRank, reparameterize};
pub use sequential::{FittedLayer, SequentialConfig, decompose_in_order};
#[cfg(feature = "plots")]
pub(crate) use svd::singular_values;
pub use svd::{Factors, decompose_matrix};

use std::collections::HashSet;

use burn::config::Config;
use burn::nn::Linear;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::linear::{
    Compressible, CompressibleLinear, LayerSelection, LowRankSparseLinear, leaf, to_vec,
};
use crate::{Error, Result};

/// Target of the low-rank part before training: it keeps this as well as its rank allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Approximate {
    /// The layer's weights (SVD of `W`), as published.
    #[default]
    Weights,
    /// The layer's outputs on training examples (SVD of `W·C`).
    Outputs,
}

/// Settings of [`decompose`].
#[derive(Config, Debug, Copy, PartialEq)]
pub struct DecomposeConfig {
    /// Rank of the low-rank part.
    pub rank: Rank,
    /// Whether there is a sparse part; without one this is the low-rank baseline.
    #[config(default = true)]
    pub sparse: bool,
}

/// Report of one decomposed layer.
#[derive(Debug, Clone, PartialEq)]
pub struct Decomposed {
    /// Full name of the layer.
    pub name: String,
    /// Number of inputs.
    pub d_input: usize,
    /// Number of outputs.
    pub d_output: usize,
    /// Rank of its low-rank part.
    pub rank: usize,
    /// `‖W − L·R‖ / ‖W‖` (Frobenius): the share that the low-rank part does not explain.
    pub residual: f64,
}

impl Decomposed {
    fn new(name: String, factors: &Factors) -> Self {
        let Factors { d_input, d_output, rank, residual, .. } = *factors;
        Self { name, d_input, d_output, rank, residual }
    }
}

/// A layer that [`decompose`] would take.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RankedLayer {
    /// Full name.
    pub name: String,
    /// Number of inputs.
    pub d_input: usize,
    /// Number of outputs.
    pub d_output: usize,
    /// Rank of its low-rank part.
    pub rank: usize,
}

/// The layers that [`decompose`] would take, in the model's order; weights are not looked at.
///
/// # Errors
/// As [`decompose`], but for values that are not finite.
pub fn ranked_layers<M: Compressible>(
    model: &M,
    selection: &LayerSelection,
    config: DecomposeConfig,
) -> Result<Vec<RankedLayer>> {
    Ok(jobs(model, selection, config, false)?.into_iter().map(|(layer, _)| layer).collect())
}

/// Turns the selected dense layers of `model` into `L·R + S`; the model computes the same as before
/// (unless `config.sparse` is off). Weights are read once, and all matrices decomposed in parallel. All
/// parts are trained, even if the layer was frozen: freeze them again.
///
/// # Errors
/// If a pattern matches nothing, or a selected layer is not dense, has rank 0 without a sparse part
/// or holds a value that is not finite. The model is lost then: keep a clone, which shares its tensors.
pub fn decompose<M: Compressible>(
    model: M,
    selection: &LayerSelection,
    config: DecomposeConfig,
) -> Result<(M, Vec<Decomposed>)> {
    decompose_for_inputs(model, selection, config, &Calibration::default())
}

/// [`decompose`], but the low-rank part of every layer that `calibration` has seen at work keeps the
/// layer's outputs on those inputs as well as its rank allows, in place of its weights.
///
/// # Errors
/// As [`decompose`], and if inputs were not finite.
pub fn decompose_for_inputs<M: Compressible>(
    model: M,
    selection: &LayerSelection,
    config: DecomposeConfig,
    calibration: &Calibration,
) -> Result<(M, Vec<Decomposed>)> {
    let done = jobs(&model, selection, config, true)?
        .into_par_iter()
        .map(|(RankedLayer { name, d_input, d_output, rank }, weight)| {
            let shape = [d_input, d_output];
            let factors = match calibration.moments(&name) {
                Some(moments) => {
                    data_aware::decompose_for_inputs(&name, &weight, shape, rank, &moments)?
                }
                None => decompose_matrix(&name, &weight, d_input, d_output, rank)?,
            };
            Ok((name, factors))
        })
        .collect::<Result<_>>()?;
    Ok(replace(model, done, config))
}

/// [`decompose`] with zeros in place of values: the layers that a checkpoint's record is read into,
/// without the work of a decomposition.
///
/// # Errors
/// As [`decompose`], but weights are not looked at.
pub fn decompose_shapes<M: Compressible>(
    model: M,
    selection: &LayerSelection,
    config: DecomposeConfig,
) -> Result<(M, Vec<Decomposed>)> {
    let done = jobs(&model, selection, config, false)?
        .into_iter()
        .map(|(layer, _)| (layer.name, Factors::zeros(layer.d_input, layer.d_output, layer.rank)))
        .collect();
    Ok(replace(model, done, config))
}

/// The decompositions of the selected layers of `model`; `weights`: with their values.
fn jobs<M: Compressible>(
    model: &M,
    selection: &LayerSelection,
    config: DecomposeConfig,
    weights: bool,
) -> Result<Vec<(RankedLayer, Vec<f32>)>> {
    let selected: HashSet<String> = selection.resolve(model)?.into_iter().collect();
    let mut jobs = Vec::new();
    model.for_each_linear(&mut |name, linear| {
        if selected.contains(name) {
            jobs.push(job(name, linear, config, weights));
        }
    });
    jobs.into_iter().collect()
}

/// Puts the factors, by layer and in traversal order, in place of the dense layers.
fn replace<M: Compressible>(
    mut model: M,
    done: Vec<(String, Factors)>,
    config: DecomposeConfig,
) -> (M, Vec<Decomposed>) {
    let mut report = Vec::with_capacity(done.len());
    let mut done = done.into_iter().peekable();
    model.for_each_linear_mut(&mut |name, linear| {
        if let CompressibleLinear::Dense(dense) = &*linear
            && let Some((name, factors)) = done.next_if(|(next, _)| next == name)
        {
            report.push(Decomposed::new(name, &factors));
            let decomposed = layer(dense, factors, config.sparse);
            *linear = CompressibleLinear::LowRankSparse(decomposed);
        }
    });
    (model, report)
}

fn job(
    name: &str,
    linear: &CompressibleLinear,
    config: DecomposeConfig,
    weights: bool,
) -> Result<(RankedLayer, Vec<f32>)> {
    let CompressibleLinear::Dense(dense) = linear else {
        return Err(Error::layer(name, format!("is {} already, not dense", linear.state())));
    };
    let [d_input, d_output] = linear.dims();
    let rank = config.rank.resolve(d_output, d_input)?;
    if rank == 0 && !config.sparse {
        return Err(Error::layer(name, "would be empty: rank 0 and no sparse part"));
    }
    let weight = if weights { to_vec(dense.weight.val()) } else { Vec::new() };
    Ok((RankedLayer { name: name.to_string(), d_input, d_output, rank }, weight))
}

fn layer(dense: &Linear, factors: Factors, sparse: bool) -> LowRankSparseLinear {
    let (low_rank, rest) = factors.tensors(&dense.weight.val());
    LowRankSparseLinear::new(low_rank, sparse.then(|| leaf(rest)), dense.bias.clone())
}
