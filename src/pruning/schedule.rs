//! The schedule of the keep ratio (LoSparse eq. 9), a pure function of the step.

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// Phase of the schedule that a step is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// `t ≤ t_i`: nothing is pruned.
    Warmup,
    /// The keep ratio falls; pruning every `interval` steps.
    Falling,
    /// `t > T − t_f`: the final ratio, pruning at every step.
    Final,
}

/// Curve on which the keep ratio falls from first to last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Curve {
    /// `(1 − x)³` (Zhu & Gupta 2017; LoSparse).
    #[default]
    Cubic,
    /// `1 − x`.
    Linear,
    /// `(1 + cos πx)/2`.
    Cosine,
    /// At once, after the initial warmup; the rest of the training heals.
    #[serde(alias = "one-shot")]
    OneShot,
}

impl Curve {
    /// Share of the way that is still to go, of the share `left` of the steps between the warmups.
    pub fn at(self, left: f64) -> f64 {
        match self {
            Self::Cubic => left.powi(3),
            Self::Linear => left,
            Self::Cosine => (1.0 - (std::f64::consts::PI * left).cos()) / 2.0,
            Self::OneShot => 0.0,
        }
    }
}

/// Importance windows that a fitting interval lets close before the final ratio is reached.
const WINDOWS: usize = 8;
/// `ΔT` of the published runs, in steps.
const LONGEST_INTERVAL: usize = 10;
/// Defaults of `t_i` and `t_f`, as shares of the steps.
pub(crate) const WARMUP_SHARES: [f64; 2] = [0.125, 0.375];

/// Keep ratio of `S` over the steps `t = 0, 1, …, T − 1` (LoSparse eq. 9):
/// `p(t) = p_final + (p₀ − p_final)·(1 − (t − t_i)/(T − t_i − t_f))³` between the warmups.
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
    /// Curve on which the ratio falls.
    #[serde(default)]
    pub curve: Curve,
}

impl Schedule {
    /// A schedule to `final_keep_ratio` in `total_steps` with an eighth of them before pruning begins
    /// and three eighths (2 at least) at the final ratio, at its [`Schedule::fitting_interval`].
    pub fn new(final_keep_ratio: f64, total_steps: usize) -> Self {
        let schedule = Self {
            initial_keep_ratio: 1.0,
            final_keep_ratio,
            initial_warmup_steps: share_of(WARMUP_SHARES[0], total_steps),
            final_warmup_steps: share_of(WARMUP_SHARES[1], total_steps).max(2),
            total_steps,
            interval: LONGEST_INTERVAL,
            curve: Curve::default(),
        };
        Self { interval: schedule.fitting_interval(), ..schedule }
    }

    setters! {
        with_initial_keep_ratio initial_keep_ratio: f64, "Sets the share of `S` kept at first, `p₀`.";
        with_initial_warmup_steps initial_warmup_steps: usize, "Sets the steps before pruning begins, `t_i`.";
        with_final_warmup_steps final_warmup_steps: usize, "Sets the steps at the final ratio, `t_f`.";
        with_interval interval: usize, "Sets the steps between prunings, `ΔT`.";
        with_curve curve: Curve, "Sets the curve on which the ratio falls.";
    }

    /// The interval that lets eight importance windows close before the final ratio is reached: 10,
    /// as published, or less where the training is short.
    pub fn fitting_interval(&self) -> usize {
        (self.final_step() / WINDOWS).clamp(1, LONGEST_INTERVAL)
    }

    /// The first step at the final ratio.
    pub(crate) fn final_step(&self) -> usize {
        let first = match self.curve {
            Curve::OneShot => self.initial_warmup_steps + 1,
            _ => (self.total_steps + 1).saturating_sub(self.final_warmup_steps),
        };
        first.min(self.total_steps.saturating_sub(1))
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
        let warmups = self.initial_warmup_steps.saturating_add(self.final_warmup_steps);
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
        // Entries that a step before the last prunes may grow back.
        let last = self.total_steps - 1;
        let at_last = self.keep_ratio(last) == self.final_keep_ratio && self.prunes(last);
        if self.final_keep_ratio < self.initial_keep_ratio && !at_last {
            return Err(Error::option(
                "final warmup steps",
                format!(
                    "with {} the last update does not prune to the final ratio; at least 2 are \
                     needed",
                    self.final_warmup_steps
                ),
            ));
        }
        Ok(())
    }

    /// Checks that an importance window closes before the final ratio is reached: until then, all neurons
    /// score the same and none is pruned.
    ///
    /// # Errors
    /// Names the interval.
    pub(super) fn check_windows(&self) -> Result<()> {
        let final_step = self.final_step();
        if self.interval <= final_step || self.final_keep_ratio >= self.initial_keep_ratio {
            return Ok(());
        }
        Err(Error::option(
            "interval",
            format!(
                "no importance is known before it is time for the final ratio: windows of {} \
                 updates, and pruning to it from update {} of {} on; leave it out, which makes it {}, \
                 or train longer",
                self.interval,
                final_step + 1,
                self.total_steps,
                self.fitting_interval()
            ),
        ))
    }

    /// The phase of step `t`.
    pub fn phase(&self, step: usize) -> Phase {
        if step <= self.initial_warmup_steps {
            Phase::Warmup
        } else if self.curve == Curve::OneShot || step + self.final_warmup_steps > self.total_steps
        {
            Phase::Final
        } else {
            Phase::Falling
        }
    }

    /// The share of `S` that is kept at step `t`.
    pub fn keep_ratio(&self, step: usize) -> f64 {
        match self.phase(step) {
            Phase::Warmup => self.initial_keep_ratio,
            Phase::Final => self.final_keep_ratio,
            Phase::Falling => {
                let steps = self.total_steps - self.initial_warmup_steps - self.final_warmup_steps;
                let left = 1.0 - (step - self.initial_warmup_steps) as f64 / steps as f64;
                let span = self.initial_keep_ratio - self.final_keep_ratio;
                self.final_keep_ratio + span * self.curve.at(left)
            }
        }
    }

    /// Whether step `t` prunes.
    pub fn prunes(&self, step: usize) -> bool {
        match self.phase(step) {
            Phase::Warmup => false,
            Phase::Falling => step.is_multiple_of(self.interval),
            Phase::Final => true,
        }
    }
}

/// A share of `steps`, rounded down.
pub(crate) fn share_of(share: f64, steps: usize) -> usize {
    (share * steps as f64) as usize
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
            curve: Curve::Cubic,
        }
    }

    #[test]
    fn every_curve_falls_from_first_to_last() {
        for (curve, halfway) in [
            (Curve::Cubic, 0.125),
            (Curve::Linear, 0.5),
            (Curve::Cosine, 0.5),
            (Curve::OneShot, 0.0),
        ] {
            let s = Schedule { curve, ..schedule() };
            assert_eq!((s.keep_ratio(6), s.keep_ratio(47)), (1.0, 0.15));
            assert!((0..48).all(|t| s.keep_ratio(t) >= s.keep_ratio(t + 1)), "{curve:?}");
            // Step 21 is half of the 30 steps from 6 to 36.
            assert!((s.keep_ratio(21) - (0.15 + 0.85 * halfway)).abs() < 1e-15, "{curve:?}");
        }
        let cosine = Schedule { curve: Curve::Cosine, ..schedule() };
        let early = (1.0 + (std::f64::consts::PI / 10.0).cos()) / 2.0;
        assert!((cosine.keep_ratio(9) - (0.15 + 0.85 * early)).abs() < 1e-15);
        let once = Schedule { curve: Curve::OneShot, ..schedule() };
        assert!((7..48).all(|t| once.keep_ratio(t) == 0.15 && once.prunes(t)));
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
        // Nothing would be pruned after step 45, or ever.
        for (final_warmup_steps, curve) in [(0, Curve::Cubic), (1, Curve::Linear)] {
            let short = Schedule { final_warmup_steps, curve, ..schedule() };
            let error = short.validate().unwrap_err().to_string();
            assert!(error.contains("at least 2"), "{error}");
        }
        Schedule { final_warmup_steps: 0, curve: Curve::OneShot, ..schedule() }.validate().unwrap();
        Schedule { final_warmup_steps: 1, interval: 1, ..schedule() }.validate().unwrap();
        for total_steps in 3..30 {
            Schedule::new(0.1, total_steps).validate().unwrap();
        }
        assert!(Schedule::new(0.1, 2).validate().is_err());
    }

    #[test]
    fn the_interval_fits_the_training() {
        for curve in [Curve::Cubic, Curve::Linear, Curve::Cosine, Curve::OneShot] {
            for total_steps in (3..200).chain([1000, 1 << 40]) {
                let schedule = Schedule { curve, ..Schedule::new(0.1, total_steps) };
                let schedule = Schedule { interval: schedule.fitting_interval(), ..schedule };
                schedule.check_windows().unwrap();
                // The first step at the final ratio, by definition.
                let last = total_steps.min(200) - 1;
                let first = (0..=last).find(|&t| schedule.phase(t) == Phase::Final);
                assert!(first.is_none_or(|first| first == schedule.final_step()), "{schedule:?}");
                // The next longer window would be too few for eight.
                if schedule.interval < 10 && schedule.interval > 1 {
                    assert!(schedule.final_step() / schedule.interval >= 8, "{schedule:?}");
                    assert!(schedule.final_step() / (schedule.interval + 1) < 8, "{schedule:?}");
                }
            }
        }
        let intervals = [6, 24, 57, 127, 128, 12_272].map(|t| Schedule::new(0.15, t).interval);
        assert_eq!(intervals, [1, 2, 4, 10, 10, 10]);
    }

    #[test]
    fn an_interval_without_a_window_is_an_error() {
        let short = Schedule { interval: 10, ..Schedule::new(0.45, 6) };
        let error = short.check_windows().unwrap_err().to_string();
        assert!(error.starts_with("option interval: no importance is known"), "{error}");
        assert!(error.contains("from update 6 of 6 on; leave it out, which makes it 1"), "{error}");
        Schedule { interval: 5, ..short }.check_windows().unwrap();
        // Nothing to prune needs no importance.
        Schedule { final_keep_ratio: 1.0, ..short }.check_windows().unwrap();
    }
}
