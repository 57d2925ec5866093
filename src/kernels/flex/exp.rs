//! Exponentials over slices, written so that the compiler vectorises them.

use pulp::{Arch, Simd, WithSimd};

/// Sums that run side by side.
const SIDE_BY_SIDE: usize = 64;

/// `Σ e^(x − greatest)` of values none of which is above `greatest`; NaN if one is NaN.
pub(crate) fn sum_of_exponentials(values: &[f32], greatest: f32) -> f32 {
    Arch::new().dispatch(Sum(values, greatest))
}

struct Sum<'a>(&'a [f32], f32);

impl WithSimd for Sum<'_> {
    type Output = f32;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> f32 {
        let Self(values, greatest) = self;
        let mut sums = [0.0; SIDE_BY_SIDE];
        let (chunks, rest) = values.as_chunks::<SIDE_BY_SIDE>();
        for chunk in chunks {
            for (sum, value) in sums.iter_mut().zip(chunk) {
                *sum += exp(value - greatest);
            }
        }
        let rest: f32 = rest.iter().map(|value| exp(value - greatest)).sum();
        sums.iter().sum::<f32>() + rest
    }
}

/// `e^x` for `x ≤ 0` within 2 units in the last place; 0 below −87, NaN for NaN.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    // Adding 1.5·2²³ rounds to an integer, left in the low bits.
    const ROUND: f32 = 12_582_912.0;
    let small = x < -87.0;
    let x = if small { -87.0 } else { x };
    let rounded = x * std::f32::consts::LOG2_E + ROUND;
    let n = rounded - ROUND;
    let r = x - n * LN_2_HIGH - n * LN_2_LOW;
    // e^r = 1 + r + r² p(r), coefficients of the Cephes library.
    let p = 1.987_569_1e-4f32;
    let p = p * r + 1.398_2e-3;
    let p = p * r + 8.333_452e-3;
    let p = p * r + 4.166_579_6e-2;
    let p = p * r + 1.666_666_5e-1;
    let p = p * r + 0.5;
    let exp = p * r * r + r + 1.0;
    let power_of_two = f32::from_bits((rounded.to_bits() << 23).wrapping_add(0x3F80_0000));
    if small { 0.0 } else { exp * power_of_two }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exponentials_are_within_two_ulp() {
        let mut worst = (0.0, 0.0);
        for bits in (0..87f32.to_bits()).step_by(37) {
            let x = -f32::from_bits(bits);
            let expected = (x as f64).exp();
            let rounded = expected as f32;
            let spacing = rounded.next_up() as f64 - rounded as f64;
            let error = (exp(x) as f64 - expected).abs() / spacing;
            if error > worst.0 {
                worst = (error, x);
            }
        }
        println!("exp: at most {:.2} ulp, at {}", worst.0, worst.1);
        assert!(worst.0 <= 2.0, "{worst:?}");
        assert_eq!((exp(0.0), exp(-90.0), exp(f32::NEG_INFINITY)), (1.0, 0.0, 0.0));
        assert!(exp(f32::NAN).is_nan());
    }

    #[test]
    fn sums_of_any_length() {
        for count in [0, 1, 63, 64, 65, 1000] {
            let values: Vec<f32> =
                (0..count).map(|at| (at * 37 % 101) as f32 * 0.1 - 7.0).collect();
            let exact: f64 = values.iter().map(|x| (f64::from(*x) - 4.0).exp()).sum();
            let found = f64::from(sum_of_exponentials(&values, 4.0));
            assert!((found - exact).abs() <= 1e-6 * exact, "{count}: {found}, {exact}");
        }
        assert!(sum_of_exponentials(&[0.0, f32::NAN], 0.0).is_nan());
    }
}
