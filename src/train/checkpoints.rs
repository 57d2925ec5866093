//! Checkpoints of a training: a folder each, there whole or not at all.
//!
//! ```text
//! checkpoints/step-000120/model.bpk      weights, importance and step counters
//!                         optimizer.bpk  AdamW's moments
//!                         scheduler.bpk  step of the learning rate
//!                         state.json     step, metric and loss so far, the run's recipe
//!                         importance.json  scores before the first pruning, once there are any
//! ```
//! Random numbers need no state: batch order and dropout are functions of the seed and the step.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use burn::train::checkpoint::{Checkpoint, Checkpointer, CheckpointerError};
use serde::{Deserialize, Serialize};

use super::record::{LossCurve, Record};
use crate::checkpoint::atomic;
use crate::pruning::LayerScores;
use crate::tasks::MetricReport;
use crate::{Error, Result, files};

/// What a checkpoint says of itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CheckpointState {
    /// Segments done.
    pub segment: usize,
    /// Updates done.
    pub step: usize,
    /// The recipe of the run; another recipe cannot resume it.
    pub recipe: String,
    /// The best evaluation so far among those that count, and its segment.
    pub best: Option<(usize, MetricReport)>,
    /// Evaluations since the best.
    pub evaluations_since_best: usize,
    /// Every evaluation so far, by step.
    pub history: Vec<(usize, MetricReport)>,
    /// Seconds of training so far.
    pub seconds: f64,
    /// The training loss so far.
    #[serde(default)]
    pub losses: LossCurve,
    /// Scores of neurons before the first pruning: a file of its own, see
    /// [`CheckpointState::read_importance`].
    #[serde(skip)]
    pub importance: Option<Arc<Vec<LayerScores>>>,
}

impl CheckpointState {
    /// Whether `folder` is a checkpoint.
    pub fn is_in(folder: &Path) -> bool {
        folder.join(STATE).is_file()
    }

    /// Reads the state of a checkpoint folder, but for its importance.
    ///
    /// # Errors
    /// If it cannot be read or is no state.
    pub fn read(folder: &Path) -> Result<Self> {
        files::read_json(folder.join(STATE))
    }

    /// What the run had noted down.
    pub(crate) fn record(&self) -> Record {
        // A version that noted nothing may have pruned already: what came before is lost.
        let lost = self.step > 0 && self.losses.is_empty();
        let importance = self.importance.clone().or(lost.then(Arc::default));
        Record { losses: self.losses.clone(), importance }
    }

    /// Reads the importance of a checkpoint folder; `None` if nothing was pruned yet.
    ///
    /// # Errors
    /// If it is there and cannot be read.
    pub fn read_importance(folder: &Path) -> Result<Option<Arc<Vec<LayerScores>>>> {
        let file = folder.join(IMPORTANCE);
        if !file.is_file() {
            return Ok(None);
        }
        files::read_json(&file).map(|scores| Some(Arc::new(scores)))
    }
}

/// File of a checkpoint's [`CheckpointState`].
const STATE: &str = "state.json";
/// File of its importance.
const IMPORTANCE: &str = "importance.json";
const PARTS: [&str; 3] = ["model", "optimizer", "scheduler"];

/// The checkpoints of one run.
pub struct CheckpointStore {
    folder: PathBuf,
    shared: Mutex<Shared>,
}

type Written = Box<dyn Fn(usize, &Path) + Send>;

#[derive(Default)]
struct Shared {
    /// Checkpoints being written, by segment: their state and how many parts are there. A thread
    /// writes each part, so the next checkpoint may begin while the last parts of one are written.
    pending: BTreeMap<usize, (CheckpointState, usize)>,
    /// Told of every whole checkpoint.
    written: Option<Written>,
}

fn step_folder(folder: &Path, step: usize) -> PathBuf {
    folder.join(format!("step-{step:08}"))
}

impl CheckpointStore {
    /// The checkpoints in `folder`, which is made if need be. What a killed run left half-written is
    /// removed.
    ///
    /// # Errors
    /// If the folder cannot be made or cleaned.
    pub fn open(folder: impl AsRef<Path>) -> Result<Arc<Self>> {
        let folder = folder.as_ref().to_path_buf();
        fs::create_dir_all(&folder).map_err(|e| Error::io(&folder, e))?;
        let store = Self { folder, shared: Mutex::default() };
        for path in store.entries()? {
            let name = path.file_name().map(|n| n.to_string_lossy().into_owned());
            if name.is_some_and(|name| name.ends_with(".partial")) {
                fs::remove_dir_all(&path).map_err(|e| Error::io(&path, e))?;
            }
        }
        Ok(Arc::new(store))
    }

    fn entries(&self) -> Result<Vec<PathBuf>> {
        let entries = fs::read_dir(&self.folder).map_err(|e| Error::io(&self.folder, e))?;
        entries.map(|e| e.map(|e| e.path()).map_err(|e| Error::io(&self.folder, e))).collect()
    }

    /// Has `f` called with the step and folder of every checkpoint once it is whole.
    pub fn on_written(&self, f: impl Fn(usize, &Path) + Send + 'static) {
        if let Ok(mut shared) = self.shared.lock() {
            shared.written = Some(Box::new(f));
        }
    }

    /// States of all whole checkpoints, oldest first.
    ///
    /// # Errors
    /// If one cannot be read.
    pub fn states(&self) -> Result<Vec<CheckpointState>> {
        let mut states = Vec::new();
        for path in self.entries()? {
            if path.extension().is_none() && CheckpointState::is_in(&path) {
                states.push(CheckpointState::read(&path)?);
            }
        }
        states.sort_by_key(|state| state.step);
        Ok(states)
    }

    /// Folder of the checkpoint after `step` updates.
    pub fn path(&self, step: usize) -> PathBuf {
        step_folder(&self.folder, step)
    }

    /// Removes every checkpoint.
    ///
    /// # Errors
    /// If one cannot be removed.
    pub fn clear(&self) -> Result<()> {
        for path in self.entries()? {
            fs::remove_dir_all(&path).map_err(|e| Error::io(&path, e))?;
        }
        Ok(())
    }

    /// Announces the checkpoint whose parts come next.
    pub(crate) fn begin(&self, state: CheckpointState) {
        if let Ok(mut shared) = self.shared.lock() {
            shared.pending.insert(state.segment, (state, 0));
        }
    }

    /// The three parts for Burn's checkpointers.
    pub(crate) fn parts(self: &Arc<Self>) -> [PartCheckpointer; 3] {
        PARTS.map(|part| PartCheckpointer { part, store: self.clone() })
    }

    fn save<R: Checkpoint>(&self, part: &str, segment: usize, record: R) -> Result<()> {
        let state = self.pending(segment)?;
        let partial = self.path(state.step).with_extension("partial");
        fs::create_dir_all(&partial).map_err(|e| Error::io(&partial, e))?;
        let file = partial.join(format!("{part}.bpk"));
        record.save(file.clone()).map_err(|e| Error::format(&file, e.to_string()))?;
        let synced = fs::File::open(&file).and_then(|f| f.sync_all());
        synced.map_err(|e| Error::io(&file, e))?;
        let mut shared = self.shared.lock().map_err(|_| poisoned())?;
        let complete = shared.pending.get_mut(&segment).is_some_and(|(_, parts)| {
            *parts += 1;
            *parts == PARTS.len()
        });
        if complete {
            shared.pending.remove(&segment);
            self.commit(&state, &partial)?;
            if let Some(written) = &shared.written {
                written(state.step, &self.path(state.step));
            }
        }
        Ok(())
    }

    fn pending(&self, segment: usize) -> Result<CheckpointState> {
        let shared = self.shared.lock().map_err(|_| poisoned())?;
        let pending = shared.pending.get(&segment).map(|(state, _)| state.clone());
        pending.ok_or_else(|| Error::Training("a checkpoint without a state".to_string()))
    }

    /// Makes a checkpoint whole, then removes those that are neither the last nor the best.
    fn commit(&self, state: &CheckpointState, partial: &Path) -> Result<()> {
        let failed = |e: serde_json::Error| Error::format(partial, e.to_string());
        if let Some(importance) = &state.importance {
            let json = serde_json::to_vec(&**importance).map_err(failed)?;
            atomic::write_file(partial.join(IMPORTANCE), &json)?;
        }
        let json = serde_json::to_vec_pretty(state).map_err(failed)?;
        atomic::write_file(partial.join(STATE), &json)?;
        let path = self.path(state.step);
        if path.exists() {
            fs::remove_dir_all(&path).map_err(|e| Error::io(&path, e))?;
        }
        fs::rename(partial, &path).map_err(|e| Error::io(&path, e))?;
        let synced = fs::File::open(&self.folder).and_then(|f| f.sync_all());
        synced.map_err(|e| Error::io(&self.folder, e))?;
        let best = state.best.as_ref().map(|(step, _)| *step);
        for old in self.states()? {
            if old.step != state.step && Some(old.step) != best {
                let path = self.path(old.step);
                fs::remove_dir_all(&path).map_err(|e| Error::io(&path, e))?;
            }
        }
        Ok(())
    }
}

fn poisoned() -> Error {
    Error::Training("a thread that wrote a checkpoint panicked".to_string())
}

/// Writes one part of each checkpoint; the last one to come makes it whole.
pub(crate) struct PartCheckpointer {
    part: &'static str,
    store: Arc<CheckpointStore>,
}

impl<R: Checkpoint> Checkpointer<R> for PartCheckpointer {
    fn save(&self, epoch: usize, record: R) -> Result<(), CheckpointerError> {
        self.store
            .save(self.part, epoch, record)
            .map_err(|e| CheckpointerError::Unknown(format!("{e}; the last checkpoint is kept")))
    }

    /// The store itself removes what is no longer needed, once the next one is whole.
    fn delete(&self, _epoch: usize) -> Result<(), CheckpointerError> {
        Ok(())
    }

    fn restore(&self, epoch: usize) -> Result<R, CheckpointerError> {
        let states = self.store.states().map_err(|e| CheckpointerError::Unknown(e.to_string()))?;
        let state = states.into_iter().find(|state| state.segment == epoch);
        let state = state.ok_or_else(|| {
            CheckpointerError::Unknown(format!("no checkpoint of segment {epoch}"))
        })?;
        R::load(self.store.path(state.step).join(format!("{}.bpk", self.part)))
    }
}
