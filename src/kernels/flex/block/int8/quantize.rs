//! Activations in eight bits.

use pulp::Simd;

/// 1.5 · 2²³: added to a smaller value, it rounds that to an integer in the sum's low bits.
const ROUND: f32 = 12_582_912.0;
/// The least distance of maximum and minimum that a row is taken to have: `255 / LEAST` is finite.
const LEAST: f32 = f32::MIN_POSITIVE * 512.0;

/// Meaning of the levels of a row: `value ≈ scale · (level − zero)`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Step {
    /// NaN if a value of the row is not finite.
    pub(super) scale: f32,
    /// 0 to 255.
    pub(super) zero: i32,
}

impl Step {
    /// That of a row with a value that is not finite.
    pub(super) const NAN: Self = Self { scale: f32::NAN, zero: 0 };

    /// The step of values from `least ≤ 0` to `most ≥ 0`, and its inverse.
    #[inline(always)]
    pub(super) fn of(least: f32, most: f32) -> (Self, f32) {
        // Halves, since the difference of finite values may not be finite.
        let scale = (most * 0.5 - least * 0.5).max(LEAST * 0.5) / 127.5;
        let inverse = 1.0 / scale;
        let zero = (-least * inverse).round_ties_even().min(255.0);
        (Self { scale, zero: zero as i32 }, inverse)
    }
}

/// Quantizes a row to levels from 0, its minimum or 0, to 255, its maximum or 0. The rest of `levels` gets
/// the level of zero.
#[inline(always)]
pub(super) fn quantize<S: Simd>(simd: S, row: &[f32], levels: &mut [u8]) -> Step {
    let Some([least, most]) = extremes(simd, row) else {
        levels.fill(0);
        return Step::NAN;
    };
    let (step, inverse) = Step::of(least, most);
    let zero = step.zero as f32;
    let (head, tail) = levels.split_at_mut(row.len());
    for (level, &value) in head.iter_mut().zip(row) {
        let place = (value * inverse + zero).clamp(0.0, 255.0);
        *level = (place + ROUND).to_bits() as u8;
    }
    tail.fill(step.zero as u8);
    step
}

/// The least and the greatest of a row's values and 0; `None` if a value is not finite.
#[inline(always)]
fn extremes<S: Simd>(simd: S, row: &[f32]) -> Option<[f32; 2]> {
    let zero = simd.splat_f32s(0.0);
    let (mut least, mut most, mut differences) = ([zero; 2], [zero; 2], [zero; 2]);
    let mut take = |at: usize, values: S::f32s| {
        least[at] = simd.min_f32s(values, least[at]);
        most[at] = simd.max_f32s(values, most[at]);
        // A value that is not finite less itself is NaN.
        differences[at] = simd.add_f32s(differences[at], simd.sub_f32s(values, values));
    };
    let (vectors, tail) = S::as_simd_f32s(row);
    let (pairs, single) = vectors.as_chunks::<2>();
    for [a, b] in pairs {
        take(0, *a);
        take(1, *b);
    }
    single.iter().for_each(|values| take(0, *values));
    take(1, simd.partial_load_f32s(tail));
    let difference = simd.reduce_sum_f32s(simd.add_f32s(differences[0], differences[1]));
    let least = simd.reduce_min_f32s(simd.min_f32s(least[0], least[1]));
    let most = simd.reduce_max_f32s(simd.max_f32s(most[0], most[1]));
    (difference == 0.0).then_some([least, most])
}
