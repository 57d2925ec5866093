//! The runs of a study, one after another; what is done is not done again.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use super::{PlannedRun, Study, StudyReport, study_figures};
use crate::checkpoint::atomic;
use crate::inspect::RunReport;
use crate::train::checkpoints::CheckpointState;
use crate::train::{Event, RunOptions, compress, finetune};
use crate::{Error, Result};

/// How far a run is.
#[derive(Debug, Clone, PartialEq)]
pub enum RunState {
    /// Done, with its report.
    Finished(Box<RunReport>),
    /// Ended by an error; tried again when the study is run again.
    Failed(String),
    /// Not done yet, or not to its end.
    Waiting,
}

/// File of a failed run's error.
const ERROR: &str = "error.txt";

/// How far each run of `study` is in `folder`.
pub fn states(study: &Study, folder: &Path) -> Vec<RunState> {
    study.runs.iter().map(|run| state(&folder.join(&run.folder))).collect()
}

fn state(folder: &Path) -> RunState {
    let report = folder.join("report.json");
    if report.is_file() {
        return match RunReport::read(&report) {
            Ok(report) => RunState::Finished(Box::new(report)),
            Err(error) => RunState::Failed(format!("{error}; remove the folder to run it again")),
        };
    }
    match fs::read_to_string(folder.join(ERROR)) {
        Ok(error) => RunState::Failed(error.trim_end().to_string()),
        Err(_) => RunState::Waiting,
    }
}

/// Does every run of `study` that is not done, in folders within `options.output`, and writes the
/// tables and plots after each. A run that was stopped goes on from its last checkpoint. One that
/// fails is recorded, and the next begins.
///
/// # Errors
/// If the study was interrupted, or its own files cannot be written. Failed runs are no error here:
/// see the report.
pub fn run_study(study: &Study, options: &RunOptions) -> Result<StudyReport> {
    let folder = &options.output;
    fs::create_dir_all(folder).map_err(|e| Error::io(folder, e))?;
    let mut states = states(study, folder);
    let mut report = write(study, &states, options)?;
    for (at, run) in study.runs.iter().enumerate() {
        if !matches!(states[at], RunState::Finished(_)) {
            let message = format!("run {} of {}: {}", at + 1, study.runs.len(), run.folder);
            options.observer.event(&Event::Note { message });
            states[at] = run_one(run, options)?;
            report = write(study, &states, options)?;
        }
        if let (RunState::Finished(_), false) = (&states[at], study.keep_models) {
            for name in ["checkpoints", "model"] {
                let path = folder.join(&run.folder).join(name);
                if path.is_dir() {
                    fs::remove_dir_all(&path).map_err(|e| Error::io(&path, e))?;
                }
            }
        }
    }
    Ok(report)
}

fn run_one(run: &PlannedRun, study: &RunOptions) -> Result<RunState> {
    let folder = study.output.join(&run.folder);
    if folder.join("report.json").is_file() {
        // It cannot be read, else the run would be finished.
        return Ok(state(&folder));
    }
    let resume = has_checkpoint(&folder);
    if !resume && folder.is_dir() {
        fs::remove_dir_all(&folder).map_err(|e| Error::io(&folder, e))?;
    }
    let options = RunOptions { output: folder.clone(), resume, overwrite: false, ..study.clone() };
    let job = if run.recipe.method.is_some() { compress } else { finetune };
    // One run's panic must not take the study with it.
    let result = catch_unwind(AssertUnwindSafe(|| job(&run.recipe, &options)))
        .unwrap_or_else(|_| Err(Error::Training("panicked; see above".into())));
    let error = folder.join(ERROR);
    match result {
        Ok(report) => {
            if error.is_file() {
                fs::remove_file(&error).map_err(|e| Error::io(&error, e))?;
            }
            Ok(RunState::Finished(Box::new(report)))
        }
        Err(stopped @ Error::Interrupted(_)) => Err(stopped),
        Err(failed) => {
            let message = failed.to_string();
            options.observer.event(&Event::Note { message: format!("failed: {message}") });
            atomic::write_file(&error, message.as_bytes())?;
            Ok(RunState::Failed(message))
        }
    }
}

fn has_checkpoint(folder: &Path) -> bool {
    let Ok(mut entries) = fs::read_dir(folder.join("checkpoints")) else { return false };
    entries.any(|entry| {
        let path = entry.map(|entry| entry.path()).unwrap_or_default();
        path.extension().is_none() && CheckpointState::is_in(&path)
    })
}

/// Writes `study.md`, `study.csv`, `study.json` and the plots.
fn write(study: &Study, states: &[RunState], options: &RunOptions) -> Result<StudyReport> {
    let report = StudyReport::new(study, states, &options.device_name);
    let folder = &options.output;
    let figures = study_figures(&report);
    for (name, figure) in &figures {
        crate::plots::write(&folder.join("plots"), name, figure)?;
    }
    let pictures: Vec<&str> = figures.iter().map(|(name, _)| name.as_str()).collect();
    let text = report.to_markdown(&pictures);
    atomic::write_file(folder.join("study.md"), text.as_bytes())?;
    atomic::write_file(folder.join("study.csv"), report.to_csv()?.as_bytes())?;
    atomic::write_file(folder.join("study.json"), report.to_json()?.as_bytes())?;
    Ok(report)
}
