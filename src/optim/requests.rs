//! Requests about single parameters that go along with an optimizer's step.
//!
//! Burn's `ModuleOptimizer` hides which optimizer it holds and hands it weights, gradient and state of a
//! parameter without its id. [`step_with`] walks the model along with it, and leaves the request about
//! the parameter that comes next where [`super::AdamW`] finds it, on the same thread, since clones of an
//! optimizer may step in several. Nothing of it outlives the call.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use burn::module::{Flag, Module, ModuleMapper, Param, ParamId};
use burn::optim::lr_scheduler::module_lr_scheduler::ModuleLearningRate;
use burn::optim::{GradientsParams, ModuleOptimizer};
use burn::tensor::{Bool, Int, Tensor};

use super::delegate_to_inner_module;
use crate::kernels::ActiveNeurons;

/// Request about one matrix.
#[derive(Debug, Clone, Default)]
#[cfg_attr(not(feature = "flex"), allow(dead_code))] // Only `flex` has sums at hand.
pub(crate) struct Request {
    /// The only columns that are trained; the gradient has no others.
    pub columns: Option<Arc<ActiveNeurons>>,
    /// Whether to return `Σᵢ |w[i, j] · g[i, j]|`, with the new weights: it costs nothing while weights
    /// and gradient are at hand.
    pub sums: bool,
}

thread_local! {
    /// About the parameter that is being updated on this thread; taken by AdamW.
    static REQUEST: RefCell<Option<Request>> = const { RefCell::new(None) };
    static SUMS: RefCell<Option<Vec<f32>>> = const { RefCell::new(None) };
}

/// Takes the request about the parameter that is being updated.
pub(super) fn take_request() -> Request {
    REQUEST.take().unwrap_or_default()
}

/// Answers it: a sum for every column that was updated.
#[cfg(feature = "flex")]
pub(super) fn answer(sums: Vec<f32>) {
    SUMS.set(Some(sums));
}

/// The parameters with a request that [`super::AdamW`] updated, with the sums if it has them.
pub(crate) type Answers = HashMap<ParamId, Option<Vec<f32>>>;

/// `optimizer.step(rate, model, gradients)` with requests, and the answers to them.
pub(crate) fn step_with<M: Module>(
    optimizer: &mut ModuleOptimizer,
    rate: impl Into<ModuleLearningRate>,
    model: M,
    gradients: GradientsParams,
    requests: HashMap<ParamId, Request>,
) -> (M, Answers) {
    let answers = Arc::new(Mutex::new(Answers::new()));
    let guided = Guided { model, requests: Arc::new(requests), answers: answers.clone() };
    let model = optimizer.step(rate, guided, gradients).model;
    let answers = std::mem::take(&mut *answers.lock().unwrap_or_else(PoisonError::into_inner));
    (model, answers)
}

/// A module that is mapped with a [`Guide`].
#[derive(Debug, Clone)]
struct Guided<M> {
    model: M,
    requests: Arc<HashMap<ParamId, Request>>,
    answers: Arc<Mutex<Answers>>,
}

impl<M: Module> Guided<M> {
    fn model(&self) -> &M {
        &self.model
    }

    fn with(self, f: impl FnOnce(M) -> M) -> Self {
        Self { model: f(self.model), ..self }
    }
}

impl<M: Module> Module for Guided<M> {
    delegate_to_inner_module!(model);

    fn map<Mapper: ModuleMapper>(self, mapper: &mut Mapper) -> Self {
        let Self { model, requests, answers } = self;
        let model = model.map(&mut Guide { mapper, requests: &requests, answers: &answers });
        Self { model, requests, answers }
    }
}

/// A mapper with requests about the parameters that it meets.
struct Guide<'a, Mapper> {
    mapper: &'a mut Mapper,
    requests: &'a HashMap<ParamId, Request>,
    answers: &'a Mutex<Answers>,
}

impl<Mapper: ModuleMapper> ModuleMapper for Guide<'_, Mapper> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let id = param.id;
        let Some(request) = self.requests.get(&id) else { return self.mapper.map_float(param) };
        REQUEST.set(Some(request.clone()));
        let param = self.mapper.map_float(param);
        let (left, sums) = (REQUEST.take(), SUMS.take());
        if left.is_none() {
            self.answers.lock().unwrap_or_else(PoisonError::into_inner).insert(id, sums);
        }
        param
    }

    fn enter_module(&mut self, name: &str, container_type: &str) {
        self.mapper.enter_module(name, container_type);
    }

    fn exit_module(&mut self, name: &str, container_type: &str) {
        self.mapper.exit_module(name, container_type);
    }

    fn map_int<const D: usize>(&mut self, param: Param<Tensor<D, Int>>) -> Param<Tensor<D, Int>> {
        self.mapper.map_int(param)
    }

    fn map_bool<const D: usize>(
        &mut self,
        param: Param<Tensor<D, Bool>>,
    ) -> Param<Tensor<D, Bool>> {
        self.mapper.map_bool(param)
    }

    fn map_flag(&mut self, flag: Param<Flag>) -> Param<Flag> {
        self.mapper.map_flag(flag)
    }
}
