//! GELU with `erf` and its gradient over slices, written so that the compiler vectorises them.
//!
//! Both need `Q(a) = 1 − Φ(a)` for `a = |x|`, and `Q(a) = e^(−a²/2) g(a)`, where
//! `g(a) = erfcx(a/√2)/2` falls slowly from ½. Unlike `1 + erf`, that has no cancellation, so
//! results are precise in the negative tail; and the exponential is the density's, which the
//! gradient needs anyway.

use std::f32::consts::{FRAC_1_SQRT_2, FRAC_2_SQRT_PI, LOG2_E};

use pulp::{Arch, Simd, WithSimd};

/// `x ← x Φ(x)`, within 7 units in the last place up to `|x| = 12.5`. From 13 on, where
/// `Q < 10⁻³⁸`, `Φ` is 0 or 1.
pub(super) fn gelu_in_place(x: &mut [f32]) {
    Arch::new().dispatch(Forward(x));
}

/// `grad ← grad (Φ(x) + x φ(x))`, the sum within 5 units in the last place of its greater term.
pub(super) fn gelu_backward_in_place(x: &[f32], grad: &mut [f32]) {
    Arch::new().dispatch(Gradient(x, grad));
}

struct Forward<'a>(&'a mut [f32]);

impl WithSimd for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        gelu_vectorised::<S>(self.0);
    }
}

/// [`gelu_in_place`] with the instructions of `S`, to be inlined where those are in use.
#[inline(always)]
pub(super) fn gelu_vectorised<S: Simd>(x: &mut [f32]) {
    for x in x {
        let (cdf, _) = if fused::<S>() { normal::<true>(*x) } else { normal::<false>(*x) };
        *x *= cdf;
    }
}

/// `x Φ(x)` within [`ROUNDED_ERROR`], and of greater `x` within that share of `x / 4.25`, in a third of the time,
/// for values that are then rounded to 8 bits; with the instructions of `S`. `Φ(x) = ½ + x p(x²)` up to
/// `|x| = 4.25`, a minimax fit of `x Φ(x)`. NaN stays; −∞ becomes the limit, about 0.
#[inline(always)]
pub(super) fn rounded_gelu<S: Simd>(x: f32) -> f32 {
    const LAST: f32 = 4.25;
    const COEFFICIENTS: [f32; 8] = [
        0.398_420_1,
        -0.065_453_59,
        0.009_257_866,
        -9.404_572e-4,
        6.552_823_5e-5,
        -2.938_875_5e-6,
        7.571_073e-8,
        -8.460_727e-10,
    ];
    // Written so that NaN stays.
    let x = if x < -LAST { -LAST } else { x };
    let within = if x > LAST { LAST } else { x };
    let square = within * within;
    match fused::<S>() {
        true => x * polynomial::<true, 8>(square, COEFFICIENTS).mul_add(within, 0.5),
        false => x * (within * polynomial::<false, 8>(square, COEFFICIENTS) + 0.5),
    }
}

/// See [`rounded_gelu`].
#[cfg(test)]
const ROUNDED_ERROR: f64 = 1e-4;

struct Gradient<'a>(&'a [f32], &'a mut [f32]);

impl WithSimd for Gradient<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        for (&x, grad) in self.0.iter().zip(self.1) {
            let (cdf, pdf) = if fused::<S>() { normal::<true>(x) } else { normal::<false>(x) };
            *grad *= cdf + x * pdf;
        }
    }
}

/// Whether the instructions in use have a fused multiply-add (without, it is a library call).
#[inline(always)]
const fn fused<S: Simd>() -> bool {
    S::F32_LANES > 1 && !cfg!(target_arch = "wasm32")
}

/// `Φ(x)` and `φ(x)` of the standard normal distribution; NaN for NaN.
#[inline(always)]
fn normal<const FUSED: bool>(x: f32) -> (f32, f32) {
    let a = x.abs();
    // Written so that NaN stays.
    let a = if a > 14.0 { 14.0 } else { a };
    let density = exp_minus_half_square::<FUSED>(a);
    let density = if a > 13.0 { 0.0 } else { density };
    let tail = density * mills_ratio::<FUSED>(a);
    let cdf = if x < 0.0 { tail } else { 1.0 - tail };
    (cdf, density * (0.5 * FRAC_2_SQRT_PI * FRAC_1_SQRT_2))
}

#[inline(always)]
fn mul_add<const FUSED: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FUSED { a.mul_add(b, c) } else { a * b + c }
}

/// `coefficients[0] + coefficients[1] x + …`
#[inline(always)]
fn polynomial<const FUSED: bool, const N: usize>(x: f32, coefficients: [f32; N]) -> f32 {
    let mut sum = coefficients[N - 1];
    let mut at = N - 1;
    while at > 0 {
        at -= 1;
        sum = mul_add::<FUSED>(sum, x, coefficients[at]);
    }
    sum
}

/// `erfcx(a/√2)/2` for `a` in `[0, 13]`: rational minimax fit, relative error 5e-9 before rounding.
#[inline(always)]
fn mills_ratio<const FUSED: bool>(a: f32) -> f32 {
    let numerator =
        polynomial::<FUSED, 5>(a, [0.5, 0.436_147_4, 0.181_646_69, 0.040_098_358, 0.004_037_044]);
    let denominator = polynomial::<FUSED, 6>(
        a,
        [1.0, 1.670_179_7, 1.195_899_7, 0.465_277_5, 0.100_518_88, 0.010_119_229],
    );
    numerator / denominator
}

/// `e^(−a²/2)` for `a` in `[0, 13]`.
#[inline(always)]
fn exp_minus_half_square<const FUSED: bool>(a: f32) -> f32 {
    // ln 2 in two parts; the first has few enough bits for exact products.
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    // Adding 1.5·2²³ rounds to an integer, left in the low bits.
    const ROUND: f32 = 12_582_912.0;
    // a² exactly, as high + low: the rounding error of a² would grow to 40 ulp.
    let leading = f32::from_bits(a.to_bits() & 0xFFFF_F000);
    let high = leading * leading;
    let low = (a - leading) * (a + leading);
    let rounded = mul_add::<FUSED>(high, -0.5 * LOG2_E, ROUND);
    let n = rounded - ROUND;
    let r = mul_add::<FUSED>(n, -LN_2_HIGH, -0.5 * high);
    let r = mul_add::<FUSED>(n, -LN_2_LOW, r);
    let r = mul_add::<FUSED>(low, -0.5, r);
    // e^r = 1 + r + r² p(r), coefficients of the Cephes library.
    let p = polynomial::<FUSED, 6>(
        r,
        [0.5, 0.166_666_65, 0.041_665_796, 0.008_333_452, 0.001_398_2, 1.987_569_1e-4],
    );
    let exp = mul_add::<FUSED>(p, r * r, r) + 1.0;
    let power_of_two = f32::from_bits((rounded.to_bits() << 23).wrapping_add(0x3F80_0000));
    exp * power_of_two
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Rounded<'a>(&'a mut [f32]);

    impl WithSimd for Rounded<'_> {
        type Output = ();

        fn with_simd<S: Simd>(self, _: S) {
            self.0.iter_mut().for_each(|x| *x = rounded_gelu::<S>(*x));
        }
    }

    #[test]
    fn the_rounded_one_is_as_near_as_it_says() {
        let x: Vec<f32> = (-400_000..=400_000).map(|at| at as f32 / 20_000.0).collect();
        let mut y = x.clone();
        Arch::new().dispatch(Rounded(&mut y));
        for (x, y) in x.into_iter().zip(y) {
            let off = (f64::from(y) - f64::from(x) * exact(x).0).abs();
            let allowed = ROUNDED_ERROR * (f64::from(x) / 4.25).max(1.0);
            assert!(off < allowed, "{x}: {y}, off by {off}");
        }
        let mut odd = [f32::INFINITY, f32::NAN, -f32::MAX, f32::NEG_INFINITY];
        Arch::new().dispatch(Rounded(&mut odd));
        assert!(odd[0] == f32::INFINITY && odd[1].is_nan(), "{odd:?}");
        assert!(odd[2..].iter().all(|y| f64::from(y.abs()) < ROUNDED_ERROR), "{odd:?}");
    }

    /// `Φ(x)` and `φ(x)` in double precision.
    fn exact(x: f32) -> (f64, f64) {
        let x = x as f64;
        let cdf = 0.5 * libm::erfc(-x * std::f64::consts::FRAC_1_SQRT_2);
        (cdf, (-0.5 * x * x).exp() / (2.0 * std::f64::consts::PI).sqrt())
    }

    /// Distance in units in the last place of the correctly rounded `expected`.
    fn ulps(value: f32, expected: f64) -> f64 {
        let rounded = expected as f32;
        let spacing = rounded.abs().next_up() as f64 - rounded.abs() as f64;
        (value as f64 - expected).abs() / spacing
    }

    /// Every 37th float with `|x|` in `[1e-30, 12.5]`, 11 million of them.
    fn floats() -> impl Iterator<Item = f32> {
        let range = 1e-30f32.to_bits()..12.5f32.to_bits();
        range.step_by(37).map(f32::from_bits).flat_map(|x| [x, -x])
    }

    #[test]
    fn gelu_is_within_a_few_ulp() {
        let mut worst = (0.0, 0.0);
        let x: Vec<f32> = floats().collect();
        let mut y = x.clone();
        gelu_in_place(&mut y);
        for (&x, &y) in x.iter().zip(&y) {
            let error = ulps(y, x as f64 * exact(x).0);
            if error > worst.0 {
                worst = (error, x);
            }
        }
        println!("GELU: at most {:.2} ulp, at {}", worst.0, worst.1);
        assert!(worst.0 <= 7.0, "{worst:?}");
    }

    /// The gradient has a zero at −0.75, so its error is measured against the greater summand.
    #[test]
    fn the_gradient_is_within_a_few_ulp_of_its_terms() {
        let mut worst = (0.0, 0.0);
        let x: Vec<f32> = floats().collect();
        let mut y = vec![1.0; x.len()];
        gelu_backward_in_place(&x, &mut y);
        for (&x, &y) in x.iter().zip(&y) {
            let (cdf, pdf) = exact(x);
            let scale = cdf.max((x as f64 * pdf).abs()) as f32;
            let spacing = scale.next_up() as f64 - scale as f64;
            let error = (y as f64 - (cdf + x as f64 * pdf)).abs() / spacing;
            if error > worst.0 {
                worst = (error, x);
            }
        }
        println!("gradient: at most {:.2} ulp, at {}", worst.0, worst.1);
        assert!(worst.0 <= 5.0, "{worst:?}");
    }

    #[test]
    fn ends_of_the_range() {
        let mut y = [0.0, -0.0, 1e30, -1e30, f32::INFINITY, f32::NAN, 20.0, -20.0];
        gelu_in_place(&mut y);
        assert_eq!(y[..2], [0.0, 0.0]);
        assert_eq!(y[2..5], [1e30, 0.0, f32::INFINITY]);
        assert!(y[5].is_nan());
        assert_eq!(y[6..], [20.0, 0.0]);

        let x = [0.0, 30.0, -30.0, f32::NAN];
        let mut grad = [2.0; 4];
        gelu_backward_in_place(&x, &mut grad);
        assert_eq!(grad[..3], [1.0, 2.0, 0.0]);
        assert!(grad[3].is_nan());
    }

    #[test]
    fn without_fused_multiply_add_too() {
        for x in floats().step_by(97) {
            let (cdf, pdf) = normal::<false>(x);
            let (exact_cdf, exact_pdf) = exact(x);
            assert!(ulps(cdf, exact_cdf) <= 10.0, "{x}: {cdf}, {exact_cdf}");
            assert!(ulps(pdf, exact_pdf) <= 10.0, "{x}: {pdf}, {exact_pdf}");
        }
    }
}
