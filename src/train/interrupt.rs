//! Requests to stop a run.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use burn::train::Interrupter;

use crate::{Error, Result};

/// A request to stop a run, usable from any thread (a signal handler, say).
#[derive(Clone, Default)]
pub struct Interrupt(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    /// Why, once it was asked for.
    reason: Option<String>,
    /// Burn's handles of the trainings under way. Each training has its own, so that one that fails
    /// does not stop the next.
    trainings: Vec<Weak<Interrupter>>,
}

impl Interrupt {
    /// Asks the run to stop after the current batch.
    pub fn stop(&self, reason: &str) {
        let mut state = self.state();
        state.reason = Some(reason.to_string());
        for training in state.trainings.iter().filter_map(Weak::upgrade) {
            training.stop(Some(reason));
        }
    }

    /// Whether the run was asked to stop.
    pub fn stopped(&self) -> bool {
        self.state().reason.is_some()
    }

    /// Checks that the run may go on.
    ///
    /// # Errors
    /// [`Error::Interrupted`] if it was asked to stop.
    pub fn check(&self) -> Result<()> {
        match &self.state().reason {
            None => Ok(()),
            Some(reason) => Err(Error::Interrupted(reason.clone())),
        }
    }

    /// Makes Burn's handle for a training, which this request stops.
    pub(crate) fn for_training(&self) -> Arc<Interrupter> {
        let own = Arc::new(Interrupter::new());
        let mut state = self.state();
        if let Some(reason) = &state.reason {
            own.stop(Some(reason));
        }
        state.trainings.retain(|training| training.strong_count() > 0);
        state.trainings.push(Arc::downgrade(&own));
        own
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Interrupt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Interrupt({})", self.stopped())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_stops_trainings_and_no_training_stops_another() {
        let request = Interrupt::default();
        let failed = request.for_training();
        failed.stop(Some("not finite"));
        assert!(!request.stopped());
        let next = request.for_training();
        assert!(!next.should_stop());
        request.clone().stop("by Ctrl-C");
        assert!(next.should_stop() && request.for_training().should_stop());
        assert_eq!(request.check().unwrap_err().to_string(), "interrupted: by Ctrl-C");
    }
}
