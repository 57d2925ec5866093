//! One head's attention over one sequence.

use pulp::{Arch, Simd, WithSimd};

use super::norm::total;
use super::packed_layers::grow;
use super::product::{Epilogue, Rows, RowsMut, product};
use super::weight::PackedWeight;
use crate::kernels::flex::exp::exp;

/// Queries whose scores are in cache together.
pub(super) const QUERIES: usize = 64;

/// The operands of one head of one sequence.
pub struct Head<'a> {
    /// `[length, head_size]`.
    pub keys: Rows<'a>,
    /// `[length, head_size]`.
    pub values: Rows<'a>,
    /// Size of a key.
    pub head_size: usize,
    /// Multiplies the scores.
    pub scale: f32,
    /// Added to the scores: row `query · stride`, `length` long; a stride of 0 is one row for all.
    pub mask: Option<(&'a [f32], usize)>,
    /// The scores that relative positions add.
    pub relative: Option<HeadRelative<'a>>,
}

/// One head's part of [`super::Relative`].
#[derive(Clone, Copy)]
pub struct HeadRelative<'a> {
    /// Multiplied by the queries.
    pub keys: Option<HeadTable<'a>>,
    /// Multiplied by the keys.
    pub queries: Option<HeadTable<'a>>,
}

/// Rows `[head_size]` for the differences of positions, `2·length − 1` of them.
#[derive(Clone, Copy)]
pub struct HeadTable<'a> {
    /// From the head's first column on.
    pub values: &'a [f32],
    /// Distance of rows.
    pub stride: usize,
    /// Which row stands for each difference.
    pub rows: &'a [usize],
}

/// Buffers that a thread reuses.
#[derive(Default)]
pub struct AttentionScratch {
    keys: PackedWeight,
    values: PackedWeight,
    scores: Vec<f32>,
    relative: RelativeScratch,
}

#[derive(Default)]
struct RelativeScratch {
    keys: PackedWeight,
    queries: PackedWeight,
    /// Position scores of some queries.
    of_queries: Vec<f32>,
    /// Position scores of all keys.
    of_keys: Vec<f32>,
}

impl Head<'_> {
    /// Replaces `queries: [length, head_size]` by `softmax(Q Kᵀ scale + mask) V`.
    pub fn attend(&self, scratch: &mut AttentionScratch, queries: &mut [f32]) {
        let (length, size) = (self.keys.rows, self.head_size);
        let stride = size;
        let AttentionScratch { keys, values, scores, relative } = scratch;
        pack_transposed(keys, self.keys, size);
        if let Some(tables) = &self.relative {
            self.prepare(tables, relative);
        }
        pack(values, self.values, size);
        let width = length.next_multiple_of(16);
        grow(scores, QUERIES.min(length) * width);
        for from in (0..length).step_by(QUERIES) {
            let rows = QUERIES.min(length - from);
            let query = Rows { values: &queries[from * stride..], stride, rows };
            let target = RowsMut { values: scores, stride: width };
            product(query, keys, None, Epilogue::Identity, target);
            let mut scale = self.scale;
            if let Some(tables) = &self.relative {
                self.add_relative(
                    tables,
                    relative,
                    query,
                    from,
                    RowsMut { values: scores, stride: width },
                );
                scale = 1.0;
            }
            let mask = self.mask.map(|(mask, stride)| (&mask[from * stride..], stride));
            let mut sums = [0.0; QUERIES];
            let softmax = Softmax { scores, width, length, rows, scale, mask, sums: &mut sums };
            softmax.weigh(values, &mut queries[from * stride..][..rows * size]);
        }
    }
}

impl Head<'_> {
    /// Packs the tables, and multiplies all keys by theirs.
    fn prepare(&self, tables: &HeadRelative<'_>, scratch: &mut RelativeScratch) {
        let differences = 2 * self.keys.rows - 1;
        let pack = |table: &HeadTable<'_>, packed: &mut PackedWeight| {
            packed.reset(self.head_size, differences);
            packed.set_columns(|at| &table.values[table.rows[at] * table.stride..]);
        };
        if let Some(table) = &tables.keys {
            pack(table, &mut scratch.keys);
        }
        if let Some(table) = &tables.queries {
            pack(table, &mut scratch.queries);
            let stride = differences.next_multiple_of(16);
            grow(&mut scratch.of_keys, self.keys.rows * stride);
            let target = RowsMut { values: &mut scratch.of_keys, stride };
            product(self.keys, &scratch.queries, None, Epilogue::Identity, target);
        }
    }

    /// `scores ← scale · (scores + those of positions as keys) + those of positions as queries`,
    /// for queries from the position `from` on.
    fn add_relative(
        &self,
        tables: &HeadRelative<'_>,
        scratch: &mut RelativeScratch,
        queries: Rows<'_>,
        from: usize,
        scores: RowsMut<'_>,
    ) {
        let length = self.keys.rows;
        let stride = (2 * length - 1).next_multiple_of(16);
        let RowsMut { values: scores, stride: width } = scores;
        let rows = scores.chunks_mut(width).take(queries.rows);
        if tables.keys.is_some() {
            grow(&mut scratch.of_queries, QUERIES * stride);
            let target = RowsMut { values: &mut scratch.of_queries, stride };
            product(queries, &scratch.keys, None, Epilogue::Identity, target);
            for (row, scores) in rows.enumerate() {
                let first = row * stride + length - 1 - (from + row);
                let added = &scratch.of_queries[first..][..length];
                let scores = scores[..length].iter_mut().zip(added);
                scores.for_each(|(score, added)| *score = (*score + added) * self.scale);
            }
        } else {
            rows.for_each(|row| row.iter_mut().for_each(|score| *score *= self.scale));
        }
        if tables.queries.is_some() {
            for key in 0..length {
                let first = key * stride + from + length - 1 - key;
                let added = &scratch.of_keys[first..][..queries.rows];
                for (row, added) in added.iter().enumerate() {
                    scores[row * width + key] += added;
                }
            }
        }
    }
}

/// Scores to `e^(score − greatest)`, and their sums.
pub(super) struct Softmax<'a> {
    /// Row `i` from `i · width` on, `length` long.
    pub scores: &'a mut [f32],
    pub width: usize,
    pub length: usize,
    pub rows: usize,
    pub scale: f32,
    /// As [`Head::mask`].
    pub mask: Option<(&'a [f32], usize)>,
    pub sums: &'a mut [f32; QUERIES],
}

impl Softmax<'_> {
    /// `output: [rows, d_output] ← softmax(scores) · values`.
    pub(super) fn weigh(self, values: &PackedWeight, output: &mut [f32]) {
        let (width, rows) = (self.width, self.rows);
        let Self { scores, sums, .. } = self;
        let softmax = Softmax { scores: &mut *scores, sums: &mut *sums, ..self };
        Arch::new().dispatch(softmax);
        let stride = values.d_output();
        let scores = Rows { values: scores, stride: width, rows };
        let target = RowsMut { values: &mut *output, stride };
        product(scores, values, None, Epilogue::Identity, target);
        for (row, sum) in output.chunks_exact_mut(stride).zip(sums.iter()) {
            let factor = 1.0 / sum;
            row.iter_mut().for_each(|x| *x *= factor);
        }
    }
}

/// Packs rows of `width` values as a weight `[rows, width]`.
pub(crate) fn pack(packed: &mut PackedWeight, rows: Rows<'_>, width: usize) {
    packed.reset(rows.rows, width);
    for row in 0..rows.rows {
        packed.set_row(row, &rows.values[row * rows.stride..][..width]);
    }
}

/// Packs rows of `width` values as a weight `[width, rows]`.
pub(crate) fn pack_transposed(packed: &mut PackedWeight, rows: Rows<'_>, width: usize) {
    packed.reset(width, rows.rows);
    packed.set_columns(|row| &rows.values[row * rows.stride..][..width]);
}

impl WithSimd for Softmax<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        for row in 0..self.rows {
            let scores = &mut self.scores[row * self.width..][..self.length];
            match self.mask {
                Some((mask, stride)) => {
                    let mask = &mask[row * stride..][..self.length];
                    let values = scores.iter_mut().zip(mask);
                    values.for_each(|(score, mask)| *score = *score * self.scale + mask);
                }
                None => scores.iter_mut().for_each(|score| *score *= self.scale),
            }
            self.sums[row] = exponentials::<S>(simd, scores);
        }
    }
}

/// Scores to `e^(score − greatest)`; their sum.
#[inline(always)]
pub(super) fn exponentials<S: Simd>(simd: S, scores: &mut [f32]) -> f32 {
    let greatest = greatest::<S>(simd, scores);
    scores.iter_mut().for_each(|score| *score = exp(*score - greatest));
    sum::<S>(simd, scores)
}

#[inline(always)]
fn greatest<S: Simd>(simd: S, values: &[f32]) -> f32 {
    let (vectors, tail) = S::as_simd_f32s(values);
    let lowest = simd.splat_f32s(f32::NEG_INFINITY);
    let most = vectors.iter().fold(lowest, |most, x| simd.max_f32s(most, *x));
    tail.iter().fold(simd.reduce_max_f32s(most), |most, x| most.max(*x))
}

#[inline(always)]
fn sum<S: Simd>(simd: S, values: &[f32]) -> f32 {
    let (vectors, tail) = S::as_simd_f32s(values);
    let mut sums = [simd.splat_f32s(0.0); 4];
    for (at, x) in vectors.iter().enumerate() {
        sums[at % 4] = simd.add_f32s(sums[at % 4], *x);
    }
    total::<S>(simd, sums) + tail.iter().sum::<f32>()
}
