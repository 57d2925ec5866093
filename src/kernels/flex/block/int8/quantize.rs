//! Activations in eight bits.

/// 1.5 · 2²³: added to a smaller value, it rounds that to an integer in the sum's low bits.
const ROUND: f32 = 12_582_912.0;
/// The least distance of maximum and minimum that a row is taken to have: `255 / LEAST` is finite.
const LEAST: f32 = f32::MIN_POSITIVE * 512.0;
const LANES: usize = 16;

/// What the levels of a row stand for: `value ≈ scale · (level − zero)`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Step {
    /// NaN if a value of the row is not finite.
    pub(super) scale: f32,
    /// 0 to 255.
    pub(super) zero: i32,
}

/// Quantizes a row to levels from 0, its minimum or 0, to 255, its maximum or 0. The rest of `levels` gets
/// the level of zero.
#[inline(always)]
pub(super) fn quantize(row: &[f32], levels: &mut [u8]) -> Step {
    let (mut least, mut most) = ([0.0; LANES], [0.0; LANES]);
    // Of what is not finite, the difference with itself is NaN.
    let mut differences = [0.0; LANES];
    let mut take = |lane: usize, value: f32| {
        least[lane] = if value < least[lane] { value } else { least[lane] };
        most[lane] = if value > most[lane] { value } else { most[lane] };
        differences[lane] += value - value;
    };
    let (chunks, rest) = row.as_chunks::<LANES>();
    for chunk in chunks {
        for (lane, &value) in chunk.iter().enumerate() {
            take(lane, value);
        }
    }
    rest.iter().for_each(|&value| take(0, value));
    if differences.iter().any(|difference| difference.is_nan()) {
        levels.fill(0);
        return Step { scale: f32::NAN, zero: 0 };
    }
    let least = least.into_iter().fold(0.0, f32::min);
    let most = most.into_iter().fold(0.0, f32::max);
    // Halves, since the difference of finite values may not be finite.
    let scale = (most * 0.5 - least * 0.5).max(LEAST * 0.5) / 127.5;
    let inverse = 1.0 / scale;
    let zero = (-least * inverse).round_ties_even().min(255.0);
    let (head, tail) = levels.split_at_mut(row.len());
    for (level, &value) in head.iter_mut().zip(row) {
        let place = (value * inverse + zero).max(0.0).min(255.0);
        *level = (place + ROUND).to_bits() as u8;
    }
    tail.fill(zero as u8);
    Step { scale, zero: zero as i32 }
}
