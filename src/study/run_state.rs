//! States of a study's runs, read from their folders.

use std::fs;
use std::path::Path;

use super::{PlannedRun, Study, identity};
use crate::inspect::RunReport;
use crate::train::Recipe;
use crate::{Error, Result};

/// File with the error of a failed run.
pub(super) const ERROR: &str = "error.txt";

/// State of a run.
#[derive(Debug, Clone, PartialEq)]
pub enum RunState {
    /// Done, with its report.
    Finished(Box<RunReport>),
    /// Ended by an error.
    Failed(String),
    /// Not done, or not to its end.
    Waiting,
}

/// The state of each run of `study` in `folder`.
///
/// # Errors
/// If a recipe cannot be written as TOML.
pub fn states(study: &Study, folder: &Path) -> Result<Vec<RunState>> {
    let study = study.found_in(folder)?;
    let mut states: Vec<RunState> =
        study.runs.iter().map(|run| state(run, folder)).collect::<Result<_>>()?;
    for (at, run) in study.runs.iter().enumerate() {
        if let Some(what) = outdated(&study, &states, at) {
            let message = format!(
                "{what} since this run was done; remove the folder to run it again, as the others"
            );
            let folder = folder.join(&run.folder);
            states[at] = RunState::Failed(Error::format(folder, message).to_string());
        }
    }
    Ok(states)
}

/// Checks that models and data of the runs in `folder` that are still to do are there.
///
/// # Errors
/// Names the first path that leads nowhere, and its run.
pub fn check_places(study: &Study, folder: &Path) -> Result<()> {
    for (run, state) in study.runs.iter().zip(states(study, folder)?) {
        if let (RunState::Waiting | RunState::Failed(_), Some((_, path))) =
            (state, run.recipe.missing_path())
        {
            let message = format!("no such file or folder (in the run {})", run.folder);
            return Err(Error::format(path, message));
        }
    }
    Ok(())
}

/// Says what has changed between a finished run and a later one of the same model, task and seed.
fn outdated(study: &Study, states: &[RunState], at: usize) -> Option<&'static str> {
    let own = &study.runs[at].recipe;
    let same = |recipe: &Recipe| {
        let (task, seed) = (&recipe.task, recipe.training.seed);
        (&recipe.model, task, seed) == (&own.model, &own.task, own.training.seed)
    };
    let report = |at: usize| match &states[at] {
        // Runs done in the same second count in the order of the list.
        RunState::Finished(report) => Some(((&report.date, at), report.inputs.as_ref()?)),
        _ => None,
    };
    let (done, inputs) = report(at)?;
    let others = (0..states.len()).filter(|other| same(&study.runs[*other].recipe));
    let mut later = others.filter_map(report).filter(|(then, _)| *then > done);
    later.find_map(|(_, now)| inputs.changed(now))
}

/// The state of one run.
pub(super) fn state(run: &PlannedRun, output: &Path) -> Result<RunState> {
    let folder = output.join(&run.folder);
    let report = folder.join(RunReport::FILE);
    if report.is_file() {
        let recipe = Recipe::read(folder.join(Recipe::FILE));
        return Ok(match (RunReport::read(&report), recipe) {
            (Ok(_), Ok(recipe)) if !identity::is_run_of(&run.recipe, &recipe)? => {
                let message = "holds a run with other settings, of another version perhaps; remove \
                               the folder to run it again";
                RunState::Failed(Error::format(&folder, message).to_string())
            }
            (Ok(report), Ok(_)) => RunState::Finished(Box::new(report)),
            (Err(error), _) | (_, Err(error)) => {
                RunState::Failed(format!("{error}; remove the folder to run it again"))
            }
        });
    }
    Ok(match fs::read_to_string(folder.join(ERROR)) {
        Ok(error) => RunState::Failed(error.trim_end().to_string()),
        Err(_) => RunState::Waiting,
    })
}
