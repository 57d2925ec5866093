//! Does the runs of a study, one after another. Finished runs are not repeated, and runs of another
//! process are left to it.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use super::baseline_run::baseline_run;
use super::run_state::{ERROR, RunState, state, states};
use super::{PlannedRun, Study, StudyReport, importance_figures, study_figures};
use crate::checkpoint::atomic;
use crate::inspect::RunReport;
use crate::train::lock::{Attempt, Claim};
use crate::train::{Event, RunOptions, compress, finetune};
use crate::{Error, Result};

/// Treatment of runs that failed before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FailedRuns {
    /// Try them again.
    #[default]
    Retry,
    /// Leave them failed, as all but the first of several processes do.
    Leave,
}

/// Folder with the lock files of the runs and of the tables.
const LOCKS: &str = ".locks";
/// Lock file of the tables.
const TABLES: &str = "study";

/// Does every run of `study` that is neither done nor claimed by another process, in folders within
/// `options.output`, and writes tables and plots after each. A run that was stopped resumes from its
/// last checkpoint. A run that fails is recorded, and the next begins.
///
/// # Errors
/// If the study was interrupted, or its own files cannot be written. Failed runs are in the report.
pub fn run_study(study: &Study, options: &RunOptions, failed: FailedRuns) -> Result<StudyReport> {
    let folder = &options.output;
    check_folder(folder)?;
    let study = &study.found_in(folder)?;
    write_study(study, folder)?;
    for (at, run) in study.runs.iter().enumerate() {
        options.interrupt.check()?;
        let _claim = match Claim::take(&lock_file(folder, &run.folder)?, &options.command)? {
            Attempt::Ours(claim) => claim,
            Attempt::Taken(holder) => {
                if let Some(holder) = holder.filter(|holder| holder.is_elsewhere()) {
                    let lock = folder.join(LOCKS).join(&run.folder);
                    let (who, lock) = (holder.told(), lock.display());
                    let message =
                        format!("{} is left to {who}; if it is gone, remove {lock}", run.folder);
                    options.observer.event(&Event::Note { message });
                }
                continue;
            }
        };
        let mut state = state(run, folder)?;
        let due = match state {
            RunState::Waiting => true,
            RunState::Failed(_) => failed == FailedRuns::Retry,
            RunState::Finished(_) => false,
        };
        if due {
            let message = format!("run {} of {}: {}", at + 1, study.runs.len(), run.folder);
            options.observer.event(&Event::Note { message });
            let baseline = baseline_run(run, study, &states(study, folder)?, folder);
            state = run_one(run, &RunOptions { baseline, ..options.clone() })?;
        }
        if let (RunState::Finished(_), false) = (&state, study.keep_models) {
            for name in ["checkpoints", RunReport::MODEL, "dense/checkpoints", "dense/model"] {
                let path = folder.join(&run.folder).join(name);
                if path.is_dir() {
                    fs::remove_dir_all(&path).map_err(|e| Error::io(&path, e))?;
                }
            }
        }
        if due {
            write_study(study, folder)?;
        }
    }
    write_study(study, folder)
}

/// Checks that the folder is new, empty or a study's.
fn check_folder(folder: &Path) -> Result<()> {
    let known = [LOCKS, StudyReport::FILE].iter().any(|name| folder.join(name).exists());
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let visible = |entry: &fs::DirEntry| !entry.file_name().to_string_lossy().starts_with('.');
    if !known && entries.into_iter().any(|entry| visible(&entry)) {
        let message = "is not empty and no earlier study; choose another folder";
        return Err(Error::format(folder, message));
    }
    Ok(())
}

/// Marks failed runs as to do.
///
/// # Errors
/// If a record of a failure cannot be removed.
pub fn forget_failures(study: &Study, folder: &Path) -> Result<()> {
    for run in &study.found_in(folder)?.runs {
        let error = folder.join(&run.folder).join(ERROR);
        if error.is_file()
            && let Attempt::Ours(_claim) = Claim::take(&lock_file(folder, &run.folder)?, "")?
        {
            fs::remove_file(&error).map_err(|e| Error::io(&error, e))?;
        }
    }
    Ok(())
}

fn run_one(run: &PlannedRun, study: &RunOptions) -> Result<RunState> {
    let folder = study.output.join(&run.folder);
    if folder.join(RunReport::FILE).is_file() {
        // The report is damaged or of another run, else the run would be finished.
        return state(run, &study.output);
    }
    let mut options = RunOptions { output: folder.clone(), overwrite: false, ..study.clone() };
    options.resume = options.can_resume()?;
    if !options.resume && folder.is_dir() {
        // A user may run it by hand.
        let _claim = options.claim()?;
        fs::remove_dir_all(&folder).map_err(|e| Error::io(&folder, e))?;
    }
    let job = if run.recipe.method.is_some() { compress } else { finetune };
    // A panic in one run must not end the study.
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

/// Path of the lock file of this name; creates its folder.
fn lock_file(output: &Path, name: &str) -> Result<PathBuf> {
    let folder = output.join(LOCKS);
    fs::create_dir_all(&folder).map_err(|e| Error::io(&folder, e))?;
    Ok(folder.join(name))
}

/// Writes `study.md`, `study.csv`, `runs.csv`, `study.json` and the plots of the runs done so far.
///
/// # Errors
/// If a file cannot be written.
pub fn write_study(study: &Study, folder: &Path) -> Result<StudyReport> {
    fs::create_dir_all(folder).map_err(|e| Error::io(folder, e))?;
    let _claim = Claim::wait(&lock_file(folder, TABLES)?, "")?;
    let report = StudyReport::new(study, &states(study, folder)?);
    let mut figures = study_figures(&report);
    figures.extend(importance_figures(&report, folder));
    for (name, figure) in &figures {
        crate::plots::write(&folder.join("plots"), name, figure)?;
    }
    let pictures: Vec<&str> = figures.iter().map(|(name, _)| name.as_str()).collect();
    let text = report.to_markdown(&pictures);
    atomic::write_file(folder.join("study.md"), text.as_bytes())?;
    atomic::write_file(folder.join("study.csv"), report.to_csv()?.as_bytes())?;
    atomic::write_file(folder.join("runs.csv"), report.runs_to_csv()?.as_bytes())?;
    atomic::write_file(folder.join(StudyReport::FILE), report.to_json()?.as_bytes())?;
    Ok(report)
}
