//! The dry run: what a run would do and need, from its real model and data.

use std::sync::{Arc, Mutex};
use std::time::Instant;

use burn::module::Module;
use burn::tensor::Device;
use burn::train::{Interrupter, TrainStep};
use serde::Serialize;

use super::layers_and_schedule::{Outline, PlannedPattern, decompose_selected, outline};
use super::teacher;
use crate::Result;
use crate::decompose::{Calibration, RankedLayer};
use crate::optim::AdamWConfig;
use crate::pruning::{Pruner, Schedule};
use crate::train::job::{BatchSource, Job, Prepared, TrainableModel, dispatch};
use crate::train::learner::{CompressingModel, RunHandle, RunSettings, TrainItem};
use crate::train::{Event, Recipe, Segments, Silent};

/// The plan of a run: its work and its needs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Plan {
    /// The model folder.
    pub model: String,
    /// Notes on model and data, such as the labels found.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// The task.
    pub task: String,
    /// Number of training examples.
    pub training_examples: usize,
    /// Number of evaluation examples in all splits.
    pub evaluation_examples: usize,
    /// Layers matched by each pattern; empty in plain fine-tuning.
    pub patterns: Vec<PlannedPattern>,
    /// Layers to compress.
    pub layers: Vec<RankedLayer>,
    /// Passes over the training data.
    pub epochs: usize,
    /// Optimizer updates.
    pub total_steps: usize,
    /// Largest learning rate.
    pub learning_rate: f64,
    /// Updates between evaluations.
    pub eval_steps: usize,
    /// Updates between checkpoints.
    pub save_steps: usize,
    /// The pruning schedule; absent without a sparse part.
    pub schedule: Option<Schedule>,
    /// Keep ratio of the sparse part at some updates, as `(update, share)`.
    pub keep_ratios: Vec<(usize, f64)>,
    /// Number of trained parameters.
    pub trained_parameters: usize,
    /// Expected memory of weights, gradients, moments and activations, in bytes; of the model and its teacher
    /// where both take more.
    pub expected_memory_bytes: u64,
    /// The fine-tuning of the dense model that comes before; absent if the model has a head for the task.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fine_tuning_first: Option<FineTuning>,
    /// Expected seconds of the teacher's pass over the training data, from a timed batch; absent without one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub teacher_seconds: Option<f64>,
    /// Expected seconds of the training, from two timed updates on this device; with those of the
    /// fine-tuning before and of the teacher.
    pub expected_seconds: f64,
    /// Seconds of one update.
    pub seconds_per_step: f64,
}

/// The fine-tuning of the dense model, before it is compressed.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FineTuning {
    /// Optimizer updates.
    pub total_steps: usize,
    /// Largest learning rate.
    pub learning_rate: f64,
    /// Expected seconds.
    pub expected_seconds: f64,
}

/// Plans a run of `recipe`: reads model and data, decomposes, and times two updates. Writes nothing.
///
/// # Errors
/// As a run that fails before its training.
pub fn plan(recipe: &Recipe, device: &Device) -> Result<Plan> {
    let recipe = recipe.resolved();
    recipe.validate()?;
    dispatch!(recipe.task.kind(), plan_job(&recipe, device))
}

fn plan_job<J: Job>(recipe: &Recipe, device: &Device) -> Result<Plan> {
    let notes = Mutex::new(Vec::new());
    let observer = |event: &Event| {
        if let (Event::Note { message }, Ok(mut notes)) = (event, notes.lock()) {
            notes.push(message.clone());
        }
    };
    let (model, prepared) = J::prepare(recipe, device, &observer)?;
    let Outline { patterns, layers, segments, learning_rate, pruning } =
        outline(recipe, &model, prepared.train.lengths.len())?;
    let named = teacher::load_named::<J>(recipe, &prepared, device, &observer)?;
    let pass = match (recipe.teaching(), &named) {
        (None, _) => None,
        (Some(_), None) => Some(teacher_pass(recipe, &model, &prepared.train, device)?),
        (Some(_), Some(named)) => Some(teacher_pass(recipe, &named.model, &named.train, device)?),
    };
    let parameters = |model: &J::Model| Module::num_params(model) as u64;
    let both = 4 * (parameters(&model) + named.map_or(0, |named| parameters(&named.model)));
    let first = match teacher::is_fine_tuned_first::<J>(recipe, &prepared) {
        true => Some(plan_job::<J>(&teacher::dense_recipe(recipe), device)?),
        false => None,
    };
    let teacher_seconds = pass.as_ref().map(|pass| pass.seconds);
    let before = first.as_ref().map_or(0.0, |plan| plan.expected_seconds)
        + teacher_seconds.unwrap_or_default();
    // An update takes as long whatever its low-rank parts keep.
    let plain = Calibration::default();
    let (model, ..) =
        decompose_selected(model, recipe, prepared.train.lengths.len(), Some(&plain))?;
    let schedule = pruning.map(|config| config.schedule);
    let pruner = Pruner::new_or_idle(&model, pruning, segments.total_steps, device)?;
    let trained_parameters = model.num_params();
    let in_training = memory(recipe, &model, &prepared.train.lengths);
    let expected_memory_bytes = both.max(in_training) + pass.map_or(0, |pass| pass.bytes);
    let seconds_per_step = time_updates(recipe, &prepared, (model, pruner), segments, device)?;
    Ok(Plan {
        model: prepared.start.folder.display().to_string(),
        notes: notes.into_inner().unwrap_or_default(),
        task: prepared.task.name.clone(),
        training_examples: prepared.train.lengths.len(),
        evaluation_examples: prepared.dev.iter().map(|split| split.source.lengths.len()).sum(),
        patterns,
        layers,
        epochs: segments.epochs,
        total_steps: segments.total_steps,
        learning_rate,
        eval_steps: segments.eval_steps,
        save_steps: segments.save_steps,
        schedule,
        keep_ratios: schedule.map(milestones).unwrap_or_default(),
        trained_parameters,
        expected_memory_bytes,
        fine_tuning_first: first.map(|plan| FineTuning {
            total_steps: plan.total_steps,
            learning_rate: plan.learning_rate,
            expected_seconds: plan.expected_seconds,
        }),
        teacher_seconds,
        expected_seconds: before + seconds_per_step * segments.total_steps as f64,
        seconds_per_step,
    })
}

fn milestones(schedule: Schedule) -> Vec<(usize, f64)> {
    let first = schedule.initial_warmup_steps;
    let last = schedule.total_steps - schedule.final_warmup_steps;
    let mut steps: Vec<usize> =
        (0..=4).map(|quarter| first + (last - first) * quarter / 4).collect();
    steps.push(schedule.total_steps - 1);
    steps.into_iter().map(|step| (step, schedule.keep_ratio(step))).collect()
}

/// Estimates memory in bytes: weights, gradients and both moments in f32, and the activations that the
/// backward pass keeps for a batch of median length.
fn memory<M: TrainableModel>(recipe: &Recipe, model: &M, lengths: &[usize]) -> u64 {
    let tokens = (recipe.training.batch_size * typical_length(lengths)) as u64;
    let mut widths = 0;
    model.for_each_linear(&mut |_, linear| {
        let [d_input, d_output] = linear.dims();
        // Input and output, and about as much again for activations, norms and dropout.
        widths += 2 * (d_input + d_output) as u64;
    });
    4 * (4 * Module::num_params(model) as u64 + tokens * widths)
}

/// A teacher's pass over the training data: its time, and the memory of its answers.
struct TeacherPass {
    seconds: f64,
    bytes: u64,
}

/// Times a batch of median length in evaluation, for the pass over all of `source`. The first of two
/// batches warms up.
fn teacher_pass<M: TrainableModel>(
    recipe: &Recipe,
    teacher: &M,
    source: &BatchSource<M::Batch>,
    device: &Device,
) -> Result<TeacherPass> {
    let teacher = teacher.valid();
    let examples = source.lengths.len() as f64;
    let chosen = typical_examples(&source.lengths, recipe.training.eval_batch_size);
    let lengths: Vec<usize> = chosen.iter().map(|&at| source.lengths[at]).collect();
    let mut pass = TeacherPass { seconds: 0.0, bytes: 0 };
    for _ in 0..2 {
        let start = Instant::now();
        let (_, output) = teacher.forward_loss((source.collate)(&chosen, device)?);
        let answers = M::soft_targets(&output, &lengths)?;
        let share = examples / chosen.len().max(1) as f64;
        let numbers: usize = answers.iter().map(Vec::len).sum();
        let seconds = share * start.elapsed().as_secs_f64();
        pass = TeacherPass { seconds, bytes: (4.0 * share * numbers as f64) as u64 };
    }
    Ok(pass)
}

/// As many examples of median length.
fn typical_examples(lengths: &[usize], count: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..lengths.len()).collect();
    order.sort_by_key(|&at| lengths[at]);
    let from = (order.len() / 2).saturating_sub(count / 2);
    order[from..(from + count).min(order.len())].to_vec()
}

fn typical_length(lengths: &[usize]) -> usize {
    let mut lengths = lengths.to_vec();
    lengths.sort_unstable();
    lengths.get(lengths.len() / 2).copied().unwrap_or(1)
}

/// Times an update on examples of median length, in seconds. The first of two updates warms up.
fn time_updates<M: TrainableModel, E>(
    recipe: &Recipe,
    prepared: &Prepared<M, E>,
    (model, pruner): (M, Pruner),
    segments: Segments,
    device: &Device,
) -> Result<f64> {
    let settings = RunSettings {
        seed: recipe.training.seed,
        accumulation: 1,
        max_grad_norm: recipe.training.max_grad_norm,
        total_steps: segments.total_steps,
        batches_per_epoch: segments.batches_per_epoch,
        targets: None,
    };
    let run = RunHandle::new(settings, Arc::new(Silent), Interrupter::new());
    let mut model = CompressingModel::new(model, pruner, run.clone()).train();
    let mut optimizer = AdamWConfig::new().init();
    let device = device.clone().autodiff();
    let chosen = typical_examples(&prepared.train.lengths, recipe.training.batch_size);
    let mut seconds = 0.0;
    for number in 0..2 {
        let start = Instant::now();
        for _ in 0..recipe.training.gradient_accumulation {
            let batch = (prepared.train.collate)(&chosen, &device)?;
            let output = TrainStep::step(&model, TrainItem { batch, number, examples: Vec::new() });
            model = model.optimize(&mut optimizer, 0.0.into(), output.grads);
        }
        let synced = device.sync();
        synced.map_err(|e| crate::Error::device(format!("{device:?}"), format!("{e:?}")))?;
        seconds = start.elapsed().as_secs_f64();
    }
    run.failure().map_or(Ok(seconds), Err)
}
