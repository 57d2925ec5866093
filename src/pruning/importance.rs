//! Importance of one layer's neurons over the steps.

use burn::module::{Module, Param, ParamId};
use burn::tensor::{Device, Tensor, TensorData};

use super::{Importance, NEVER_KEPT, PruningConfig, Reduction, Structure};
use crate::kernels::ActiveColumns;
use crate::optim;
use crate::random::split_mix_64;

/// Running importance of one layer's `S`: state that training carries in its checkpoints.
///
/// Tensors have the shape of the scores: `[1, d_output]` for neurons, `[d_input, 1]` for columns, or
/// `[d_input, d_output]` where state is kept per entry.
#[derive(Module, Debug)]
pub struct LayerImportance {
    /// Mean of `I` over the valid steps of the current window, `w`.
    pub window: Param<Tensor<2>>,
    /// Smoothed importance `Ī`; the sum so far for movement, the draw for random importance.
    pub smoothed: Param<Tensor<2>>,
    /// Smoothed uncertainty `Ū`; `None` at `β₂ = 1`.
    pub uncertainty: Option<Param<Tensor<2>>>,
    /// Kept so far (1) or pruned (0); only under frozen regrowth.
    pub mask: Option<Param<Tensor<2>>>,
}

/// Shape of the scores of a `[d_input, d_output]` layer.
fn score_shape(structure: Structure, [d_input, d_output]: [usize; 2]) -> [usize; 2] {
    match structure {
        Structure::Rows => [1, d_output],
        Structure::Columns => [d_input, 1],
        Structure::Unstructured => [d_input, d_output],
    }
}

/// Entries reduced over the pruned structure.
fn reduce(entries: Tensor<2>, structure: Structure, reduction: Reduction) -> Tensor<2> {
    let dim = match structure {
        Structure::Rows => 0,
        Structure::Columns => 1,
        Structure::Unstructured => return entries,
    };
    match reduction {
        Reduction::Mean => entries.mean_dim(dim),
        Reduction::Sum => entries.sum_dim(dim),
        Reduction::Max => entries.max_dim(dim),
        Reduction::Min => entries.min_dim(dim),
    }
}

fn state(tensor: Tensor<2>) -> Param<Tensor<2>> {
    Param::initialized(ParamId::new(), tensor)
}

fn update(param: &mut Param<Tensor<2>>, f: impl FnOnce(Tensor<2>) -> Tensor<2>) {
    *param = param.clone().map(f);
}

/// Uniform numbers in `[0, 1)` that depend on seed, layer and position only.
fn random(seed: u64, layer: usize, shape: [usize; 2], device: &Device) -> Tensor<2> {
    // 24 bits are all that an f32 has.
    let draw = |at: usize| {
        let bits = split_mix_64(seed, ((layer as u64) << 40) + at as u64) >> 40;
        bits as f32 / (1 << 24) as f32
    };
    let values: Vec<f32> = (0..shape[0] * shape[1]).map(draw).collect();
    Tensor::from_data(TensorData::new(values, shape), device)
}

/// What a step shows of one layer's importance.
#[allow(clippy::large_enum_variant)] // One a layer, and gone with the step.
pub(super) enum Seen {
    /// The layer took no part in the loss: a gradient of zero.
    Nothing,
    /// The gradient of `S`.
    Gradient(Tensor<2>),
    /// `Σᵢ |s[i, j] · g[i, j]|` of every column, or of the active ones.
    Sums(Vec<f32>),
}

/// Whether `Σ |s · ∂loss/∂s|` over each neuron is all that is needed of a step.
pub(super) fn sums_suffice(config: &PruningConfig) -> bool {
    !config.needs_entries()
        && matches!(config.importance, Importance::Sensitivity | Importance::SnipMomentum)
        && config.structure == Structure::Rows
        && matches!(config.reduction, Reduction::Mean | Reduction::Sum)
}

/// What one step adds: `|s · ∂loss/∂s|`, or its criterion's like, reduced as far as it may be.
fn sample(
    config: &PruningConfig,
    sparse: &Param<Tensor<2>>,
    columns: Option<&ActiveColumns>,
    seen: Seen,
) -> Tensor<2> {
    let [rows, _] = sparse.lazy_shape().dims();
    let reduced = |sums: Tensor<2>| match config.reduction {
        Reduction::Mean => sums / rows as f64,
        _ => sums,
    };
    let sparse = sparse.val().inner();
    let gradient = match seen {
        Seen::Nothing => sparse.zeros_like(),
        Seen::Gradient(gradient) => match columns {
            Some(columns) if gradient.dims() != sparse.dims() => optim::spread(gradient, columns),
            _ => gradient,
        },
        Seen::Sums(sums) => {
            let sums = match columns {
                Some(columns) if sums.len() < columns.width() => columns.spread(&sums),
                _ => sums,
            };
            let shape = [1, sums.len()];
            return reduced(Tensor::from_data(TensorData::new(sums, shape), &sparse.device()));
        }
    };
    #[cfg(feature = "flex")]
    if sums_suffice(config)
        && let Some(sums) = crate::kernels::passes::absolute_product_sums(&sparse, &gradient)
    {
        return reduced(sums);
    }
    let product = sparse * gradient;
    let entries = match config.importance {
        Importance::Movement => -product,
        _ => product.abs(),
    };
    match config.needs_entries() {
        true => entries,
        false => reduce(entries, config.structure, config.reduction),
    }
}

impl LayerImportance {
    /// The state of the layer with number `layer` before the first step: all zeros, but random
    /// importance is drawn here.
    pub(crate) fn new(
        config: &PruningConfig,
        layer: usize,
        dims: [usize; 2],
        device: &Device,
    ) -> Self {
        let shape = if config.needs_entries() { dims } else { score_shape(config.structure, dims) };
        let zeros = || state(Tensor::zeros(shape, device));
        let frozen = config.regrowth == super::Regrowth::Frozen;
        Self {
            window: zeros(),
            smoothed: match config.importance {
                Importance::Random => state(random(config.seed, layer, shape, device)),
                _ => zeros(),
            },
            uncertainty: config.uses_uncertainty().then(zeros),
            mask: frozen.then(|| state(Tensor::ones(score_shape(config.structure, dims), device))),
        }
    }

    /// Ends a window: `Ī ← β₁ Ī + (1 − β₁) w`, then `Ū ← β₂ Ū + (1 − β₂)|w − Ī|`.
    pub(crate) fn fold(&mut self, config: &PruningConfig) {
        if config.importance != Importance::Sensitivity {
            return;
        }
        let window = self.window.val();
        update(&mut self.smoothed, |smoothed| {
            smoothed * config.beta1 + window.clone() * (1.0 - config.beta1)
        });
        let smoothed = self.smoothed.val();
        if let Some(uncertainty) = &mut self.uncertainty {
            update(uncertainty, |u| {
                u * config.beta2 + (window - smoothed).abs() * (1.0 - config.beta2)
            });
        }
    }

    /// Adds one valid step to a window of `valid` earlier ones, `w ← (w·k + I)/(k + 1)` with
    /// `I = |s · ∂loss/∂s|`; criteria without windows add it to what they have.
    pub(super) fn observe(
        &mut self,
        config: &PruningConfig,
        sparse: &Param<Tensor<2>>,
        columns: Option<&ActiveColumns>,
        seen: Seen,
        valid: usize,
    ) {
        let sample = sample(config, sparse, columns, seen);
        match config.importance {
            Importance::Movement => return update(&mut self.smoothed, |sum| sum + sample),
            Importance::SnipMomentum => {
                return update(&mut self.smoothed, |sum| sum * config.beta1 + sample);
            }
            _ => {}
        }
        update(&mut self.window, |window| match valid {
            0 => sample,
            k => (window * k as f64 + sample) / (k + 1) as f64,
        });
    }

    /// One score a neuron.
    pub(crate) fn scores(&self, config: &PruningConfig, sparse: Tensor<2>) -> Tensor<2> {
        let entries = match config.importance {
            Importance::Magnitude => sparse.abs(),
            _ => match &self.uncertainty {
                Some(uncertainty) => self.smoothed.val() * uncertainty.val(),
                None => self.smoothed.val(),
            },
        };
        let reduced = config.importance != Importance::Magnitude && !config.needs_entries();
        let scores =
            if reduced { entries } else { reduce(entries, config.structure, config.reduction) };
        match &self.mask {
            // What is frozen stays pruned.
            Some(mask) => scores.mask_fill(mask.val().equal_scalar(0.0), NEVER_KEPT),
            None => scores,
        }
    }
}
