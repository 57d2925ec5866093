//! `state.json` of a checkpoint, and the checksums that reveal damage.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{LossCurve, Record};
use crate::checkpoint::atomic;
use crate::checkpoint::checksum::{sha256, sha256_of_file};
use crate::inspect::Inputs;
use crate::pruning::LayerScores;
use crate::tasks::MetricReport;
use crate::train::Segments;
use crate::{Error, Result, files};

/// File of a checkpoint's [`CheckpointState`].
pub(super) const STATE: &str = "state.json";
/// File of the importance before pruning.
pub(super) const IMPORTANCE: &str = "importance.json";
/// File with the SHA-256 of all others, in the format of `sha256sum -c`.
const SUMS: &str = "SHA256SUMS";
/// Files that every checkpoint has.
const REQUIRED: [&str; 4] = ["model.bpk", "optimizer.bpk", "scheduler.bpk", STATE];

/// State of a training, besides weights and optimizer. The default is that before the first update.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct CheckpointState {
    /// Segments done.
    pub segment: usize,
    /// Updates done: those of whole segments, and of the segment in which the run was interrupted.
    pub step: usize,
    /// The recipe of the run; another recipe cannot resume it.
    pub recipe: String,
    /// Checksums of what the run reads; other inputs cannot resume it.
    pub inputs: Inputs,
    /// The dense run that the report compares with.
    #[serde(default)]
    pub baseline: Option<PathBuf>,
    /// The best evaluation so far among those that count, the last of equals, and its step.
    pub best: Option<(usize, MetricReport)>,
    /// Evaluations since the last that was better than all before.
    pub evaluations_since_best: usize,
    /// Every evaluation so far, with its step.
    pub history: Vec<(usize, MetricReport)>,
    /// Seconds of training so far.
    pub seconds: f64,
    /// The training loss on the labels so far.
    pub losses: LossCurve,
    /// Scores of neurons before the first pruning. They have a file of their own, see
    /// [`CheckpointState::read_importance`].
    #[serde(skip)]
    pub importance: Option<Arc<Vec<LayerScores>>>,
}

impl CheckpointState {
    /// Whether `folder` is a checkpoint.
    pub fn is_in(folder: &Path) -> bool {
        folder.join(STATE).is_file()
    }

    /// Reads the state of a checkpoint folder, without its importance, after checking the SHA-256 of
    /// every file.
    ///
    /// # Errors
    /// If a file cannot be read or is damaged, or the folder's name says another step.
    pub fn read(folder: &Path) -> Result<Self> {
        verify(folder)?;
        let file = folder.join(STATE);
        let state: Self = files::read_json(&file)?;
        match step_of(folder) {
            Some(step) if step != state.step => {
                let message =
                    format!("is of step {}, not the one of its folder's name", state.step);
                Err(Error::format(file, message))
            }
            _ => Ok(state),
        }
    }

    /// Whether a training of `segments` with this patience has nothing left to do.
    pub(in crate::train) fn is_done(&self, segments: &Segments, patience: Option<usize>) -> bool {
        let stopped_early = patience.is_some_and(|most| self.evaluations_since_best >= most);
        stopped_early || self.segment == segments.count()
    }

    /// Checks that the numbers are possible in a training of `segments`; `folder` is the checkpoint's.
    ///
    /// # Errors
    /// Names the first impossible number.
    pub(in crate::train) fn check(&self, segments: &Segments, folder: &Path) -> Result<()> {
        let wrong = |what: String| {
            let message = format!("is not a state of this run: {what}");
            Err(Error::format(folder.join(STATE), message))
        };
        let possible = self.segment <= segments.count() && {
            let last = segments.steps_after(self.segment + 1);
            (segments.steps_after(self.segment)..=last).contains(&self.step)
        };
        if !possible {
            let (step, count) = (self.step, segments.count());
            return wrong(format!("step {step} after segment {} of {count}", self.segment));
        }
        if !(self.seconds.is_finite() && self.seconds >= 0.0) {
            return wrong(format!("{} seconds of training", self.seconds));
        }
        let evaluated: Vec<usize> = self.history.iter().map(|(step, _)| *step).collect();
        let later = evaluated.last().is_some_and(|at| *at > self.step);
        if later || !evaluated.is_sorted_by(|a, b| a < b) {
            return wrong("its evaluations are not in order, or of later steps".to_string());
        }
        if let Some(best) = &self.best
            && !self.history.contains(best)
        {
            return wrong(format!("its best evaluation, of step {}, is none it had", best.0));
        }
        if self.evaluations_since_best > evaluated.len() {
            return wrong(format!("{} evaluations since the best", self.evaluations_since_best));
        }
        if !self.losses.is_of(self.step) {
            return wrong(format!("its losses are not those of {} updates", self.step));
        }
        Ok(())
    }

    /// The run's record so far.
    pub(in crate::train) fn record(&self) -> Record {
        Record { losses: self.losses.clone(), importance: self.importance.clone() }
    }

    /// Reads the importance in a checkpoint folder; `None` if nothing was pruned yet.
    ///
    /// # Errors
    /// If the file exists but cannot be read.
    pub fn read_importance(folder: &Path) -> Result<Option<Arc<Vec<LayerScores>>>> {
        let file = folder.join(IMPORTANCE);
        if !file.is_file() {
            return Ok(None);
        }
        files::read_json(&file).map(|scores| Some(Arc::new(scores)))
    }

    /// Writes state and importance to `folder`, and the SHA-256 of every file; `sums` holds those of the
    /// other files by name.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub(super) fn write(&self, folder: &Path, mut sums: BTreeMap<String, String>) -> Result<()> {
        let failed = |e: serde_json::Error| Error::format(folder, e.to_string());
        let mut write = |name: &str, json: Vec<u8>| -> Result<()> {
            sums.insert(name.to_string(), sha256(&json));
            atomic::write_file(folder.join(name), &json)
        };
        if let Some(importance) = &self.importance {
            write(IMPORTANCE, serde_json::to_vec(&**importance).map_err(failed)?)?;
        }
        write(STATE, serde_json::to_vec_pretty(self).map_err(failed)?)?;
        let lines: String = sums.iter().map(|(name, sum)| format!("{sum}  {name}\n")).collect();
        atomic::write_file(folder.join(SUMS), lines.as_bytes())
    }
}

/// The step in a checkpoint folder's name, `step-00000120`.
pub(super) fn step_of(folder: &Path) -> Option<usize> {
    let digits = folder.file_name()?.to_str()?.strip_prefix("step-")?;
    digits.bytes().all(|digit| digit.is_ascii_digit()).then(|| digits.parse().ok())?
}

/// Checks every file of a checkpoint against its SHA-256.
fn verify(folder: &Path) -> Result<()> {
    let file = folder.join(SUMS);
    if !file.exists() {
        let message = "is missing: the checkpoint is damaged, or of an earlier version";
        return Err(Error::format(file, message));
    }
    let text = files::read(&file)?;
    let sums = std::str::from_utf8(&text).ok().and_then(parse);
    let Some(sums) = sums else {
        let message = "is damaged: not the SHA-256 of each of the checkpoint's files";
        return Err(Error::format(file, message));
    };
    for (name, sum) in &sums {
        let path = folder.join(name);
        let found = fs::metadata(&path).map_err(|e| Error::io(&path, e))?;
        if !found.is_file() {
            return Err(Error::format(path, "is not a file"));
        }
        if sha256_of_file(&path)? != *sum {
            let message =
                format!("is damaged or another checkpoint's: its SHA-256 is not in {SUMS}");
            return Err(Error::format(path, message));
        }
    }
    let importance = folder.join(IMPORTANCE);
    if importance.exists() && !sums.contains_key(IMPORTANCE) {
        return Err(Error::format(importance, format!("is another checkpoint's: not in {SUMS}")));
    }
    Ok(())
}

/// Parses checksums by file name; `None` unless they are those of a whole checkpoint.
fn parse(text: &str) -> Option<BTreeMap<&str, &str>> {
    let mut sums = BTreeMap::new();
    for line in text.lines() {
        let (sum, name) = line.split_once("  ")?;
        let known = REQUIRED.contains(&name) || name == IMPORTANCE;
        if !known || sum.len() != 64 || sums.insert(name, sum).is_some() {
            return None;
        }
    }
    REQUIRED.iter().all(|name| sums.contains_key(name)).then_some(sums)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> CheckpointState {
        let mut state = CheckpointState { segment: 2, step: 8, ..CheckpointState::default() };
        (1..=8).for_each(|step| state.losses.add(step, 12, 1.0));
        state
    }

    fn written() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let mut sums = BTreeMap::new();
        for name in &REQUIRED[..3] {
            fs::write(folder.path().join(name), name).unwrap();
            sums.insert(name.to_string(), sha256(name.as_bytes()));
        }
        state().write(folder.path(), sums).unwrap();
        folder
    }

    #[test]
    fn a_state_reads_as_it_was_written() {
        let folder = written();
        assert!(CheckpointState::is_in(folder.path()));
        assert_eq!(CheckpointState::read(folder.path()).unwrap(), state());
        assert_eq!(CheckpointState::read_importance(folder.path()).unwrap(), None);
    }

    #[test]
    fn every_damaged_file_is_named() {
        for name in REQUIRED.into_iter().chain([SUMS]) {
            let folder = written();
            let path = folder.path().join(name);
            let whole = fs::read(&path).unwrap();
            let message = || CheckpointState::read(folder.path()).unwrap_err().to_string();
            for at in 0..whole.len() {
                let mut flipped = whole.clone();
                flipped[at] ^= 1 << (at % 8);
                fs::write(&path, &flipped).unwrap();
                // A damaged sum cannot be told from a damaged file.
                assert!(message().contains(name));
                // The last line's end is of no account.
                if (name, at + 1) != (SUMS, whole.len()) {
                    fs::write(&path, &whole[..at]).unwrap();
                    assert!(message().contains(name));
                }
            }
            fs::remove_file(&path).unwrap();
            assert!(message().contains(name));
            fs::create_dir(&path).unwrap();
            assert!(message().contains(name));
        }
        let folder = written();
        fs::write(folder.path().join(IMPORTANCE), "[]").unwrap();
        let message = CheckpointState::read(folder.path()).unwrap_err().to_string();
        assert!(message.contains(IMPORTANCE), "{message}");
    }

    #[test]
    fn a_checkpoint_under_another_ones_name_is_refused() {
        let folder = written();
        for (name, whole) in [("step-00000008", true), ("step-00000004", false), ("mine", true)] {
            let path = folder.path().join(name);
            fs::create_dir(&path).unwrap();
            for name in REQUIRED.into_iter().chain([SUMS]) {
                fs::copy(folder.path().join(name), path.join(name)).unwrap();
            }
            assert_eq!(CheckpointState::read(&path).is_ok(), whole, "{name}");
        }
    }

    #[test]
    fn impossible_numbers_are_named() {
        let segments = Segments::new(24, 2, 1, 1, Some(4), None).unwrap();
        let metrics = |examples| MetricReport {
            values: [(crate::tasks::MetricKind::Accuracy, 0.5)].into(),
            primary: crate::tasks::MetricKind::Accuracy,
            examples,
            majority_share: None,
            f1_of: None,
        };
        let check = |change: &dyn Fn(&mut CheckpointState)| {
            let mut state = state();
            state.history = vec![(4, metrics(1)), (8, metrics(2))];
            state.best = Some((4, metrics(1)));
            change(&mut state);
            state.check(&segments, Path::new("checkpoint")).map_err(|e| e.to_string())
        };
        check(&|_| {}).unwrap();
        type Change<'a> = &'a dyn Fn(&mut CheckpointState);
        let changes: [(Change, &str); 9] = [
            (&|state| state.step = 13, "step 13"),
            (&|state| state.segment = 3, "segment 3"),
            (&|state| state.segment = usize::MAX - 1, "segment"),
            (&|state| state.seconds = -1.0, "seconds"),
            (&|state| state.seconds = f64::NAN, "seconds"),
            (&|state| state.history[1].0 = 9, "evaluations"),
            (&|state| state.best = Some((4, metrics(2))), "best"),
            (&|state| state.evaluations_since_best = 3, "since the best"),
            (&|state| state.losses = LossCurve::default(), "losses"),
        ];
        for (change, part) in changes {
            let message = check(change).unwrap_err();
            assert!(message.contains("state.json") && message.contains(part), "{message}");
        }
    }
}
