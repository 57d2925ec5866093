//! One head's attention over one sequence in 16-bit integers, for models that compute in 8-bit ones: twice as
//! many products at a time as of 32-bit floats, and hardly less exact.
//!
//! Every query and key is rounded with a scale of its own, to as many levels as the sums of 32 bits can
//! hold; probabilities too, values with one scale for the head. Only processors
//! with AVX512-VNNI gain by it; on others heads attend in floats.

mod products;
#[cfg(test)]
mod tests;
pub(crate) mod training;
mod x86;

use std::ops::Range;

use super::attention::{HeadRelative, HeadTable};
use super::packed_layers::grow;
use super::product::Target;
use crate::precision::has_int16;
use products::{Before, LevelRows, Part, ROWS};

/// Columns of a panel.
const LANES: usize = 16;
/// Queries whose scores are in cache together.
const QUERIES: usize = 48;
/// Levels of queries and keys at most.
const LEVELS: f32 = i16::MAX as f32;
/// Levels of values.
const VALUE_LEVELS: f32 = 8191.0;
/// Levels of a query's probabilities together, at most: with [`VALUE_LEVELS`] and half a level of each more, sums stay
/// below 2³¹.
const SUM: f32 = 250_000.0;
/// Longer sequences could overflow such a sum.
const LONGEST: usize = 20_000;

/// One head of one sequence.
pub(super) struct Head<'a, F> {
    /// Tokens.
    pub(super) length: usize,
    /// Size of a query.
    pub(super) head_size: usize,
    /// Multiplies the scores.
    pub(super) scale: f32,
    /// Added to the scores: row `query · stride`, `length` long; a stride of 0 is one row for all.
    pub(super) mask: Option<(&'a [f32], usize)>,
    /// The scores that relative positions add.
    pub(super) relative: Option<HeadRelative<'a>>,
    /// The query (0), key (1) or value (2) of a token.
    pub(super) row: F,
}

/// Buffers that a thread reuses.
#[derive(Default)]
pub(super) struct Scratch {
    queries: Levels,
    keys: Levels,
    key_columns: Columns,
    values: Columns,
    scores: Vec<f32>,
    probabilities: Levels,
    relative: RelativeScratch,
}

#[derive(Default)]
struct RelativeScratch {
    rows: Levels,
    keys: Columns,
    queries: Columns,
    /// Position scores of some queries.
    of_queries: Vec<f32>,
    /// Position scores of all keys.
    of_keys: Vec<f32>,
}

/// Rounded rows.
#[derive(Default)]
struct Levels {
    /// Row `i` from `i · stride` on, with zeros to its end.
    values: Vec<i16>,
    /// Whole blocks of pairs.
    stride: usize,
    /// One step of every row; NaN if a value of it is not finite.
    scales: Vec<f32>,
}

/// Rounded columns, in panels, pair by pair.
#[derive(Default)]
struct Columns {
    /// `[panels, pairs, LANES, 2]`.
    values: Vec<i16>,
    pairs: usize,
    count: usize,
    /// One step of every column, then zeros for two more panels.
    scales: Vec<f32>,
}

impl<'a, F: Fn(usize, usize) -> &'a [f32]> Head<'a, F> {
    /// Whether sums of this head cannot overflow.
    pub(super) fn fits(&self) -> bool {
        self.length <= LONGEST
    }

    /// Writes `softmax(Q Kᵀ scale + mask) V: [length, head_size]`. A query with a value that is not finite
    /// becomes NaN, and all do if a key or a value has one.
    ///
    /// # Safety
    /// The processor must have the instructions ([`has_int16`]), `output` be room for `length` rows of
    /// `head_size`, and `row` give slices of that size that do not change meanwhile. `output` may be where
    /// queries are.
    pub(super) unsafe fn attend(&self, scratch: &mut Scratch, output: Target) {
        let (length, size) = (self.length, self.head_size);
        assert!(has_int16() && self.fits());
        let Scratch { queries, keys, key_columns, values, scores, probabilities, relative } =
            scratch;
        // Sums of products of two levels stay below 2³¹.
        let most = (f64::from(i32::MAX) / size as f64).sqrt().floor() as f32;
        let most = most.min(LEVELS);
        queries.round(length, size, most, |at| (self.row)(0, at));
        keys.round(length, size, most, |at| (self.row)(1, at));
        key_columns.transpose(keys, length, size);
        values.interleave(length, size, |at| (self.row)(2, at));
        key_columns.scale_by(self.scale);
        if let Some(tables) = &self.relative {
            relative.prepare(tables, keys, size, most, self.scale);
        }
        let width = length.next_multiple_of(LANES);
        grow(scores, QUERIES * width);
        probabilities.make(QUERIES.min(length), width);
        for from in (0..length).step_by(QUERIES) {
            let rows = QUERIES.min(length - from);
            let target = Target { values: scores.as_mut_ptr(), stride: width };
            // SAFETY: there is room for the scores.
            unsafe {
                let panels = 0..key_columns.panels();
                let all = key_columns.all_pairs();
                queries.products(from..from + rows, key_columns, panels, all, target);
            }
            if let Some(tables) = &self.relative {
                relative.add(tables, queries, from..from + rows, scores);
            }
            for row in 0..rows {
                let mask = self.mask.map(|(mask, stride)| &mask[(from + row) * stride..][..length]);
                let scores = &mut scores[row * width..][..width];
                let levels = &mut probabilities.values[row * probabilities.stride..];
                let levels = &mut levels[..probabilities.stride];
                // SAFETY: the processor has the instructions.
                probabilities.scales[row] = unsafe { x86::softmax(scores, length, mask, levels) };
            }
            let values_of = output.values.wrapping_add(from * output.stride);
            let target = Target { values: values_of, stride: output.stride };
            // SAFETY: there is room for the contexts.
            unsafe {
                let all = values.all_pairs();
                probabilities.products(0..rows, values, 0..values.panels(), all, target);
            }
        }
    }
}

impl RelativeScratch {
    /// Rounds the tables, and multiplies all keys by theirs.
    fn prepare(
        &mut self,
        tables: &HeadRelative<'_>,
        keys: &Levels,
        size: usize,
        most: f32,
        scale: f32,
    ) {
        let length = keys.scales.len();
        let differences = 2 * length - 1;
        let mut round = |table: &HeadTable<'_>, columns: &mut Columns| {
            let row = |at: usize| &table.values[table.rows[at] * table.stride..][..size];
            self.rows.round(differences, size, most, row);
            columns.transpose(&self.rows, differences, size);
        };
        if let Some(table) = &tables.keys {
            round(table, &mut self.keys);
            self.keys.scale_by(scale);
        }
        if let Some(table) = &tables.queries {
            round(table, &mut self.queries);
            let stride = stride(length);
            // Whole blocks are turned, of which the last may lack keys and queries.
            grow(&mut self.of_keys, length.next_multiple_of(LANES) * stride + 2 * LANES);
            let target = Target { values: self.of_keys.as_mut_ptr(), stride };
            // SAFETY: there is room for them.
            unsafe { band(keys, 0..length, &self.queries, target) };
        }
    }

    /// Adds the position scores of some queries to their `scores`.
    fn add(
        &mut self,
        tables: &HeadRelative<'_>,
        queries: &Levels,
        rows: Range<usize>,
        scores: &mut [f32],
    ) {
        let length = queries.scales.len();
        let (stride, width) = (stride(length), length.next_multiple_of(LANES));
        if tables.keys.is_some() {
            grow(&mut self.of_queries, QUERIES * stride);
            let target = Target { values: self.of_queries.as_mut_ptr(), stride };
            // SAFETY: there is room for them.
            unsafe { band(queries, rows.clone(), &self.keys, target) };
            for (at, scores) in rows.clone().zip(scores.chunks_exact_mut(width)) {
                let first = (at - rows.start) * stride + length - 1 - at;
                let added = &self.of_queries[first..][..length];
                scores.iter_mut().zip(added).for_each(|(score, added)| *score += added);
            }
        }
        if tables.queries.is_some() {
            let scores = &mut scores[..QUERIES * width];
            for key in (0..length).step_by(LANES) {
                for at in (0..rows.len()).step_by(LANES) {
                    let first = key * stride + rows.start + at + length - 1 - key;
                    let added = &self.of_keys[first..];
                    let scores = &mut scores[at * width + key..];
                    // SAFETY: the processor has the instructions (`Head::attend`).
                    unsafe { x86::add_transpose(added, stride - 1, scores, width) };
                }
            }
        }
    }
}

/// Distance of rows of position scores.
fn stride(length: usize) -> usize {
    (2 * length - 1).next_multiple_of(LANES)
}

/// Writes the products of some rows with the columns of the differences `j − row + length − 1`.
///
/// # Safety
/// `output` must be room for all columns.
unsafe fn band(rows: &Levels, some: Range<usize>, columns: &Columns, output: Target) {
    let (length, start) = (rows.scales.len(), some.start);
    for first in some.clone().step_by(ROWS) {
        let last = (first + ROWS).min(some.end) - 1;
        let panels = (length - 1 - last) / LANES..(2 * length - 2 - first) / LANES + 1;
        let values = output.values.wrapping_add((first - start) * output.stride);
        // SAFETY: as the caller promises.
        unsafe {
            let target = Target { values, stride: output.stride };
            rows.products(first..last + 1, columns, panels, columns.all_pairs(), target);
        }
    }
}

impl Levels {
    /// Makes room for rows.
    fn make(&mut self, rows: usize, width: usize) {
        self.stride = width.next_multiple_of(2 * LANES);
        self.values.resize(rows * self.stride, 0);
        self.scales.resize(rows, 0.0);
    }

    /// Rounds rows to `most` levels each side of 0.
    fn round<'a>(
        &mut self,
        rows: usize,
        width: usize,
        most: f32,
        row: impl Fn(usize) -> &'a [f32],
    ) {
        self.make(rows, width);
        for (at, levels) in self.values.chunks_exact_mut(self.stride).enumerate() {
            let row = row(at);
            assert_eq!(row.len(), width);
            // SAFETY: the processor has the instructions (`Head::attend`).
            self.scales[at] = unsafe { x86::round_row(row, most, levels) };
        }
    }

    /// Writes part of the products of some rows with the columns of some panels, scaled.
    ///
    /// # Safety
    /// The processor must have the instructions ([`has_int16`]), and `output` be room for all columns.
    unsafe fn products(
        &self,
        rows: Range<usize>,
        columns: &Columns,
        panels: Range<usize>,
        part: Part<'_>,
        output: Target,
    ) {
        assert!(2 * columns.pairs <= self.stride && rows.end <= self.scales.len());
        assert!(rows.end * self.stride <= self.values.len());
        assert!(panels.end * columns.pairs * 2 * LANES <= columns.values.len());
        assert!(part.first + part.pairs <= columns.pairs);
        let rows = LevelRows {
            values: self.values[rows.start * self.stride..].as_ptr(),
            stride: self.stride,
            scales: self.scales[rows.start..].as_ptr(),
            rows: rows.len(),
        };
        // SAFETY: the rows and columns are checked above; the caller promises the rest.
        unsafe { products::products(rows, columns, part, panels, output) };
    }
}

impl Columns {
    fn panels(&self) -> usize {
        self.count.div_ceil(LANES)
    }

    /// All pairs, added to nothing.
    fn all_pairs(&self) -> Part<'static> {
        Part { first: 0, pairs: self.pairs, before: Before::Nothing }
    }

    fn make(&mut self, count: usize, width: usize) {
        self.pairs = width.div_ceil(2);
        self.count = count;
        let panels = count.div_ceil(LANES);
        self.values.resize(panels * self.pairs * 2 * LANES, 0);
        self.scales.clear();
        self.scales.resize((panels + 2) * LANES, 0.0);
    }

    fn scale_by(&mut self, factor: f32) {
        self.scales.iter_mut().for_each(|scale| *scale *= factor);
    }

    /// Columns that are the first `count` rows, of `width` values.
    fn transpose(&mut self, rows: &Levels, count: usize, width: usize) {
        self.make(count, width);
        self.scales[..count].copy_from_slice(&rows.scales[..count]);
        let pairs = self.pairs;
        for (panel, values) in self.values.chunks_exact_mut(pairs * 2 * LANES).enumerate() {
            // SAFETY: the processor has the instructions (`Head::attend`).
            unsafe { x86::transpose_panel(rows, panel, pairs, values) };
        }
    }

    /// Rounds a matrix of `rows` rows and `width` columns, with one step for all; zeros follow up to a whole
    /// vector of rows.
    fn interleave<'a>(&mut self, rows: usize, width: usize, row: impl Fn(usize) -> &'a [f32]) {
        let row = |at: usize| if at < rows { row(at) } else { &[] };
        let padded = rows.next_multiple_of(LANES);
        self.make(width, padded);
        // SAFETY: the processor has the instructions (`Head::attend`).
        let magnitudes = (0..rows).map(|at| unsafe { x86::magnitude(row(at)) });
        let magnitude =
            magnitudes.fold(0.0, |most, x| if x > most || x.is_nan() { x } else { most });
        let factor = if magnitude.is_nan() { 0.0 } else { VALUE_LEVELS / magnitude };
        let stride = self.pairs * 2 * LANES;
        for pair in 0..self.pairs {
            let levels = self.values[pair * 2 * LANES..].as_mut_ptr();
            let rows = [row(2 * pair), row(2 * pair + 1)];
            // SAFETY: as above, and every panel has all pairs.
            unsafe { x86::interleave(rows, width, factor, levels, stride) };
        }
        self.scales[..width].fill(magnitude / VALUE_LEVELS);
    }
}
