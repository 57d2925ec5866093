//! Weights packed for products.

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

/// Vectors in a full panel of columns: 24 sums of 8 rows leave room in 32 registers.
const VECTORS: usize = 3;

/// A matrix `[d_input, d_output]` in panels of columns.
#[derive(Debug, Clone, Default)]
pub struct PackedWeight {
    pub(super) d_input: usize,
    pub(super) d_output: usize,
    pub(super) lanes: usize,
    /// Panels one after another, each `[d_input, vectors · lanes]`.
    pub(super) values: Vec<f32>,
    pub(super) panels: Vec<Panel>,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Panel {
    /// First column.
    pub(super) column: usize,
    pub(super) vectors: usize,
    /// Where it begins in `values`.
    pub(super) start: usize,
}

/// Some columns of a weight: rows of `width` values, of which `columns` count.
pub struct PanelMut<'a> {
    /// The first column.
    pub first: usize,
    /// Number of columns.
    pub columns: usize,
    /// Distance of rows.
    pub width: usize,
    /// All rows.
    pub values: &'a mut [f32],
}

struct Lanes;

impl WithSimd for Lanes {
    type Output = usize;
    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> usize {
        S::F32_LANES
    }
}

impl PackedWeight {
    /// Packs a matrix `[d_input, d_output]` given row by row.
    pub fn new<'a>(d_output: usize, rows: impl ExactSizeIterator<Item = &'a [f32]>) -> Self {
        let mut packed = Self::default();
        packed.reset(rows.len(), d_output);
        for (at, row) in rows.enumerate() {
            packed.set_row(at, row);
        }
        packed
    }

    /// Packs the transpose of `matrix: [d_output, d_input]`, on all threads.
    pub fn transposed(matrix: &[f32], d_input: usize, d_output: usize) -> Self {
        let mut packed = Self::default();
        packed.reset(d_input, d_output);
        packed.panels_mut().into_par_iter().for_each(|panel| {
            for column in 0..panel.columns {
                let values = &matrix[(panel.first + column) * d_input..][..d_input];
                let rows = panel.values.chunks_exact_mut(panel.width);
                rows.zip(values).for_each(|(row, value)| row[column] = *value);
            }
        });
        packed
    }

    /// Number of columns.
    pub fn d_output(&self) -> usize {
        self.d_output
    }

    /// Makes room for another matrix; its values are left unspecified.
    pub fn reset(&mut self, d_input: usize, d_output: usize) {
        let lanes = Arch::new().dispatch(Lanes);
        if (self.d_input, self.d_output, self.lanes) == (d_input, d_output, lanes) {
            return;
        }
        (self.d_input, self.d_output, self.lanes) = (d_input, d_output, lanes);
        self.panels.clear();
        let (mut column, mut start, mut left) = (0, 0, d_output.div_ceil(lanes));
        while left > 0 {
            // Threes, and two twos at the end rather than three and one.
            let vectors = if left == VECTORS + 1 { VECTORS - 1 } else { left.min(VECTORS) };
            self.panels.push(Panel { column, vectors, start });
            column += vectors * lanes;
            start += vectors * lanes * d_input;
            left -= vectors;
        }
        self.values.resize(start, 0.0);
    }

    /// The panels, to be filled in parallel.
    pub fn panels_mut(&mut self) -> Vec<PanelMut<'_>> {
        let (mut rest, mut all) = (&mut self.values[..], Vec::with_capacity(self.panels.len()));
        for panel in &self.panels {
            let width = panel.vectors * self.lanes;
            let (values, others) = rest.split_at_mut(width * self.d_input);
            rest = others;
            let columns = width.min(self.d_output - panel.column);
            all.push(PanelMut { first: panel.column, columns, width, values });
        }
        all
    }

    /// Writes row `at` (an input's weights).
    pub fn set_row(&mut self, at: usize, row: &[f32]) {
        for panel in &self.panels {
            let width = panel.vectors * self.lanes;
            let columns = width.min(self.d_output - panel.column);
            self.values[panel.start + at * width..][..columns]
                .copy_from_slice(&row[panel.column..][..columns]);
        }
    }

    /// Writes the transpose of `[d_output, d_input]`, whose rows `columns_of` gives.
    pub fn set_columns<'a>(&mut self, columns_of: impl Fn(usize) -> &'a [f32]) {
        for panel in &self.panels {
            let width = panel.vectors * self.lanes;
            let columns = width.min(self.d_output - panel.column);
            let packed = &mut self.values[panel.start..][..self.d_input * width];
            for column in 0..columns {
                let values = &columns_of(panel.column + column)[..self.d_input];
                for (value, packed) in values.iter().zip(packed.chunks_exact_mut(width)) {
                    packed[column] = *value;
                }
            }
        }
    }
}
