//! Dropout, residual and layer normalisation in one pass over each row, and their gradients.

use pulp::Arch;
use rayon::prelude::*;

use super::dropout::DropoutMask;
use super::lanes::{mean_and_scale, total};

/// Rows a task takes; fixed, so that sums over rows do not depend on the number of threads.
const ROWS: usize = 64;

/// Settings of a dropout, residual and normalisation.
#[derive(Debug, Clone, Copy)]
pub struct NormSettings {
    /// Added to the variance.
    pub epsilon: f32,
    /// Dropout of `x`.
    pub dropout: DropoutMask,
}

/// `LayerNorm(dropout(x) + residual)` over rows of `gamma`'s length.
#[derive(Clone, Copy)]
pub(crate) struct ResidualNorm<'a> {
    /// `[rows · d]`.
    pub x: &'a [f32],
    /// `[rows · d]`.
    pub residual: &'a [f32],
    /// `[d]`.
    pub gamma: &'a [f32],
    /// Epsilon and dropout.
    pub settings: NormSettings,
}

impl ResidualNorm<'_> {
    /// The normalised rows, with `beta: [d]` added.
    pub(crate) fn forward(&self, beta: &[f32]) -> Vec<f32> {
        let mut output = vec![0.0; self.x.len()];
        let chunk = ROWS * self.gamma.len();
        output.par_chunks_mut(chunk).enumerate().for_each(|(at, output)| {
            Arch::new().dispatch(
                #[inline(always)]
                || self.forward_rows(at * ROWS, output, beta),
            );
        });
        output
    }

    #[inline(always)]
    fn forward_rows(&self, first: usize, output: &mut [f32], beta: &[f32]) {
        for (at, output) in output.chunks_exact_mut(self.gamma.len()).enumerate() {
            let (mean, scale) = self.sum(first + at, output);
            for ((y, gamma), beta) in output.iter_mut().zip(self.gamma).zip(beta) {
                *y = (*y - mean) * scale * gamma + beta;
            }
        }
    }

    /// Writes `dropout(x) + residual` of a row; its mean and the inverse of its deviation.
    #[inline(always)]
    fn sum(&self, row: usize, sum: &mut [f32]) -> (f32, f32) {
        let d = sum.len();
        let (x, residual) = (&self.x[row * d..][..d], &self.residual[row * d..][..d]);
        if self.settings.dropout.is_idle() {
            for ((sum, x), residual) in sum.iter_mut().zip(x).zip(residual) {
                *sum = x + residual;
            }
        } else {
            let mask = self.settings.dropout.row(row);
            for (at, ((sum, x), residual)) in sum.iter_mut().zip(x).zip(residual).enumerate() {
                *sum = x * mask.factor(at) + residual;
            }
        }
        mean_and_scale(sum, self.settings.epsilon)
    }

    /// The gradients of `x` (empty without dropout, where it is the residual's), `residual`, `gamma` and
    /// `beta`, of the output's, `grad: [rows · d]`.
    pub(crate) fn backward(&self, grad: &[f32]) -> [Vec<f32>; 4] {
        let d = self.gamma.len();
        let drops = !self.settings.dropout.is_idle();
        let mut residual = vec![0.0; grad.len()];
        let mut x = vec![0.0; if drops { grad.len() } else { 0 }];
        let chunks = residual.par_chunks_mut(ROWS * d).enumerate();
        let parts: Vec<[Vec<f32>; 2]> = if drops {
            let chunks = chunks.zip(x.par_chunks_mut(ROWS * d));
            chunks.map(|((at, residual), x)| self.backward_chunk(at, grad, residual, x)).collect()
        } else {
            chunks.map(|(at, residual)| self.backward_chunk(at, grad, residual, &mut [])).collect()
        };
        let mut sums = [vec![0.0; d], vec![0.0; d]];
        for part in parts {
            for (sums, part) in sums.iter_mut().zip(part) {
                sums.iter_mut().zip(part).for_each(|(sum, value)| *sum += value);
            }
        }
        let [gamma, beta] = sums;
        [x, residual, gamma, beta]
    }

    fn backward_chunk(
        &self,
        at: usize,
        grad: &[f32],
        residual: &mut [f32],
        x: &mut [f32],
    ) -> [Vec<f32>; 2] {
        let d = self.gamma.len();
        let mut sums = [vec![0.0; d], vec![0.0; d]];
        Arch::new().dispatch(
            #[inline(always)]
            || self.backward_rows(at * ROWS, grad, residual, x, &mut sums),
        );
        sums
    }

    #[inline(always)]
    fn backward_rows(
        &self,
        first: usize,
        grad: &[f32],
        residual: &mut [f32],
        x: &mut [f32],
        [gamma_sums, beta_sums]: &mut [Vec<f32>; 2],
    ) {
        let d = self.gamma.len();
        for (at, out) in residual.chunks_exact_mut(d).enumerate() {
            let row = first + at;
            let grad = &grad[row * d..][..d];
            let (mean, scale) = self.sum(row, out);
            let sums = gamma_sums.iter_mut().zip(beta_sums.iter_mut());
            for ((value, grad), (gamma_sum, beta_sum)) in out.iter_mut().zip(grad).zip(sums) {
                *value = (*value - mean) * scale;
                *gamma_sum += grad * *value;
                *beta_sum += grad;
            }
            // ∂s = (g − mean(g) − n · mean(g n)) / σ with g = grad · gamma and n normalised.
            let weighted = total(out, |at, _| grad[at] * self.gamma[at]) / d as f32;
            let along = total(out, |at, n| grad[at] * self.gamma[at] * n) / d as f32;
            for ((value, grad), gamma) in out.iter_mut().zip(grad).zip(self.gamma) {
                *value = (grad * gamma - weighted - *value * along) * scale;
            }
            if !x.is_empty() {
                let mask = self.settings.dropout.row(row);
                let values = x[at * d..][..d].iter_mut().zip(&*out).enumerate();
                values.for_each(|(at, (x, out))| *x = out * mask.factor(at));
            }
        }
    }
}
