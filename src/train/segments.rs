//! How a training is cut into updates, and into segments that end with a checkpoint.

use crate::{Error, Result};

/// How a training is cut into batches, updates and segments. A segment lies between two checkpoints;
/// to Burn it is an epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segments {
    /// Passes over the data.
    pub epochs: usize,
    /// Batches in one pass over the data.
    pub batches_per_epoch: usize,
    /// Batches in an update.
    pub accumulation: usize,
    /// Updates of the whole training.
    pub total_steps: usize,
    /// Updates between checkpoints.
    pub save_steps: usize,
    /// Updates between evaluations, a multiple of `save_steps`.
    pub eval_steps: usize,
}

impl Segments {
    /// Cuts a training of `epochs` passes. Every update has exactly `accumulation` batches; those left
    /// over at the end are not trained on.
    ///
    /// # Errors
    /// If there is no whole update, or `save_steps` does not divide `eval_steps`.
    pub fn new(
        examples: usize,
        batch_size: usize,
        accumulation: usize,
        epochs: usize,
        eval_steps: Option<usize>,
        save_steps: Option<usize>,
    ) -> Result<Self> {
        let batches_per_epoch = examples.div_ceil(batch_size);
        let total_steps = batches_per_epoch * epochs / accumulation;
        if total_steps == 0 {
            return Err(Error::option(
                "gradient_accumulation",
                format!(
                    "{accumulation} batches an update are more than the {} of the whole training",
                    batches_per_epoch * epochs
                ),
            ));
        }
        let eval_steps = eval_steps.unwrap_or(total_steps.div_ceil(epochs)).min(total_steps);
        let save_steps = save_steps.unwrap_or(eval_steps).min(eval_steps);
        if !eval_steps.is_multiple_of(save_steps) {
            return Err(Error::option(
                "save_steps",
                format!("{save_steps} does not divide the {eval_steps} steps between evaluations"),
            ));
        }
        Ok(Self { epochs, batches_per_epoch, accumulation, total_steps, save_steps, eval_steps })
    }

    /// Number of segments.
    pub fn count(&self) -> usize {
        self.total_steps.div_ceil(self.save_steps)
    }

    /// Number of updates after `segments` segments.
    pub fn steps_after(&self, segments: usize) -> usize {
        (segments * self.save_steps).min(self.total_steps)
    }

    /// Whether the model is evaluated after `segments` segments.
    pub fn evaluates_after(&self, segments: usize) -> bool {
        segments == self.count() || (segments * self.save_steps).is_multiple_of(self.eval_steps)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn updates_segments_and_evaluations() {
        let s = Segments::new(100, 8, 4, 3, Some(4), Some(2)).unwrap();
        // 13 batches an epoch, 39 in all, 9 whole updates.
        assert_eq!((s.batches_per_epoch, s.total_steps, s.count()), (13, 9, 5));
        let evaluated: Vec<usize> = (1..=5).filter(|&n| s.evaluates_after(n)).collect();
        assert_eq!(evaluated, [2, 4, 5]);
        assert_eq!(s.steps_after(5), 9);
        assert!(Segments::new(100, 8, 4, 3, Some(4), Some(3)).is_err());
        assert!(Segments::new(8, 8, 4, 3, None, None).is_err());
    }
}
