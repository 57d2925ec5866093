//! Resuming a run from its last checkpoint, if that is whole and of the same recipe and inputs.

use std::path::Path;

use crate::train::checkpoints::{CheckpointState, CheckpointStore, Inputs};
use crate::train::{Keep, Recipe, Segments};
use crate::{Error, Result};

/// Reads the state of the last checkpoint in `folder`; `None` if there is no checkpoint.
///
/// # Errors
/// If it is damaged. Names the file, and an earlier checkpoint that is whole, if there is one.
pub(super) fn last_state(folder: &Path) -> Result<Option<CheckpointState>> {
    let mut paths = CheckpointStore::steps_in(folder)?
        .into_iter()
        .map(|step| (step, folder.join(CheckpointStore::name(step))));
    let Some((_, last)) = paths.next_back() else { return Ok(None) };
    let damaged = match CheckpointState::read(&last) {
        Ok(state) => return Ok(Some(state)),
        Err(error) => error,
    };
    let whole = paths.rev().find(|(_, path)| CheckpointState::read(path).is_ok());
    let advice = match whole {
        Some((step, _)) => format!(
            "the checkpoint of step {step} is whole: to go on from there, remove {} and resume \
             again",
            last.display()
        ),
        None => "no other checkpoint is whole: start again with --overwrite".to_string(),
    };
    Err(with_advice(damaged, &advice))
}

/// Settings and inputs of the run that resumes.
pub(super) struct Found<'a> {
    /// Every setting, paths absolute.
    pub recipe: &'a Recipe,
    pub inputs: &'a Inputs,
    pub segments: &'a Segments,
}

/// Checks that a run with what was `found` can continue from `state`, the last in `folder`.
///
/// # Errors
/// Names a setting or input that has changed, an impossible number, or a damaged file of the best
/// checkpoint.
pub(super) fn check(state: &CheckpointState, found: &Found<'_>, folder: &Path) -> Result<()> {
    let at = folder.join(CheckpointStore::name(state.step));
    let parsed = Recipe::parse(&state.recipe);
    let recipe = parsed.map_err(|e| Error::format(at.join("state.json"), e))?;
    // Model and data may have moved: `inputs` tells whether they are the same.
    let recipe = recipe.with_absolute_paths().with_paths_of(found.recipe);
    if let Some(difference) = recipe.difference(found.recipe) {
        let message = format!(
            "is a checkpoint of another recipe: {}; resume with the settings it was started with",
            difference.told("it has", "this run has")
        );
        return Err(Error::format(at, message));
    }
    if let Some(what) = state.inputs.changed(found.inputs) {
        let message = format!(
            "is a checkpoint of another run: {what} since it was started; undo the change, or start \
             again with --overwrite"
        );
        return Err(Error::format(at, message));
    }
    state.check(found.segments, &at)?;
    // The best model so far may become the result.
    if let (Keep::Best, Some((step, _))) = (recipe.training.keep, &state.best)
        && *step != state.step
    {
        let advice = "it holds the best model so far: start again with --overwrite";
        let best = folder.join(CheckpointStore::name(*step));
        CheckpointState::read(&best).map_err(|error| with_advice(error, advice))?;
    }
    Ok(())
}

/// Adds advice to an error.
pub(super) fn with_advice(error: Error, advice: &str) -> Error {
    match error {
        Error::Format { path, message } => Error::format(path, format!("{message}; {advice}")),
        Error::Io { path, cause } => Error::format(path, format!("{cause}; {advice}")),
        other => other,
    }
}
