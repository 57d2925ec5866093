//! Reductions in partial results, which compilers vectorise; a plain loop they must leave in order.

/// Partial results of a vector, and of as many as run side by side.
const LANES: usize = 16;
const WIDE: usize = 4 * LANES;

/// `Σ f(i, values[i])`.
#[inline(always)]
pub(super) fn total(values: &[f32], f: impl Fn(usize, f32) -> f32) -> f32 {
    let mut sums = [0.0; WIDE];
    let (chunks, rest) = values.as_chunks::<WIDE>();
    for (at, chunk) in chunks.iter().enumerate() {
        for lane in 0..WIDE {
            sums[lane] += f(at * WIDE + lane, chunk[lane]);
        }
    }
    let (few, tail) = rest.as_chunks::<LANES>();
    for (at, chunk) in few.iter().enumerate() {
        for lane in 0..LANES {
            sums[lane] += f(chunks.len() * WIDE + at * LANES + lane, chunk[lane]);
        }
    }
    for lane in LANES..WIDE {
        sums[lane % LANES] += sums[lane];
    }
    let from = values.len() - tail.len();
    let tail: f32 = tail.iter().enumerate().map(|(at, &value)| f(from + at, value)).sum();
    sums[..LANES].iter().sum::<f32>() + tail
}

/// The mean, and the inverse of the deviation with `epsilon` added to the variance.
#[inline(always)]
pub(super) fn mean_and_scale(values: &[f32], epsilon: f32) -> (f32, f32) {
    let count = values.len() as f32;
    let mean = total(values, |_, value| value) / count;
    let variance = total(values, |_, value| (value - mean) * (value - mean)) / count;
    (mean, 1.0 / (variance + epsilon).sqrt())
}

/// The greatest value; of NaN it may say anything.
#[inline(always)]
pub(super) fn greatest(values: &[f32]) -> f32 {
    let larger = |a: f32, b: f32| if a > b { a } else { b };
    let mut most = [f32::NEG_INFINITY; LANES];
    let (chunks, rest) = values.as_chunks::<LANES>();
    for chunk in chunks {
        for lane in 0..LANES {
            most[lane] = larger(chunk[lane], most[lane]);
        }
    }
    most.iter().chain(rest).fold(f32::NEG_INFINITY, |most, &value| larger(value, most))
}
