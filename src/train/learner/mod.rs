//! One training through Burn's `SupervisedTraining`: set up, launched or resumed, and its result.
//!
//! Begin with [`Training::launch`]. A file for each part that Burn is given. `CompressingModel` is where
//! pruning happens. Uses jobs, checkpoints and recipes, and knows nothing of runs and reports.

mod after_segment;
mod compressing_model;
mod learning_rate;
mod loaders;
mod quiet_renderer;
mod shared_model;
mod task_metric;

use std::path::Path;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use burn::module::Module;
use burn::optim::lr_scheduler::module_lr_scheduler::ModuleLrScheduler;
use burn::store::ModuleRecord;
use burn::tensor::Device;
use burn::train::logger::InMemoryMetricLogger;
use burn::train::metric::LossMetric;
use burn::train::{ExecutionStrategy, Interrupter, Learner, SupervisedTraining, TrainingStrategy};

use self::after_segment::AfterSegment;
pub use self::compressing_model::{CompressingModel, RunHandle, RunSettings};
use self::learning_rate::{LearningRate, LearningRateScheduler};
pub use self::loaders::TrainItem;
use self::loaders::{EvalLoader, TrainLoader};
use self::quiet_renderer::QuietRenderer;
use self::task_metric::{Latest, TaskMetric};
use super::checkpoints::{self, CheckpointState, CheckpointStore};
use super::job::{BatchSource, Evaluator, SoftTargets, TrainableModel};
use super::{Event, Interrupt, Keep, Observer, Segments, TrainingRecipe};
use crate::linear::CompressibleLinear;
use crate::optim::AdamWConfig;
use crate::pruning::{LayerScores, Phase, Pruner, PruningConfig};
use crate::tasks::{BatchOrder, BatchPlan, MetricReport};
use crate::{Error, Result};

/// The contents of a [`CompressingModel`]'s record, to read it without a run.
#[derive(Module, Debug)]
struct Checkpointed<M: Module> {
    model: M,
    pruner: Pruner,
}

/// A training to launch.
pub struct Training<'a, M: TrainableModel, E> {
    /// Settings of the pruner; `None` for plain fine-tuning.
    pub pruning: Option<PruningConfig>,
    /// Training data.
    pub train: BatchSource<M::Batch>,
    /// Answers of a teacher to the training examples.
    pub targets: Option<SoftTargets>,
    /// Evaluation data.
    pub eval: BatchSource<M::Batch>,
    /// Scores the evaluations.
    pub evaluator: E,
    /// Settings, with the learning rate set; its default is that of fine-tuning.
    pub recipe: &'a TrainingRecipe,
    /// How the training is cut.
    pub segments: Segments,
    /// Folder of the checkpoints.
    pub checkpoints: &'a Path,
    /// State to start from: the beginning or the last checkpoint.
    pub from: CheckpointState,
    /// Show Burn's dashboard.
    pub tui: bool,
    /// Device to train on.
    pub device: Device,
    /// Receives the training's events.
    pub observer: Arc<dyn Observer>,
    /// Stops the training on request.
    pub interrupt: Interrupt,
}

/// A finished training.
#[cfg_attr(not(feature = "plots"), allow(dead_code))]
pub struct Trained<M> {
    /// The kept model on a plain device, still in training form.
    pub model: M,
    /// Scores of its neurons; empty without pruning.
    pub importance: Vec<LayerScores>,
    /// Scores of neurons before the first pruning; empty without pruning.
    pub importance_before: Vec<LayerScores>,
    /// Every evaluation, with the updates before it.
    pub history: Vec<(usize, MetricReport)>,
    /// Number of evaluations at the final ratio, among which the best is kept.
    pub counted: usize,
    /// Training loss on the labels, without the distance from a teacher: updates done, and the mean loss since
    /// the entry before; at most 200 entries.
    pub history_loss: Vec<(usize, f64)>,
    /// Number of updates.
    pub steps: usize,
    /// Number of updates of the kept model.
    pub kept_step: usize,
    /// Updates skipped because a loss or gradient was not finite.
    pub skipped: usize,
    /// Seconds of training with its evaluations, over all resumptions.
    pub seconds: f64,
}

impl<M: TrainableModel, E: Evaluator<M::Output>> Training<'_, M, E> {
    /// Trains `model` to the end, from the beginning or from a checkpoint. The model is on a plain device,
    /// and decomposed if it is to be pruned; nothing else should hold it, or its weights are copied.
    ///
    /// A run that is stopped writes a checkpoint of the last update.
    ///
    /// # Errors
    /// If a setting is impossible, a checkpoint cannot be read or written, too many updates were not
    /// finite, or the run was stopped.
    pub fn launch(self, mut model: M) -> Result<Trained<M>> {
        let store = CheckpointStore::open(self.checkpoints)?;
        let state = self.starting_state(&store)?;
        let plain = self.device.clone().without_autodiff();
        let total_steps = self.segments.total_steps;
        let mut pruner = Pruner::new_or_idle(&model, self.pruning, total_steps, &plain)?;
        let patience = self.recipe.early_stopping_patience;
        if state.is_done(&self.segments, patience) {
            return self.finish(&store, state, model, pruner, None);
        }
        if state.step > 0 {
            (model, pruner) = self.read_last(&store, state.step, model, pruner)?;
        }
        let interrupter = self.interrupt.for_training();
        let settings = RunSettings {
            seed: self.recipe.seed,
            accumulation: self.recipe.gradient_accumulation,
            max_grad_norm: self.recipe.max_grad_norm,
            total_steps,
            batches_per_epoch: self.segments.batches_per_epoch,
            targets: self.targets.clone(),
        };
        let run = RunHandle::new(settings, self.observer.clone(), (*interrupter).clone());
        run.set_record(state.record());
        let after = AfterSegment {
            segments: self.segments,
            store: store.clone(),
            latest: Latest::default(),
            run: run.clone(),
            state: Arc::new(Mutex::new(state.clone())),
            counts_from: self.counts_from(),
            patience,
            started: Instant::now(),
            seconds_before: state.seconds,
        };
        let observer = self.observer.clone();
        store.on_written(move |step, path| {
            observer.event(&Event::Checkpoint { step, path: path.to_path_buf() });
        });
        let training = self.supervised(&after, &interrupter, &state)?;
        let model = CompressingModel::new(model, pruner, run.clone()).train();
        let optimizer = AdamWConfig {
            beta_1: self.recipe.adam_beta1,
            beta_2: self.recipe.adam_beta2,
            epsilon: self.recipe.adam_epsilon,
            weight_decay: self.recipe.weight_decay,
        };
        let scheduler = LearningRateScheduler::new(self.learning_rate());
        let result = training.launch(Learner::new(model, optimizer.init(), scheduler));
        if let Some(error) = run.failure().or_else(|| store.failure()) {
            return Err(error);
        }
        if let Some(error) = &result.error {
            return Err(Error::Training(error.to_string()));
        }
        // Burn's dashboard can stop the training, too.
        if let Some(stopped) = interrupter.interruption() {
            let reason = stopped.reason.unwrap_or_else(|| "stopped".to_string());
            self.save_interrupted(&store, &after, result.model)?;
            return Err(Error::Interrupted(reason));
        }
        let state = after.state.lock().map(|state| state.clone()).unwrap_or(state);
        let (model, pruner) = result.model.into_parts();
        let step = state.step;
        self.finish(&store, state, model, pruner, Some(step))
    }

    /// Burn's training, set up to continue at `from`.
    fn supervised(
        &self,
        after: &AfterSegment,
        interrupter: &Interrupter,
        from: &CheckpointState,
    ) -> Result<SupervisedTraining<CompressingModel<M>>> {
        let device = self.device.clone().without_autodiff().autodiff();
        let served = Arc::new(AtomicUsize::new(from.segment));
        let plan =
            BatchPlan::sequential_by_length(&self.eval.lengths, self.recipe.eval_batch_size)?;
        let train = TrainLoader {
            source: Arc::new(self.train.clone()),
            order: BatchOrder {
                batch_size: self.recipe.batch_size,
                bucket_batches: self.recipe.bucket_batches,
                seed: self.recipe.seed,
            },
            segments: self.segments,
            served: served.clone(),
            done: from.step,
            device: device.clone(),
            window: 0..usize::MAX,
        };
        let eval = EvalLoader {
            source: Arc::new(self.eval.clone()),
            plan: Arc::new(plan),
            segments: self.segments,
            served,
            device: device.clone(),
            window: 0..usize::MAX,
        };
        let metric = TaskMetric::new(self.evaluator.clone(), after.latest.clone());
        let single = ExecutionStrategy::SingleDevice(device);
        let [model_part, optimizer_part, scheduler_part] = after.store.parts();
        let mut training =
            SupervisedTraining::new(self.checkpoints, Arc::new(train), Arc::new(eval))
                .with_application_logger(None)
                .with_metric_logger(InMemoryMetricLogger::default())
                .with_custom_checkpointers(model_part, optimizer_part, scheduler_part)
                .with_checkpointing_strategy(after.clone())
                .early_stopping(after.clone())
                .with_interrupter(interrupter.clone())
                .with_training_strategy(TrainingStrategy::Default(single))
                .metric_train_numeric(LossMetric::new())
                .metric_valid_numeric(LossMetric::new())
                .metric_valid_numeric(metric)
                .num_epochs(self.segments.count());
        if self.recipe.gradient_accumulation > 1 {
            training = training.grads_accumulation(self.recipe.gradient_accumulation);
        }
        if !self.tui {
            training = training.renderer(Box::new(QuietRenderer));
        }
        if from.step > 0 {
            training = training.checkpoint(from.segment);
        }
        Ok(training)
    }

    /// The state to start from, with its importance. At the beginning, old checkpoints are removed.
    fn starting_state(&self, store: &CheckpointStore) -> Result<CheckpointState> {
        let mut state = self.from.clone();
        match state.step {
            0 => store.clear()?,
            step => state.importance = CheckpointState::read_importance(&store.path(step))?,
        }
        Ok(state)
    }

    /// Reads model and pruner of the checkpoint of `step`, from which Burn will continue.
    fn read_last(
        &self,
        store: &CheckpointStore,
        step: usize,
        model: M,
        pruner: Pruner,
    ) -> Result<(M, Pruner)> {
        store.continue_from(step)?;
        let (model, pruner) = read_checkpoint(&store.path(step), model, pruner)?;
        let found = pruner.step();
        if found != step {
            let message = format!("is of step {found}, not of step {step}");
            return Err(Error::format(store.path(step).join("model.bpk"), message));
        }
        Ok((model, pruner))
    }

    /// Writes a checkpoint of the last update, unless there is one already.
    fn save_interrupted(
        &self,
        store: &CheckpointStore,
        after: &AfterSegment,
        model: CompressingModel<M>,
    ) -> Result<()> {
        let Some((step, optimizer)) = after.run.take_optimizer() else { return Ok(()) };
        let Some(state) = after.between(step) else { return Ok(()) };
        let segment = state.segment;
        store.begin(state);
        store.save("model", segment, model.into_record())?;
        store.save("optimizer", segment, optimizer.to_record())?;
        let scheduler = LearningRateScheduler::after(self.learning_rate(), step);
        store.save("scheduler", segment, ModuleLrScheduler::from(scheduler).to_record())
    }

    /// The first step at the final ratio, from which evaluations count.
    fn counts_from(&self) -> usize {
        let Some(config) = &self.pruning else { return 0 };
        let last = self.segments.total_steps;
        let first = (0..last).find(|&t| config.schedule.phase(t) == Phase::Final);
        // After `t + 1` updates, the update of step `t` was pruned to the final ratio.
        first.map_or(last, |t| t + 1)
    }

    fn learning_rate(&self) -> LearningRate {
        let total_steps = self.segments.total_steps;
        LearningRate {
            peak: self.recipe.learning_rate(None),
            decay: self.recipe.lr_decay,
            warmup_steps: self.recipe.lr_warmup_steps(total_steps),
            total_steps,
        }
    }

    /// The result: the last model, or the best one read back. `model` and `pruner` are those after step
    /// `at`; with `None` only their shapes count.
    fn finish(
        &self,
        store: &CheckpointStore,
        state: CheckpointState,
        mut model: M,
        mut pruner: Pruner,
        at: Option<usize>,
    ) -> Result<Trained<M>> {
        let best = state.best.as_ref().map(|(step, _)| *step);
        let kept_step = match self.recipe.keep {
            Keep::Best => best.unwrap_or(state.step),
            Keep::Last => state.step,
        };
        let skipped = at.map(|_| pruner.skipped());
        if at != Some(kept_step) {
            (model, pruner) = read_checkpoint(&store.path(kept_step), model, pruner)?;
        }
        forget_frozen(&mut model);
        let from = self.counts_from();
        Ok(Trained {
            counted: state.history.iter().filter(|(step, _)| *step >= from).count(),
            importance: pruner.scores(&model),
            importance_before: state.importance.map(|scores| scores.to_vec()).unwrap_or_default(),
            model: model.valid(),
            history: state.history,
            history_loss: state.losses.points(),
            steps: state.step,
            kept_step,
            skipped: skipped.unwrap_or_else(|| pruner.skipped()),
            seconds: state.seconds,
        })
    }
}

/// Clears the layers' record of neurons pruned for good, which may be others at another step.
fn forget_frozen<M: TrainableModel>(model: &mut M) {
    model.for_each_linear_mut(&mut |_, linear| {
        if let CompressibleLinear::LowRankSparse(layer) = linear {
            layer.frozen = None;
        }
    });
}

/// Reads the model and pruner of a checkpoint folder. `model` and `pruner` give their shapes.
///
/// # Errors
/// If the file is missing, damaged or of another model.
pub(super) fn read_checkpoint<M: TrainableModel>(
    folder: &Path,
    model: M,
    pruner: Pruner,
) -> Result<(M, Pruner)> {
    let file = folder.join("model.bpk");
    let record = checkpoints::load::<ModuleRecord>(&file)?;
    let whole = Checkpointed { model, pruner };
    let whole =
        checkpoints::guarded(&file, || whole.try_load_record(record).map_err(|e| e.to_string()))?;
    let Checkpointed { model, pruner } = whole.valid();
    Ok((model, pruner))
}
