//! Warnings: defects of a result that is kept and marked, as the run came to its end.

use super::{RunReport, Warning, WarningKind, percent};
use crate::pruning::Structure;
use crate::tasks::MetricReport;

/// The size and loss that a run should have, as known before its training.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Expected {
    /// Share that pruning may keep in addition, since neurons at the threshold stay.
    pub boundary: f64,
    /// Loss on the labels of a model that ignores its input.
    pub blind_loss: f64,
}

/// Factor over the requested share beyond which a result is too large.
pub(crate) const SIZE_TOLERANCE: f64 = 1.1;
/// Factor over the loss on the labels of a model that ignores its input, or over the first loss if that is
/// larger, beyond which a training diverged.
const DIVERGED: f64 = 2.0;

impl RunReport {
    /// Finds the defects of the result.
    pub(crate) fn judge(&self, expected: &Expected) -> Vec<Warning> {
        let found = [self.size(expected), self.updates(), self.course(expected)];
        let mut warnings: Vec<Warning> = found.into_iter().flatten().collect();
        if let Some(message) = self.result().and_then(no_better_than_constant)
            && warnings.iter().all(|warning| warning.kind != WarningKind::Diverged)
        {
            warnings.push(Warning { kind: WarningKind::NoBetterThanConstant, message });
        }
        warnings
    }

    fn size(&self, expected: &Expected) -> Option<Warning> {
        let method = self.method.as_ref()?;
        let stored = self.account.linear_ratio();
        if stored <= SIZE_TOLERANCE * method.ratio + expected.boundary {
            return None;
        }
        let single =
            method.pruning.is_some_and(|pruning| pruning.structure == Structure::Unstructured);
        let why = match single {
            true => {
                "single weights were pruned, and only whole neurons or input columns can be left out \
                 of what is stored"
            }
            false => {
                "neurons that score the same are pruned together or not at all, so some seem to have \
                 had no part in the training"
            }
        };
        let message = format!(
            "{} of the compressed layers' weights are stored, and {} were asked for: {why}",
            percent(stored),
            percent(method.ratio)
        );
        Some(Warning { kind: WarningKind::LargerThanAsked, message })
    }

    fn updates(&self) -> Option<Warning> {
        let training = &self.training;
        if 2 * training.skipped_updates <= training.steps {
            return None;
        }
        let message = format!(
            "{} of {} updates were skipped, because their loss or a gradient was not finite; look for \
             values out of all proportion in the data, or lower the learning rate (--lr, here {:e})",
            training.skipped_updates, training.steps, training.learning_rate
        );
        Some(Warning { kind: WarningKind::MostlySkipped, message })
    }

    /// Warns if the training diverged.
    fn course(&self, expected: &Expected) -> Option<Warning> {
        let rate = self.training.learning_rate;
        let warning = |message: String| {
            let message = format!("{message}; lower the learning rate (--lr, here {rate:e})");
            Some(Warning { kind: WarningKind::Diverged, message })
        };
        if let Some([first, last]) = ends(&self.history_loss)
            && last > DIVERGED * first.max(expected.blind_loss)
        {
            return warning(format!(
                "the training diverged: its loss went from {first:.3} to {last:.3}"
            ));
        }
        let result = self.result()?;
        let dense = self.baseline.as_ref().and_then(|baseline| baseline.metrics.first());
        let before = self.starting.first().or(dense).map(|split| &split.metrics)?;
        if !(result.is_no_better_than_constant() && before.is_clearly_better_than_constant()) {
            return None;
        }
        let trained = self.trained.first().map(|split| &split.metrics)?;
        if trained.is_clearly_better_than_constant() {
            let message = format!(
                "storing the result lost what the model knew: {} {:.4} before, {:.4} as saved, no better \
                 than the same answer to every example; store it in floats (--storage f32)",
                trained.primary,
                trained.primary_value(),
                result.primary_value()
            );
            return Some(Warning { kind: WarningKind::Diverged, message });
        }
        warning(format!(
            "the training lost what the model knew: {} {:.4} before, {:.4} now, no better than the \
             same answer to every example",
            before.primary,
            before.primary_value(),
            result.primary_value()
        ))
    }
}

/// Describes metrics that a constant answer would reach; `None` if they are better.
pub fn no_better_than_constant(metrics: &MetricReport) -> Option<String> {
    metrics.is_no_better_than_constant().then(|| {
        format!(
            "{metrics}: no better than the same answer to every example; the model has not learnt \
             this task"
        )
    })
}

/// The first value of a curve, before a learning rate that is too high has an effect, and the mean of
/// its last tenth.
fn ends(curve: &[(usize, f64)]) -> Option<[f64; 2]> {
    let (_, first) = *curve.first()?;
    let last = &curve[curve.len() - (curve.len() / 10).max(1)..];
    Some([first, last.iter().map(|(_, y)| y).sum::<f64>() / last.len() as f64])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inspect::report_for_tests;
    use crate::tasks::MetricKind;

    fn expected() -> Expected {
        Expected { boundary: 1.0 / 768.0, blind_loss: std::f64::consts::LN_2 }
    }

    fn kinds(report: &RunReport) -> Vec<WarningKind> {
        report.judge(&expected()).iter().map(|warning| warning.kind).collect()
    }

    fn message(report: &RunReport) -> String {
        report.judge(&expected()).remove(0).message
    }

    #[test]
    fn a_good_run_has_none() {
        assert_eq!(kinds(&report_for_tests()), []);
    }

    #[test]
    fn more_than_was_asked_for_is_marked() {
        let mut report = report_for_tests();
        let layer = &mut report.account.layers[0];
        let dense = layer.dense_elements as f64;
        layer.stored_elements = (0.2213 * dense) as usize;
        assert_eq!(kinds(&report), [], "a tenth more and a neuron");
        report.account.layers[0].stored_elements = (0.2215 * dense) as usize;
        assert_eq!(kinds(&report), [WarningKind::LargerThanAsked]);
        report.account.layers[0].stored_elements = dense as usize;
        let text = message(&report);
        assert!(text.starts_with("100.0% of the compressed layers' weights are stored, and 20.0%"));
        let method = report.method.as_mut().unwrap();
        method.pruning.as_mut().unwrap().structure = Structure::Unstructured;
        assert!(message(&report).contains("single weights were pruned"));
        // ITP may store less.
        report.account.layers[0].stored_elements = 1;
        assert_eq!(kinds(&report), []);
    }

    #[test]
    fn skipped_updates_are_marked_where_they_are_most() {
        let mut report = report_for_tests();
        report.training.skipped_updates = 400;
        assert_eq!(kinds(&report), []);
        report.training.skipped_updates = 401;
        assert_eq!(kinds(&report), [WarningKind::MostlySkipped]);
        assert!(message(&report).starts_with("401 of 800 updates were skipped"));
    }

    #[test]
    fn a_loss_that_rises_beyond_ignorance_is_a_divergence() {
        let mut report = report_for_tests();
        let curve = |values: &[f64]| values.iter().enumerate().map(|(at, y)| (at, *y)).collect();
        // A tuned model that is pruned far is worse than it was, but no worse than ignorant.
        report.history_loss = curve(&[0.02, 0.03, 0.3, 0.69, 0.69]);
        assert_eq!(kinds(&report), []);
        report.history_loss = curve(&[0.7, 0.8, 900.0, 800.0, 700.0]);
        assert_eq!(kinds(&report), [WarningKind::Diverged]);
        let text = message(&report);
        assert!(text.contains("from 0.700 to 700.000; lower the learning rate (--lr, here 9e-5)"));
        // Large from the start, as with scores of thousands, is none.
        report.history_loss = curve(&[900.0, 800.0, 700.0]);
        assert_eq!(kinds(&report), []);
        report.history_loss.clear();
        assert_eq!(kinds(&report), []);
        // Ruined by its first updates.
        let many: Vec<f64> = (0..100).map(|at| if at == 0 { 0.5 } else { at as f64 }).collect();
        assert_eq!(ends(&curve(&many)), Some([0.5, 94.5]));
    }

    #[test]
    fn what_was_known_and_is_lost_is_a_divergence_and_what_never_was_is_not() {
        let mut report = report_for_tests();
        let set = |splits: &mut [crate::inspect::SplitMetrics], value: f64| {
            splits[0].metrics.values.insert(MetricKind::Accuracy, value);
        };
        // The majority has 0.5271 of 277 examples.
        set(&mut report.compacted, 0.5271);
        assert_eq!(kinds(&report), [WarningKind::Diverged]);
        assert!(message(&report).contains("accuracy 0.6600 before, 0.5271 as saved"));
        let metrics = report.trained.clone();
        set(&mut report.trained, 0.5271);
        assert_eq!(kinds(&report), [WarningKind::Diverged]);
        assert!(message(&report).contains("accuracy 0.7000 before, 0.5271 now"));
        set(&mut report.starting, 0.54);
        assert_eq!(kinds(&report), [WarningKind::NoBetterThanConstant]);
        assert!(!WarningKind::NoBetterThanConstant.spoils());
        assert!(message(&report).starts_with("accuracy 0.5271 (majority 0.5271): no better"));
        // Where the head was new, the dense model is what it is measured by.
        report.baseline =
            Some(crate::inspect::Baseline { report: "tuned".into(), metrics, other_start: false });
        report.starting.clear();
        assert_eq!(kinds(&report), [WarningKind::Diverged]);
    }
}
