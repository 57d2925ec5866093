//! Products of quantized activations (`u8`) and `int8` weights: exact sums in `i32`, and the epilogue in
//! 32-bit floats.
//!
//! Every row of activations is quantized as it comes, with a scale and a zero point of its own; weights
//! have a scale for every neuron. [`Path`] says with which instructions sums are made; all give the same.

mod path;
mod quantize;
mod sums;
#[cfg(test)]
mod tests;
mod weight;
#[cfg(target_arch = "x86_64")]
#[expect(clippy::needless_range_loop)] // Rows index memory too, not only arrays of sums.
mod x86;

#[cfg(target_arch = "x86_64")]
pub(crate) use path::attends_in_int16;
pub(crate) use path::check_path;
use path::{Path, path};
pub(crate) use weight::QuantizedWeight;
#[cfg(target_arch = "x86_64")]
pub(crate) use x86::lanes;

use std::cell::RefCell;
use std::ops::Range;

use pulp::{Arch, Simd, WithSimd};

use super::product::{Epilogue, FEW, Rows, RowsMut, SHARED, Target, apply, in_shares};
use crate::kernels::flex::gelu::rounded_gelu;
use crate::kernels::flex::scratch::with_scratch;
use quantize::{Step, quantize};
use sums::ROWS;
#[cfg(target_arch = "x86_64")]
use sums::outputs;
use weight::{Ahead, GROUP, PAIR};

/// Bytes of a cache line.
const LINE: usize = 64;

/// Quantized rows, one after another.
#[derive(Default)]
struct Quantized {
    values: Vec<u8>,
    steps: Vec<Step>,
}

thread_local! {
    static SCRATCH: RefCell<Quantized> = RefCell::default();
}

/// `output = epilogue(input · weight + bias)`, on this thread. A row with a value that is not finite
/// becomes NaN.
///
/// # Panics
/// If a slice is too short.
pub(super) fn product(
    input: Rows<'_>,
    weight: &QuantizedWeight,
    bias: Option<&[f32]>,
    epilogue: Epilogue,
    output: RowsMut<'_>,
) {
    with_block(input, weight, bias, epilogue, output, |block| {
        // SAFETY: all neurons on this thread, while `output` is borrowed.
        unsafe { block.run(0..block.pairs()) };
    });
}

/// [`product`] by all threads, each with some of the neurons.
///
/// # Panics
/// If a slice is too short.
pub(super) fn product_shared(
    input: Rows<'_>,
    weight: &QuantizedWeight,
    bias: Option<&[f32]>,
    epilogue: Epilogue,
    output: RowsMut<'_>,
) {
    let worth_it = weight.d_input * weight.d_output * input.rows.min(FEW) >= 2 * SHARED;
    with_block(input, weight, bias, epilogue, output, |block| {
        // SAFETY: every pair is in one task, and all tasks end while `output` is borrowed.
        in_shares(block.pairs(), worth_it, |pairs| unsafe { block.run(pairs) });
    });
}

/// Calls `f` with the quantized input, unless there is nothing to compute.
fn with_block(
    input: Rows<'_>,
    weight: &QuantizedWeight,
    bias: Option<&[f32]>,
    epilogue: Epilogue,
    output: RowsMut<'_>,
    f: impl FnOnce(&Block<'_>),
) {
    if input.rows == 0 || weight.d_output == 0 {
        return;
    }
    let last = input.rows - 1;
    assert!(input.values.len() >= last * input.stride + weight.d_input);
    assert!(output.values.len() >= last * output.stride + weight.d_output);
    assert!(output.stride >= weight.d_output || last == 0);
    assert!(bias.is_none_or(|bias| bias.len() == weight.d_output));
    with_scratch(&SCRATCH, |quantized| {
        let path = path();
        Arch::new().dispatch(QuantizeRows { path, input, weight, quantized });
        let output = Target { values: output.values.as_mut_ptr(), stride: output.stride };
        f(&Block { path, quantized, weight, bias, epilogue, output });
    });
}

struct QuantizeRows<'a> {
    path: Path,
    input: Rows<'a>,
    weight: &'a QuantizedWeight,
    quantized: &'a mut Quantized,
}

impl WithSimd for QuantizeRows<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { path, input, weight, quantized } = self;
        let width = weight.width();
        quantized.values.resize(input.rows * width, 0);
        quantized.steps.clear();
        for (at, values) in quantized.values.chunks_exact_mut(width).enumerate() {
            let row = &input.values[at * input.stride..][..weight.d_input];
            quantized.steps.push(match path {
                // SAFETY: the processor has the instructions of the path.
                #[cfg(target_arch = "x86_64")]
                Path::Avx512Vnni => unsafe { x86::quantize(row, values) },
                _ => quantize(simd, row, values),
            });
        }
    }
}

/// A product of quantized rows.
struct Block<'a> {
    path: Path,
    quantized: &'a Quantized,
    weight: &'a QuantizedWeight,
    bias: Option<&'a [f32]>,
    epilogue: Epilogue,
    output: Target,
}

impl Block<'_> {
    fn pairs(&self) -> usize {
        self.weight.panels().div_ceil(2)
    }

    /// Computes the neurons of some pairs of panels.
    ///
    /// # Safety
    /// The output that the block was made of is borrowed still, and no other thread has these pairs.
    unsafe fn run(&self, pairs: Range<usize>) {
        let rows = self.quantized.steps.len();
        // The next pair's weights are asked for in equal shares.
        let pair_size = 2 * self.weight.groups * GROUP;
        let share = (pair_size / LINE).div_ceil(rows.div_ceil(ROWS));
        for pair in pairs {
            let next = self.weight.values.as_ptr().wrapping_add((pair + 1) * pair_size);
            for first in (0..rows).step_by(ROWS) {
                let line = first / ROWS * share;
                let ahead = Ahead { start: next.wrapping_add(line * LINE), lines: share };
                let tile = Tile { block: self, rows: first..rows.min(first + ROWS), pair };
                // SAFETY: as the caller promises.
                unsafe { tile.write(ahead) };
            }
        }
    }
}

/// Some rows of a block, and a pair of panels.
struct Tile<'a> {
    block: &'a Block<'a>,
    /// At most [`ROWS`].
    rows: Range<usize>,
    pair: usize,
}

impl Tile<'_> {
    /// Writes the outputs.
    ///
    /// # Safety
    /// As for [`Block::run`].
    unsafe fn write(self, ahead: Ahead) {
        let (block, neuron) = (self.block, self.pair * PAIR);
        let (quantized, weight) = (block.quantized, block.weight);
        let input = &quantized.values[self.rows.start * weight.width()..];
        #[cfg(target_arch = "x86_64")]
        if block.path == Path::Avx512Vnni {
            let output = block.output.values.wrapping_add(self.rows.start * block.output.stride);
            let finishing = x86::Finishing {
                steps: &quantized.steps[self.rows.clone()],
                column_sums: &weight.column_sums[self.pair],
                scales: &weight.scales[self.pair],
                bias: block.bias.map(|bias| &bias[neuron..]),
                neurons: self.neurons(),
                output: Target { values: output.wrapping_add(neuron), stride: block.output.stride },
            };
            // SAFETY: the output has room for these neurons of the rows, which are this thread's alone.
            unsafe { outputs(input, weight, 2 * self.pair, ahead, finishing) };
            if block.epilogue != Epilogue::Identity {
                Arch::new().dispatch(Activate(self));
            }
            return;
        }
        let mut sums = [0; ROWS * PAIR];
        let sums = &mut sums[..self.rows.len() * PAIR];
        sums::sums(block.path, input, self.rows.len(), weight, 2 * self.pair, sums);
        Arch::new().dispatch(Finish { tile: self, sums });
    }

    /// Number of neurons.
    fn neurons(&self) -> usize {
        (self.block.weight.d_output - self.pair * PAIR).min(PAIR)
    }

    /// Calls `f` with each row and its outputs.
    #[inline(always)]
    fn for_each_output(&self, mut f: impl FnMut(usize, &mut [f32])) {
        let output = &self.block.output;
        for row in self.rows.clone() {
            // SAFETY: these neurons of a row, within what `with_block` has checked, are this thread's
            // alone (`Block::run`).
            let output = unsafe {
                let start = output.values.add(row * output.stride + self.pair * PAIR);
                std::slice::from_raw_parts_mut(start, self.neurons())
            };
            f(row, output);
        }
    }
}

/// Applies the epilogue to outputs.
struct Activate<'a>(Tile<'a>);

impl WithSimd for Activate<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self(tile) = self;
        tile.for_each_output(
            #[inline(always)]
            |_, output| match tile.block.epilogue {
                // The next product rounds it to 8 bits.
                Epilogue::Gelu => output.iter_mut().for_each(|x| *x = rounded_gelu::<S>(*x)),
                epilogue => apply::<S>(epilogue, output),
            },
        );
    }
}

/// Writes outputs from their sums.
struct Finish<'a> {
    tile: Tile<'a>,
    sums: &'a [i32],
}

impl WithSimd for Finish<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        match self.tile.block.epilogue {
            Epilogue::Identity => self.rows(|x| x),
            Epilogue::Gelu => self.rows(rounded_gelu::<S>),
            Epilogue::Relu => self.rows(|x| x.max(0.0)),
        }
    }
}

impl Finish<'_> {
    #[inline(always)]
    fn rows(self, epilogue: impl Fn(f32) -> f32) {
        let Self { tile, sums } = self;
        let (block, neurons) = (tile.block, tile.neurons());
        let weight = block.weight;
        // Whole pairs, so that loops have a fixed length.
        let (column_sums, scales) = (&weight.column_sums[tile.pair], &weight.scales[tile.pair]);
        let mut bias = [0.0; PAIR];
        if let Some(values) = block.bias {
            bias[..neurons].copy_from_slice(&values[tile.pair * PAIR..][..neurons]);
        }
        let sums = sums.as_chunks::<PAIR>().0;
        tile.for_each_output(
            #[inline(always)]
            |row, output| {
                let (Step { scale, zero }, sums) =
                    (block.quantized.steps[row], &sums[row - tile.rows.start]);
                let write = |values: &mut [f32; PAIR]| {
                    for at in 0..PAIR {
                        let sum = sums[at] - zero * column_sums[at];
                        values[at] = epilogue(sum as f32 * (scale * scales[at]) + bias[at]);
                    }
                };
                match output.as_mut_array::<PAIR>() {
                    Some(output) => write(output),
                    None => {
                        let mut values = [0.0; PAIR];
                        write(&mut values);
                        output.copy_from_slice(&values[..neurons]);
                    }
                }
            },
        );
    }
}
