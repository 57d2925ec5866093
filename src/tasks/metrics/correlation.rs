//! Correlations of predictions with scores.

/// Pearson's correlation; 0 without examples or if either side is constant (SciPy: NaN).
///
/// # Panics
/// If the slices differ in length.
pub fn pearson(labels: &[f64], predictions: &[f64]) -> f64 {
    assert_eq!(labels.len(), predictions.len(), "one prediction a label");
    // The rounded mean of equal numbers may differ from them, so their variance may not be 0.
    if is_constant(labels) || is_constant(predictions) {
        return 0.0;
    }
    let (labels, predictions) = (centred_unit(labels), centred_unit(predictions));
    let r: f64 = labels.iter().zip(&predictions).map(|(a, b)| a * b).sum();
    r.clamp(-1.0, 1.0)
}

/// Spearman's correlation: Pearson's correlation of the ranks, where equal values share their mean
/// rank; 0 if either side is constant.
///
/// # Panics
/// If the slices differ in length.
pub fn spearman(labels: &[f64], predictions: &[f64]) -> f64 {
    pearson(&ranks(labels), &ranks(predictions))
}

fn is_constant(values: &[f64]) -> bool {
    values.iter().all(|value| *value == values[0])
}

/// The values minus their mean, divided by their norm. Scaled by the largest first, so that squares
/// neither overflow nor underflow.
fn centred_unit(values: &[f64]) -> Vec<f64> {
    let scale = values.iter().fold(0.0_f64, |largest, value| largest.max(value.abs()));
    let mean = values.iter().map(|value| value / scale).sum::<f64>() / values.len() as f64;
    let centred: Vec<f64> = values.iter().map(|value| value / scale - mean).collect();
    let spread = centred.iter().fold(0.0_f64, |largest, value| largest.max(value.abs()));
    let norm = centred.iter().map(|value| (value / spread).powi(2)).sum::<f64>().sqrt();
    centred.into_iter().map(|value| value / spread / norm).collect()
}

/// Ranks from 1; equal values share the mean of their ranks.
fn ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[a].total_cmp(&values[b]));
    let mut ranks = vec![0.0; values.len()];
    let mut start = 0;
    while start < order.len() {
        let value = values[order[start]];
        let tied = order[start..].iter().take_while(|&&index| values[index] == value).count();
        // The mean of start + 1, …, start + tied. NaN equals nothing, so it has a rank of its own.
        let tied = tied.max(1);
        let rank = start as f64 + (tied + 1) as f64 / 2.0;
        for &index in &order[start..start + tied] {
            ranks[index] = rank;
        }
        start += tied;
    }
    ranks
}
