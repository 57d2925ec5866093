//! One training through Burn's `SupervisedTraining`: set up, launched or resumed, and its result.

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
use burn::train::{ExecutionStrategy, Learner, SupervisedTraining, TrainingStrategy};

use super::checkpoints::{self, CheckpointState, CheckpointStore};
use super::data::{BatchSource, EvalLoader, Segments, TrainLoader};
use super::lr::{LearningRate, LearningRateScheduler};
use super::metric::{Latest, TaskMetric};
use super::model::{CompressingModel, RunHandle, RunSettings};
use super::renderer::QuietRenderer;
use super::strategy::Follow;
use super::{Evaluator, Interrupt, Keep, Observer, TrainableModel, TrainingRecipe};
use crate::linear::CompressibleLinear;
use crate::optim::AdamWConfig;
use crate::pruning::{LayerScores, Phase, Pruner, PruningConfig};
use crate::tasks::{BatchOrder, BatchPlan, MetricReport};
use crate::{Error, Result};

/// What a [`CompressingModel`]'s record holds, to read one without a run.
#[derive(Module, Debug)]
struct Checkpointed<M: Module> {
    model: M,
    pruner: Pruner,
}

/// A training to be launched.
pub struct Training<'a, M: TrainableModel, E> {
    /// Settings of the pruner; `None`: plain fine-tuning.
    pub pruning: Option<PruningConfig>,
    /// Training data.
    pub train: BatchSource<M::Batch>,
    /// Evaluation data.
    pub eval: BatchSource<M::Batch>,
    /// Scores the evaluations.
    pub evaluator: E,
    /// Settings, with the learning rate: its default is that of plain fine-tuning.
    pub recipe: &'a TrainingRecipe,
    /// How the training is cut.
    pub segments: Segments,
    /// Where checkpoints go.
    pub checkpoints: &'a Path,
    /// Where the training is: at its beginning, or at the last checkpoint.
    pub from: CheckpointState,
    /// Burn's dashboard.
    pub tui: bool,
    /// Where to train.
    pub device: Device,
    /// Who watches.
    pub observer: Arc<dyn Observer>,
    /// Stops the run.
    pub interrupt: Interrupt,
}

/// A finished training.
pub struct Trained<M> {
    /// The model that was kept, on a plain device, still in training form.
    pub model: M,
    /// Scores of neurons in it; empty without pruning.
    pub importance: Vec<LayerScores>,
    /// Scores of neurons before the first pruning; empty without pruning.
    pub importance_before: Vec<LayerScores>,
    /// Every evaluation, by step.
    pub history: Vec<(usize, MetricReport)>,
    /// How many of them count where the best is kept: those at the final ratio.
    pub counted: usize,
    /// Training loss: updates done, and the mean of those since the entry before; at most 200.
    pub history_loss: Vec<(usize, f64)>,
    /// Updates done.
    pub steps: usize,
    /// Updates after which the kept model was evaluated.
    pub kept_step: usize,
    /// Updates that were skipped because a loss or gradient was not finite.
    pub skipped: usize,
    /// Seconds of training, evaluations included, over all resumptions.
    pub seconds: f64,
}

impl<M: TrainableModel, E: Evaluator<M::Output>> Training<'_, M, E> {
    /// Trains `model`, or goes on training it, to the end; decomposed if it is to be pruned, on a plain
    /// device. Nothing else should hold it: what is held twice is copied once.
    ///
    /// A run that is stopped writes a checkpoint of the last update.
    ///
    /// # Errors
    /// If a setting is impossible, a checkpoint cannot be read or written, too many updates were not
    /// finite, or the run was stopped.
    pub fn launch(self, model: M) -> Result<Trained<M>> {
        let store = CheckpointStore::open(self.checkpoints)?;
        let state = self.starting_state(&store)?;
        let plain = self.device.clone().without_autodiff();
        let total_steps = self.segments.total_steps;
        let mut model = model;
        let mut pruner = Pruner::new_or_idle(&model, self.pruning, total_steps, &plain)?;
        let since = state.evaluations_since_best;
        let stopped_early =
            self.recipe.early_stopping_patience.is_some_and(|patience| since >= patience);
        if stopped_early || state.segment == self.segments.count() {
            return self.finish(&store, state, model, pruner, None);
        }
        if state.step > 0 {
            (model, pruner) = self.go_on(&store, state.step, model, pruner)?;
        }
        let autodiff = plain.clone().autodiff();
        let settings = RunSettings {
            seed: self.recipe.seed,
            accumulation: self.recipe.gradient_accumulation,
            max_grad_norm: self.recipe.max_grad_norm,
            total_steps: self.segments.total_steps,
            batches_per_epoch: self.segments.batches_per_epoch,
        };
        let interrupter = self.interrupt.for_training();
        let run = RunHandle::new(settings, self.observer.clone(), (*interrupter).clone());
        run.set_record(state.record());
        let latest = Latest::default();
        let shared = Arc::new(Mutex::new(state.clone()));
        let follow = Follow {
            segments: self.segments,
            store: store.clone(),
            latest: latest.clone(),
            run: run.clone(),
            state: shared.clone(),
            counts_from: self.counts_from(),
            patience: self.recipe.early_stopping_patience,
            started: Instant::now(),
            seconds_before: state.seconds,
        };
        let observer = self.observer.clone();
        store.on_written(move |step, path| {
            observer.event(&super::Event::Checkpoint { step, path: path.to_path_buf() });
        });
        let [model_part, optimizer_part, scheduler_part] = store.parts();
        let (train, eval) = self.loaders(&autodiff, &state)?;
        let mut training =
            SupervisedTraining::new(self.checkpoints, Arc::new(train), Arc::new(eval))
                .with_application_logger(None)
                .with_metric_logger(InMemoryMetricLogger::default())
                .with_custom_checkpointers(model_part, optimizer_part, scheduler_part)
                .with_checkpointing_strategy(follow.clone())
                .early_stopping(follow.clone())
                .with_interrupter((*interrupter).clone())
                .with_training_strategy(TrainingStrategy::Default(ExecutionStrategy::SingleDevice(
                    autodiff.clone(),
                )))
                .metric_train_numeric(LossMetric::new())
                .metric_valid_numeric(LossMetric::new())
                .metric_valid_numeric(TaskMetric::new(self.evaluator.clone(), latest))
                .num_epochs(self.segments.count());
        if self.recipe.gradient_accumulation > 1 {
            training = training.grads_accumulation(self.recipe.gradient_accumulation);
        }
        if !self.tui {
            training = training.renderer(Box::new(QuietRenderer));
        }
        if state.step > 0 {
            training = training.checkpoint(state.segment);
        }
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
        // Burn's dashboard can stop it, too.
        if let Some(stopped) = interrupter.interruption() {
            let reason = stopped.reason.unwrap_or_else(|| "stopped".to_string());
            self.save_interrupted(&store, &follow, result.model)?;
            return Err(Error::Interrupted(reason));
        }
        let state = shared.lock().map(|state| state.clone()).unwrap_or(state);
        let (model, pruner) = result.model.into_parts();
        let step = state.step;
        self.finish(&store, state, model, pruner, Some(step))
    }

    /// The state to start from, with its importance. Without a checkpoint there is none left.
    fn starting_state(&self, store: &CheckpointStore) -> Result<CheckpointState> {
        let mut state = self.from.clone();
        match state.step {
            0 => store.clear()?,
            step => state.importance = CheckpointState::read_importance(&store.path(step))?,
        }
        Ok(state)
    }

    /// Model and pruner of the checkpoint of `step`, which Burn will go on from.
    fn go_on(
        &self,
        store: &CheckpointStore,
        step: usize,
        model: M,
        pruner: Pruner,
    ) -> Result<(M, Pruner)> {
        store.go_on_from(step)?;
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
        follow: &Follow,
        model: CompressingModel<M>,
    ) -> Result<()> {
        let Some((step, optimizer)) = follow.run.take_optimizer() else { return Ok(()) };
        let Some(state) = follow.between(step) else { return Ok(()) };
        let segment = state.segment;
        store.begin(state);
        store.save("model", segment, model.into_record())?;
        store.save("optimizer", segment, optimizer.to_record())?;
        let scheduler = LearningRateScheduler::after(self.learning_rate(), step);
        store.save("scheduler", segment, ModuleLrScheduler::from(scheduler).to_record())
    }

    /// The first step whose evaluation counts: the final ratio is reached.
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

    #[allow(clippy::type_complexity)]
    fn loaders(
        &self,
        device: &Device,
        from: &CheckpointState,
    ) -> Result<(TrainLoader<M::Batch>, EvalLoader<M::Batch>)> {
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
        Ok((train, eval))
    }

    /// The result: the last model, or the best one read back. `model` and `pruner` are those after
    /// step `at`, `None`: of their form only.
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

/// Has no layer of `model` know of neurons that are pruned for good: those of another step may be
/// others.
fn forget_frozen<M: TrainableModel>(model: &mut M) {
    model.for_each_linear_mut(&mut |_, linear| {
        if let CompressibleLinear::LowRankSparse(layer) = linear {
            layer.frozen = None;
        }
    });
}

/// The model of a checkpoint folder with its pruner. `model` and `pruner` are
/// of the same form.
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
