//! Importance of the neurons of one layer over the steps, by the functions of [`super::equations`].

use std::sync::Arc;

use burn::module::{Module, Param, ParamId};
use burn::tensor::{Device, Tensor, TensorData};

use super::derived::Derived;
use super::{Importance, NEVER_KEPT, PruningConfig, Reduction, Regrowth, Structure, equations};
use crate::kernels::{ActiveNeurons, SparseGradient};
use crate::linear::to_vec;
use crate::optim;
use crate::random::split_mix_64;

/// Running importance of the `S` of one layer, carried by checkpoints.
///
/// Tensors have the shape of the scores: `[1, d_output]` for neurons, `[d_input, 1]` for inputs, or
/// `[d_input, d_output]` if state is kept per entry.
#[derive(Module, Debug)]
pub struct LayerImportance {
    /// Mean of `I` over the valid steps of the current window, `w`.
    pub window: Param<Tensor<2>>,
    /// Smoothed importance `Ī`; the sum so far for movement, the draw for random importance.
    pub smoothed: Param<Tensor<2>>,
    /// Smoothed uncertainty `Ū`; `None` at `β₂ = 1`.
    pub uncertainty: Option<Param<Tensor<2>>>,
    /// 1 for what is kept so far, 0 for what is pruned for good; only under frozen regrowth. With the
    /// neurons that are kept, for gradients of all of `S` and of only those.
    pub(super) mask: Option<Mask>,
}

type Mask = Derived<Param<Tensor<2>>, [Arc<ActiveNeurons>; 2]>;

/// Shape of the scores of a `[d_input, d_output]` layer.
fn score_shape(structure: Structure, [d_input, d_output]: [usize; 2]) -> [usize; 2] {
    match structure {
        Structure::Neurons => [1, d_output],
        Structure::Inputs => [d_input, 1],
        Structure::Unstructured => [d_input, d_output],
    }
}

/// Entries reduced over the pruned structure.
fn reduce(entries: Tensor<2>, structure: Structure, reduction: Reduction) -> Tensor<2> {
    let dim = match structure {
        Structure::Neurons => 0,
        Structure::Inputs => 1,
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

/// Uniform numbers in `[0, 1)` that depend only on seed, layer and position.
fn random(seed: u64, layer: usize, shape: [usize; 2], device: &Device) -> Tensor<2> {
    // 24 bits are all that an f32 has.
    let draw = |at: usize| {
        let bits = split_mix_64(seed, ((layer as u64) << 40) + at as u64) >> 40;
        bits as f32 / (1 << 24) as f32
    };
    let values: Vec<f32> = (0..shape[0] * shape[1]).map(draw).collect();
    Tensor::from_data(TensorData::new(values, shape), device)
}

/// Evidence of one step about the importance of one layer.
#[allow(clippy::large_enum_variant)] // One a layer, and gone with the step.
pub(super) enum Seen {
    /// The layer took no part in the loss: a gradient of zero.
    Nothing,
    /// The gradient of `S`.
    Gradient(Tensor<2>),
    /// `Σᵢ |s[i, j] · g[i, j]|` of every neuron `j`, or of the active ones.
    Sums(Vec<f32>),
}

/// Whether `Σ |s · ∂loss/∂s|` over each neuron is all that is needed of a step.
pub(super) fn sums_suffice(config: &PruningConfig) -> bool {
    !config.needs_entries()
        && matches!(config.importance, Importance::Sensitivity | Importance::SnipMomentum)
        && config.structure == Structure::Neurons
        && matches!(config.reduction, Reduction::Mean | Reduction::Sum)
}

/// The sample of one step: sensitivity or movement, reduced as far as the criterion allows.
fn sample(
    config: &PruningConfig,
    sparse: &Param<Tensor<2>>,
    columns: Option<&ActiveNeurons>,
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
    let entries = match config.importance {
        Importance::Movement => equations::movement(sparse, gradient),
        _ => equations::sensitivity(sparse, gradient),
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
        let frozen = config.regrowth == Regrowth::Frozen;
        Self {
            window: zeros(),
            smoothed: match config.importance {
                Importance::Random => state(random(config.seed, layer, shape, device)),
                _ => zeros(),
            },
            uncertainty: config.uses_uncertainty().then(zeros),
            mask: frozen.then(|| {
                Derived::new(state(Tensor::ones(score_shape(config.structure, dims), device)))
            }),
        }
    }

    /// Prunes for good where `kept` is zero.
    pub(super) fn freeze(mask: &mut Mask, kept: Tensor<2>) {
        *mask = Derived::new(mask.param().clone().map(|mask| mask * kept));
    }

    /// Neurons that are not pruned for good, under frozen regrowth of neurons; `gathered`: with gradients
    /// of only those.
    pub(super) fn active(&self, gathered: bool) -> Option<&Arc<ActiveNeurons>> {
        let columns = self.mask.as_ref()?.get(|mask| {
            let active = ActiveNeurons::of_mask(&to_vec(mask.val()));
            let gradient = SparseGradient::Gathered;
            [Arc::new(active.clone()), Arc::new(ActiveNeurons { gradient, ..active })]
        });
        Some(&columns[usize::from(gathered)])
    }

    /// Ends a window: `Ī ← β₁ Ī + (1 − β₁) w`, then `Ū ← β₂ Ū + (1 − β₂)|w − Ī|`.
    pub(super) fn close_window(&mut self, config: &PruningConfig) {
        if config.importance != Importance::Sensitivity {
            return;
        }
        let window = self.window.val();
        update(&mut self.smoothed, |smoothed| {
            equations::moving_average(smoothed, window.clone(), config.beta1)
        });
        if let Some(uncertainty) = &mut self.uncertainty {
            let found = equations::uncertainty(window, self.smoothed.val());
            update(uncertainty, |average| equations::moving_average(average, found, config.beta2));
        }
    }

    /// Adds one valid step to a window of `valid` earlier ones; criteria without windows add it to their
    /// sum.
    pub(super) fn observe(
        &mut self,
        config: &PruningConfig,
        sparse: &Param<Tensor<2>>,
        columns: Option<&ActiveNeurons>,
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
        update(&mut self.window, |window| equations::window_mean(window, sample, valid));
    }

    /// One score per neuron, or per input or entry.
    pub(super) fn scores(&self, config: &PruningConfig, sparse: Tensor<2>) -> Tensor<2> {
        let entries = match config.importance {
            Importance::Magnitude => sparse.abs(),
            _ => {
                let uncertainty = self.uncertainty.as_ref().map(|uncertainty| uncertainty.val());
                equations::score(self.smoothed.val(), uncertainty)
            }
        };
        let reduced = config.importance != Importance::Magnitude && !config.needs_entries();
        let scores =
            if reduced { entries } else { reduce(entries, config.structure, config.reduction) };
        match &self.mask {
            // Pruned for good.
            Some(mask) => scores.mask_fill(mask.param().val().equal_scalar(0.0), NEVER_KEPT),
            None => scores,
        }
    }
}
