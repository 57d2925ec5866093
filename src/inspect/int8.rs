//! The comparison of a result in 8-bit integers with the same in floats.

use serde::{Deserialize, Serialize};

use crate::tasks::{MetricKind, MetricReport};

/// A result in 8-bit integers beside the same in 32-bit floats, on the data that chooses among evaluations.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Int8Comparison {
    /// The evaluation data.
    pub split: String,
    /// The metric that decides.
    pub metric: MetricKind,
    /// Its value in 32-bit floats.
    pub f32: f64,
    /// Its value in 8-bit integers: the result's, or if none held that of all layers in them; absent if their
    /// answers were not finite.
    pub int8: Option<f64>,
    /// The most that it may lose.
    pub tolerance: f64,
    /// Number of examples.
    pub examples: usize,
    /// Layers of the result that compute in 8-bit integers; 0 if the metric did not hold.
    pub layers: usize,
    /// All linear layers of the model.
    pub of: usize,
}

impl Int8Comparison {
    /// Loss of the metric that is taken for none: 0.3 points, or one example.
    pub fn tolerance(examples: usize) -> f64 {
        // A little more than one example, since the difference of two shares is rounded.
        (1.000_001 / examples.max(1) as f64).max(0.003)
    }

    /// Whether `int8` is at most the tolerance worse than `f32`.
    pub fn holds(f32: &MetricReport, int8: &MetricReport) -> bool {
        let gain = int8.primary_value() - f32.primary_value();
        let gain = if f32.primary.higher_is_better() { gain } else { -gain };
        gain >= -Self::tolerance(f32.examples)
    }

    /// Whether the result computes in 8-bit integers.
    pub fn is_kept(&self) -> bool {
        self.layers > 0
    }

    /// One sentence for people.
    pub fn sentence(&self) -> String {
        let Self { split, metric, f32, int8, layers, of, examples, .. } = self;
        let int8 = int8.map_or("not finite".to_string(), |value| format!("{value:.4}"));
        let figures = format!("{metric} on {examples} examples of {split} {int8}, in f32 {f32:.4}");
        match *layers {
            0 => format!("The result is in f32: 8-bit integers would lose too much ({figures})."),
            layers if layers == *of => {
                format!("The result computes in 8-bit integers ({figures}).")
            }
            layers => format!(
                "The result computes in 8-bit integers in {layers} of {of} layers, in f32 in the \
                 others, which lose more or have no such form ({figures})."
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn report(primary: MetricKind, value: f64, examples: usize) -> MetricReport {
        let values = BTreeMap::from([(primary, value)]);
        MetricReport { values, primary, examples, majority_share: None, f1_of: None }
    }

    #[test]
    fn a_loss_of_one_example_or_of_three_tenths_of_a_point_is_none() {
        let holds = |metric, f32, int8, examples| {
            let report = |value| report(metric, value, examples);
            Int8Comparison::holds(&report(f32), &report(int8))
        };
        assert!(holds(MetricKind::Accuracy, 80.0 / 100.0, 79.0 / 100.0, 100));
        assert!(!holds(MetricKind::Accuracy, 80.0 / 100.0, 78.0 / 100.0, 100));
        assert!(holds(MetricKind::Pearson, 0.9, 0.8971, 1500));
        assert!(!holds(MetricKind::Pearson, 0.9, 0.8969, 1500));
        assert!(holds(MetricKind::Pearson, 0.9, 0.95, 1500));
        assert!(!holds(MetricKind::Pearson, 0.9, f64::NAN, 1500));
        // Fewer errors are better.
        assert!(holds(MetricKind::PhonemeErrorRate, 0.1, 0.05, 1000));
        assert!(!holds(MetricKind::PhonemeErrorRate, 0.1, 0.11, 1000));
    }
}
