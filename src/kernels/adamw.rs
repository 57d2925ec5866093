//! AdamW in one pass over weights, gradients and moments.
//!
//! Burn's own makes about fourteen passes; the arithmetic here is the same, operation by operation,
//! so the results are equal to the last bit.

use pulp::Arch;
use rayon::prelude::*;

/// Elements a task takes.
const CHUNK: usize = 64 * 1024;

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

impl AdamWStep {
    /// Updates `weights` and both moments by `gradient`, all of one length.
    pub(crate) fn apply(
        &self,
        weights: &mut [f32],
        gradient: &[f32],
        moment_1: &mut [f32],
        moment_2: &mut [f32],
    ) {
        let chunks = weights
            .par_chunks_mut(CHUNK)
            .zip(gradient.par_chunks(CHUNK))
            .zip(moment_1.par_chunks_mut(CHUNK))
            .zip(moment_2.par_chunks_mut(CHUNK));
        chunks.for_each(|(((weights, gradient), moment_1), moment_2)| {
            Arch::new().dispatch(
                #[inline(always)]
                || self.chunk(weights, gradient, moment_1, moment_2),
            );
        });
    }

    #[inline(always)]
    fn chunk(&self, weights: &mut [f32], gradient: &[f32], first: &mut [f32], second: &mut [f32]) {
        let [beta_1, beta_2] = self.betas;
        let [factor_1, factor_2] = [1.0 - beta_1, 1.0 - beta_2];
        let [correction_1, correction_2] = self.corrections;
        let values = weights.iter_mut().zip(gradient).zip(first.iter_mut()).zip(second.iter_mut());
        for (((w, &g), m), v) in values {
            *m = *m * beta_1 + g * factor_1;
            *v = *v * beta_2 + (g * g) * factor_2;
            let delta = (*m / correction_1) / ((*v / correction_2).sqrt() + self.epsilon);
            *w = *w * self.keep - delta * self.rate;
        }
    }
}
