//! A layer of which only some neurons have a sparse part: the others are pruned, for good or for now, and
//! have their low-rank part alone. Work falls with the number of active neurons.
//!
//! ```text
//! [K | R] with K = R·L_a + S_a      h = x·[K | R]      y_a = h_a + b_a      y_o = h_r·L_o + b_o
//! ```
//! `a` are the active columns, `o` the others. The gradient of `S` is that of its active columns, side
//! by side; where the others may come back, of all, and then it is a product as of a dense layer.

use rayon::prelude::*;

use super::active_neurons::{ActiveNeurons, SparseGradient};
use super::products;

/// A layer and its input.
#[derive(Clone, Copy)]
pub(crate) struct ActiveLayer<'a> {
    /// `[rows, d_input]`
    pub x: &'a [f32],
    /// `S: [d_input, d_output]`
    pub sparse: &'a [f32],
    /// `R: [d_input, rank]`
    pub right: &'a [f32],
    /// `L: [rank, d_output]`
    pub left: &'a [f32],
    /// `[rows, d_input, d_output, rank]`
    pub dims: [usize; 4],
    pub columns: &'a ActiveNeurons,
}

impl ActiveLayer<'_> {
    /// `[rows, d_output]`, with `bias: [d_output]` added.
    pub(crate) fn forward(&self, bias: &[f32]) -> Vec<f32> {
        let [rows, _, d_output, rank] = self.dims;
        let active = &self.columns.active;
        let (k, width) = (active.len(), active.len() + rank);
        let hidden = multiply(self.x, &self.first(), width, rows);
        let mut output = match rank {
            0 => bias.repeat(rows),
            _ => products::forward(&columns(&hidden, width, k..width), &self.spread(), bias),
        };
        if k > 0 {
            let rows = output.par_chunks_exact_mut(d_output).zip(hidden.par_chunks_exact(width));
            rows.for_each(|(output, hidden)| {
                for (&column, value) in active.iter().zip(hidden) {
                    output[column] = value + bias[column];
                }
            });
        }
        output
    }

    /// The gradients of `x`, `sparse` (the active columns alone unless whole), `right`, `left` and the bias, of
    /// the output's, `grad: [rows, d_output]`.
    pub(crate) fn backward(&self, grad: &[f32]) -> [Vec<f32>; 5] {
        let [rows, d_input, d_output, rank] = self.dims;
        let active = &self.columns.active;
        let (k, width) = (active.len(), active.len() + rank);
        // ∂h = [∂y_a | ∂y_o L_oᵀ]
        let grad_code = multiply_transposed(grad, &self.spread(), d_output, [rows, rank]);
        let mut grad_hidden = vec![0.0; rows * width];
        if width > 0 {
            grad_hidden.par_chunks_mut(width).enumerate().for_each(|(row, hidden)| {
                let grad = &grad[row * d_output..][..d_output];
                hidden.iter_mut().zip(active).for_each(|(hidden, &column)| *hidden = grad[column]);
                hidden[k..].copy_from_slice(&grad_code[row * rank..][..rank]);
            });
        }
        let x = multiply_transposed(&grad_hidden, &self.first(), width, [rows, d_input]);
        let bias = products::column_sums(grad, d_output);
        if self.columns.gradient == SparseGradient::Whole {
            // ∂S = ∂W, ∂R = ∂W Lᵀ, ∂L = Rᵀ ∂W
            let whole = weight_gradient(self.x, grad, [d_input, d_output], rows);
            let right = multiply_transposed(&whole, self.left, d_output, [d_input, rank]);
            let left = weight_gradient(self.right, &whole, [rank, d_output], d_input);
            return [x, whole, right, left, bias];
        }
        let left_active = gather(self.left, d_output, active);
        let grad_first = weight_gradient(self.x, &grad_hidden, [d_input, width], rows);
        let grad_kept = columns(&grad_first, width, 0..k);
        // ∂R = ∂R_first + ∂K L_aᵀ
        let mut right = columns(&grad_first, width, k..width);
        let through = multiply_transposed(&grad_kept, &left_active, k, [d_input, rank]);
        right.iter_mut().zip(through).for_each(|(right, value)| *right += value);
        // ∂L_a = Rᵀ ∂K, ∂L_o = (x R)ᵀ ∂y_o
        let code = multiply(self.x, self.right, rank, rows);
        let mut left = weight_gradient(&code, grad, [rank, d_output], rows);
        let of_active = weight_gradient(self.right, &grad_kept, [rank, k], d_input);
        scatter(&mut left, d_output, active, &of_active);
        [x, grad_kept, right, left, bias]
    }

    /// `L` with its active columns zero: one product over all columns is faster than gathering the
    /// others.
    fn spread(&self) -> Vec<f32> {
        let mut spread = self.left.to_vec();
        for row in spread.chunks_exact_mut(self.dims[2]) {
            self.columns.active.iter().for_each(|&column| row[column] = 0.0);
        }
        spread
    }

    /// `[K | R]: [d_input, k + rank]`.
    fn first(&self) -> Vec<f32> {
        let [_, d_input, d_output, rank] = self.dims;
        let active = &self.columns.active;
        let (k, width) = (active.len(), active.len() + rank);
        let mut first = vec![0.0; d_input * width];
        if width == 0 {
            return first;
        }
        let product = multiply(self.right, &gather(self.left, d_output, active), k, d_input);
        first.par_chunks_mut(width).enumerate().for_each(|(row, first)| {
            let sparse = &self.sparse[row * d_output..][..d_output];
            for (value, &column) in first.iter_mut().zip(active) {
                *value = sparse[column];
            }
            let product = product[row * k..][..k].iter();
            first.iter_mut().zip(product).for_each(|(value, product)| *value += product);
            first[k..].copy_from_slice(&self.right[row * rank..][..rank]);
        });
        first
    }
}

/// `a · weight: [rows, width]` of `weight: [depth, width]`; zeros without depth.
fn multiply(a: &[f32], weight: &[f32], width: usize, rows: usize) -> Vec<f32> {
    match a.is_empty() || width == 0 {
        true => vec![0.0; rows * width],
        false => products::forward(a, weight, &vec![0.0; width]),
    }
}

/// `a · weightᵀ` of `a: [rows, width]`, `weight: [depth, width]`.
fn multiply_transposed(
    a: &[f32],
    weight: &[f32],
    width: usize,
    [rows, depth]: [usize; 2],
) -> Vec<f32> {
    match width == 0 || depth == 0 {
        true => vec![0.0; rows * depth],
        false => products::input_gradient(a, weight, width),
    }
}

/// `xᵀ · grad` of `x: [rows, d_input]`, `grad: [rows, d_output]`.
fn weight_gradient(
    x: &[f32],
    grad: &[f32],
    [d_input, d_output]: [usize; 2],
    rows: usize,
) -> Vec<f32> {
    match d_input == 0 || d_output == 0 || rows == 0 {
        true => vec![0.0; d_input * d_output],
        false => products::weight_gradient(x, grad, d_output),
    }
}

/// Some columns of `[rows, width]`.
pub(crate) fn gather(values: &[f32], width: usize, chosen: &[usize]) -> Vec<f32> {
    let rows = values.len() / width;
    let mut gathered = vec![0.0; rows * chosen.len()];
    if !chosen.is_empty() {
        gathered.par_chunks_mut(chosen.len()).enumerate().for_each(|(row, gathered)| {
            let values = &values[row * width..][..width];
            gathered.iter_mut().zip(chosen).for_each(|(to, &column)| *to = values[column]);
        });
    }
    gathered
}

/// [`gather`] of neighbouring columns.
fn columns(values: &[f32], width: usize, range: std::ops::Range<usize>) -> Vec<f32> {
    match width {
        0 => Vec::new(),
        _ => values.chunks_exact(width).flat_map(|row| &row[range.clone()]).copied().collect(),
    }
}

/// Writes columns to their places in `[rows, width]`.
pub(crate) fn scatter(values: &mut [f32], width: usize, chosen: &[usize], columns: &[f32]) {
    if chosen.is_empty() || columns.is_empty() {
        return;
    }
    let rows = values.par_chunks_mut(width).zip(columns.par_chunks(chosen.len()));
    rows.for_each(|(values, columns)| {
        chosen.iter().zip(columns).for_each(|(&column, value)| values[column] = *value);
    });
}
