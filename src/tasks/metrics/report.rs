//! The metrics of a task on one data set.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::MetricKind;

/// A task's metrics on one data set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MetricReport {
    /// Value of each metric. Rates are fractions, not percent.
    pub values: BTreeMap<MetricKind, f64>,
    /// The metric that picks the best model; one of `values`.
    pub primary: MetricKind,
    /// Number of examples scored.
    pub examples: usize,
    /// Classification: share of the most frequent label, the accuracy of a model that always gives
    /// it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub majority_share: Option<f64>,
    /// Classification with F1: the label that F1 is of, the second of two.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub f1_of: Option<String>,
}

impl MetricReport {
    /// Value of the primary metric; NaN if `values` lacks it.
    pub fn primary_value(&self) -> f64 {
        self.values.get(&self.primary).copied().unwrap_or(f64::NAN)
    }

    /// Whether this report is better than `other` by the primary metric.
    pub fn is_better_than(&self, other: &Self) -> bool {
        let (this, other) = (self.primary_value(), other.primary_value());
        if self.primary.higher_is_better() { this > other } else { this < other }
    }

    /// Whether both reports have the same value of the primary metric.
    pub fn is_as_good_as(&self, other: &Self) -> bool {
        self.primary_value() == other.primary_value()
    }

    /// How far the model is above one that answers every example alike, and the standard deviation
    /// of that difference by chance, for as many examples. By the primary metric if that is a
    /// correlation, else by accuracy; `None` without accuracy, or if all examples are of one class.
    fn above_constant(&self) -> Option<(f64, f64)> {
        use MetricKind::{Matthews, Pearson, Spearman};
        let examples = self.examples.max(1) as f64;
        if matches!(self.primary, Matthews | Pearson | Spearman) {
            return Some((self.primary_value(), examples.sqrt().recip()));
        }
        let accuracy = self.values.get(&MetricKind::Accuracy)?;
        let share = self.majority_share.filter(|share| *share < 1.0)?;
        Some((accuracy - share, (share * (1.0 - share) / examples).sqrt()))
    }

    /// Whether the model is no better than one that answers every example alike.
    pub(crate) fn is_no_better_than_constant(&self) -> bool {
        self.above_constant().is_some_and(|(above, _)| above < 1e-12)
    }

    /// Whether the model is better than one that answers every example alike by more than chance:
    /// three standard deviations.
    pub(crate) fn is_clearly_better_than_constant(&self) -> bool {
        self.above_constant().is_some_and(|(above, chance)| above > 3.0 * chance)
    }
}

impl fmt::Display for MetricReport {
    /// As `accuracy 0.8627 (majority 0.6838), f1 0.9041 (of "equivalent")`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (kind, value)) in self.values.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            write!(f, "{comma}{kind} {value:.4}")?;
            if let (MetricKind::Accuracy, Some(share)) = (kind, self.majority_share) {
                write!(f, " (majority {share:.4})")?;
            }
            if let (MetricKind::F1, Some(label)) = (kind, &self.f1_of) {
                write!(f, " (of {label:?})")?;
            }
        }
        Ok(())
    }
}
