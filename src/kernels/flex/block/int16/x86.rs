//! Rounding, transposing and softmax with AVX-512 instructions.

use std::arch::x86_64::*;

use super::{LANES, Levels, SUM};
use crate::kernels::flex::block::int8::lanes;

/// `2^x` on `[0, 1)` within 2.6e-6, a minimax fit.
const POWER_OF_TWO: [f32; 5] =
    [1.000_002_6, 0.693_003_83, 0.241_442_74, 0.052_011_467, 0.013_534_173];
/// The least greatest magnitude that a row is taken to have: levels over it are finite.
const LEAST: f32 = f32::MIN_POSITIVE * 65_536.0;

/// The greatest magnitude of `row`, at least [`LEAST`]; NaN if a value is not finite.
#[inline]
#[target_feature(enable = "avx512f,avx512dq")]
pub(super) fn magnitude(row: &[f32]) -> f32 {
    let zero = _mm512_setzero_ps();
    let (mut most, mut odd) = (zero, zero);
    let mut take = |x: __m512| {
        most = _mm512_max_ps(most, _mm512_abs_ps(x));
        // NaN where the value is not finite.
        odd = _mm512_fmadd_ps(x, zero, odd);
    };
    let (chunks, rest) = row.as_chunks::<LANES>();
    for chunk in chunks {
        // SAFETY: 16 values.
        take(unsafe { _mm512_loadu_ps(chunk.as_ptr()) });
    }
    if !rest.is_empty() {
        // SAFETY: only lanes within the slice are read.
        take(unsafe { _mm512_maskz_loadu_ps(lanes(rest.len()), rest.as_ptr()) });
    }
    let odd = _mm512_reduce_add_ps(odd);
    if odd.is_nan() { odd } else { _mm512_reduce_max_ps(most).max(LEAST) }
}

/// Writes `factor · row` rounded; what is left of `levels` becomes 0.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) fn round(row: &[f32], factor: f32, levels: &mut [i16]) {
    let factor = _mm512_set1_ps(factor);
    let (mut levels, mut rest) = (levels.chunks_exact_mut(LANES), row);
    for levels in &mut levels {
        let count = rest.len().min(LANES);
        // SAFETY: only lanes within `rest` are read; `levels` has room for 16.
        unsafe {
            let x = _mm512_maskz_loadu_ps(lanes(count), rest.as_ptr());
            let level = _mm512_cvtps_epi32(_mm512_mul_ps(x, factor));
            _mm256_storeu_si256(levels.as_mut_ptr().cast(), _mm512_cvtepi32_epi16(level));
        }
        rest = &rest[count..];
    }
}

/// Writes `width` rounded values of two rows, `factor` times each and 0 where there is none, in turns: `[a₀,
/// b₀, a₁, b₁, …]`, in panels that are `stride` levels apart.
///
/// # Safety
/// The last panel's 32 levels must lie within `levels`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) unsafe fn interleave(
    [a, b]: [&[f32]; 2],
    width: usize,
    factor: f32,
    levels: *mut i16,
    stride: usize,
) {
    let factor = _mm512_set1_ps(factor);
    let low = _mm512_set1_epi32(0xFFFF);
    for at in (0..width).step_by(LANES) {
        // SAFETY: only lanes within the rows are read; the caller has made room for the levels.
        unsafe {
            let round = |row: &[f32]| {
                let count = row.len().saturating_sub(at);
                let x = _mm512_maskz_loadu_ps(lanes(count), row.as_ptr().wrapping_add(at));
                _mm512_cvtps_epi32(_mm512_mul_ps(x, factor))
            };
            let (a, b) = (_mm512_and_si512(round(a), low), _mm512_slli_epi32::<16>(round(b)));
            let to = levels.add(at / LANES * stride);
            _mm512_storeu_si512(to.cast(), _mm512_or_si512(a, b));
        }
    }
}

/// Rounds a row to `most` levels each side of 0; gives its scale.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq")]
pub(super) fn round_row(row: &[f32], most: f32, levels: &mut [i16]) -> f32 {
    let magnitude = magnitude(row);
    let factor = if magnitude.is_nan() { 0.0 } else { most / magnitude };
    round(row, factor, levels);
    magnitude / most
}

/// Writes 16 rows of pairs of levels as columns.
#[target_feature(enable = "avx512f")]
pub(super) fn transpose_panel(rows: &Levels, panel: usize, pairs: usize, values: &mut [i16]) {
    let zero = _mm512_setzero_ps();
    for from in (0..pairs).step_by(LANES) {
        let block: [__m512; LANES] = std::array::from_fn(|lane| {
            let start = (panel * LANES + lane) * rows.stride + 2 * from;
            match rows.values.get(start..start + 2 * LANES) {
                // SAFETY: the slice has 32 levels.
                Some(levels) => unsafe { _mm512_loadu_ps(levels.as_ptr().cast()) },
                None => zero,
            }
        });
        let pairs = values[2 * LANES * from..].chunks_exact_mut(2 * LANES);
        for (pair, values) in transpose(block).into_iter().zip(pairs) {
            // SAFETY: `values` has room for 32 levels.
            unsafe { _mm512_storeu_ps(values.as_mut_ptr().cast(), pair) };
        }
    }
}

/// Up to 16 columns of a matrix.
#[derive(Clone, Copy)]
pub(super) struct Panel<'a> {
    /// From the first column on.
    pub(super) values: &'a [f32],
    /// Distance of rows.
    pub(super) stride: usize,
    pub(super) rows: usize,
}

impl Panel<'_> {
    /// Some columns of a row; zeros behind the last.
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn row(self, at: usize, mask: __mmask16) -> __m512 {
        let Some(row) = self.values.get(at * self.stride..).filter(|_| at < self.rows) else {
            return _mm512_setzero_ps();
        };
        assert!(row.len() >= mask.count_ones() as usize);
        // SAFETY: only lanes within the row are read.
        unsafe { _mm512_maskz_loadu_ps(mask, row.as_ptr()) }
    }

    /// Writes the scales of columns rounded to `most` levels each side of 0; gives what to multiply them by.
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq")]
    fn scales(self, most: f32, scales: &mut [f32]) -> __m512 {
        let (mask, zero) = (lanes(scales.len()), _mm512_setzero_ps());
        let (mut greatest, mut odd) = (_mm512_set1_ps(LEAST), zero);
        for row in 0..self.rows {
            let x = self.row(row, mask);
            greatest = _mm512_max_ps(greatest, _mm512_abs_ps(x));
            // NaN where a value is not finite.
            odd = _mm512_fmadd_ps(x, zero, odd);
        }
        let most = _mm512_set1_ps(most);
        let scale = _mm512_add_ps(_mm512_div_ps(greatest, most), odd);
        // SAFETY: only lanes within the slice are written.
        unsafe { _mm512_mask_storeu_ps(scales.as_mut_ptr(), mask, scale) };
        _mm512_maskz_div_ps(_mm512_cmp_ps_mask::<_CMP_ORD_Q>(odd, odd), most, greatest)
    }

    /// Rounded values of a row and the next, in turns.
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn pair(self, row: usize, mask: __mmask16, factor: __m512) -> __m512i {
        let round = |row| _mm512_cvtps_epi32(_mm512_mul_ps(self.row(row, mask), factor));
        let low = _mm512_and_si512(round(row), _mm512_set1_epi32(0xFFFF));
        _mm512_or_si512(low, _mm512_slli_epi32::<16>(round(row + 1)))
    }
}

/// Rounds as many columns as there are scales, pair by pair.
#[target_feature(enable = "avx512f,avx512dq")]
pub(super) fn pack_columns(columns: Panel<'_>, most: f32, scales: &mut [f32], levels: &mut [i16]) {
    let mask = lanes(scales.len());
    let factor = columns.scales(most, scales);
    for (pair, levels) in levels.chunks_exact_mut(2 * LANES).enumerate() {
        // SAFETY: `levels` has room for 32.
        unsafe {
            let pair = columns.pair(2 * pair, mask, factor);
            _mm512_storeu_si512(levels.as_mut_ptr().cast(), pair);
        }
    }
}

/// Rounds as many columns as there are scales to rows of levels, `stride` apart.
#[target_feature(enable = "avx512f,avx512dq")]
pub(super) fn round_columns(
    columns: Panel<'_>,
    most: f32,
    scales: &mut [f32],
    levels: &mut [i16],
    stride: usize,
) {
    let mask = lanes(scales.len());
    let factor = columns.scales(most, scales);
    for first in (0..stride).step_by(2 * LANES) {
        let pairs = std::array::from_fn(|at| {
            _mm512_castsi512_ps(columns.pair(first + 2 * at, mask, factor))
        });
        for (row, levels) in transpose(pairs).into_iter().zip(levels.chunks_exact_mut(stride)) {
            let levels = &mut levels[first..first + 2 * LANES];
            // SAFETY: room for 32 levels.
            unsafe { _mm512_storeu_ps(levels.as_mut_ptr().cast(), row) };
        }
    }
}

/// The transpose of 16 x 16 values.
#[inline]
#[target_feature(enable = "avx512f")]
fn transpose(rows: [__m512; 16]) -> [__m512; 16] {
    let zero = _mm512_setzero_ps();
    let (mut a, mut b, mut columns) = ([zero; 16], [zero; 16], [zero; 16]);
    for i in 0..8 {
        a[2 * i] = _mm512_unpacklo_ps(rows[2 * i], rows[2 * i + 1]);
        a[2 * i + 1] = _mm512_unpackhi_ps(rows[2 * i], rows[2 * i + 1]);
    }
    for i in (0..16).step_by(4) {
        let pd = |at: usize| _mm512_castps_pd(a[i + at]);
        b[i] = _mm512_castpd_ps(_mm512_unpacklo_pd(pd(0), pd(2)));
        b[i + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(pd(0), pd(2)));
        b[i + 2] = _mm512_castpd_ps(_mm512_unpacklo_pd(pd(1), pd(3)));
        b[i + 3] = _mm512_castpd_ps(_mm512_unpackhi_pd(pd(1), pd(3)));
    }
    // Now 128 bits `l` of `b[4i + c]` hold column `4l + c` of rows `4i` to `4i + 3`.
    for c in 0..4 {
        let even = |i: usize| _mm512_shuffle_f32x4::<0x88>(b[i + c], b[i + 4 + c]);
        let odd = |i: usize| _mm512_shuffle_f32x4::<0xDD>(b[i + c], b[i + 4 + c]);
        columns[c] = _mm512_shuffle_f32x4::<0x88>(even(0), even(8));
        columns[8 + c] = _mm512_shuffle_f32x4::<0xDD>(even(0), even(8));
        columns[4 + c] = _mm512_shuffle_f32x4::<0x88>(odd(0), odd(8));
        columns[12 + c] = _mm512_shuffle_f32x4::<0xDD>(odd(0), odd(8));
    }
    columns
}

/// Adds the transpose of 16 rows of 16 values, `stride` apart, to 16 rows `width` apart.
///
/// # Panics
/// If a slice is too short.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn add_transpose(added: &[f32], stride: usize, scores: &mut [f32], width: usize) {
    let rows = std::array::from_fn(|at| {
        let row = &added[at * stride..][..LANES];
        // SAFETY: 16 values.
        unsafe { _mm512_loadu_ps(row.as_ptr()) }
    });
    for (at, added) in transpose(rows).into_iter().enumerate() {
        let scores = &mut scores[at * width..][..LANES];
        // SAFETY: 16 values.
        unsafe {
            let sum = _mm512_add_ps(_mm512_loadu_ps(scores.as_ptr()), added);
            _mm512_storeu_ps(scores.as_mut_ptr(), sum);
        }
    }
}

/// Rounds `softmax(scores + mask)` to `levels`, 0 behind the last; gives what one level is worth, NaN if the sum is not
/// finite. `scores` are `length` and room up to a whole vector.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq")]
pub(super) fn softmax(
    scores: &mut [f32],
    length: usize,
    mask: Option<&[f32]>,
    levels: &mut [i16],
) -> f32 {
    let lowest = _mm512_set1_ps(f32::NEG_INFINITY);
    let (scores, _) = scores.as_chunks_mut::<LANES>();
    let mut greatest = lowest;
    for (at, scores) in scores.iter_mut().enumerate() {
        let valid = lanes(length - at * LANES);
        // SAFETY: only lanes within the mask are read.
        unsafe {
            let mut x = _mm512_loadu_ps(scores.as_ptr());
            if let Some(mask) = mask {
                let mask = &mask[at * LANES..];
                x = _mm512_add_ps(x, _mm512_maskz_loadu_ps(valid, mask.as_ptr()));
            }
            let x = _mm512_mask_mov_ps(lowest, valid, x);
            greatest = _mm512_max_ps(greatest, x);
            _mm512_storeu_ps(scores.as_mut_ptr(), x);
        }
    }
    let greatest = _mm512_set1_ps(_mm512_reduce_max_ps(greatest));
    let mut sum = _mm512_setzero_ps();
    for scores in scores.iter_mut() {
        // SAFETY: 16 values.
        unsafe {
            let x = exponential(_mm512_sub_ps(_mm512_loadu_ps(scores.as_ptr()), greatest));
            sum = _mm512_add_ps(sum, x);
            _mm512_storeu_ps(scores.as_mut_ptr(), x);
        }
    }
    let sum = _mm512_reduce_add_ps(sum);
    // The greatest exponential is 1.
    let each = (SUM / sum).min(f32::from(i16::MAX));
    let factor = _mm512_set1_ps(each);
    for (scores, levels) in scores.iter().zip(levels.chunks_exact_mut(LANES)) {
        // SAFETY: 16 values each.
        unsafe {
            let x = _mm512_mul_ps(_mm512_loadu_ps(scores.as_ptr()), factor);
            let level = _mm512_cvtepi32_epi16(_mm512_cvtps_epi32(x));
            _mm256_storeu_si256(levels.as_mut_ptr().cast(), level);
        }
    }
    if sum.is_finite() { 1.0 / (each * sum) } else { f32::NAN }
}

/// `e^x` for `x ≤ 0` within 3e-6.
#[inline]
#[target_feature(enable = "avx512f,avx512dq")]
fn exponential(x: __m512) -> __m512 {
    let x = _mm512_mul_ps(x, _mm512_set1_ps(std::f32::consts::LOG2_E));
    // The part above the next lower integer.
    let rest = _mm512_reduce_ps::<{ _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC }>(x);
    let [a, b, c, d, e] = POWER_OF_TWO.map(|value| _mm512_set1_ps(value));
    let power = _mm512_fmadd_ps(e, rest, d);
    let power = _mm512_fmadd_ps(power, rest, c);
    let power = _mm512_fmadd_ps(power, rest, b);
    let power = _mm512_fmadd_ps(power, rest, a);
    _mm512_scalef_ps(power, x)
}
