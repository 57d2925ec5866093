//! Products of quantized activations (`u8` around 128) and `int8` weights: exact sums in `i32`, and
//! the layer around them.
//!
//! [`Path`] says with which instructions sums are made; all give the same ones.

mod path;
mod quantize;
mod sums;
#[cfg(test)]
mod tests;
mod weight;
#[cfg(target_arch = "x86_64")]
#[expect(clippy::needless_range_loop)] // Rows index memory too, not only arrays of sums.
mod x86;

use path::Path;
use quantize::quantize;
use sums::{ROWS, sums};
use weight::{LANES, QuantizedWeight};

/// `output = input · weight + bias` of rows with `weight.d_input` values each, on this thread. Rows
/// are quantized one by one; a row with a value that is not finite becomes NaN.
///
/// # Panics
/// If a slice is too short.
fn layer(path: Path, input: &[f32], weight: &QuantizedWeight, bias: &[f32], output: &mut [f32]) {
    let (d_input, d_output, width) = (weight.d_input, weight.d_output, weight.groups * 4);
    let rows = input.len() / d_input;
    let mut quantized = vec![0; rows * width];
    let scales: Vec<f32> = (input.chunks_exact(d_input).zip(quantized.chunks_exact_mut(width)))
        .map(|(row, quantized)| quantize(row, quantized))
        .collect();
    let mut block = [0; ROWS * 2 * LANES];
    for first in (0..d_output).step_by(2 * LANES) {
        let neurons = (d_output - first).min(2 * LANES);
        let offsets = &weight.offsets[first..][..neurons];
        let neuron_scales = &weight.scales[first..][..neurons];
        let bias = &bias[first..][..neurons];
        for start in (0..rows).step_by(ROWS) {
            let count = (rows - start).min(ROWS);
            sums(path, &quantized[start * width..], count, weight, first / LANES, &mut block);
            for (row, sums) in (start..start + count).zip(block.chunks_exact(2 * LANES)) {
                let output = &mut output[row * d_output + first..][..neurons];
                for at in 0..neurons {
                    let scale = scales[row] * neuron_scales[at];
                    output[at] = (sums[at] - offsets[at]) as f32 * scale + bias[at];
                }
            }
        }
    }
}
