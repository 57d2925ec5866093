//! Events of a run, for whoever observes it: a progress line, JSON lines, a test.

use std::path::{Path, PathBuf};

use serde::{Serialize, Serializer};

use crate::tasks::MetricReport;

/// An event of a run.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Event {
    /// A stage begins: loading, evaluating, decomposing, training, compacting, …
    Stage {
        /// Its name, for people.
        name: String,
    },
    /// A note for people.
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
        /// Mean loss of the update's batches.
        loss: f64,
        /// Learning rate of the update.
        learning_rate: f64,
        /// Share of `S` that the schedule keeps; 1 in plain fine-tuning.
        keep_ratio: f64,
        /// Share of `S` left after this update pruned; `None` if it did not prune.
        kept: Option<f64>,
        /// Norm of the whole gradient.
        gradient_norm: f64,
        /// Whether the update was skipped because the loss or a gradient was not finite.
        skipped: bool,
        /// Seconds since the training began or was resumed.
        seconds: f64,
    },
    /// Progress of a stage over its examples.
    Progress {
        /// Examples answered so far.
        done: usize,
        /// Examples in all.
        total: usize,
    },
    /// The model was evaluated during training.
    Evaluation {
        /// Updates done.
        step: usize,
        /// Updates of the whole training.
        total: usize,
        /// Metrics on the evaluation data.
        metrics: MetricReport,
        /// Whether this is the best evaluation so far, among those that count; the last of equals.
        best: bool,
    },
    /// A whole checkpoint was written.
    Checkpoint {
        /// Updates done.
        step: usize,
        /// Its folder.
        #[serde(serialize_with = "shown")]
        path: PathBuf,
    },
}

/// Writes a path for people, since JSON cannot hold one that is not UTF-8.
fn shown<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&path.display())
}

/// Observes a run. Events come from several threads, in order.
pub trait Observer: Send + Sync {
    /// Receives an event; should return at once.
    fn event(&self, event: &Event);
}

/// Ignores all events.
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
