//! AdamW, in one pass over memory on `flex`.

mod delegate;
mod requests;
mod state;

pub(crate) use delegate::delegate_to_inner_module;
pub(crate) use requests::{Request, step_with};
pub use state::AdamWState;
pub(crate) use state::spread;

use std::sync::Arc;

use burn::config::Config;
use burn::optim::{ModuleOptimizer, Optimizer};
use burn::tensor::{Device, Tensor};

use crate::kernels::ActiveNeurons;

/// AdamW (Loshchilov & Hutter 2019): Burn's, with the same results; on `flex` it makes one pass over
/// weights, gradient and moments instead of fourteen. If neurons are pruned for good, it updates only the
/// others and has moments of only those: see [`crate::pruning::Pruner::optimize`].
#[derive(Clone)]
pub struct AdamW {
    #[cfg(feature = "flex")]
    config: AdamWConfig,
    burns: burn::optim::AdamW,
}

/// Settings of [`AdamW`], used as Burn's; the defaults are PyTorch's, without weight decay as in LoSparse.
///
/// ```
/// let optimizer = losparse::optim::AdamWConfig::new().with_weight_decay(0.01).init();
/// ```
#[derive(Config, Debug, Copy, PartialEq)]
pub struct AdamWConfig {
    /// β₁.
    #[config(default = 0.9)]
    pub beta_1: f32,
    /// β₂.
    #[config(default = 0.999)]
    pub beta_2: f32,
    /// ε.
    #[config(default = 1e-8)]
    pub epsilon: f32,
    /// Decay of the weights, times the learning rate, at every step.
    #[config(default = 0.0)]
    pub weight_decay: f32,
}

impl AdamWConfig {
    /// An optimizer of whole modules.
    pub fn init(&self) -> ModuleOptimizer {
        self.build().into()
    }

    /// An optimizer of single tensors.
    pub fn build(&self) -> AdamW {
        let burns = burn::optim::AdamWConfig::new()
            .with_beta_1(self.beta_1)
            .with_beta_2(self.beta_2)
            .with_epsilon(self.epsilon)
            .with_weight_decay(self.weight_decay)
            .build();
        AdamW {
            #[cfg(feature = "flex")]
            config: *self,
            burns,
        }
    }
}

impl AdamW {
    /// The update in one pass; without one, gives back what it was given.
    #[cfg(feature = "flex")]
    #[allow(clippy::type_complexity, clippy::result_large_err)]
    fn fused<const D: usize>(
        &self,
        rate: f64,
        tensor: Tensor<D>,
        gradient: &Tensor<D>,
        state: Option<AdamWState<D>>,
        request: &Request,
    ) -> Result<(Tensor<D>, AdamWState<D>), (Tensor<D>, Option<AdamWState<D>>)> {
        use burn::optim::AdaptiveMomentumState;

        use crate::kernels::adamw::AdamWStep;
        use crate::kernels::passes::{self, AdamWTask};

        let columns = request.columns.as_ref();
        // Before the first step there are no moments.
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
        let AdamWConfig { beta_1, beta_2, epsilon, weight_decay } = self.config;
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
                    requests::answer(done.sums);
                }
                let [tensor, first, second] = done.tensors;
                Ok((tensor, state_of(time, first, second)))
            }
            Err([tensor, _, _]) if time == 1 => Err((tensor, None)),
            Err([tensor, first, second]) => Err((tensor, Some(state_of(time - 1, first, second)))),
        }
    }

    /// The update by Burn's AdamW; of `columns` alone if there are any.
    fn composed<const D: usize>(
        &self,
        rate: f64,
        tensor: Tensor<D>,
        gradient: Tensor<D>,
        state: Option<AdamWState<D>>,
        columns: Option<Arc<ActiveNeurons>>,
    ) -> (Tensor<D>, Option<AdamWState<D>>) {
        let (updated, others) = match columns.as_deref() {
            None => (tensor, None),
            Some(columns) => {
                let rest = ActiveNeurons { active: columns.others.clone(), ..columns.clone() };
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
        let request = requests::take_request();
        let columns = request.columns.as_ref();
        let state = state.map(|state| state.fit(columns));
        // Not every layer has a gradient of the requested columns alone.
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
