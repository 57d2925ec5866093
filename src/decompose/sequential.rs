//! Compression without training: each layer is decomposed for the inputs that the compressed layers before
//! it give, so that it answers to their errors.
//!
//! ```text
//! pass 1     which layers share an input, and the order in which they are applied; inputs of the first
//! pass n     inputs of the n-th group, with all groups before it compressed
//! ```

use std::collections::{HashMap, HashSet};

use burn::config::Config;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::data_aware::{decompose_for_inputs, output_energies};
use super::svd::{Factors, decompose_matrix};
use super::{Calibration, DecomposeConfig, Rank, layer, ranked_layers};
use crate::linear::{Compressible, CompressibleLinear, LayerSelection, to_vec};
use crate::{Error, Result};

/// Settings of [`decompose_in_order`].
#[derive(Config, Debug, Copy, PartialEq)]
pub struct SequentialConfig {
    /// Share of every layer's weights to keep. At 1 layers stay as they are.
    pub ratio: f64,
    /// Share of the weights in the low-rank part, within `ratio`; neurons that are kept as they are have the
    /// rest. By default all of it.
    pub low_rank_ratio: Option<f64>,
}

/// A layer as [`decompose_in_order`] leaves it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FittedLayer {
    /// Full name.
    pub name: String,
    /// Number of inputs.
    pub d_input: usize,
    /// Number of outputs.
    pub d_output: usize,
    /// Rank of its low-rank part; 0 if the layer stays dense.
    pub rank: usize,
    /// Neurons that are kept as they are.
    pub kept: usize,
    /// `‖W·X − W′·X‖ / ‖W·X‖` over the examples' inputs `X` of the layer, those in the compressed model;
    /// without examples `‖W − W′‖ / ‖W‖`.
    pub error: f64,
    /// Whether examples reached the layer.
    pub measured: bool,
}

impl SequentialConfig {
    fn validate(&self) -> Result<()> {
        if !(self.ratio > 0.0 && self.ratio <= 1.0) {
            let message = format!(
                "{} is not a share of the weights; give more than 0, and at most 1",
                self.ratio
            );
            return Err(Error::option("ratio", message));
        }
        let low_rank = self.low_rank_ratio();
        if !(0.0..=self.ratio).contains(&low_rank) {
            let message = format!("{low_rank} is not within the ratio {}", self.ratio);
            return Err(Error::option("low_rank_ratio", message));
        }
        Ok(())
    }

    fn low_rank_ratio(&self) -> f64 {
        self.low_rank_ratio.unwrap_or(self.ratio)
    }

    /// Rank and kept neurons of a layer, within the ratio if it allows rank 1.
    fn sizes(&self, name: &str, [d_input, d_output]: [usize; 2]) -> Result<[usize; 2]> {
        let low_rank = self.low_rank_ratio();
        let rank = Rank::Within(low_rank).resolve(d_output, d_input)?;
        let elements = (rank * (d_input + d_output)) as f64;
        let budget = self.ratio * (d_input * d_output) as f64;
        let spare = budget - elements;
        let kept = match low_rank < self.ratio && spare > 0.0 {
            // Each is one more row of all inputs, and one less of `L`.
            true => (spare / (d_input - rank) as f64) as usize,
            false => 0,
        };
        if rank == 0 && kept == 0 {
            return Err(Error::layer(
                name,
                "would be empty: rank 0 and no neuron within the ratio",
            ));
        }
        Ok([rank, kept.min(d_output)])
    }
}

/// Compresses the selected dense layers of `model` for good, without training: to low-rank parts that keep
/// their outputs on examples and, if `config` says so, neurons that are kept as they are. Then see
/// [`compact`](crate::compact::compact).
///
/// `forward` applies the model that it is given to the examples, the same ones each time: some hundred are
/// enough; without padding, whose values would count. It is called once for each group of layers with the
/// same input. Layers that it does not reach keep their weights as well as their ranks allow.
///
/// ```
/// use burn::{module::Module, tensor::{Distribution, Tensor}};
/// use losparse::prelude::*;
///
/// #[derive(Module, Debug)]
/// struct Model { up: CompressibleLinear, down: CompressibleLinear }
/// compressible!(Model { up, down });
///
/// # fn main() -> losparse::Result<()> {
/// let device = losparse::device::open("auto")?;
/// let model = Model {
///     up: CompressibleLinearConfig::new(32, 64).init(&device),
///     down: CompressibleLinearConfig::new(64, 32).init(&device),
/// };
/// let examples = Tensor::<2>::random([200, 32], Distribution::Default, &device);
/// let config = SequentialConfig::new(0.5);
/// let (model, layers) = decompose_in_order(model, &LayerSelection::all(), config, |model| {
///     model.down.forward(model.up.forward(examples.clone()));
///     Ok(())
/// })?;
/// let (small, _) = compact(model);
/// assert_eq!(small.up.weight_elements(), 10 * (32 + 64));
/// assert!(layers.iter().all(|layer| layer.error < 0.7));
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// If a share or pattern is impossible, a selected layer is not dense, would be empty or holds a value that is
/// not finite, inputs were not finite, and those of `forward`. The model is lost then: keep a clone, which
/// shares its tensors.
pub fn decompose_in_order<M: Compressible>(
    mut model: M,
    selection: &LayerSelection,
    config: SequentialConfig,
    mut forward: impl FnMut(&M) -> Result<()>,
) -> Result<(M, Vec<FittedLayer>)> {
    config.validate()?;
    // Checks that layers are dense; the ranks are those of `sizes`.
    let any = DecomposeConfig::new(Rank::Fixed(0));
    let layers = ranked_layers(&model, selection, any)?;
    let names: Vec<String> = layers.iter().map(|layer| layer.name.clone()).collect();
    if config.ratio >= 1.0 {
        let whole = layers.into_iter().map(|layer| {
            let (d_input, d_output, kept) = (layer.d_input, layer.d_output, layer.d_output);
            FittedLayer {
                name: layer.name,
                d_input,
                d_output,
                rank: 0,
                kept,
                error: 0.0,
                measured: true,
            }
        });
        return Ok((model, whole.collect()));
    }
    for layer in &layers {
        config.sizes(&layer.name, [layer.d_input, layer.d_output])?;
    }
    let mut calibration =
        Calibration::of_layers(&model, &names.iter().cloned().collect(), &mut forward)?;
    let mut stages = calibration.stages();
    let reached: HashSet<&String> = stages.iter().flatten().collect();
    let rest: Vec<String> = names.iter().filter(|name| !reached.contains(name)).cloned().collect();
    let applied = stages.len();
    stages.extend((!rest.is_empty()).then_some(rest));
    let mut fitted = HashMap::new();
    for (at, stage) in stages.into_iter().enumerate() {
        let stage: HashSet<String> = stage.into_iter().collect();
        if (1..applied).contains(&at) {
            calibration = Calibration::of_layers(&model, &stage, &mut forward)?;
        }
        fitted.extend(fit(&mut model, &stage, config, &calibration)?);
    }
    let fitted = names.iter().filter_map(|name| fitted.remove(name)).collect();
    Ok((model, fitted))
}

/// Puts its approximation in place of every layer in `stage`.
fn fit<M: Compressible>(
    model: &mut M,
    stage: &HashSet<String>,
    config: SequentialConfig,
    calibration: &Calibration,
) -> Result<HashMap<String, FittedLayer>> {
    let mut weights = Vec::new();
    model.for_each_linear(&mut |name, linear| {
        if let CompressibleLinear::Dense(dense) = linear
            && stage.contains(name)
        {
            weights.push((name.to_string(), linear.dims(), to_vec(dense.weight.val())));
        }
    });
    let done = weights.into_par_iter().map(|(name, dims, weight)| {
        let moments = calibration.moments(&name);
        let (factors, kept, error) = fit_matrix(&name, &weight, dims, config, moments.as_deref())?;
        let ([d_input, d_output], rank) = (dims, factors.rank);
        let measured = moments.is_some();
        let fitted =
            FittedLayer { name: name.clone(), d_input, d_output, rank, kept, error, measured };
        Ok((name, (factors, fitted)))
    });
    let mut done: HashMap<String, (Factors, FittedLayer)> = done.collect::<Result<_>>()?;
    let mut all = HashMap::new();
    model.for_each_linear_mut(&mut |name, linear| {
        if let CompressibleLinear::Dense(dense) = &*linear
            && let Some((factors, fitted)) = done.remove(name)
        {
            let with_sparse = fitted.kept > 0;
            *linear = CompressibleLinear::LowRankSparse(layer(dense, factors, with_sparse));
            all.insert(name.to_string(), fitted);
        }
    });
    Ok(all)
}

/// Low-rank part and kept neurons of `weight = Wᵀ: [d_input, d_output]` for inputs with the second moments
/// `moments`, or without for the weights themselves; the number of kept neurons; the relative error.
fn fit_matrix(
    name: &str,
    weight: &[f32],
    dims: [usize; 2],
    config: SequentialConfig,
    moments: Option<&[f32]>,
) -> Result<(Factors, usize, f64)> {
    let [d_input, d_output] = dims;
    let [rank, kept] = config.sizes(name, dims)?;
    let decompose = |weight: &[f32]| match moments {
        Some(moments) => decompose_for_inputs(name, weight, dims, rank, moments),
        None => decompose_matrix(name, weight, d_input, d_output, rank),
    };
    let mut factors = decompose(weight)?;
    let mut is_kept = vec![false; d_output];
    if kept > 0 {
        // Those that the low-rank part says least about.
        let missed = output_energies(&factors.sparse, dims, moments);
        let mut order: Vec<usize> = (0..d_output).collect();
        order.sort_by(|&a, &b| missed[b].total_cmp(&missed[a]).then(a.cmp(&b)));
        order[..kept].iter().for_each(|&at| is_kept[at] = true);
        // The low-rank part is for the others alone.
        let mut others = weight.to_vec();
        zero_columns(&mut others, &is_kept);
        factors = decompose(&others)?;
        for (at, value) in factors.sparse.iter_mut().enumerate() {
            *value += weight[at] - others[at];
        }
    }
    let mut missed = factors.sparse.clone();
    zero_columns(&mut missed, &is_kept);
    let energy = |matrix: &[f32]| output_energies(matrix, dims, moments).iter().sum::<f64>();
    let (all, missed) = (energy(weight), energy(&missed));
    let error = if all > 0.0 { (missed / all).sqrt() } else { 0.0 };
    let others: Vec<bool> = is_kept.iter().map(|kept| !kept).collect();
    zero_columns(&mut factors.sparse, &others);
    Ok((factors, kept, error))
}

/// Zeroes the columns `which` of a matrix, row by row.
fn zero_columns(matrix: &mut [f32], which: &[bool]) {
    for row in matrix.chunks_exact_mut(which.len().max(1)) {
        row.iter_mut().zip(which).filter(|(_, zero)| **zero).for_each(|(value, _)| *value = 0.0);
    }
}
