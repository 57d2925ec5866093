//! The cubic schedule, a pure function of the step.

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// Where in the schedule a step is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// `t ≤ t_i`: nothing is pruned.
    Warmup,
    /// The keep ratio falls; pruning every `interval` steps.
    Cubic,
    /// `t > T − t_f`: the final ratio, pruning at every step.
    Final,
}

/// Keep ratio of `S` over the steps `t = 0, 1, …, T − 1` (LoSparse eq. 9).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Schedule {
    /// Share of `S` kept at first, `p₀`.
    pub initial_keep_ratio: f64,
    /// Share of `S` kept at last, `p_final`.
    pub final_keep_ratio: f64,
    /// `t_i`: steps before pruning begins.
    pub initial_warmup_steps: usize,
    /// `t_f`: steps at the final ratio.
    pub final_warmup_steps: usize,
    /// `T`: optimizer updates of the whole training.
    pub total_steps: usize,
    /// `ΔT`: steps between prunings, and length of the importance window.
    pub interval: usize,
}

impl Schedule {
    /// A schedule to `final_keep_ratio` in `total_steps` with an eighth of them before pruning begins
    /// and three eighths at the final ratio, `ΔT = 10`.
    pub fn new(final_keep_ratio: f64, total_steps: usize) -> Self {
        Self {
            initial_keep_ratio: 1.0,
            final_keep_ratio,
            initial_warmup_steps: total_steps / 8,
            final_warmup_steps: total_steps * 3 / 8,
            total_steps,
            interval: 10,
        }
    }

    /// Checks that the schedule fits the training.
    ///
    /// # Errors
    /// Names the impossible setting.
    pub fn validate(&self) -> Result<()> {
        for (name, keep) in [
            ("final keep ratio", self.final_keep_ratio),
            ("initial keep ratio", self.initial_keep_ratio),
        ] {
            if !(0.0..=1.0).contains(&keep) {
                return Err(Error::option(name, format!("{keep} is not within 0 to 1")));
            }
        }
        if self.final_keep_ratio > self.initial_keep_ratio {
            return Err(Error::option(
                "final keep ratio",
                format!(
                    "{} is above the initial {}",
                    self.final_keep_ratio, self.initial_keep_ratio
                ),
            ));
        }
        if self.interval == 0 {
            return Err(Error::option("interval", "must be at least 1 step"));
        }
        let warmups = self.initial_warmup_steps + self.final_warmup_steps;
        if warmups >= self.total_steps {
            return Err(Error::option(
                "warmup steps",
                format!(
                    "the schedule is longer than the training: {} initial + {} final warmup steps \
                     leave nothing of {} steps to prune in; train longer or shorten them",
                    self.initial_warmup_steps, self.final_warmup_steps, self.total_steps
                ),
            ));
        }
        Ok(())
    }

    /// The phase of step `t`.
    pub fn phase(&self, step: usize) -> Phase {
        if step <= self.initial_warmup_steps {
            Phase::Warmup
        } else if step + self.final_warmup_steps > self.total_steps {
            Phase::Final
        } else {
            Phase::Cubic
        }
    }

    /// The share of `S` that is kept at step `t`.
    pub fn keep_ratio(&self, step: usize) -> f64 {
        match self.phase(step) {
            Phase::Warmup => self.initial_keep_ratio,
            Phase::Final => self.final_keep_ratio,
            Phase::Cubic => {
                let steps = self.total_steps - self.initial_warmup_steps - self.final_warmup_steps;
                let left = 1.0 - (step - self.initial_warmup_steps) as f64 / steps as f64;
                let span = self.initial_keep_ratio - self.final_keep_ratio;
                self.final_keep_ratio + span * left.powi(3)
            }
        }
    }

    /// Whether step `t` prunes.
    pub fn prunes(&self, step: usize) -> bool {
        match self.phase(step) {
            Phase::Warmup => false,
            Phase::Cubic => step.is_multiple_of(self.interval),
            Phase::Final => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule() -> Schedule {
        Schedule {
            initial_keep_ratio: 1.0,
            final_keep_ratio: 0.15,
            initial_warmup_steps: 6,
            final_warmup_steps: 12,
            total_steps: 48,
            interval: 5,
        }
    }

    #[test]
    fn keep_ratio_is_cubic_between_the_warmups() {
        let s = schedule();
        assert_eq!(s.keep_ratio(0), 1.0);
        assert_eq!(s.keep_ratio(6), 1.0);
        assert!((s.keep_ratio(7) - 0.9178018518518518).abs() < 1e-15);
        assert!((s.keep_ratio(10) - 0.7033185185185187).abs() < 1e-15);
        assert_eq!(s.keep_ratio(36), 0.15);
        assert_eq!(s.keep_ratio(47), 0.15);
        assert!((0..48).all(|t| s.keep_ratio(t) >= s.keep_ratio(t + 1)));
    }

    #[test]
    fn prunes_at_intervals_then_at_every_step() {
        let s = schedule();
        let pruning: Vec<usize> = (0..48).filter(|&t| s.prunes(t)).collect();
        let expected: Vec<usize> = [10, 15, 20, 25, 30, 35].into_iter().chain(37..48).collect();
        assert_eq!(pruning, expected);
    }

    #[test]
    fn a_schedule_longer_than_the_training_is_an_error() {
        let long = Schedule { final_warmup_steps: 42, ..schedule() };
        assert!(long.validate().unwrap_err().to_string().contains("longer than the training"));
        let beyond = Schedule { final_keep_ratio: 1.7, ..schedule() };
        assert!(beyond.validate().unwrap_err().to_string().contains("1.7"));
        schedule().validate().unwrap();
    }
}
