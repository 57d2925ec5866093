//! The outputs of a compact layer, a few rows (tokens) at a time.
//!
//! Every output is first the low-rank one, `bias + code · spread`, written in order and once;
//! then the kept neurons' outputs replace theirs while the rows are in cache.

use burn::tensor::{Tensor, TensorData};
use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::neuron_plan::NeuronPlan;
use super::slices::{contiguous, slice};

/// Rows that share each load of `spread`.
const TILE: usize = 4;
/// Columns of `spread` kept in the first-level cache while rows pass: 16 KiB at rank 8.
const PANEL: usize = 512;
/// Multiplications that are worth a task of their own.
const TASK: usize = 64 * 1024;
/// Tasks that are worth waking threads for.
const TASKS: usize = 8;
/// Rows of a task at most: they stay in the second-level cache for the second step.
const MAX_ROWS: usize = 16;

impl NeuronPlan {
    /// The outputs of the layer, from those of the kept neurons and the code of the others; `None` unless
    /// the operands are on `flex`, without autodiff.
    ///
    /// # Shapes
    /// - `hidden`: `[tokens, kept + rank]`
    /// - `bias`: `[d_output]`
    /// - output: `[tokens, d_output]`
    pub(crate) fn outputs(
        &self,
        hidden: &Tensor<2>,
        bias: Option<&Tensor<1>>,
    ) -> Option<Tensor<2>> {
        let tokens = hidden.dims()[0];
        let mut output = vec![0.0; tokens * self.d_output];
        let rows = contiguous(hidden)?;
        match bias {
            Some(bias) => write_outputs(self, slice(&rows), slice(&contiguous(bias)?), &mut output),
            None => write_outputs(self, slice(&rows), &vec![0.0; self.d_output], &mut output),
        }
        let output = TensorData::new(output, [tokens, self.d_output]);
        Some(Tensor::from_data(output, &hidden.device()))
    }
}

/// Writes `output: [tokens, d_output]` from `hidden: [tokens, kept + rank]`.
fn write_outputs(plan: &NeuronPlan, hidden: &[f32], bias: &[f32], output: &mut [f32]) {
    let (width, d_output) = (plan.neurons.len() + plan.rank, plan.d_output);
    if output.is_empty() {
        return;
    }
    assert_eq!(hidden.len() * d_output, output.len() * width, "hidden states of another width");
    assert_eq!(bias.len(), d_output, "a bias of another length");
    // Rank 0 with every neuron pruned: nothing but the bias.
    if width == 0 {
        output.chunks_exact_mut(d_output).for_each(|row| row.copy_from_slice(bias));
        return;
    }
    let row_cost = d_output * (plan.rank + 2);
    let tasks = output.len() / d_output * row_cost / TASK;
    let arch = Arch::new();
    let run = |hidden: &[f32], output: &mut [f32]| {
        arch.dispatch(Rows { plan, bias, hidden, output });
    };
    if tasks < TASKS {
        return run(hidden, output);
    }
    let rows = (TASK / row_cost).next_multiple_of(TILE).clamp(TILE, MAX_ROWS);
    let blocks = output.par_chunks_mut(rows * d_output).zip(hidden.par_chunks(rows * width));
    blocks.for_each(|(output, hidden)| run(hidden, output));
}

struct Rows<'a> {
    plan: &'a NeuronPlan,
    bias: &'a [f32],
    hidden: &'a [f32],
    output: &'a mut [f32],
}

impl WithSimd for Rows<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { plan, bias, hidden, output } = self;
        let (kept, d_output) = (plan.neurons.len(), plan.d_output);
        let width = kept + plan.rank;
        for from in (0..d_output).step_by(PANEL) {
            let panel = Panel { plan, bias, from, to: d_output.min(from + PANEL) };
            let mut outputs = output.chunks_exact_mut(TILE * d_output);
            let mut hiddens = hidden.chunks_exact(TILE * width);
            for (output, hidden) in (&mut outputs).zip(&mut hiddens) {
                panel.low_rank::<S, TILE>(simd, hidden, output);
            }
            let rest = outputs.into_remainder().chunks_exact_mut(d_output);
            for (output, hidden) in rest.zip(hiddens.remainder().chunks_exact(width)) {
                panel.low_rank::<S, 1>(simd, hidden, output);
            }
        }
        for (output, hidden) in output.chunks_exact_mut(d_output).zip(hidden.chunks_exact(width)) {
            for (&neuron, value) in plan.neurons.iter().zip(hidden) {
                let neuron = neuron as usize;
                output[neuron] = value + bias[neuron];
            }
        }
    }
}

struct Panel<'a> {
    plan: &'a NeuronPlan,
    bias: &'a [f32],
    from: usize,
    to: usize,
}

impl Panel<'_> {
    /// `T` rows of `bias + code · spread`, two vectors at a time.
    #[inline(always)]
    fn low_rank<S: Simd, const T: usize>(&self, simd: S, hidden: &[f32], output: &mut [f32]) {
        let (d_output, kept) = (self.plan.d_output, self.plan.neurons.len());
        let width = kept + self.plan.rank;
        let codes: [&[f32]; T] =
            std::array::from_fn(|t| &hidden[t * width + kept..][..width - kept]);
        let mut column = self.from;
        while column < self.to {
            let columns = (2 * S::F32_LANES).min(self.to - column);
            let load = |row: &[f32]| load_pair(simd, &row[column..][..columns]);
            let mut sums = [load(self.bias); T];
            for (r, spread) in self.plan.spread.chunks_exact(d_output).enumerate() {
                let (low, high) = load(spread);
                for t in 0..T {
                    let code = simd.splat_f32s(codes[t][r]);
                    sums[t].0 = simd.mul_add_e_f32s(code, low, sums[t].0);
                    sums[t].1 = simd.mul_add_e_f32s(code, high, sums[t].1);
                }
            }
            for (t, sums) in sums.into_iter().enumerate() {
                store_pair(simd, &mut output[t * d_output + column..][..columns], sums);
            }
            column += columns;
        }
    }
}

/// Two vectors, zero beyond the end of `values`.
#[inline(always)]
fn load_pair<S: Simd>(simd: S, values: &[f32]) -> (S::f32s, S::f32s) {
    match S::as_simd_f32s(values) {
        ([low, high], _) => (*low, *high),
        ([low], rest) => (*low, simd.partial_load_f32s(rest)),
        (_, rest) => (simd.partial_load_f32s(rest), simd.splat_f32s(0.0)),
    }
}

#[inline(always)]
fn store_pair<S: Simd>(simd: S, values: &mut [f32], (low, high): (S::f32s, S::f32s)) {
    match S::as_mut_simd_f32s(values) {
        ([first, second], _) => (*first, *second) = (low, high),
        ([first], rest) => {
            *first = low;
            simd.partial_store_f32s(rest, high);
        }
        (_, rest) => simd.partial_store_f32s(rest, low),
    }
}
