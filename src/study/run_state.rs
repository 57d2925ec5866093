//! How far the runs of a study are, as their folders tell.

use std::fs;
use std::path::Path;

use super::{PlannedRun, Study, identity};
use crate::inspect::RunReport;
use crate::train::Recipe;
use crate::{Error, Result};

/// File of a failed run's error.
pub(super) const ERROR: &str = "error.txt";

/// How far a run is.
#[derive(Debug, Clone, PartialEq)]
pub enum RunState {
    /// Done, with its report.
    Finished(Box<RunReport>),
    /// Ended by an error.
    Failed(String),
    /// Not done yet, or not to its end.
    Waiting,
}

/// How far each run of `study` is in `folder`.
///
/// # Errors
/// If a recipe cannot be written as TOML.
pub fn states(study: &Study, folder: &Path) -> Result<Vec<RunState>> {
    let study = study.found_in(folder)?;
    study.runs.iter().map(|run| state(run, folder)).collect()
}

/// How far one run is.
pub(super) fn state(run: &PlannedRun, output: &Path) -> Result<RunState> {
    let folder = output.join(&run.folder);
    let report = folder.join("report.json");
    if report.is_file() {
        let recipe = Recipe::read(folder.join("recipe.toml"));
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
