//! What a run tells whoever watches it: a progress line, JSON lines, a test.

use std::path::{Path, PathBuf};

use serde::{Serialize, Serializer};

use crate::tasks::MetricReport;

/// Something that happened in a run.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Event {
    /// A stage begins: loading, evaluating, decomposing, training, compacting, …
    Stage {
        /// What is being done, for people.
        name: String,
    },
    /// Something people should know.
    Note {
        /// One line.
        message: String,
    },
    /// One optimizer update was done.
    Step {
        /// Updates done, from 1.
        step: usize,
        /// Updates of the whole training.
        total: usize,
        /// Passes over the training data so far.
        epoch: f64,
        /// Loss of the update's batches, mean.
        loss: f64,
        /// Learning rate of the update.
        learning_rate: f64,
        /// Share of `S` that the schedule keeps; 1 in plain fine-tuning.
        keep_ratio: f64,
        /// Share of `S` that is left, as counted when this update pruned; `None` if it did not.
        kept: Option<f64>,
        /// Norm of the whole gradient.
        gradient_norm: f64,
        /// Whether the update was skipped, because the loss or a gradient was not finite.
        skipped: bool,
        /// Seconds since the training began (or went on).
        seconds: f64,
    },
    /// An evaluation goes on; told now and then.
    Progress {
        /// Examples that are answered.
        done: usize,
        /// Examples in all.
        total: usize,
    },
    /// The model was evaluated in the midst of training.
    Evaluation {
        /// Updates done.
        step: usize,
        /// Updates of the whole training.
        total: usize,
        /// Metrics on the evaluation data.
        metrics: MetricReport,
        /// Whether this is the best so far among those that count.
        best: bool,
    },
    /// A checkpoint was written, whole.
    Checkpoint {
        /// Updates done.
        step: usize,
        /// Its folder.
        #[serde(serialize_with = "shown")]
        path: PathBuf,
    },
}

/// A path as people read it: not every path is UTF-8, as JSON is.
fn shown<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&path.display())
}

/// Watches a run. Events come from several threads, in order.
pub trait Observer: Send + Sync {
    /// Called with every event; should return at once.
    fn event(&self, event: &Event);
}

/// Watches nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Observer for Silent {
    fn event(&self, _event: &Event) {}
}

impl<F: Fn(&Event) + Send + Sync> Observer for F {
    fn event(&self, event: &Event) {
        self(event);
    }
}
