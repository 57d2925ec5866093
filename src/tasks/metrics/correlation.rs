//! Correlations of predicted with given scores.

/// Pearson's correlation; 0 if either side is constant (SciPy: NaN) or there are no examples.
///
/// # Panics
/// If the slices differ in length.
pub fn pearson(labels: &[f64], predictions: &[f64]) -> f64 {
    assert_eq!(labels.len(), predictions.len(), "one prediction a label");
    // The mean of equal numbers can differ from them in the last place, so ask directly.
    if is_constant(labels) || is_constant(predictions) {
        return 0.0;
    }
    let (labels, predictions) = (centred_unit(labels), centred_unit(predictions));
    let r: f64 = labels.iter().zip(&predictions).map(|(a, b)| a * b).sum();
    r.clamp(-1.0, 1.0)
}

/// Spearman's correlation: Pearson's of the ranks, equal values sharing their mean rank; 0 if
/// either side is constant.
///
/// # Panics
/// If the slices differ in length.
pub fn spearman(labels: &[f64], predictions: &[f64]) -> f64 {
    pearson(&ranks(labels), &ranks(predictions))
}

fn is_constant(values: &[f64]) -> bool {
    values.iter().all(|value| *value == values[0])
}

/// The values less their mean, over their norm; scaled by the largest first, so that squares
/// neither overflow nor vanish.
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
        // Mean of start + 1, …, start + tied. A NaN equals nothing; it stands alone.
        let tied = tied.max(1);
        let rank = start as f64 + (tied + 1) as f64 / 2.0;
        for &index in &order[start..start + tied] {
            ranks[index] = rank;
        }
        start += tied;
    }
    ranks
}
