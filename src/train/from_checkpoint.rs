//! Evaluation of a checkpoint of a run that is still going, or was stopped.

use std::path::Path;
use std::sync::Arc;

use super::TaskRecipe;
use super::checkpoints::CheckpointState;
use super::job::Job;
use super::launch::read_checkpoint;
use super::pipeline::Run;
use super::{Classification, JobKind, QuestionAnswering, Recipe, RunOptions, Summarization};
use crate::Result;
use crate::inspect::SplitMetrics;
use crate::pruning::Pruner;

/// Evaluates the checkpoint in `folder` (`checkpoints/step-…` of a run's output) on the data of its
/// run's recipe, which `adjust` may change. Reads the model the run started from; writes nothing.
///
/// # Errors
/// If the checkpoint, that model or the data cannot be read, or do not belong together.
pub fn evaluate_checkpoint(
    folder: &Path,
    adjust: impl FnOnce(&mut TaskRecipe),
    options: &RunOptions,
) -> Result<Vec<SplitMetrics>> {
    let state = CheckpointState::read(folder)?;
    let file = folder.join("state.json");
    let mut recipe =
        Recipe::parse(&state.recipe).map_err(|message| crate::Error::format(file, message))?;
    adjust(&mut recipe.task);
    let recipe = recipe.resolved();
    recipe.validate()?;
    match recipe.task.kind() {
        JobKind::Classification => evaluate::<Classification>(folder, &recipe, options),
        JobKind::QuestionAnswering => evaluate::<QuestionAnswering>(folder, &recipe, options),
        JobKind::Summarization => evaluate::<Summarization>(folder, &recipe, options),
    }
}

fn evaluate<J: Job>(
    folder: &Path,
    recipe: &Recipe,
    options: &RunOptions,
) -> Result<Vec<SplitMetrics>> {
    let prepared = J::prepare(recipe, &options.device, options.observer.as_ref())?;
    let segments = prepared.segments(recipe)?;
    let mut run: Run<'_, J> = Run { recipe, options, prepared, segments, pace: Arc::default() };
    let (_, pruning) = run.decompose()?;
    let model = run.prepared.start.model.clone();
    let pruner = match pruning {
        Some(config) => Pruner::new(&model, config)?,
        None => Pruner::idle(segments.total_steps, &options.device),
    };
    let (model, _) = read_checkpoint(folder, model, pruner)?;
    run.stage("Evaluating the checkpoint")?;
    Ok(run.evaluate(&model)?.0)
}
