//! Residual and layer normalisation in one pass over each row.

use pulp::Arch;

use super::product::Rows;
use crate::kernels::flex::lanes::mean_and_scale;

/// The parameters of a layer normalisation.
#[derive(Debug, Clone)]
pub struct Norm {
    /// `[d]`.
    pub gamma: Vec<f32>,
    /// `[d]`.
    pub beta: Vec<f32>,
    /// Added to the variance.
    pub epsilon: f32,
}

impl Norm {
    /// `x ← LayerNorm(x + added)`, rows of `x` side by side.
    pub fn add_and_normalise(&self, x: &mut [f32], added: Rows<'_>) {
        let d = self.gamma.len();
        Arch::new().dispatch(
            #[inline(always)]
            || {
                for (row, x) in x.chunks_exact_mut(d).enumerate() {
                    let added = &added.values[row * added.stride..][..d];
                    x.iter_mut().zip(added).for_each(|(x, added)| *x += added);
                    let (mean, scale) = mean_and_scale(x, self.epsilon);
                    for ((x, gamma), beta) in x.iter_mut().zip(&self.gamma).zip(&self.beta) {
                        *x = (*x - mean) * scale * gamma + beta;
                    }
                }
            },
        );
    }
}
