//! Logits and loss of extractive question answering.

use burn::tensor::{Int, Tensor, assert_shape};

use super::classification::cross_entropy;

/// The two columns of a head's output: logits of the answer's first and last token.
///
/// # Shapes
/// - `logits`: `[batch, length, 2]`
/// - output: `[batch, length]` each
pub fn span_logits(logits: Tensor<3>) -> (Tensor<2>, Tensor<2>) {
    let [batch, length, _] = logits.dims();
    let column = |at| logits.clone().narrow(2, at, 1).reshape([batch, length]);
    (column(0), column(1))
}

/// The loss `[1]` that Hugging Face's `...ForQuestionAnswering` computes: the mean of the
/// cross-entropies of start and end, each a mean over the examples whose position lies within the
/// sequence. Positions are clamped to `0..=length`, and those at `length` are left out.
///
/// # Shapes
/// - `start`, `end`: `[batch, length]`
/// - `start_positions`, `end_positions`: `[batch]`
///
/// # Panics
/// If shapes differ.
pub fn question_answering_loss(
    start: Tensor<2>,
    end: Tensor<2>,
    start_positions: Tensor<1, Int>,
    end_positions: Tensor<1, Int>,
) -> Tensor<1> {
    (position_loss(start, start_positions) + position_loss(end, end_positions)) / 2.0
}

fn position_loss(logits: Tensor<2>, positions: Tensor<1, Int>) -> Tensor<1> {
    let [batch, length] = logits.dims();
    assert_shape!(positions, [batch]);
    let positions = positions.clamp(0, length as i64);
    let ignored = positions.clone().equal_elem(length as i64);
    cross_entropy(logits, positions.mask_fill(ignored, -100))
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;

    fn loss(start: [i64; 3], end: [i64; 3]) -> f32 {
        let device = Device::default();
        let logits = [[0.0, 1.0, 2.0, -1.0], [0.5, 0.5, 0.0, 0.0], [3.0, 0.0, -2.0, 1.0]];
        let logits = Tensor::<2>::from_floats(logits, &device);
        let ints = |values: [i64; 3]| Tensor::<1, Int>::from_ints(values, &device);
        question_answering_loss(logits.clone(), logits * -1.0, ints(start), ints(end)).into_scalar()
    }

    /// Values of PyTorch 2's `CrossEntropyLoss(ignore_index=4)` after `clamp(0, 4)`.
    #[test]
    fn values_equal_pytorch() {
        assert!((loss([2, 0, 3], [1, 2, 0]) - 2.09431).abs() < 1e-6);
        assert!((loss([-5, 4, 9], [1, 400, 3]) - 2.624021).abs() < 1e-6);
        assert!(loss([4, 5, 6], [0, 0, 0]).is_nan());
    }
}
