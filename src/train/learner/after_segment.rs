//! After each segment: takes in the evaluation, marks the best checkpoint, decides whether to stop.

use std::sync::{Arc, Mutex};
use std::time::Instant;

use burn::train::EarlyStoppingStrategy;
use burn::train::checkpoint::{CheckpointingAction, CheckpointingStrategy};
use burn::train::metric::store::EventStoreClient;

use super::RunHandle;
use super::task_metric::Latest;
use crate::tasks::MetricReport;
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
                let best = take_in(&mut state, &metrics, step >= self.counts_from);
                let total = self.segments.total_steps;
                self.run.tell(&Event::Evaluation { step, total, metrics, best });
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

/// Adds an evaluation at the state's step, and returns whether its model is to be kept: it is the best
/// of those that count, or as good as the best, which was trained for less. As good is no improvement
/// for early stopping.
fn take_in(state: &mut CheckpointState, metrics: &MetricReport, counts: bool) -> bool {
    state.history.push((state.step, metrics.clone()));
    if !counts {
        return false;
    }
    let before = state.best.as_ref().map(|(_, best)| best);
    let better = before.is_none_or(|best| metrics.is_better_than(best));
    let kept = better || before.is_some_and(|best| metrics.is_as_good_as(best));
    state.evaluations_since_best = if better { 0 } else { state.evaluations_since_best + 1 };
    if kept {
        state.best = Some((state.step, metrics.clone()));
    }
    kept
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tasks::MetricKind;

    fn accuracy(value: f64) -> MetricReport {
        MetricReport {
            values: [(MetricKind::Accuracy, value)].into(),
            primary: MetricKind::Accuracy,
            examples: 4,
            majority_share: None,
            f1_of: None,
        }
    }

    /// Evaluates after each update; the first does not count. Returns which were kept.
    fn kept(state: &mut CheckpointState, values: &[f64]) -> Vec<bool> {
        let mut kept = Vec::new();
        for value in values {
            state.step += 1;
            let counts = state.step > 1;
            kept.push(take_in(state, &accuracy(*value), counts));
        }
        kept
    }

    #[test]
    fn of_equals_the_last_is_kept_and_patience_goes_on() {
        let mut state = CheckpointState::default();
        assert_eq!(
            kept(&mut state, &[1.0, 0.5, 0.75, 0.75, 0.5]),
            [false, true, true, true, false]
        );
        assert_eq!(state.best, Some((4, accuracy(0.75))));
        // The evaluations of updates 4 and 5 were no better than that of 3.
        assert_eq!((state.evaluations_since_best, state.history.len()), (2, 5));
        assert_eq!(kept(&mut state, &[0.75, f64::NAN, 1.0]), [true, false, true]);
        assert_eq!((state.evaluations_since_best, state.best.unwrap().0), (0, 8));
    }
}
