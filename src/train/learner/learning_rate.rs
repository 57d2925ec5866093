//! The learning rate: linear warmup from 0, then linear, cosine or no decay.

use burn::lr_scheduler::{LrScheduler, LrSchedulerRecord};

use crate::train::LrDecay;

/// A learning rate that is a pure function of the step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LearningRate {
    /// The largest rate.
    pub peak: f64,
    /// Decay after the warmup.
    pub decay: LrDecay,
    /// Updates of the linear rise from 0.
    pub warmup_steps: usize,
    /// Updates of the whole training.
    pub total_steps: usize,
}

impl LearningRate {
    /// The rate at update `step`, from 0, as in Hugging Face's `get_scheduler`.
    pub fn at(&self, step: usize) -> f64 {
        if step < self.warmup_steps {
            return self.peak * step as f64 / self.warmup_steps as f64;
        }
        let span = self.total_steps.saturating_sub(self.warmup_steps).max(1) as f64;
        let done = ((step - self.warmup_steps) as f64 / span).min(1.0);
        self.peak
            * match self.decay {
                LrDecay::Linear => 1.0 - done,
                LrDecay::Cosine => 0.5 * (1.0 + (std::f64::consts::PI * done).cos()),
                LrDecay::Constant => 1.0,
            }
    }
}

/// [`LearningRate`] as Burn's scheduler.
#[derive(Debug, Clone, Copy)]
pub struct LearningRateScheduler {
    rate: LearningRate,
    step: u64,
}

impl LearningRateScheduler {
    /// Makes a scheduler before its first step.
    pub fn new(rate: LearningRate) -> Self {
        Self { rate, step: 0 }
    }

    /// Makes a scheduler after `step` updates.
    pub(super) fn after(rate: LearningRate, step: usize) -> Self {
        Self { rate, step: step as u64 }
    }
}

impl LrScheduler for LearningRateScheduler {
    fn step(&mut self) -> f64 {
        self.step += 1;
        self.rate.at(self.step as usize - 1)
    }

    fn to_record(&self) -> LrSchedulerRecord {
        LrSchedulerRecord::new().with_scalar("step", self.step)
    }

    fn load_record(&mut self, record: LrSchedulerRecord) {
        if let Some(step) = record.scalar("step") {
            self.step = step;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(decay: LrDecay) -> LearningRate {
        LearningRate { peak: 2e-3, decay, warmup_steps: 4, total_steps: 48 }
    }

    #[test]
    fn linear_is_the_rate_of_the_published_run() {
        let rates: Vec<f64> = (0..6).map(|t| rate(LrDecay::Linear).at(t)).collect();
        let expected = [0.0, 5e-4, 1e-3, 1.5e-3, 2e-3, 0.001_954_545_454_545_454_5];
        assert!(rates.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-15), "{rates:?}");
        assert!(rate(LrDecay::Linear).at(48).abs() < 1e-18);
    }

    #[test]
    fn cosine_and_constant() {
        assert!((rate(LrDecay::Cosine).at(26) - 1e-3).abs() < 1e-12);
        assert_eq!(rate(LrDecay::Constant).at(47), 2e-3);
        let none = LearningRate { warmup_steps: 0, ..rate(LrDecay::Linear) };
        assert_eq!(none.at(0), 2e-3);
    }

    #[test]
    fn scheduler_resumes_from_its_record() {
        let mut scheduler = LearningRateScheduler::new(rate(LrDecay::Cosine));
        (0..7).for_each(|_| {
            scheduler.step();
        });
        let mut resumed = LearningRateScheduler::new(rate(LrDecay::Cosine));
        resumed.load_record(scheduler.to_record());
        let mut after = LearningRateScheduler::after(rate(LrDecay::Cosine), 7);
        let next = scheduler.step();
        assert_eq!((resumed.step(), after.step()), (next, next));
    }
}
