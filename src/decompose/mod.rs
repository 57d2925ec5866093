//! Initialisation by truncated SVD: `W ≈ L·R`, `S = W − L·R` (Li et al. 2023, algorithm 1). Begin with
//! [`decompose`]; the SVD itself is in `svd.rs`.

mod lanczos;
mod rank;
mod reparameterize;
mod svd;
#[cfg(test)]
mod tests;

pub use rank::Rank;
pub use reparameterize::{AddLowRank, reparameterize};
#[cfg(feature = "plots")]
pub(crate) use svd::singular_values;
pub use svd::{Factors, decompose_matrix};

use std::collections::HashSet;

use burn::config::Config;
use burn::nn::Linear;
use burn::tensor::{Device, Tensor, TensorData};
use rayon::prelude::*;
use serde::Serialize;

use crate::linear::{
    Compressible, CompressibleLinear, LayerSelection, LowRank, LowRankSparseLinear, leaf, to_vec,
};
use crate::{Error, Result};

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
    let layer = |job: Job| RankedLayer {
        name: job.name,
        d_input: job.d_input,
        d_output: job.d_output,
        rank: job.rank,
    };
    Ok(jobs(model, selection, config, false)?.into_iter().map(layer).collect())
}

/// Turns the selected dense layers of `model` into `L·R + S`; the model computes the same as before
/// (unless `config.sparse` is off). Weights are read once, and all matrices decomposed in parallel. All
/// parts are trained, those of a layer that was frozen too: freeze them anew.
///
/// # Errors
/// If a pattern matches nothing, or a selected layer is not dense, has rank 0 without a sparse part
/// or holds a value that is not finite. The model is lost then: keep a clone, which shares its tensors.
pub fn decompose<M: Compressible>(
    model: M,
    selection: &LayerSelection,
    config: DecomposeConfig,
) -> Result<(M, Vec<Decomposed>)> {
    let done = jobs(&model, selection, config, true)?
        .into_par_iter()
        .map(|Job { name, weight, d_input, d_output, rank }| {
            let factors = decompose_matrix(&name, &weight, d_input, d_output, rank)?;
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
        .map(|Job { name, d_input, d_output, rank, .. }| {
            (name, Factors::zeros(d_input, d_output, rank))
        })
        .collect();
    Ok(replace(model, done, config))
}

/// The decompositions of the selected layers of `model`; `weights`: with their values.
fn jobs<M: Compressible>(
    model: &M,
    selection: &LayerSelection,
    config: DecomposeConfig,
    weights: bool,
) -> Result<Vec<Job>> {
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
            report.push(Decomposed {
                name,
                d_input: factors.d_input,
                d_output: factors.d_output,
                rank: factors.rank,
                residual: factors.residual,
            });
            let device = dense.weight.lazy_device();
            let decomposed = layer(dense, factors, config.sparse, &device);
            *linear = CompressibleLinear::LowRankSparse(decomposed);
        }
    });
    (model, report)
}

struct Job {
    name: String,
    weight: Vec<f32>,
    d_input: usize,
    d_output: usize,
    rank: usize,
}

fn job(
    name: &str,
    linear: &CompressibleLinear,
    config: DecomposeConfig,
    weights: bool,
) -> Result<Job> {
    let CompressibleLinear::Dense(dense) = linear else {
        return Err(Error::layer(name, format!("is {} already, not dense", linear.state())));
    };
    let [d_input, d_output] = linear.dims();
    let rank = config.rank.resolve(d_output, d_input)?;
    if rank == 0 && !config.sparse {
        return Err(Error::layer(name, "would be empty: rank 0 and no sparse part"));
    }
    let weight = if weights { to_vec(dense.weight.val()) } else { Vec::new() };
    Ok(Job { name: name.to_string(), weight, d_input, d_output, rank })
}

fn layer(dense: &Linear, factors: Factors, sparse: bool, device: &Device) -> LowRankSparseLinear {
    let device = &device.clone().without_autodiff();
    // A model that is being trained goes on being trained.
    let weight = dense.weight.val();
    let (training, dtype) = (weight.is_autodiff(), weight.dtype());
    let param = |values: Vec<f32>, shape: [usize; 2]| {
        let tensor = Tensor::<2>::from_data(TensorData::new(values, shape), (device, dtype));
        leaf(if training { Tensor::from_inner(tensor) } else { tensor })
    };
    let Factors { d_input, d_output, rank, right, left, sparse: rest, .. } = factors;
    let low_rank = (rank > 0).then(|| LowRank {
        right: param(right, [d_input, rank]),
        left: param(left, [rank, d_output]),
    });
    let sparse = sparse.then(|| param(rest, [d_input, d_output]));
    LowRankSparseLinear::new(low_rank, sparse, dense.bias.clone())
}
