//! AdamW in one pass over memory where a backend has it.

pub(crate) mod guide;
mod state;

pub use state::AdamWState;
pub(crate) use state::spread;

use std::sync::Arc;

use burn::optim::{AdamWConfig, Optimizer};
use burn::tensor::{Device, Tensor};

use crate::kernels::ActiveColumns;

/// AdamW (Loshchilov & Hutter 2019): Burn's, with the same results; on `flex` one pass over weights,
/// gradient and moments instead of fourteen. Of a matrix whose pruned columns are pruned for good, it
/// updates the others alone and has moments of those alone: see
/// [`crate::pruning::Pruner::with_adamw`].
///
/// ```ignore
/// let optimizer: ModuleOptimizer = AdamW::new(AdamWSettings::default()).into();
/// ```
#[derive(Clone)]
pub struct AdamW {
    #[cfg(feature = "flex")]
    settings: AdamWSettings,
    burns: burn::optim::AdamW,
}

/// Settings of [`AdamW`]; the defaults are PyTorch's, without weight decay as in LoSparse.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamWSettings {
    /// β₁.
    pub beta_1: f32,
    /// β₂.
    pub beta_2: f32,
    /// ε.
    pub epsilon: f32,
    /// Decay of the weights, times the learning rate, at every step.
    pub weight_decay: f32,
}

impl Default for AdamWSettings {
    fn default() -> Self {
        Self { beta_1: 0.9, beta_2: 0.999, epsilon: 1e-8, weight_decay: 0.0 }
    }
}

impl AdamW {
    /// An optimizer with these settings.
    pub fn new(settings: AdamWSettings) -> Self {
        let burns = AdamWConfig::new()
            .with_beta_1(settings.beta_1)
            .with_beta_2(settings.beta_2)
            .with_epsilon(settings.epsilon)
            .with_weight_decay(settings.weight_decay)
            .build();
        Self {
            #[cfg(feature = "flex")]
            settings,
            burns,
        }
    }

    /// The update in one pass; what it was given where there is none.
    #[cfg(feature = "flex")]
    #[allow(clippy::type_complexity, clippy::result_large_err)] // What it was given, given back.
    fn fused<const D: usize>(
        &self,
        rate: f64,
        tensor: Tensor<D>,
        gradient: &Tensor<D>,
        state: Option<AdamWState<D>>,
        request: &guide::Request,
    ) -> Result<(Tensor<D>, AdamWState<D>), (Tensor<D>, Option<AdamWState<D>>)> {
        use burn::optim::AdaptiveMomentumState;

        use crate::kernels::adamw::AdamWStep;
        use crate::kernels::passes::{self, AdamWTask};

        let columns = request.columns.as_ref();
        // Without an earlier step there are no moments: zeros, once.
        let state = match state {
            Some(state) if state.momentum.max_moment_2.is_some() => {
                return Err((tensor, Some(state)));
            }
            Some(state) => state.momentum,
            None if tensor.is_autodiff() || !passes::is_whole(&tensor) => {
                return Err((tensor, None));
            }
            None => {
                let zeros = || Tensor::zeros(gradient.dims(), (&tensor.device(), tensor.dtype()));
                AdaptiveMomentumState::new(0, zeros(), zeros())
            }
        };
        let AdamWSettings { beta_1, beta_2, epsilon, weight_decay } = self.settings;
        let time = state.time + 1;
        let power = |beta: f32| 1.0 - beta.powi(time as i32);
        let step = AdamWStep {
            rate: rate as f32,
            keep: (1.0 - rate * f64::from(weight_decay)) as f32,
            betas: [beta_1, beta_2],
            corrections: [power(beta_1), power(beta_2)],
            epsilon,
        };
        let task = AdamWTask { columns: columns.map(Arc::as_ref), sums: request.sums };
        let state_of = |time, first, second| AdamWState {
            momentum: AdaptiveMomentumState::new(time, first, second),
            columns: columns.cloned(),
        };
        match passes::adamw([tensor, state.moment_1, state.moment_2], gradient, step, task) {
            Ok(done) => {
                if request.sums {
                    guide::answer(done.sums);
                }
                let [tensor, first, second] = done.tensors;
                Ok((tensor, state_of(time, first, second)))
            }
            Err([tensor, _, _]) if time == 1 => Err((tensor, None)),
            Err([tensor, first, second]) => Err((tensor, Some(state_of(time - 1, first, second)))),
        }
    }

    /// The update by Burn's AdamW, of the columns alone if such are given.
    fn composed<const D: usize>(
        &self,
        rate: f64,
        tensor: Tensor<D>,
        gradient: Tensor<D>,
        state: Option<AdamWState<D>>,
        columns: Option<Arc<ActiveColumns>>,
    ) -> (Tensor<D>, Option<AdamWState<D>>) {
        let (updated, others) = match columns.as_deref() {
            None => (tensor, None),
            Some(columns) => {
                let rest = ActiveColumns { active: columns.others.clone(), ..columns.clone() };
                (state::take(tensor.clone(), columns), Some(state::take(tensor, &rest)))
            }
        };
        let state = state.map(|state| burn::optim::AdamWState::new(state.momentum));
        let (updated, state) = self.burns.step(rate, updated, gradient, state);
        let tensor = match (columns.as_deref(), others) {
            (Some(columns), Some(others)) => state::join(updated, others, columns),
            _ => updated,
        };
        (tensor, state.map(|state| AdamWState { momentum: state.momentum, columns }))
    }
}

impl Optimizer for AdamW {
    type State<const D: usize> = AdamWState<D>;

    fn step<const D: usize>(
        &self,
        rate: f64,
        tensor: Tensor<D>,
        gradient: Tensor<D>,
        state: Option<Self::State<D>>,
    ) -> (Tensor<D>, Option<Self::State<D>>) {
        let request = guide::take_request();
        let columns = request.columns.as_ref();
        let state = state.map(|state| state.fit(columns));
        // A gradient of all columns where some are asked for: of a layer that has no other.
        let gradient = match columns {
            Some(columns) if gradient.dims() == tensor.dims() => state::take(gradient, columns),
            _ => gradient,
        };
        #[cfg(feature = "flex")]
        let (tensor, state) = match self.fused(rate, tensor, &gradient, state, &request) {
            Ok((tensor, state)) => return (tensor, Some(state)),
            Err(given) => given,
        };
        self.composed(rate, tensor, gradient, state, request.columns)
    }

    fn to_device<const D: usize>(state: Self::State<D>, device: &Device) -> Self::State<D> {
        AdamWState { momentum: state.momentum.to_device(device), ..state }
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests;
