//! Products of a linear layer in training, whose factors are rounded to 16-bit integers: rows of the first with a
//! scale each, columns of the second too.

use std::cell::RefCell;

use rayon::prelude::*;

use super::products::{Before, Part, ROWS};
use super::x86;
use super::{Columns, LANES, Levels};
use crate::kernels::flex::block::product::Target;
use crate::kernels::flex::scratch::with_scratch;
use crate::precision::has_int16;

/// Values that are summed in integers before they are added to a float.
const DEPTH: usize = 512;
/// Levels each side of 0: `DEPTH` products of two stay below 2³¹.
const MOST: f32 = 2047.0;
/// Rows of a block at most: with some columns they fit the second-level cache.
const BLOCK: usize = 8 * ROWS;
/// Panels that a task packs: lines of the cache side by side.
const PANELS: usize = 4;

#[derive(Default)]
struct Scratch {
    rows: Levels,
    columns: Columns,
    weight: Levels,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// # Panics
/// If this processor lacks the instructions.
fn check() {
    assert!(has_int16(), "this processor lacks AVX512-VNNI");
}

/// `x · weight + bias: [rows, d_output]` of `x: [rows, d_input]` and `weight: [d_input, d_output]`.
pub(crate) fn forward(x: &[f32], weight: &[f32], bias: &[f32]) -> Vec<f32> {
    check();
    let d_input = weight.len() / bias.len();
    with_scratch(&SCRATCH, |Scratch { rows, columns, .. }| {
        rows.of_rows(x, d_input);
        columns.of_columns(weight, bias.len());
        multiply(rows, columns, Some(bias))
    })
}

/// `grad · weightᵀ: [rows, d_input]` of `grad: [rows, d_output]`.
pub(crate) fn input_gradient(grad: &[f32], weight: &[f32], d_output: usize) -> Vec<f32> {
    check();
    with_scratch(&SCRATCH, |Scratch { rows, columns, weight: transposed }| {
        rows.of_rows(grad, d_output);
        transposed.of_rows(weight, d_output);
        columns.of_levels(transposed, d_output);
        multiply(rows, columns, None)
    })
}

/// `xᵀ · grad: [d_input, d_output]` of `x: [rows, d_input]` and `grad: [rows, d_output]`.
pub(crate) fn weight_gradient(x: &[f32], grad: &[f32], d_output: usize) -> Vec<f32> {
    check();
    let d_input = x.len() / (grad.len() / d_output);
    with_scratch(&SCRATCH, |Scratch { rows, columns, .. }| {
        rows.of_columns(x, d_input);
        columns.of_columns(grad, d_output);
        multiply(rows, columns, None)
    })
}

/// The products of all rows and columns, blocks of rows on all threads.
fn multiply(rows: &Levels, columns: &Columns, bias: Option<&[f32]>) -> Vec<f32> {
    let (count, d_output) = (rows.scales.len(), columns.count);
    let blocks = count.div_ceil(BLOCK).next_multiple_of(rayon::current_num_threads());
    let height = count.div_ceil(blocks).next_multiple_of(ROWS);
    let mut output = Vec::with_capacity(count * d_output);
    let room = &mut output.spare_capacity_mut()[..count * d_output];
    let blocks = room.par_chunks_mut(height * d_output).enumerate().with_max_len(1);
    blocks.for_each(|(at, output)| {
        let some = at * height..count.min((at + 1) * height);
        let target = Target { values: output.as_mut_ptr().cast(), stride: d_output };
        for first in (0..columns.pairs).step_by(DEPTH / 2) {
            let pairs = (columns.pairs - first).min(DEPTH / 2);
            let before = match bias {
                _ if first > 0 => Before::Output,
                Some(bias) => Before::Bias(bias),
                None => Before::Nothing,
            };
            let part = Part { first, pairs, before };
            // SAFETY: `output` is room for these rows, and the first part writes all of it.
            unsafe { rows.products(some.clone(), columns, 0..columns.panels(), part, target) };
        }
    });
    // SAFETY: every block has been written.
    unsafe { output.set_len(count * d_output) };
    output
}

impl Levels {
    /// Rounds `values: [rows, width]`.
    fn of_rows(&mut self, values: &[f32], width: usize) {
        self.make(values.len() / width, width);
        let rows = self.values.par_chunks_mut(self.stride).zip(values.par_chunks(width));
        rows.zip(&mut self.scales).with_min_len(8).for_each(|((levels, row), scale)| {
            // SAFETY: the processor has the instructions ([`check`]).
            unsafe { *scale = x86::round_row(row, MOST, levels) };
        });
    }

    /// Rounds the columns of `values: [rows, width]`, as rows.
    fn of_columns(&mut self, values: &[f32], width: usize) {
        let rows = values.len() / width;
        self.make(width, rows);
        let stride = self.stride;
        let tasks = self.values.par_chunks_mut(PANELS * LANES * stride);
        let tasks = tasks.zip(self.scales.par_chunks_mut(PANELS * LANES)).enumerate();
        tasks.for_each(|(task, (levels, scales))| {
            let panels = levels.chunks_mut(LANES * stride).zip(scales.chunks_mut(LANES));
            for (panel, (levels, scales)) in panels.enumerate() {
                let from = (task * PANELS + panel) * LANES;
                let columns = x86::Panel { values: &values[from..], stride: width, rows };
                // SAFETY: the processor has the instructions ([`check`]).
                unsafe { x86::round_columns(columns, MOST, scales, levels, stride) };
            }
        });
    }
}

impl Columns {
    /// Rounds the columns of `values: [rows, count]`.
    fn of_columns(&mut self, values: &[f32], count: usize) {
        let rows = values.len() / count;
        self.make(count, rows);
        let panel_size = self.pairs * 2 * LANES;
        let tasks = self.values.par_chunks_mut(PANELS * panel_size);
        let tasks = tasks.zip(self.scales.par_chunks_mut(PANELS * LANES)).enumerate();
        tasks.for_each(|(task, (levels, scales))| {
            let panels = levels.chunks_mut(panel_size).zip(scales.chunks_mut(LANES));
            for (panel, (levels, scales)) in panels.enumerate() {
                let from = (task * PANELS + panel) * LANES;
                let columns = x86::Panel { values: &values[from..], stride: count, rows };
                let scales = &mut scales[..LANES.min(count - from)];
                // SAFETY: the processor has the instructions ([`check`]).
                unsafe { x86::pack_columns(columns, MOST, scales, levels) };
            }
        });
    }

    /// Columns that are the rows, of `width` values.
    fn of_levels(&mut self, rows: &Levels, width: usize) {
        let count = rows.scales.len();
        self.make(count, width);
        self.scales[..count].copy_from_slice(&rows.scales);
        let (pairs, panel_size) = (self.pairs, self.pairs * 2 * LANES);
        self.values.par_chunks_mut(panel_size).enumerate().for_each(|(panel, values)| {
            // SAFETY: the processor has the instructions ([`check`]).
            unsafe { x86::transpose_panel(rows, panel, pairs, values) };
        });
    }
}
