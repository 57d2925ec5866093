//! A training's record for pictures: loss over updates, and importance of neurons before pruning.
//! Checkpoints store it.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::pruning::LayerScores;

/// Largest number of points in a [`LossCurve`].
const POINTS: usize = 200;

/// The training loss on the labels over a run's updates, in at most 200 means. The distance from a teacher
/// is left out, so that curves with and without one compare.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct LossCurve {
    points: Vec<(usize, f64)>,
    /// Updates seen.
    step: usize,
    /// Sum and number of the losses since the last point.
    sum: f64,
    count: usize,
}

impl LossCurve {
    /// Adds the loss of update `step` (from 1) of `total`; one that is not finite is left out.
    pub(in crate::train) fn add(&mut self, step: usize, total: usize, loss: f64) {
        self.step = step;
        if loss.is_finite() {
            self.sum += loss;
            self.count += 1;
        }
        if step.is_multiple_of(total.div_ceil(POINTS).max(1)) {
            self.points = self.points();
            (self.sum, self.count) = (0.0, 0);
        }
    }

    /// Points of the curve: updates done, and the mean loss since the point before.
    pub(in crate::train) fn points(&self) -> Vec<(usize, f64)> {
        let open = (self.count > 0).then(|| (self.step, self.sum / self.count as f64));
        self.points.iter().copied().chain(open).collect()
    }

    /// Whether this can be the curve of `step` updates.
    pub(super) fn is_of(&self, step: usize) -> bool {
        let steps: Vec<usize> = self.points().iter().map(|(step, _)| *step).collect();
        self.step == step
            && self.count <= step
            && self.sum.is_finite()
            && self.points.len() <= POINTS
            && steps.is_sorted_by(|a, b| a < b)
            && steps.last().is_none_or(|last| *last <= step)
    }
}

/// Record of a training so far.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Record {
    /// The loss.
    pub losses: LossCurve,
    /// Scores of neurons as the first pruning compares them; `None` until then.
    pub importance: Option<Arc<Vec<LayerScores>>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_curve_is_short_and_its_means_hold_every_loss() {
        for total in [1, 7, 200, 201, 1999, 5000] {
            let mut curve = LossCurve::default();
            (1..=total).for_each(|step| curve.add(step, total, step as f64));
            let points = curve.points();
            assert!(points.len() <= POINTS && points.len() >= total.min(POINTS / 2), "{total}");
            assert_eq!(points.last().unwrap().0, total);
            let mut before = 0;
            for (step, mean) in points {
                assert_eq!(mean, (before + 1 + step) as f64 / 2.0, "{step} of {total}");
                before = step;
            }
        }
    }

    #[test]
    fn a_curve_goes_on_from_the_disk() {
        let [mut whole, mut first] = [LossCurve::default(), LossCurve::default()];
        assert!(first.is_of(0));
        (1..=1000).for_each(|step| whole.add(step, 1000, 1.0 / f64::from(step as u32)));
        (1..=503).for_each(|step| first.add(step, 1000, 1.0 / f64::from(step as u32)));
        assert!(first.is_of(503) && !first.is_of(502));
        let text = serde_json::to_string(&first).unwrap();
        let mut second: LossCurve = serde_json::from_str(&text).unwrap();
        (504..=1000).for_each(|step| second.add(step, 1000, 1.0 / f64::from(step as u32)));
        assert_eq!(second.points().len(), 200);
        for (a, b) in second.points().iter().zip(whole.points()) {
            assert!(a.0 == b.0 && (a.1 - b.1).abs() < 1e-12, "{a:?} {b:?}");
        }
    }

    #[test]
    fn losses_that_are_not_finite_are_left_out() {
        let mut curve = LossCurve::default();
        for (step, loss) in [(1, 1.0), (2, f64::NAN), (3, f64::INFINITY), (4, 3.0)] {
            curve.add(step, 800, loss);
        }
        assert_eq!(curve.points(), [(4, 2.0)]);
        (5..=8).for_each(|step| curve.add(step, 800, f64::NAN));
        assert_eq!(curve.points(), [(4, 2.0)]);
    }
}
