//! Metrics of classification, over class indices.

/// Share of predictions that equal their label; 0 without examples.
///
/// # Panics
/// If the slices differ in length; so do the other metrics here.
pub fn accuracy(labels: &[usize], predictions: &[usize]) -> f64 {
    assert_eq!(labels.len(), predictions.len(), "one prediction a label");
    let right = labels.iter().zip(predictions).filter(|(label, guess)| label == guess).count();
    ratio(right as f64, labels.len() as f64)
}

/// Share of the most frequent label; 0 without examples.
pub fn majority_share(labels: &[usize]) -> f64 {
    let mut counts = vec![0_usize; labels.iter().max().map_or(0, |most| most + 1)];
    labels.iter().for_each(|&label| counts[label] += 1);
    ratio(counts.into_iter().max().unwrap_or(0) as f64, labels.len() as f64)
}

/// F1 of class 1, `2·tp / (2·tp + fp + fn)`; 0 if class 1 is neither a label nor predicted.
pub fn f1(labels: &[usize], predictions: &[usize]) -> f64 {
    f1_of(1, labels, predictions)
}

/// Unweighted mean of the F1 of every class that is a label or predicted: scikit-learn's
/// `average="macro"`.
pub fn macro_f1(labels: &[usize], predictions: &[usize], classes: usize) -> f64 {
    let present: Vec<usize> = (0..classes)
        .filter(|class| labels.contains(class) || predictions.contains(class))
        .collect();
    let sum: f64 = present.iter().map(|&class| f1_of(class, labels, predictions)).sum();
    ratio(sum, present.len() as f64)
}

fn f1_of(class: usize, labels: &[usize], predictions: &[usize]) -> f64 {
    assert_eq!(labels.len(), predictions.len(), "one prediction a label");
    let count = |slice: &[usize]| slice.iter().filter(|&&entry| entry == class).count();
    let both = labels.iter().zip(predictions).filter(|&(&l, &p)| l == class && p == class).count();
    // tp + fn labels and tp + fp predictions are of this class.
    ratio(2.0 * both as f64, (count(labels) + count(predictions)) as f64)
}

/// Matthews correlation coefficient, for any number of classes (Gorodkin's R_K); 0 if all labels
/// or all predictions are of one class.
///
/// With `n` examples, `c` right ones, and `t_k` labels and `p_k` predictions of class `k`:
/// `(c·n − Σ t_k·p_k) / √((n² − Σ p_k²)(n² − Σ t_k²))`.
pub fn matthews(labels: &[usize], predictions: &[usize], classes: usize) -> f64 {
    assert_eq!(labels.len(), predictions.len(), "one prediction a label");
    let (mut of_label, mut of_prediction) = (vec![0_i128; classes], vec![0_i128; classes]);
    let mut right = 0_i128;
    for (&label, &guess) in labels.iter().zip(predictions) {
        of_label[label] += 1;
        of_prediction[guess] += 1;
        right += i128::from(label == guess);
    }
    let dot = |a: &[i128], b: &[i128]| a.iter().zip(b).map(|(a, b)| a * b).sum::<i128>();
    let n = labels.len() as i128;
    let covariance = right * n - dot(&of_label, &of_prediction);
    let label_variance = n * n - dot(&of_label, &of_label);
    let prediction_variance = n * n - dot(&of_prediction, &of_prediction);
    ratio(covariance as f64, (label_variance as f64 * prediction_variance as f64).sqrt())
}

fn ratio(numerator: f64, denominator: f64) -> f64 {
    if denominator == 0.0 { 0.0 } else { numerator / denominator }
}
