//! The model under training: the user's model with its pruner. [`TrainStep::optimize`] is where
//! pruning happens.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use burn::module::Module;
use burn::optim::lr_scheduler::module_lr_scheduler::ModuleLearningRate;
use burn::optim::{GradientsParams, ModuleOptimizer};
use burn::tensor::{Device, ExecutionError, Tensor};
use burn::train::metric::{Adaptor, LossInput};
use burn::train::{InferenceStep, Interrupter, ItemLazy, TrainOutput, TrainStep};

use super::loaders::TrainItem;
use super::shared_model::Shared;
use crate::Error;
use crate::pruning::{PruneStep, Pruner, Structure, gradient_norm, scale_gradients};
use crate::random::split_mix_64;
use crate::train::checkpoints::Record;
use crate::train::job::{SoftTargets, TrainableModel};
use crate::train::{Event, Observer};

/// A model and its pruner as one module, so that checkpoints carry both.
///
/// Clones share the model: an update of one updates all.
#[derive(Module, Debug)]
pub struct CompressingModel<M: Module> {
    model: Shared<M>,
    pruner: Pruner,
    #[module(skip)]
    run: RunHandle,
}

/// Handle to the state that a training's threads share.
#[derive(Clone)]
pub struct RunHandle(Arc<RunState>);

impl std::fmt::Debug for RunHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RunHandle")
    }
}

struct RunState {
    settings: RunSettings,
    observer: Arc<dyn Observer>,
    interrupter: Interrupter,
    started: Instant,
    /// Losses of the batches of the update under way: the whole, and that on the labels.
    losses: Mutex<Vec<[f64; 2]>>,
    /// Whether a loss of the update under way is not finite.
    poisoned: AtomicBool,
    /// Whether the layers know which neurons are pruned for good.
    announced: AtomicBool,
    record: Mutex<Record>,
    /// Updates done and the optimizer after them, which otherwise only Burn's learner has; an
    /// interrupted run saves it.
    optimizer: Mutex<Option<(usize, ModuleOptimizer)>>,
    failure: Mutex<Option<Error>>,
}

/// Settings of a training step.
#[derive(Debug, Clone)]
pub struct RunSettings {
    /// Seed of dropout.
    pub seed: u64,
    /// Batches in an update.
    pub accumulation: usize,
    /// Gradients of a larger norm are scaled down to it.
    pub max_grad_norm: Option<f64>,
    /// Updates of the whole training.
    pub total_steps: usize,
    /// Batches in one pass over the data.
    pub batches_per_epoch: usize,
    /// Answers of a teacher to the training examples.
    pub targets: Option<SoftTargets>,
}

/// Locks a mutex even if a thread that held it panicked.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl RunHandle {
    /// Makes a handle for a training that begins now.
    pub fn new(
        settings: RunSettings,
        observer: Arc<dyn Observer>,
        interrupter: Interrupter,
    ) -> Self {
        Self(Arc::new(RunState {
            settings,
            observer,
            interrupter,
            started: Instant::now(),
            losses: Mutex::default(),
            poisoned: AtomicBool::new(false),
            announced: AtomicBool::new(false),
            record: Mutex::default(),
            optimizer: Mutex::default(),
            failure: Mutex::default(),
        }))
    }

    /// Records the scores of the first pruning that has any, before it prunes.
    fn note_importance<M: TrainableModel>(&self, pruner: &Pruner, model: &M) {
        let step = pruner.step();
        let config = pruner.config();
        let none = pruner.importance().is_empty() || config.structure == Structure::Unstructured;
        if none || !config.schedule.prunes(step) {
            return;
        }
        let mut record = lock(&self.0.record);
        if record.importance.is_some() {
            return;
        }
        let mut layers = pruner.scores_ahead(model);
        for scores in layers.iter_mut().flat_map(|layer| [&mut layer.kept, &mut layer.pruned]) {
            // JSON cannot hold the others.
            scores.retain(|score| score.is_finite());
        }
        let mut scores = layers.iter().flat_map(|layer| layer.kept.iter().chain(&layer.pruned));
        if scores.any(|score| *score != 0.0) {
            record.importance = Some(Arc::new(layers));
        }
    }

    /// Ends the training with `error`; the first error counts.
    pub fn fail(&self, error: Error) {
        self.0.interrupter.stop(Some(&error.to_string()));
        lock(&self.0.failure).get_or_insert(error);
    }

    /// The error that ended the training, if one did.
    pub fn failure(&self) -> Option<Error> {
        lock(&self.0.failure).take()
    }

    /// Sends an event to the observer.
    pub fn tell(&self, event: &Event) {
        self.0.observer.event(event);
    }

    /// Losses and importance recorded so far.
    pub fn record(&self) -> Record {
        lock(&self.0.record).clone()
    }

    /// Restores the record of an earlier part of the run.
    pub fn set_record(&self, record: Record) {
        *lock(&self.0.record) = record;
    }

    /// Takes the optimizer after the last update, with the number of updates; `None` before the first.
    pub(super) fn take_optimizer(&self) -> Option<(usize, ModuleOptimizer)> {
        lock(&self.0.optimizer).take()
    }

    /// Keeps a handle to the optimizer until its next update; an update while there are two would copy.
    fn keep_optimizer(&self, step: usize, optimizer: &ModuleOptimizer) {
        *lock(&self.0.optimizer) = Some((step, optimizer.clone()));
    }

    /// Takes in the loss of a batch, the whole and that on the labels, which differ if there is a teacher.
    fn observe_loss(&self, losses: [f64; 2]) {
        if !losses[0].is_finite() {
            self.0.poisoned.store(true, Ordering::SeqCst);
        }
        lock(&self.0.losses).push(losses);
    }

    fn tell_step(&self, done: &PruneStep, learning_rate: f64) {
        let state = &self.0;
        let losses = std::mem::take(&mut *lock(&state.losses));
        let mean = |at: usize| {
            losses.iter().map(|loss| loss[at]).sum::<f64>() / losses.len().max(1) as f64
        };
        let [loss, on_labels] = [mean(0), mean(1)];
        let noted = if done.skipped { f64::NAN } else { on_labels };
        lock(&state.record).losses.add(done.step + 1, state.settings.total_steps, noted);
        let batches = (done.step + 1) * state.settings.accumulation;
        self.tell(&Event::Step {
            step: done.step + 1,
            total: state.settings.total_steps,
            epoch: batches as f64 / state.settings.batches_per_epoch as f64,
            loss,
            learning_rate,
            keep_ratio: done.keep_ratio,
            kept: done.kept,
            gradient_norm: done.gradient_norm,
            skipped: done.skipped,
            seconds: state.started.elapsed().as_secs_f64(),
        });
    }
}

/// A step's output for metrics.
#[derive(Debug, Clone)]
pub struct StepOutput<O> {
    /// Loss `[1]`.
    pub loss: Tensor<1>,
    /// The model's answers; `None` in training.
    pub output: Option<O>,
}

impl<O: Send> ItemLazy for StepOutput<O> {
    fn sync(self) -> Result<Self, ExecutionError> {
        self.loss.device().flush()?;
        Ok(Self { loss: self.loss.without_autodiff(), output: self.output })
    }
}

impl<O> Adaptor<LossInput> for StepOutput<O> {
    fn adapt(&self) -> LossInput {
        LossInput::new(self.loss.clone())
    }
}

impl<M: TrainableModel> CompressingModel<M> {
    /// Joins a model and its pruner; the model trains by [`crate::optim::AdamW`].
    pub fn new(model: M, pruner: Pruner, run: RunHandle) -> Self {
        Self { model: Shared::new(model), pruner, run }
    }

    /// Splits into model and pruner.
    pub fn into_parts(self) -> (M, Pruner) {
        (self.model.into_inner(), self.pruner)
    }

    fn device(&self) -> Device {
        Module::devices(&self.model).into_iter().next().unwrap_or_default()
    }

    /// Does one update; skips it if its loss or gradient is not finite.
    fn update(
        mut self,
        optimizer: &mut ModuleOptimizer,
        lr: ModuleLearningRate,
        mut gradients: GradientsParams,
    ) -> Self {
        let run = self.run.clone();
        let rate = lr.base();
        let poisoned = run.0.poisoned.swap(false, Ordering::SeqCst);
        let norm = gradient_norm(&self.model, &gradients).unwrap_or(f64::NAN);
        if poisoned || !norm.is_finite() {
            match self.pruner.skip(norm) {
                Ok(done) => run.tell_step(&done, rate),
                Err(error) => run.fail(error),
            }
            return self;
        }
        if let Some(limit) = run.0.settings.max_grad_norm
            && norm > limit
        {
            scale_gradients(&self.model, &mut gradients, limit / norm);
        }
        let pruner = &mut self.pruner;
        let mut done = self.model.update(|model| {
            pruner.apply(model, optimizer, lr, gradients, |pruner, model| {
                run.note_importance(pruner, model);
            })
        });
        done.gradient_norm = norm;
        run.tell_step(&done, rate);
        self
    }
}

impl<M: TrainableModel> TrainStep for CompressingModel<M> {
    type Input = TrainItem<M::Batch>;
    type Output = StepOutput<M::Output>;

    fn step(&self, item: Self::Input) -> TrainOutput<Self::Output> {
        let settings = &self.run.0.settings;
        // Seeding by the batch's number makes dropout the same in a resumed run.
        self.device().seed(split_mix_64(settings.seed, item.number as u64));
        // A resumed run's layers learn from the pruner which neurons are pruned for good.
        if !self.run.0.announced.swap(true, Ordering::SeqCst) {
            self.model.update(|mut model| {
                self.pruner.announce(&mut model, true);
                (model, ())
            });
        }
        let model = self.model.get();
        let (on_labels, output) = model.forward_loss(item.batch);
        let value = |loss: &Tensor<1>| f64::from(loss.clone().inner().into_scalar::<f32>());
        let (loss, values) = match &settings.targets {
            Some(targets) => {
                let loss = targets.loss::<M>(on_labels.clone(), &output, &item.examples);
                let values = [&loss, &on_labels].map(value);
                (loss, values)
            }
            None => {
                let values = [value(&on_labels); 2];
                (on_labels, values)
            }
        };
        self.run.observe_loss(values);
        // Burn sums the gradients of an update's batches; this makes the sum their mean.
        let share = loss.clone() / settings.accumulation as f64;
        let output = StepOutput { loss: loss.inner(), output: None };
        TrainOutput::new(&model, share.backward(), output)
    }

    fn optimize(
        self,
        optimizer: &mut ModuleOptimizer,
        lr: ModuleLearningRate,
        gradients: GradientsParams,
    ) -> Self {
        drop(self.run.take_optimizer());
        let updated = self.update(optimizer, lr, gradients);
        updated.run.keep_optimizer(updated.pruner.step(), optimizer);
        updated
    }
}

impl<M: TrainableModel> InferenceStep for CompressingModel<M> {
    type Input = M::Batch;
    type Output = StepOutput<M::Output>;

    fn step(&self, batch: M::Batch) -> Self::Output {
        let (loss, output) = self.model.get().evaluate_batch(batch);
        StepOutput { loss, output: Some(output) }
    }
}
