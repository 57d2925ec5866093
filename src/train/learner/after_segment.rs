//! After each segment: takes in the evaluation, marks the best checkpoint, decides whether to stop.

use std::sync::{Arc, Mutex};
use std::time::Instant;

use burn::train::EarlyStoppingStrategy;
use burn::train::checkpoint::{CheckpointingAction, CheckpointingStrategy};
use burn::train::metric::store::EventStoreClient;

use super::RunHandle;
use super::task_metric::Latest;
use crate::train::checkpoints::{CheckpointState, CheckpointStore};
use crate::train::{Event, Segments};

/// Keeps the state of a training, and saves a checkpoint of it after each segment.
#[derive(Clone)]
pub(crate) struct AfterSegment {
    pub segments: Segments,
    pub store: Arc<CheckpointStore>,
    pub latest: Latest,
    pub run: RunHandle,
    /// State of the last checkpoint.
    pub state: Arc<Mutex<CheckpointState>>,
    /// First step whose evaluation counts; before it, the model is larger than asked.
    pub counts_from: usize,
    pub patience: Option<usize>,
    pub started: Instant,
    pub seconds_before: f64,
}

impl AfterSegment {
    fn after(&self, segment: usize) {
        let Ok(mut state) = self.state.lock() else { return };
        state.segment = segment;
        state.step = self.segments.steps_after(segment);
        self.note(&mut state);
        let latest = self.latest.lock().ok().and_then(|mut latest| latest.take());
        match latest {
            Some(Ok(metrics)) => {
                let step = state.step;
                let counts = step >= self.counts_from;
                let better =
                    state.best.as_ref().is_none_or(|(_, best)| metrics.is_better_than(best));
                state.history.push((step, metrics.clone()));
                if counts && better {
                    state.best = Some((step, metrics.clone()));
                    state.evaluations_since_best = 0;
                } else if counts {
                    state.evaluations_since_best += 1;
                }
                self.run.tell(&Event::Evaluation {
                    step,
                    total: self.segments.total_steps,
                    metrics,
                    best: counts && better,
                });
            }
            Some(Err(error)) => self.run.fail(error),
            None => {}
        }
        self.store.begin(state.clone());
    }

    /// The state after update `step` within a segment; `None` if that is a checkpoint already.
    pub fn between(&self, step: usize) -> Option<CheckpointState> {
        let mut state = self.state.lock().ok()?.clone();
        if step == state.step {
            return None;
        }
        state.step = step;
        self.note(&mut state);
        Some(state)
    }

    /// Adds the time so far, the losses and the importance.
    fn note(&self, state: &mut CheckpointState) {
        state.seconds = self.seconds_before + self.started.elapsed().as_secs_f64();
        let record = self.run.record();
        (state.losses, state.importance) = (record.losses, record.importance);
    }
}

impl CheckpointingStrategy for AfterSegment {
    fn checkpointing(
        &mut self,
        epoch: usize,
        _store: &EventStoreClient,
    ) -> Vec<CheckpointingAction> {
        self.after(epoch);
        vec![CheckpointingAction::Save]
    }
}

impl EarlyStoppingStrategy for AfterSegment {
    fn should_stop(&mut self, _epoch: usize, _store: &EventStoreClient) -> bool {
        let since = self.state.lock().map_or(0, |state| state.evaluations_since_best);
        self.patience.is_some_and(|patience| since >= patience)
    }
}
