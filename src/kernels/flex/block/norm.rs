//! Residual and layer normalisation in one pass over each row.

use pulp::{Arch, Simd, WithSimd};

use super::product::Rows;

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
        Arch::new().dispatch(AddNorm { norm: self, x, added });
    }
}

struct AddNorm<'a> {
    norm: &'a Norm,
    x: &'a mut [f32],
    added: Rows<'a>,
}

impl WithSimd for AddNorm<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { norm, x, added } = self;
        let d = norm.gamma.len();
        for (row, x) in x.chunks_exact_mut(d).enumerate() {
            let added = &added.values[row * added.stride..][..d];
            let mean = add::<S>(simd, x, added) / d as f32;
            let variance = squares::<S>(simd, x, mean) / d as f32;
            let scale = 1.0 / (variance + norm.epsilon).sqrt();
            for ((x, gamma), beta) in x.iter_mut().zip(&norm.gamma).zip(&norm.beta) {
                *x = (*x - mean) * scale * gamma + beta;
            }
        }
    }
}

/// `x ← x + added`; the sum of the result.
#[inline(always)]
fn add<S: Simd>(simd: S, x: &mut [f32], added: &[f32]) -> f32 {
    let (x, tail) = S::as_mut_simd_f32s(x);
    let (added, added_tail) = S::as_simd_f32s(added);
    let mut sums = [simd.splat_f32s(0.0); 4];
    let ((x, few), (added, few_added)) = (x.as_chunks_mut::<4>(), added.as_chunks::<4>());
    for (x, added) in x.iter_mut().zip(added) {
        for at in 0..4 {
            x[at] = simd.add_f32s(x[at], added[at]);
            sums[at] = simd.add_f32s(sums[at], x[at]);
        }
    }
    for (at, (x, added)) in few.iter_mut().zip(few_added).enumerate() {
        *x = simd.add_f32s(*x, *added);
        sums[at] = simd.add_f32s(sums[at], *x);
    }
    let mut rest = 0.0;
    for (x, added) in tail.iter_mut().zip(added_tail) {
        *x += added;
        rest += *x;
    }
    total::<S>(simd, sums) + rest
}

/// The sum of `(x − mean)²`.
#[inline(always)]
fn squares<S: Simd>(simd: S, x: &[f32], mean: f32) -> f32 {
    let (x, tail) = S::as_simd_f32s(x);
    let splat = simd.splat_f32s(mean);
    let mut sums = [simd.splat_f32s(0.0); 4];
    let (x, few) = x.as_chunks::<4>();
    let mut square = |at: usize, x: S::f32s| {
        let difference = simd.sub_f32s(x, splat);
        sums[at] = simd.mul_add_e_f32s(difference, difference, sums[at]);
    };
    for x in x {
        (0..4).for_each(|at| square(at, x[at]));
    }
    few.iter().enumerate().for_each(|(at, x)| square(at, *x));
    let rest: f32 = tail.iter().map(|x| (x - mean) * (x - mean)).sum();
    total::<S>(simd, sums) + rest
}

/// The sum over all lanes.
#[inline(always)]
pub fn total<S: Simd>(simd: S, [a, b, c, d]: [S::f32s; 4]) -> f32 {
    simd.reduce_sum_f32s(simd.add_f32s(simd.add_f32s(a, b), simd.add_f32s(c, d)))
}
