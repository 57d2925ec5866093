//! Requests about single parameters that go along with an optimizer's step.
//!
//! Burn's `ModuleOptimizer` hands an optimizer weights, gradient and state, and nothing of whose they
//! are. [`step`] walks the model with it, and puts what is asked about a parameter where
//! [`super::AdamW`] finds it on the same thread: which of its columns are trained, and whether the
//! importance of the columns is wanted, which costs nothing while weights and gradient are at hand.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use burn::module::{Devices, Flag, Module, ModuleMapper, ModuleVisitor, Param, ParamId};
use burn::optim::lr_scheduler::module_lr_scheduler::ModuleLearningRate;
use burn::optim::{GradientsParams, ModuleOptimizer};
use burn::tensor::{Bool, Device, Int, Tensor};

use crate::kernels::ActiveColumns;

/// What is asked about one matrix.
#[derive(Debug, Clone, Default)]
#[cfg_attr(not(feature = "flex"), allow(dead_code))] // Only `flex` has sums at hand.
pub(crate) struct Request {
    /// The only columns that are trained; the gradient has no others.
    pub columns: Option<Arc<ActiveColumns>>,
    /// Whether `Σᵢ |w[i, j] · g[i, j]|` is wanted, with the new weights.
    pub sums: bool,
}

thread_local! {
    /// About the parameter that is being updated on this thread.
    static REQUEST: RefCell<Request> = RefCell::default();
    static SUMS: RefCell<Option<Vec<f32>>> = const { RefCell::new(None) };
}

/// Takes what is asked about the parameter that is being updated.
pub(super) fn take_request() -> Request {
    REQUEST.take()
}

/// Answers it: a sum for every column that was updated.
#[cfg(feature = "flex")]
pub(super) fn answer(sums: Vec<f32>) {
    SUMS.set(Some(sums));
}

type Sums = HashMap<ParamId, Vec<f32>>;

/// `optimizer.step(rate, model, gradients)` with requests; also the sums that were asked for, of those
/// parameters where the optimizer had them.
pub(crate) fn step<M: Module>(
    optimizer: &mut ModuleOptimizer,
    rate: impl Into<ModuleLearningRate>,
    model: M,
    gradients: GradientsParams,
    requests: HashMap<ParamId, Request>,
) -> (M, Sums) {
    let sums = Arc::new(Mutex::new(Sums::new()));
    let guided = Guided { model, requests: Arc::new(requests), sums: sums.clone() };
    let model = optimizer.step(rate, guided, gradients).model;
    let sums = std::mem::take(&mut *sums.lock().unwrap_or_else(PoisonError::into_inner));
    (model, sums)
}

/// A module that is mapped with a [`Guide`].
#[derive(Debug, Clone)]
struct Guided<M> {
    model: M,
    requests: Arc<HashMap<ParamId, Request>>,
    sums: Arc<Mutex<Sums>>,
}

impl<M: Module> Guided<M> {
    fn with(self, f: impl FnOnce(M) -> M) -> Self {
        Self { model: f(self.model), ..self }
    }
}

impl<M: Module> Module for Guided<M> {
    fn collect_devices(&self, devices: Devices) -> Devices {
        self.model.collect_devices(devices)
    }

    fn fork(self, device: &Device) -> Self {
        self.with(|model| model.fork(device))
    }

    fn to_device(self, device: &Device) -> Self {
        self.with(|model| model.to_device(device))
    }

    fn train(self) -> Self {
        self.with(M::train)
    }

    fn valid(&self) -> Self {
        self.clone().with(|model| model.valid())
    }

    fn materialize(self) -> Self {
        self.with(M::materialize)
    }

    fn visit<Visitor: ModuleVisitor>(&self, visitor: &mut Visitor) {
        self.model.visit(visitor);
    }

    fn map<Mapper: ModuleMapper>(self, mapper: &mut Mapper) -> Self {
        let Self { model, requests, sums } = self;
        let model = model.map(&mut Guide { mapper, requests: &requests, sums: &sums });
        Self { model, requests, sums }
    }
}

/// A mapper with requests about the parameters that it meets.
struct Guide<'a, Mapper> {
    mapper: &'a mut Mapper,
    requests: &'a HashMap<ParamId, Request>,
    sums: &'a Mutex<Sums>,
}

impl<Mapper: ModuleMapper> ModuleMapper for Guide<'_, Mapper> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let id = param.id;
        REQUEST.set(self.requests.get(&id).cloned().unwrap_or_default());
        let param = self.mapper.map_float(param);
        REQUEST.set(Request::default());
        if let Some(found) = SUMS.take() {
            self.sums.lock().unwrap_or_else(PoisonError::into_inner).insert(id, found);
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
