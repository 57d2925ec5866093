//! AdamW in one pass over weights, gradients and moments.
//!
//! Burn's own makes about fourteen passes; the arithmetic here is the same, operation by operation,
//! so the results are equal to the last bit.

use pulp::Arch;
use rayon::prelude::*;

/// Elements a task takes.
const CHUNK: usize = 64 * 1024;
/// Rows a task takes; fixed, so that sums do not depend on the number of threads.
pub(super) const ROWS: usize = 64;

/// The constants of one update.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AdamWStep {
    /// Learning rate.
    pub rate: f32,
    /// `1 − rate · weight decay`.
    pub keep: f32,
    /// β₁ and β₂.
    pub betas: [f32; 2],
    /// `1 − βᵢᵗ` at update `t`.
    pub corrections: [f32; 2],
    /// ε.
    pub epsilon: f32,
}

/// The values that [`AdamWStep`] updates. With active columns, `gradient` and both moments have only
/// those.
pub(crate) struct AdamWTensors<'a> {
    pub weights: &'a mut [f32],
    pub gradient: &'a [f32],
    pub moment_1: &'a mut [f32],
    pub moment_2: &'a mut [f32],
}

impl AdamWStep {
    /// Updates all weights and moments.
    pub(crate) fn apply(&self, tensors: AdamWTensors<'_>) {
        let AdamWTensors { weights, gradient, moment_1, moment_2 } = tensors;
        let chunks = weights
            .par_chunks_mut(CHUNK)
            .zip(gradient.par_chunks(CHUNK))
            .zip(moment_1.par_chunks_mut(CHUNK))
            .zip(moment_2.par_chunks_mut(CHUNK));
        chunks.for_each(|(((weights, gradient), moment_1), moment_2)| {
            Arch::new().dispatch(
                #[inline(always)]
                || self.row::<false>(weights, gradient, moment_1, moment_2, &mut []),
            );
        });
    }

    /// The same for a matrix `[rows, width]`, of whose columns those in `active` are updated if it is
    /// given; returns `Σᵢ |w[i, j] · g[i, j]|` of every column that was, with the new weights.
    pub(crate) fn apply_rows(
        &self,
        tensors: AdamWTensors<'_>,
        width: usize,
        active: Option<&[usize]>,
    ) -> Vec<f32> {
        let AdamWTensors { weights, gradient, moment_1, moment_2 } = tensors;
        let taken = active.map_or(width, <[usize]>::len);
        if taken == 0 {
            return Vec::new();
        }
        let tasks = weights
            .par_chunks_mut(ROWS * width)
            .zip(gradient.par_chunks(ROWS * taken))
            .zip(moment_1.par_chunks_mut(ROWS * taken))
            .zip(moment_2.par_chunks_mut(ROWS * taken));
        let task = |(((weights, gradient), moment_1), moment_2): Task<'_>| {
            let mut sums = vec![0.0; taken];
            let mut gathered = vec![0.0; active.map_or(0, <[usize]>::len)];
            let rows = weights
                .chunks_exact_mut(width)
                .zip(gradient.chunks_exact(taken))
                .zip(moment_1.chunks_exact_mut(taken))
                .zip(moment_2.chunks_exact_mut(taken));
            Arch::new().dispatch(
                #[inline(always)]
                || {
                    for (((weights, gradient), moment_1), moment_2) in rows {
                        let Some(active) = active else {
                            self.row::<true>(weights, gradient, moment_1, moment_2, &mut sums);
                            continue;
                        };
                        let pairs = gathered.iter_mut().zip(active);
                        pairs.for_each(|(value, &column)| *value = weights[column]);
                        self.row::<true>(&mut gathered, gradient, moment_1, moment_2, &mut sums);
                        let pairs = gathered.iter().zip(active);
                        pairs.for_each(|(value, &column)| weights[column] = *value);
                    }
                },
            );
            sums
        };
        let parts: Vec<Vec<f32>> = tasks.map(task).collect();
        let mut sums = vec![0.0f32; taken];
        for part in parts {
            sums.iter_mut().zip(part).for_each(|(sum, value)| *sum += value);
        }
        sums
    }

    /// With `SUMS`, adds `|w · g|` to `sums`.
    #[inline(always)]
    fn row<const SUMS: bool>(
        &self,
        weights: &mut [f32],
        gradient: &[f32],
        moment_1: &mut [f32],
        moment_2: &mut [f32],
        sums: &mut [f32],
    ) {
        let count = weights.len();
        // Slices of one length let the compiler do without checks.
        let (gradient, moment_1, moment_2) =
            (&gradient[..count], &mut moment_1[..count], &mut moment_2[..count]);
        let sums = &mut sums[..if SUMS { count } else { 0 }];
        let [beta_1, beta_2] = self.betas;
        let [factor_1, factor_2] = [1.0 - beta_1, 1.0 - beta_2];
        let [correction_1, correction_2] = self.corrections;
        for at in 0..count {
            let g = gradient[at];
            let m = moment_1[at] * beta_1 + g * factor_1;
            let v = moment_2[at] * beta_2 + (g * g) * factor_2;
            let delta = (m / correction_1) / ((v / correction_2).sqrt() + self.epsilon);
            let w = weights[at] * self.keep - delta * self.rate;
            (moment_1[at], moment_2[at], weights[at]) = (m, v, w);
            if SUMS {
                sums[at] += (w * g).abs();
            }
        }
    }
}

/// Rows of weights, gradient and moments.
type Task<'a> = (((&'a mut [f32], &'a [f32]), &'a mut [f32]), &'a mut [f32]);
