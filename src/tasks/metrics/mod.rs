//! Metrics of classification and regression, in `f64`, as scikit-learn and SciPy compute them.
//!
//! Begin with [`Predictions`], which gathers logits and labels and gives a [`MetricReport`]. The
//! other tasks make their own reports: [`squad`](super::squad), [`rouge`](super::rouge),
//! [`pronunciation`](super::pronunciation).
//!
//! A metric that is not defined (F1 without positives, a correlation with a constant) counts as 0,
//! so that a collapsed model compares as worse. scikit-learn does so for F1 and Matthews; SciPy
//! gives NaN for correlations.

mod classification;
mod correlation;
mod kind;
mod predictions;
mod report;

pub use kind::MetricKind;
pub use predictions::Predictions;
pub use report::MetricReport;

/// Index of the largest value, the first of equal ones; 0 for an empty row.
pub fn argmax(row: &[f32]) -> usize {
    let mut best = 0;
    for (index, value) in row.iter().enumerate() {
        if *value > row[best] {
            best = index;
        }
    }
    best
}

/// Softmax of `scores`.
pub fn softmax(scores: &[f64]) -> Vec<f64> {
    let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let powers: Vec<f64> = scores.iter().map(|score| (score - largest).exp()).collect();
    let sum: f64 = powers.iter().sum();
    powers.into_iter().map(|power| power / sum).collect()
}

#[cfg(test)]
mod tests;
