//! Evaluates the checkpoint of a run that is under way or was stopped.

use std::path::Path;

use super::layers_and_schedule::outline;
use super::{Run, RunOptions};
#[cfg(feature = "plots")]
use crate::inspect::ModelAccount;
use crate::inspect::SplitMetrics;
#[cfg(feature = "plots")]
use crate::plots::Spectrum;
#[cfg(feature = "plots")]
use crate::pruning::LayerScores;
use crate::pruning::Pruner;
use crate::tasks::Task;
use crate::train::checkpoints::CheckpointState;
use crate::train::job::{Job, dispatch, read_task};
use crate::train::learner::read_checkpoint;
use crate::train::{JobKind, Recipe, TaskRecipe};
use crate::{Error, Result};

/// Contents of a checkpoint's pictures.
#[cfg(feature = "plots")]
pub struct CheckpointAnalysis {
    /// Parameters, counted as compaction would store them.
    pub account: ModelAccount,
    /// Scores of neurons now; empty without pruning.
    pub importance: Vec<LayerScores>,
    /// Scores of neurons before the first pruning; empty until then.
    pub importance_before: Vec<LayerScores>,
    /// Singular values of the layers asked for.
    pub spectra: Vec<Spectrum>,
}

/// Analyses the checkpoint in `folder` (`checkpoints/step-…` of a run's output). `layers` chooses the
/// layers whose spectra are computed, from all layers' names. Reads the model and data that the run
/// started from; writes nothing.
///
/// # Errors
/// As [`evaluate_checkpoint`].
#[cfg(feature = "plots")]
pub fn analyse_checkpoint(
    folder: &Path,
    layers: impl FnOnce(&[String]) -> Result<Vec<String>>,
    options: &RunOptions,
) -> Result<CheckpointAnalysis> {
    let recipe = recipe_of(folder, |_| {})?;
    dispatch!(recipe.task.kind(), analyse(folder, &recipe, layers, options))
}

#[cfg(feature = "plots")]
fn analyse<J: Job>(
    folder: &Path,
    recipe: &Recipe,
    layers: impl FnOnce(&[String]) -> Result<Vec<String>>,
    options: &RunOptions,
) -> Result<CheckpointAnalysis> {
    let Read { model, pruner, layers: compressed, .. } = read::<J>(folder, recipe, options)?;
    let names = layers(&crate::linear::linear_names(&model))?;
    let before = CheckpointState::read_importance(folder)?;
    Ok(CheckpointAnalysis {
        account: ModelAccount::of(&model).over(&compressed),
        importance: pruner.scores(&model),
        importance_before: before.map(|scores| scores.to_vec()).unwrap_or_default(),
        spectra: crate::plots::spectra(&model, &names)?,
    })
}

/// Evaluates the checkpoint in `folder` (`checkpoints/step-…` of a run's output) on the data of the
/// run's recipe, which `adjust` may change. Reads the model that the run started from; writes nothing.
///
/// # Errors
/// If the checkpoint, that model or the data cannot be read, or do not belong together.
pub fn evaluate_checkpoint(
    folder: &Path,
    adjust: impl FnOnce(&mut Recipe),
    options: &RunOptions,
) -> Result<Vec<SplitMetrics>> {
    let recipe = recipe_of(folder, adjust)?;
    dispatch!(recipe.task.kind(), evaluate(folder, &recipe, options))
}

/// Reads the recipe of a checkpoint's run, as `adjust` changes it.
fn recipe_of(folder: &Path, adjust: impl FnOnce(&mut Recipe)) -> Result<Recipe> {
    let state = CheckpointState::read(folder)?;
    let file = folder.join("state.json");
    let mut recipe =
        Recipe::parse(&state.recipe).map_err(|message| Error::format(file, message))?;
    // Its model and data may have moved since; the run's own recipe knows the last place.
    let run = folder.parent().and_then(Path::parent).map(|run| run.join("recipe.toml"));
    if let Some(Ok(run)) = run.map(Recipe::read) {
        recipe = recipe.with_paths_of(&run);
    }
    let own = recipe.task.clone();
    adjust(&mut recipe);
    let recipe = recipe.resolved();
    recipe.validate()?;
    check_labels(&own, &recipe.task)?;
    Ok(recipe)
}

/// Checks that the data of `other` have the labels of the run's `own`, in the same order.
fn check_labels(own: &TaskRecipe, other: &TaskRecipe) -> Result<()> {
    let source = |task: &TaskRecipe| {
        let columns = (task.label.clone(), task.score.clone(), task.labels.clone());
        (task.name.clone(), task.data.is_some(), task.train.clone(), columns)
    };
    let classes = |task: &TaskRecipe| task.kind() == JobKind::Classification;
    if !classes(own) || !classes(other) || source(own) == source(other) {
        return Ok(());
    }
    let (own, other) = (read_task(own)?, read_task(other)?);
    if own.kind == other.kind {
        return Ok(());
    }
    let of = |task: &Task| match task.labels() {
        [] => "predicts a score".to_string(),
        labels => format!("has the labels {}", labels.join(", ")),
    };
    let message = format!("the checkpoint's run {}, and the data given {}", of(&own), of(&other));
    Err(Error::option("task", message))
}

/// A checkpoint in memory.
struct Read<'a, J: Job> {
    run: Run<'a, J>,
    model: J::Model,
    #[cfg_attr(not(feature = "plots"), allow(dead_code))]
    pruner: Pruner,
    /// Names of the compressed layers.
    #[cfg_attr(not(feature = "plots"), allow(dead_code))]
    layers: Vec<String>,
}

fn evaluate<J: Job>(
    folder: &Path,
    recipe: &Recipe,
    options: &RunOptions,
) -> Result<Vec<SplitMetrics>> {
    let Read { run, model, .. } = read::<J>(folder, recipe, options)?;
    run.stage("Evaluating the checkpoint")?;
    Ok(run.evaluate(&model)?.0)
}

fn read<'a, J: Job>(
    folder: &Path,
    recipe: &'a Recipe,
    options: &'a RunOptions,
) -> Result<Read<'a, J>> {
    let (model, prepared) = J::prepare(recipe, &options.device, options.observer.as_ref())?;
    let segments = outline(recipe, &model, prepared.train.lengths.len())?.segments;
    let run = Run::<J>::new(recipe, options, prepared, segments);
    let (model, decomposed, pruning) = run.decompose(model, false)?;
    let pruner = Pruner::new_or_idle(&model, pruning, segments.total_steps, &options.device)?;
    let (model, pruner) = read_checkpoint(folder, model, pruner)?;
    let layers = decomposed.into_iter().map(|layer| layer.name).collect();
    Ok(Read { run, model, pruner, layers })
}
