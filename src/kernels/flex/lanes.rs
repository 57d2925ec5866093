//! Reductions in partial results, which compilers vectorise; a plain loop they must leave in order.

/// Partial results.
const LANES: usize = 16;

/// `Σ f(i, values[i])`.
#[inline(always)]
pub(super) fn total(values: &[f32], f: impl Fn(usize, f32) -> f32) -> f32 {
    let mut sums = [0.0; LANES];
    let (chunks, rest) = values.as_chunks::<LANES>();
    for (at, chunk) in chunks.iter().enumerate() {
        for lane in 0..LANES {
            sums[lane] += f(at * LANES + lane, chunk[lane]);
        }
    }
    let from = values.len() - rest.len();
    let tail: f32 = rest.iter().enumerate().map(|(at, &value)| f(from + at, value)).sum();
    sums.iter().sum::<f32>() + tail
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
