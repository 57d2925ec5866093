//! The output folder of a run: whether it may be written to, who writes to it, and its cleaning.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use super::RunOptions;
use super::lock::{Attempt, Claim};
use crate::checkpoint::atomic;
use crate::inspect::RunReport;
use crate::train::Recipe;
use crate::train::checkpoints::CheckpointStore;
use crate::{Error, Result};

/// File of a run's settings; its presence marks a folder as a run's.
const RECIPE: &str = Recipe::FILE;
/// File of its report; its presence marks a run as done.
const REPORT: &str = RunReport::FILE;
/// Folder of the resulting model.
pub(super) const MODEL: &str = RunReport::MODEL;
/// Folder of the run that fine-tunes the dense model before it is compressed.
pub(super) const DENSE: &str = "dense";
/// Folder of the pictures.
pub(super) const PLOTS: &str = "plots";
/// Folder of the checkpoints.
const CHECKPOINTS: &str = "checkpoints";
/// Lock file of the process that writes to the folder.
const LOCK: &str = ".lock";

impl RunOptions {
    /// Checks that the run may write to the output folder: it is new, empty but for the model folder
    /// `start`, or an earlier run to replace or resume. Writes nothing.
    ///
    /// # Errors
    /// Says what is in the way.
    pub fn check_output(&self, start: Option<&Path>) -> Result<()> {
        let output: &Path = &self.output;
        let earlier = output.join(RECIPE).is_file();
        if output.exists() && !output.is_dir() {
            return Err(Error::format(output, "is not a folder; choose another one"));
        }
        let entries = fs::read_dir(output).into_iter().flatten().flatten();
        let mut entries = entries.map(|entry| entry.path()).filter(|path| !is_noise(path));
        let occupied = entries.any(|path| start != Some(&path));
        if occupied && !self.resume && !(self.overwrite && earlier) {
            let message = match earlier {
                true => {
                    "holds an earlier run; go on with --resume, replace it with --overwrite, or \
                     choose another folder"
                }
                false => "is not empty and no earlier run; choose another folder",
            };
            return Err(Error::format(output, message));
        }
        self.check_replaced(start)?;
        atomic::check_replaceable(&output.join(MODEL))?;
        if self.resume && !self.can_resume()? {
            let message = "holds no checkpoint to resume from; start the run without --resume";
            return Err(Error::format(self.checkpoints(), message));
        }
        Ok(())
    }

    /// Checks that the run replaces nothing that it needs: the model folder `start`, the baseline.
    pub(super) fn check_replaced(&self, start: Option<&Path>) -> Result<()> {
        let place = |path: &Path| fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
        let output = place(&self.output);
        let written = [MODEL, CHECKPOINTS, PLOTS, DENSE].map(|folder| output.join(folder));
        let model = start.filter(|path| written.iter().any(|part| place(path).starts_with(part)));
        let baseline = self.baseline.as_deref().filter(|_| self.overwrite);
        let baseline = baseline.filter(|path| place(path).starts_with(&output));
        match model.or(baseline) {
            None => Ok(()),
            Some(path) => {
                let message = format!(
                    "{} would be replaced, and the run needs it; choose another folder",
                    path.display()
                );
                Err(Error::format(&self.output, message))
            }
        }
    }

    /// Whether the output folder holds a run with a checkpoint, or one stopped before its first.
    pub(crate) fn can_resume(&self) -> Result<bool> {
        let began = self.output.join(RECIPE).is_file() && !self.output.join(REPORT).is_file();
        Ok(began || self.has_checkpoint()?)
    }

    /// Whether the output folder has a checkpoint.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn has_checkpoint(&self) -> Result<bool> {
        Ok(!CheckpointStore::steps_in(&self.checkpoints())?.is_empty())
    }

    pub(super) fn checkpoints(&self) -> PathBuf {
        self.output.join(CHECKPOINTS)
    }

    /// Claims the output folder, which must exist, for as long as the result lives.
    ///
    /// # Errors
    /// Names the process that has it.
    pub(crate) fn claim(&self) -> Result<Claim> {
        let path = self.output.join(LOCK);
        let holder = match Claim::take(&path, &self.command)? {
            Attempt::Ours(claim) => return Ok(claim),
            Attempt::Taken(holder) => holder,
        };
        let who = holder.as_ref().map_or("another process".to_string(), |holder| holder.told());
        let advice = match holder.is_some_and(|holder| holder.is_elsewhere()) {
            true => format!("if it is gone, remove {}", path.display()),
            false => "wait for it, or choose another folder".to_string(),
        };
        Err(Error::format(&self.output, format!("is in use by {who}; {advice}")))
    }

    /// Prepares the claimed folder: removes an earlier run's report, checkpoints and dense model unless it is
    /// resumed, and writes the recipe. A run that needs a dense model decides itself if it is the same.
    pub(super) fn prepare_output(&self, recipe: &Recipe, needs_dense: bool) -> Result<()> {
        let output: &Path = &self.output;
        atomic::remove_leftovers(output)?;
        if !self.resume {
            // The report would mark this run as done.
            let report = output.join(REPORT);
            if report.is_file() {
                fs::remove_file(&report).map_err(|e| Error::io(&report, e))?;
            }
            if self.checkpoints().is_dir() {
                CheckpointStore::open(self.checkpoints())?.clear()?;
            }
            let dense = output.join(DENSE);
            if !needs_dense && dense.join(RECIPE).is_file() {
                fs::remove_dir_all(&dense).map_err(|e| Error::io(&dense, e))?;
            }
        }
        // Written first, to mark the folder as a run's. A resumed run may store its result otherwise.
        atomic::write_file(output.join(RECIPE), recipe.to_toml().as_bytes())
    }

    /// Checks that a run resumed before its first checkpoint has the recipe it began with.
    pub(super) fn check_begun(&self, recipe: &Recipe) -> Result<()> {
        let file = self.output.join(RECIPE);
        let begun = Recipe::read(&file)?.with_absolute_paths();
        match begun.difference(recipe) {
            None => Ok(()),
            Some(difference) => {
                let told = difference.told("it has", "this run has");
                let message = format!("is another recipe: {told}; start again with --overwrite");
                Err(Error::format(file, message))
            }
        }
    }
}

/// Whether a file is one that systems, editors or this program leave behind.
fn is_noise(path: &Path) -> bool {
    let name = path.file_name().map(OsStr::to_string_lossy).unwrap_or_default();
    let known = [
        LOCK,
        ".DS_Store",
        ".directory",
        ".gitignore",
        ".gitkeep",
        "Thumbs.db",
        "desktop.ini",
        "lost+found",
    ];
    let swap = name.starts_with('.')
        && [".swp", ".swo", ".swx"].iter().any(|ending| name.ends_with(ending));
    let starts = ["._", ".#", ".nfs", ".fuse_hidden"].iter().any(|start| name.starts_with(start));
    known.contains(&&*name) || swap || starts || name.ends_with('~') || atomic::is_leftover(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_systems_and_editors_leave_is_no_run_and_no_obstacle() {
        for name in [
            ".DS_Store",
            "Thumbs.db",
            ".gitkeep",
            "._report",
            ".notes.swp",
            "notes.txt~",
            ".#notes",
            ".lock",
            ".model.tmp-a1B2c3",
        ] {
            assert!(is_noise(&Path::new("small").join(name)), "{name}");
        }
        for name in ["report.json", "model", "notes.txt", ".env", ".hidden", "checkpoints"] {
            assert!(!is_noise(&Path::new("small").join(name)), "{name}");
        }
    }
}
