//! Scaled dot-product attention of heads side by side.

use burn::nn::Dropout;
use burn::tensor::{Int, Tensor, activation::softmax};

use super::ForwardContext;
use super::context::{MaskKind, ScoreMask, smallest};
use crate::kernels::RelativeScores;
use crate::precision::matmul;

/// The heads of an attention: how `[batch, length, size]` is split and the scores are scaled.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Heads<'a> {
    /// Their number.
    pub(crate) count: usize,
    /// Multiplies the products of queries and keys.
    pub(crate) scale: f64,
    /// Dropout of the probabilities.
    pub(crate) dropout: &'a Dropout,
}

impl Heads<'_> {
    /// `softmax(scale · Q Kᵀ + mask + relative) V`, the heads' outputs side by side, and the
    /// probabilities `[batch, heads, queries, keys]`, behind dropout, if `context` asks for them.
    ///
    /// # Shapes
    /// - query, output: `[batch, queries, size]`; key, value: `[batch, keys, size]`
    /// - of a context without padding, all of them `[1, tokens, size]`
    pub(crate) fn attend(
        self,
        projected: [Tensor<3>; 3],
        context: &ForwardContext,
        relative: Option<&RelativeScores>,
    ) -> (Tensor<3>, Option<Tensor<4>>) {
        if !context.attentions {
            try_fused!(self.fused(&projected, context, relative).map(|output| (output, None)));
        }
        debug_assert!(context.sequences.is_none(), "only where attention is fused");
        let [query, key, value] = projected;
        // Scaling the queries costs less than scaling the scores.
        let [query, key, value] = [query * self.scale, key, value].map(|rows| self.split(rows));
        let (output, probabilities) = self.attend_split([query, key, value], context, relative);
        (output, context.attentions.then_some(probabilities))
    }

    /// `[batch, length, size]` → `[batch, heads, length, head_size]`.
    pub(crate) fn split(self, rows: Tensor<3>) -> Tensor<4> {
        let [batch, length, size] = rows.dims();
        rows.reshape([batch, length, self.count, size / self.count]).swap_dims(1, 2)
    }

    /// [`Heads::attend`] composed, of heads that are split already, such as those of a cache; always with
    /// the probabilities.
    ///
    /// # Shapes
    /// - query, scaled: `[batch, heads, queries, head_size]`
    /// - key, value: `[batch, heads, keys, head_size]`
    /// - output: `[batch, queries, size]`
    pub(crate) fn attend_split(
        self,
        [query, key, value]: [Tensor<4>; 3],
        context: &ForwardContext,
        relative: Option<&RelativeScores>,
    ) -> (Tensor<3>, Tensor<4>) {
        let [batch, heads, length, head_size] = query.dims();
        let mut scores = matmul(query.clone(), key.clone().transpose());
        if let Some(added) = relative.and_then(|relative| position_scores(query, key, relative)) {
            scores = scores + added;
        }
        scores = match &context.mask {
            // Not added: nothing may flow back through the rows of padding.
            Some(ScoreMask { kind: MaskKind::Replacing(hidden), .. }) => {
                let (hidden, min) = (hidden.clone().expand(scores.dims()), smallest(&scores));
                scores.mask_fill(hidden, min)
            }
            Some(mask) => scores + mask.added.clone(),
            None => scores,
        };
        let probabilities = self.dropout.forward(softmax(scores, 3));
        let output = matmul(probabilities.clone(), value);
        // [batch, heads, length, head_size] → [batch, length, size]
        (output.swap_dims(1, 2).reshape([batch, length, heads * head_size]), probabilities)
    }

    #[cfg(feature = "flex")]
    fn fused(
        self,
        projected: &[Tensor<3>; 3],
        context: &ForwardContext,
        relative: Option<&RelativeScores>,
    ) -> Option<Tensor<3>> {
        use crate::kernels::fused::{self, HeadSettings};
        let [query, key, _] = projected;
        if !crate::kernels::fuses_products(query) {
            return None;
        }
        let mask = context.mask.as_ref();
        let settings = HeadSettings {
            count: self.count,
            scale: self.scale,
            dropout: self.dropout,
            mask_replaces: mask.is_some_and(|mask| matches!(mask.kind, MaskKind::Replacing(_))),
            sequences: context.sequences.as_ref(),
        };
        let (fixed, trained) = match mask {
            Some(ScoreMask { added, kind: MaskKind::Trained }) => {
                let [batch, length] = context.dims(query);
                // The kernel takes as many trained scores as there are.
                (None, Some(added.clone().expand([batch, self.count, length, length])))
            }
            mask => (mask.map(|mask| &mask.added), None),
        };
        let relative = relative.and_then(|relative| {
            fused::position_scores([query, key], relative, settings).or_else(|| {
                let [query, key] = [query, key].map(|rows| self.split(rows.clone()));
                position_scores(query * self.scale, key, relative)
            })
        });
        let bias = sum(trained, relative);
        fused::attention(projected.each_ref(), fixed, bias.as_ref(), settings)
    }
}

/// The scores `[batch, heads, length, length]` that relative positions add, if any, from queries, scaled,
/// and keys `[batch, heads, length, head_size]`.
fn position_scores(
    query: Tensor<4>,
    key: Tensor<4>,
    relative: &RelativeScores,
) -> Option<Tensor<4>> {
    let [_, heads, _, head_size] = query.dims();
    // [rows, size] → [1, heads, head_size, 2·length]
    let split = |(table, rows): (Tensor<2>, Tensor<1, Int>)| {
        let count = rows.dims()[0];
        let rows = table.select(0, rows).reshape([1, count, heads, head_size]);
        rows.permute([0, 2, 3, 1])
    };
    // Column j − i + length − 1 of row i: the difference i − j, descending.
    let of_queries = relative.keys.clone().map(|keys| shear(matmul(query, split(keys))));
    // Here rows are keys: column i − j + length − 1 of row j.
    let of_keys =
        relative.queries.clone().map(|queries| shear(matmul(key, split(queries))).transpose());
    sum(of_queries, of_keys)
}

fn sum(a: Option<Tensor<4>>, b: Option<Tensor<4>>) -> Option<Tensor<4>> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a + b),
        (a, b) => a.or(b),
    }
}

/// `sheared[.., i, j] = relative[.., i, j − i + length − 1]`: a slice and two reshapes, without an index
/// of that size.
///
/// # Shapes
/// - `relative`: `[batch, heads, length, 2·length]`, the last column not used
/// - output: `[batch, heads, length, length]`
fn shear(relative: Tensor<4>) -> Tensor<4> {
    let [batch, heads, length, width] = relative.dims();
    // In rows one shorter, each row begins one column further left than the row above.
    relative
        .reshape([batch, heads, length * width])
        .narrow(2, length - 1, length * (width - 1))
        .reshape([batch, heads, length, width - 1])
        .narrow(3, 0, length)
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{Device, TensorData};

    #[test]
    fn sheared_by_the_definition() {
        for length in [1, 2, 5] {
            let device = Device::default();
            let values: Vec<f32> = (0..6 * length * 2 * length).map(|v| v as f32).collect();
            let relative = Tensor::<4>::from_data(
                TensorData::new(values.clone(), [2, 3, length, 2 * length]),
                &device,
            );
            let sheared = shear(relative).into_data().try_into_vec::<f32>().unwrap();
            for (at, found) in sheared.into_iter().enumerate() {
                let (row, j) = (at / length, at % length);
                let expected = values[row * 2 * length + j + length - 1 - row % length];
                assert_eq!(found, expected);
            }
        }
    }
}
