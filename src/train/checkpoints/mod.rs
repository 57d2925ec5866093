//! Checkpoints of a training: a folder for each, which is whole or absent.
//!
//! ```text
//! checkpoints/step-000120/model.bpk      weights, importance and step counters
//!                         optimizer.bpk  AdamW's moments
//!                         scheduler.bpk  step of the learning rate
//!                         state.json     step, metric and loss so far, the run's recipe
//!                         importance.json  scores before the first pruning, once there are any
//!                         SHA256SUMS     of all of these
//! ```
//! An interrupted run also writes one within a segment. Random numbers need no state: batch order and
//! dropout are functions of the seed and the step.
//!
//! [`CheckpointStore`] writes them, [`CheckpointState`] is `state.json`. Uses nothing of jobs or runs.

mod loss_curve;
mod state;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use burn::train::checkpoint::{Checkpoint, Checkpointer, CheckpointerError};

pub use self::loss_curve::LossCurve;
pub(super) use self::loss_curve::Record;
pub use self::state::CheckpointState;
use self::state::step_of;
use crate::checkpoint::checksum::sha256_of_file;
use crate::checkpoint::guard;
pub use crate::inspect::Inputs;
use crate::{Error, Result};

/// Extension of a checkpoint's folder while it is written.
const PARTIAL: &str = "partial";
const PARTS: [&str; 3] = ["model", "optimizer", "scheduler"];

/// The checkpoints of one run.
pub struct CheckpointStore {
    folder: PathBuf,
    shared: Mutex<Shared>,
}

type Written = Box<dyn Fn(usize, &Path) + Send>;

#[derive(Default)]
struct Shared {
    /// Checkpoints being written, by segment. Each part has its thread, so the next checkpoint may
    /// begin before the last is whole.
    pending: BTreeMap<usize, Pending>,
    /// Called with every whole checkpoint.
    written: Option<Written>,
    /// The step whose checkpoint the run continues from.
    from: Option<usize>,
    /// Why a checkpoint could not be written; Burn passes on only the text of errors.
    failure: Option<Error>,
}

/// A checkpoint being written.
struct Pending {
    state: CheckpointState,
    /// SHA-256 of the parts written so far, by file name.
    sums: BTreeMap<String, String>,
}

impl CheckpointStore {
    /// Opens the checkpoints in `folder`, which is created if missing. Removes what a killed run left
    /// half-written, and leaves alone what is no checkpoint.
    ///
    /// # Errors
    /// If the folder cannot be created or cleaned.
    pub fn open(folder: impl AsRef<Path>) -> Result<Arc<Self>> {
        let folder = folder.as_ref().to_path_buf();
        fs::create_dir_all(&folder).map_err(|e| Error::io(&folder, e))?;
        let store = Self { folder, shared: Mutex::default() };
        store.remove(|path| path.extension().is_some())?;
        Ok(Arc::new(store))
    }

    /// Steps of the checkpoints in `folder`, ascending; none if there is no such folder.
    ///
    /// # Errors
    /// If the folder cannot be read.
    pub fn steps_in(folder: &Path) -> Result<Vec<usize>> {
        let entries = match fs::read_dir(folder) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(|e| Error::io(folder, e))?,
        };
        let mut steps = Vec::new();
        for entry in entries {
            let path = entry.map_err(|e| Error::io(folder, e))?.path();
            // A number in another spelling is not one of these folders.
            steps.extend(step_of(&path).filter(|step| folder.join(Self::name(*step)) == path));
        }
        steps.sort_unstable();
        Ok(steps)
    }

    /// Name of the folder of the checkpoint after `step` updates.
    pub fn name(step: usize) -> String {
        format!("step-{step:08}")
    }

    /// Removes the checkpoints, whole or half-written, whose path `which` selects.
    fn remove(&self, which: impl Fn(&Path) -> bool) -> Result<()> {
        for entry in fs::read_dir(&self.folder).map_err(|e| Error::io(&self.folder, e))? {
            let path = entry.map_err(|e| Error::io(&self.folder, e))?.path();
            let half = path.extension().is_some_and(|extension| extension == PARTIAL);
            let ours =
                step_of(&if half { path.with_extension("") } else { path.clone() }).is_some();
            if ours && which(&path) {
                fs::remove_dir_all(&path).map_err(|e| Error::io(&path, e))?;
            }
        }
        Ok(())
    }

    /// Calls `f` with the step and folder of every checkpoint once it is whole.
    pub(in crate::train) fn on_written(&self, f: impl Fn(usize, &Path) + Send + 'static) {
        if let Ok(mut shared) = self.shared.lock() {
            shared.written = Some(Box::new(f));
        }
    }

    /// Steps of the checkpoints, ascending.
    ///
    /// # Errors
    /// If the folder cannot be read.
    pub fn steps(&self) -> Result<Vec<usize>> {
        Self::steps_in(&self.folder)
    }

    /// Makes Burn continue from the checkpoint of `step`.
    ///
    /// # Errors
    /// If its optimizer or scheduler cannot be read. The model is read elsewhere.
    pub(in crate::train) fn continue_from(&self, step: usize) -> Result<()> {
        use burn::lr_scheduler::LrSchedulerRecord;
        use burn::optim::OptimizerRecord;
        let [_, optimizer, scheduler] = PARTS.map(|part| part_file(&self.path(step), part));
        load::<OptimizerRecord>(&optimizer)?;
        load::<LrSchedulerRecord>(&scheduler)?;
        self.shared.lock().map_err(|_| poisoned())?.from = Some(step);
        Ok(())
    }

    /// Folder of the checkpoint after `step` updates.
    pub(in crate::train) fn path(&self, step: usize) -> PathBuf {
        self.folder.join(Self::name(step))
    }

    /// Removes every checkpoint.
    ///
    /// # Errors
    /// If one cannot be removed.
    pub(in crate::train) fn clear(&self) -> Result<()> {
        self.remove(|_| true)
    }

    /// Keeps the reason why a checkpoint could not be written, with what to do.
    fn fail(&self, error: Error) {
        let last = self.steps().ok().and_then(|steps| steps.last().copied());
        let left = match last {
            Some(step) => {
                format!(
                    "the checkpoint of update {step} is kept: make room and go on with --resume"
                )
            }
            None => "no checkpoint is there yet".to_string(),
        };
        let error = match error {
            Error::Io { path, cause } => Error::format(path, format!("{cause}; {left}")),
            Error::Format { path, message } => Error::format(path, format!("{message}; {left}")),
            other => other,
        };
        if let Ok(mut shared) = self.shared.lock() {
            shared.failure.get_or_insert(error);
        }
    }

    /// Takes the reason why a checkpoint could not be written, if one could not.
    pub(in crate::train) fn failure(&self) -> Option<Error> {
        self.shared.lock().ok()?.failure.take()
    }

    /// Announces a checkpoint, whose parts follow.
    pub(in crate::train) fn begin(&self, state: CheckpointState) {
        if let Ok(mut shared) = self.shared.lock() {
            shared.pending.insert(state.segment, Pending { state, sums: BTreeMap::new() });
        }
    }

    /// The three parts as Burn's checkpointers.
    pub(in crate::train) fn parts(self: &Arc<Self>) -> [PartCheckpointer; 3] {
        PARTS.map(|part| PartCheckpointer { part, store: self.clone() })
    }

    /// Writes a part of the checkpoint announced for `segment`; the last part makes it whole.
    ///
    /// # Errors
    /// If a file cannot be written; earlier checkpoints are then kept.
    pub(in crate::train) fn save<R: Checkpoint>(
        &self,
        part: &str,
        segment: usize,
        record: R,
    ) -> Result<()> {
        let unknown = || Error::Training("a checkpoint without a state".to_string());
        let state = {
            let shared = self.shared.lock().map_err(|_| poisoned())?;
            shared.pending.get(&segment).map(|pending| pending.state.clone()).ok_or_else(unknown)?
        };
        let partial = self.path(state.step).with_extension(PARTIAL);
        fs::create_dir_all(&partial).map_err(|e| Error::io(&partial, e))?;
        let file = part_file(&partial, part);
        record.save(file.clone()).map_err(|e| Error::format(&file, cause(&e.to_string())))?;
        let synced = fs::File::open(&file).and_then(|f| f.sync_all());
        synced.map_err(|e| Error::io(&file, e))?;
        let sum = sha256_of_file(&file)?;
        let mut shared = self.shared.lock().map_err(|_| poisoned())?;
        let pending = shared.pending.get_mut(&segment).ok_or_else(unknown)?;
        pending.sums.insert(format!("{part}.bpk"), sum);
        if pending.sums.len() == PARTS.len()
            && let Some(Pending { state, sums }) = shared.pending.remove(&segment)
        {
            self.commit(&state, sums, &partial)?;
            if let Some(written) = &shared.written {
                written(state.step, &self.path(state.step));
            }
        }
        Ok(())
    }

    /// Makes a checkpoint whole, then removes those that are neither the last nor the best.
    fn commit(
        &self,
        state: &CheckpointState,
        sums: BTreeMap<String, String>,
        partial: &Path,
    ) -> Result<()> {
        state.write(partial, sums)?;
        let path = self.path(state.step);
        if path.exists() {
            fs::remove_dir_all(&path).map_err(|e| Error::io(&path, e))?;
        }
        fs::rename(partial, &path).map_err(|e| Error::io(&path, e))?;
        let synced = fs::File::open(&self.folder).and_then(|f| f.sync_all());
        synced.map_err(|e| Error::io(&self.folder, e))?;
        let best = state.best.as_ref().map(|(step, _)| *step);
        for old in self.steps()? {
            if old != state.step && Some(old) != best {
                let path = self.path(old);
                fs::remove_dir_all(&path).map_err(|e| Error::io(&path, e))?;
            }
        }
        Ok(())
    }
}

/// The cause in a message that also names the file.
fn cause(message: &str) -> String {
    let cause = message.rsplit("': ").next().unwrap_or(message);
    format!("could not be written: {}", cause.trim_end_matches('`'))
}

fn part_file(folder: &Path, part: &str) -> PathBuf {
    folder.join(format!("{part}.bpk"))
}

/// Reads a record.
///
/// # Errors
/// Names the file if it cannot be read or is not such a record.
pub(in crate::train) fn load<R: Checkpoint>(file: &Path) -> Result<R> {
    let path = file.to_path_buf();
    guarded(file, || R::load(path).map_err(|e| e.to_string()))
}

/// Runs a reader of another crate on `file`; its panics become errors.
pub(in crate::train) fn guarded<T>(
    file: &Path,
    read: impl FnOnce() -> Result<T, String>,
) -> Result<T> {
    let panicked = |_| Err("is not a checkpoint of this model".to_string());
    guard::guarded(read).unwrap_or_else(panicked).map_err(|message| Error::format(file, message))
}

fn poisoned() -> Error {
    Error::Training("a thread that wrote a checkpoint panicked".to_string())
}

/// Burn's checkpointer for one part of each checkpoint.
pub(in crate::train) struct PartCheckpointer {
    part: &'static str,
    store: Arc<CheckpointStore>,
}

impl<R: Checkpoint> Checkpointer<R> for PartCheckpointer {
    fn save(&self, epoch: usize, record: R) -> Result<(), CheckpointerError> {
        let failed = |e: Error| {
            let told = CheckpointerError::Unknown(e.to_string());
            self.store.fail(e);
            told
        };
        self.store.save(self.part, epoch, record).map_err(failed)
    }

    /// Does nothing: the store removes old checkpoints once the next one is whole.
    fn delete(&self, _epoch: usize) -> Result<(), CheckpointerError> {
        Ok(())
    }

    fn restore(&self, _epoch: usize) -> Result<R, CheckpointerError> {
        let failed = |e: Error| CheckpointerError::Unknown(e.to_string());
        let from = self.store.shared.lock().map_err(|_| failed(poisoned()))?.from;
        let step = from.ok_or_else(|| failed(Error::Training("no checkpoint".to_string())))?;
        load(&part_file(&self.store.path(step), self.part)).map_err(failed)
    }
}
