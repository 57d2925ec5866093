//! The products of a linear layer in training, with weights packed on the way.
//!
//! A weight changes at every step, so it is packed at every step: a pass over `in · out` values,
//! little beside `2 · tokens · in · out` operations.

use std::cell::RefCell;

use rayon::prelude::*;

#[cfg(target_arch = "x86_64")]
use super::block::int16::training;
use super::block::{Epilogue, PackedWeight, Rows, RowsMut, add_product, product};
use super::scratch::with_scratch;

/// Rows of a block at most: with a panel of the weight they fit the second-level cache.
const BLOCK: usize = 128;
/// Rows of a block onto which a product is added.
const ONTO: usize = 64;
/// Values that are transposed together: a line of the cache in one direction.
const LINE: usize = 16;
/// Added to the distance of transposed rows, lest a power of two put them all in one set of the
/// cache.
const PADDING: usize = 16;

#[derive(Default)]
struct Scratch {
    packed: PackedWeight,
    transposed: Vec<f32>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// Whether factors are rounded to 16-bit integers.
#[cfg(target_arch = "x86_64")]
fn in_int16() -> bool {
    crate::precision::products() == crate::precision::Precision::Int16
}

/// `x · weight + bias: [rows, d_output]` of `x: [rows, d_input]` and `weight: [d_input, d_output]`.
pub(crate) fn forward(x: &[f32], weight: &[f32], bias: &[f32]) -> Vec<f32> {
    #[cfg(target_arch = "x86_64")]
    if in_int16() {
        return training::forward(x, weight, bias);
    }
    let d_output = bias.len();
    let d_input = weight.len() / d_output;
    with_scratch(&SCRATCH, |scratch| {
        pack_rows(&mut scratch.packed, weight, d_output);
        multiply(x, d_input, &scratch.packed, Some(bias))
    })
}

/// `grad · weightᵀ: [rows, d_input]` of `grad: [rows, d_output]`.
pub(crate) fn input_gradient(grad: &[f32], weight: &[f32], d_output: usize) -> Vec<f32> {
    #[cfg(target_arch = "x86_64")]
    if in_int16() {
        return training::input_gradient(grad, weight, d_output);
    }
    with_scratch(&SCRATCH, |scratch| {
        pack_columns(&mut scratch.packed, weight, d_output);
        multiply(grad, d_output, &scratch.packed, None)
    })
}

/// `xᵀ · grad: [d_input, d_output]` of `x: [rows, d_input]` and `grad: [rows, d_output]`.
pub(crate) fn weight_gradient(x: &[f32], grad: &[f32], d_output: usize) -> Vec<f32> {
    #[cfg(target_arch = "x86_64")]
    if in_int16() {
        return training::weight_gradient(x, grad, d_output);
    }
    let rows = grad.len() / d_output;
    let d_input = x.len() / rows;
    with_scratch(&SCRATCH, |scratch| {
        pack_rows(&mut scratch.packed, grad, d_output);
        let stride = rows + PADDING;
        scratch.transposed.resize((d_input * stride).max(scratch.transposed.len()), 0.0);
        let transposed = &mut scratch.transposed[..d_input * stride];
        transpose(x, d_input, transposed, stride);
        multiply(transposed, stride, &scratch.packed, None)
    })
}

/// `addend + a · weight: [rows, d_output]` of `a: [rows, d_input]` and `weight: [d_input, d_output]`.
pub(crate) fn onto(addend: &[f32], a: &[f32], weight: &[f32], d_output: usize) -> Vec<f32> {
    let d_input = weight.len() / d_output;
    with_scratch(&SCRATCH, |scratch| {
        pack_rows(&mut scratch.packed, weight, d_output);
        // Fewer rows than of a product alone: they are in the second-level cache when it is added.
        let tasks = addend.par_chunks(ONTO * d_output).zip(a.par_chunks(ONTO * d_input));
        in_chunks(addend.len(), ONTO * d_output, tasks, |output, (addend, a)| {
            output.copy_from_slice(addend);
            let input = Rows { values: a, stride: d_input, rows: a.len() / d_input };
            add_product(input, &scratch.packed, RowsMut { values: output, stride: d_output });
        })
    })
}

/// Sums over the rows of `values: [rows, width]`.
pub(crate) fn column_sums(values: &[f32], width: usize) -> Vec<f32> {
    // Parts have a fixed number of rows, so that the order of summation does not depend on the threads.
    let partial = |chunk: &[f32]| {
        let mut sums = vec![0.0; width];
        for row in chunk.chunks_exact(width) {
            sums.iter_mut().zip(row).for_each(|(sum, value)| *sum += value);
        }
        sums
    };
    let partial: Vec<Vec<f32>> = values.par_chunks(64 * width).map(partial).collect();
    let mut sums = vec![0.0; width];
    for part in partial {
        sums.iter_mut().zip(part).for_each(|(sum, value)| *sum += value);
    }
    sums
}

/// `a · weight` of rows `stride` apart, blocks of them on all threads.
fn multiply(a: &[f32], stride: usize, weight: &PackedWeight, bias: Option<&[f32]>) -> Vec<f32> {
    let (rows, d_output) = (a.len() / stride, weight.d_output());
    let block = block(rows);
    let tasks = (0..rows.div_ceil(block)).into_par_iter();
    in_chunks(rows * d_output, block * d_output, tasks, |output, at| {
        let rows = output.len() / d_output;
        let input = Rows { values: &a[at * block * stride..], stride, rows };
        let target = RowsMut { values: output, stride: d_output };
        product(input, weight, bias, Epilogue::Identity, target);
    })
}

/// A vector of `len` values, written by a task for each chunk. Values are zero first, but only when
/// their chunk's turn comes, so that they are in cache when the task writes them.
fn in_chunks<T: Send>(
    len: usize,
    chunk: usize,
    tasks: impl IndexedParallelIterator<Item = T>,
    write: impl Fn(&mut [f32], T) + Sync,
) -> Vec<f32> {
    if len == 0 {
        return Vec::new();
    }
    assert_eq!(tasks.len(), len.div_ceil(chunk), "a task for each chunk");
    let mut values = Vec::with_capacity(len);
    let chunks = values.spare_capacity_mut()[..len].par_chunks_mut(chunk);
    chunks.zip(tasks).with_max_len(1).for_each(|(chunk, task)| {
        chunk.iter_mut().for_each(|value| {
            value.write(0.0);
        });
        // SAFETY: all of the chunk has just been written.
        write(unsafe { chunk.assume_init_mut() }, task);
    });
    // SAFETY: there was a task for every chunk, and each chunk was written.
    unsafe { values.set_len(len) };
    values
}

/// Rows of a block, such that all threads have the same number of blocks.
fn block(rows: usize) -> usize {
    let blocks = rows.div_ceil(BLOCK).next_multiple_of(rayon::current_num_threads());
    rows.div_ceil(blocks).next_multiple_of(8)
}

/// Packs `[d_input, d_output]`.
fn pack_rows(packed: &mut PackedWeight, weight: &[f32], d_output: usize) {
    packed.reset(weight.len() / d_output, d_output);
    packed.panels_mut().into_par_iter().for_each(|panel| {
        let rows = panel.values.chunks_exact_mut(panel.width).zip(weight.chunks_exact(d_output));
        for (packed, row) in rows {
            packed[..panel.columns].copy_from_slice(&row[panel.first..][..panel.columns]);
        }
    });
}

/// Packs the transpose of `[d_output, d_input]`.
fn pack_columns(packed: &mut PackedWeight, weight: &[f32], d_input: usize) {
    packed.reset(d_input, weight.len() / d_input);
    packed.panels_mut().into_par_iter().for_each(|panel| {
        let columns = &weight[panel.first * d_input..][..panel.columns * d_input];
        transpose_into(columns, d_input, panel.values, panel.width);
    });
}

/// `[rows, columns]` to `[columns, rows]` with rows `stride` apart.
fn transpose(values: &[f32], columns: usize, output: &mut [f32], stride: usize) {
    output.par_chunks_mut(LINE * stride).enumerate().for_each(|(at, output)| {
        let (from, count) = (at * LINE, output.len() / stride);
        for (start, rows) in values.chunks(LINE * columns).enumerate() {
            for (row, values) in rows.chunks_exact(columns).enumerate() {
                for (column, value) in values[from..from + count].iter().enumerate() {
                    output[column * stride + start * LINE + row] = *value;
                }
            }
        }
    });
}

/// [`transpose`] on one thread.
fn transpose_into(values: &[f32], columns: usize, output: &mut [f32], stride: usize) {
    for from in (0..columns).step_by(LINE) {
        let to = columns.min(from + LINE);
        for (row, values) in values.chunks_exact(columns).enumerate() {
            let target = output[from * stride + row..].iter_mut().step_by(stride);
            target.zip(&values[from..to]).for_each(|(target, value)| *target = *value);
        }
    }
}
