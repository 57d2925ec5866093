//! Activations in eight bits.

/// What stands for zero.
pub(super) const ZERO: u8 = 128;
/// 1.5 · 2²³: added to a smaller value, it rounds that to an integer in the sum's low bits.
const ROUND: f32 = 12_582_912.0;
/// The least maximum that a row is taken to have: `127 / LEAST` is finite.
const LEAST: f32 = f32::MIN_POSITIVE * 256.0;
const LANES: usize = 16;

/// Quantizes a row to `±127` around [`ZERO`], which also fills the rest of `output`, and returns the
/// step: NaN if a value is not finite.
pub(super) fn quantize(row: &[f32], output: &mut [u8]) -> f32 {
    let mut most = [LEAST; LANES];
    let mut all_finite = [true; LANES];
    let mut take = |lane: usize, value: f32| {
        let size = value.abs();
        most[lane] = if size > most[lane] { size } else { most[lane] };
        all_finite[lane] &= size < f32::INFINITY;
    };
    let (chunks, rest) = row.as_chunks::<LANES>();
    for chunk in chunks {
        for (lane, &value) in chunk.iter().enumerate() {
            take(lane, value);
        }
    }
    rest.iter().for_each(|&value| take(0, value));
    if all_finite.contains(&false) {
        output.fill(ZERO);
        return f32::NAN;
    }
    let most = most.into_iter().fold(LEAST, f32::max);
    let inverse = 127.0 / most;
    for (output, &value) in output.iter_mut().zip(row) {
        *output = ((value * inverse + ROUND).to_bits() as u8).wrapping_add(ZERO);
    }
    output[row.len()..].fill(ZERO);
    most / 127.0
}
