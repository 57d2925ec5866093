//! Attention of single tokens: to the tokens of their own hypothesis, and to an encoder's output.

use pulp::{Arch, Simd, WithSimd};

use super::attention::{QUERIES, Softmax, exponentials, pack, pack_transposed};
use super::packed_layers::grow;
use super::product::{Epilogue, Rows, RowsMut, product};
use super::weight::PackedWeight;

/// Keys and values of one head of one sequence, packed for many tokens to attend to.
#[derive(Debug)]
pub struct PackedHead {
    keys: PackedWeight,
    values: PackedWeight,
    head_size: usize,
    length: usize,
}

impl PackedHead {
    /// Packs `[length, head_size]` each.
    pub fn new(keys: Rows<'_>, values: Rows<'_>, head_size: usize) -> Self {
        let length = keys.rows;
        let (mut packed_keys, mut packed_values) =
            (PackedWeight::default(), PackedWeight::default());
        pack_transposed(&mut packed_keys, keys, head_size);
        pack(&mut packed_values, values, head_size);
        Self { keys: packed_keys, values: packed_values, head_size, length }
    }

    /// Replaces `queries: [rows, head_size]` by `softmax(Q Kᵀ scale + mask) V`; the mask is `[length]`,
    /// `scores` is room for them.
    pub fn attend(
        &self,
        queries: &mut [f32],
        scale: f32,
        mask: Option<&[f32]>,
        scores: &mut Vec<f32>,
    ) {
        let (length, size) = (self.length, self.head_size);
        let width = length.next_multiple_of(16);
        grow(scores, QUERIES.min(queries.len() / size) * width);
        for queries in queries.chunks_mut(QUERIES * size) {
            let rows = queries.len() / size;
            let query = Rows { values: queries, stride: size, rows };
            let target = RowsMut { values: scores, stride: width };
            product(query, &self.keys, None, Epilogue::Identity, target);
            let mask = mask.map(|mask| (mask, 0));
            let mut sums = [0.0; QUERIES];
            let softmax = Softmax { scores, width, length, rows, scale, mask, sums: &mut sums };
            softmax.weigh(&self.values, queries);
        }
    }
}

/// Keys and values `[positions, rows, size]` of all rows (hypotheses) that were decoded, heads side by
/// side.
#[derive(Clone, Copy)]
pub struct Decoded<'a> {
    pub keys: &'a [f32],
    pub values: &'a [f32],
    /// Rows of a position.
    pub rows: usize,
    /// Number of heads.
    pub heads: usize,
    /// Multiplies the scores.
    pub scale: f32,
}

impl Decoded<'_> {
    /// `context ← softmax(q Kᵀ scale) V` of one `query: [size]` over its own path, which names the row
    /// of every position; each head on its own, `scores` is room for theirs.
    pub fn attend(self, query: &[f32], path: &[usize], scores: &mut Vec<f32>, context: &mut [f32]) {
        grow(scores, self.heads * path.len());
        Arch::new().dispatch(Attend { decoded: self, query, path, scores, context });
    }

    /// The row of `of` that was decoded at `position` on the path.
    fn at<'a>(&self, of: &'a [f32], position: usize, row: usize, size: usize) -> &'a [f32] {
        &of[(position * self.rows + row) * size..][..size]
    }
}

struct Attend<'a> {
    decoded: Decoded<'a>,
    query: &'a [f32],
    path: &'a [usize],
    scores: &'a mut [f32],
    context: &'a mut [f32],
}

impl WithSimd for Attend<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { decoded, query, path, scores, context } = self;
        let (size, length) = (query.len(), path.len());
        let head_size = size / decoded.heads;
        for (position, &row) in path.iter().enumerate() {
            let key = decoded.at(decoded.keys, position, row, size);
            let heads = query.chunks_exact(head_size).zip(key.chunks_exact(head_size));
            for (head, (query, key)) in heads.enumerate() {
                scores[head * length + position] = dot::<S>(simd, query, key) * decoded.scale;
            }
        }
        for scores in scores.chunks_exact_mut(length).take(decoded.heads) {
            let factor = 1.0 / exponentials::<S>(simd, scores);
            scores.iter_mut().for_each(|score| *score *= factor);
        }
        context.fill(0.0);
        for (position, &row) in path.iter().enumerate() {
            let value = decoded.at(decoded.values, position, row, size);
            let heads = context.chunks_exact_mut(head_size).zip(value.chunks_exact(head_size));
            for (head, (context, value)) in heads.enumerate() {
                add_scaled::<S>(simd, context, scores[head * length + position], value);
            }
        }
    }
}

#[inline(always)]
fn dot<S: Simd>(simd: S, a: &[f32], b: &[f32]) -> f32 {
    let (a, a_tail) = S::as_simd_f32s(a);
    let (b, b_tail) = S::as_simd_f32s(b);
    let mut sum = simd.splat_f32s(0.0);
    for (a, b) in a.iter().zip(b) {
        sum = simd.mul_add_e_f32s(*a, *b, sum);
    }
    simd.reduce_sum_f32s(sum) + a_tail.iter().zip(b_tail).map(|(a, b)| a * b).sum::<f32>()
}

/// `x ← x + factor · added`.
#[inline(always)]
fn add_scaled<S: Simd>(simd: S, x: &mut [f32], factor: f32, added: &[f32]) {
    let (x, x_tail) = S::as_mut_simd_f32s(x);
    let (added, added_tail) = S::as_simd_f32s(added);
    let splat = simd.splat_f32s(factor);
    for (x, added) in x.iter_mut().zip(added) {
        *x = simd.mul_add_e_f32s(splat, *added, *x);
    }
    x_tail.iter_mut().zip(added_tail).for_each(|(x, added)| *x += factor * added);
}
