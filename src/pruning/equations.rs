//! The equations of the method, each a pure function of tensors of one layer. LoSparse is Li et al. 2023
//! (arXiv 2306.11222), whose importance (eq. 5–7) is that of PLATON, Zhang et al. 2022 (arXiv 2206.12562).
//!
//! [`super::LayerImportance`] applies them step by step; the schedule (LoSparse eq. 9) is
//! [`super::Schedule::keep_ratio`], the threshold [`super::threshold`].

use burn::tensor::Tensor;

/// Sensitivity of every weight, `I = |s · ∂loss/∂s|`: how much the loss changes, to first order, if the
/// weight becomes zero.
pub fn sensitivity(weight: Tensor<2>, gradient: Tensor<2>) -> Tensor<2> {
    (weight * gradient).abs()
}

/// Movement of every weight, `−s · ∂loss/∂s`: positive if training moves it away from zero (Sanh et al.
/// 2020, eq. 3).
pub fn movement(weight: Tensor<2>, gradient: Tensor<2>) -> Tensor<2> {
    -(weight * gradient)
}

/// Mean of a window that had `count` samples, with one more: `w ← (w·k + I)/(k + 1)`.
pub fn window_mean(mean: Tensor<2>, sample: Tensor<2>, count: usize) -> Tensor<2> {
    match count {
        0 => sample,
        k => (mean * k as f64 + sample) / (k + 1) as f64,
    }
}

/// Moving average `β·average + (1 − β)·value`: of the importance, `Ī ← β₁ Ī + (1 − β₁) w`, and of its
/// uncertainty.
pub fn moving_average(average: Tensor<2>, value: Tensor<2>, beta: f64) -> Tensor<2> {
    average * beta + value * (1.0 - beta)
}

/// Uncertainty of the importance, `|w − Ī|` (PLATON).
pub fn uncertainty(value: Tensor<2>, average: Tensor<2>) -> Tensor<2> {
    (value - average).abs()
}

/// Score of every weight: `Ī`, or `Ī·Ū` with uncertainty (PLATON).
pub fn score(importance: Tensor<2>, uncertainty: Option<Tensor<2>>) -> Tensor<2> {
    match uncertainty {
        Some(uncertainty) => importance * uncertainty,
        None => importance,
    }
}
