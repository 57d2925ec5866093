//! Extractive question answering: logits of answers' ends, and their loss.

use burn::tensor::{Int, Tensor, assert_shape};

use super::classification::cross_entropy;

/// How likely each token is the first or the last of the answer.
#[derive(Debug, Clone)]
pub struct SpanLogits {
    /// `[batch, length]`: logits of the answer's first token.
    pub start: Tensor<2>,
    /// `[batch, length]`: logits of the answer's last token.
    pub end: Tensor<2>,
}

impl SpanLogits {
    /// Splits the outputs `[batch, length, 2]` of a head (`qa_outputs`).
    ///
    /// # Panics
    /// If the last axis is not 2.
    pub fn from_outputs(outputs: Tensor<3>) -> Self {
        let [batch, length, _] = outputs.dims();
        assert_shape!(outputs, [batch, length, 2]);
        let logits = |at: usize| outputs.clone().narrow(2, at, 1).reshape([batch, length]);
        Self { start: logits(0), end: logits(1) }
    }
}

/// The loss `[1]` that Hugging Face's `...ForQuestionAnswering` computes: the mean of the
/// cross-entropies of first and last token, each a mean over the batch.
///
/// Positions beyond the input are left out of the mean; where all are, it is not a number.
/// Negative ones count as 0.
///
/// # Shapes
/// - `start_positions`, `end_positions`: `[batch]`
///
/// # Panics
/// If shapes differ.
pub fn question_answering_loss(
    logits: SpanLogits,
    start_positions: Tensor<1, Int>,
    end_positions: Tensor<1, Int>,
) -> Tensor<1> {
    let loss = |logits: Tensor<2>, positions: Tensor<1, Int>| {
        let [batch, length] = logits.dims();
        assert_shape!(positions, [batch]);
        let beyond = positions.clone().greater_equal_elem(length as i64);
        cross_entropy(logits, positions.clamp_min(0).mask_fill(beyond, -100))
    };
    (loss(logits.start, start_positions) + loss(logits.end, end_positions)) * 0.5
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;

    /// Uniform logits but for one: −log softmax by hand.
    #[test]
    fn positions_beyond_the_input_are_ignored() {
        let device = Device::default();
        let outputs = Tensor::<3>::from_floats(
            [[[0.0, 0.0], [1.0, 0.0], [0.0, 0.0]], [[0.0, 0.0], [0.0, 0.0], [0.0, 2.0]]],
            &device,
        );
        let logits = SpanLogits::from_outputs(outputs);
        let positions = |values: [i64; 2]| Tensor::<1, Int>::from_ints(values, &device);
        let e = std::f32::consts::E;
        let cases = [
            // Both examples: [1] of (0, 1, 0), then of uniform; ends [2] of uniform, of (0, 0, 2).
            (
                [1, 1],
                [2, 2],
                0.25 * ((e + 2.0).ln() - 1.0 + 3f32.ln() + 3f32.ln() + (e * e + 2.0).ln() - 2.0),
            ),
            // Only the first start and the second end count.
            ([1, 3], [9, 2], 0.5 * ((e + 2.0).ln() - 1.0 + (e * e + 2.0).ln() - 2.0)),
            // −1 counts as 0.
            ([-1, 3], [9, 0], 0.5 * ((e + 2.0).ln() + (e * e + 2.0).ln())),
        ];
        for (start, end, expected) in cases {
            let loss = question_answering_loss(logits.clone(), positions(start), positions(end));
            assert!((loss.into_scalar::<f32>() - expected).abs() < 1e-6, "{start:?} {end:?}");
        }
    }
}
