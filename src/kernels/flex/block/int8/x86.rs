//! Sums with vector instructions of x86-64.

use std::arch::x86_64::*;

use super::quantize::Step;
use super::weight::{Ahead, LANES};
use super::{LINE, PAIR};
use crate::kernels::flex::block::product::Target;

/// What becomes of sums.
pub(super) struct Finishing<'a> {
    /// Of `R` rows at least.
    pub(super) steps: &'a [Step],
    /// Of a pair of panels.
    pub(super) column_sums: &'a [i32; PAIR],
    /// Of a pair of panels.
    pub(super) scales: &'a [f32; PAIR],
    /// Of the neurons that there are.
    pub(super) bias: Option<&'a [f32]>,
    /// At most [`PAIR`].
    pub(super) neurons: usize,
    /// From the first row's first neuron on.
    pub(super) output: Target,
}

/// Outputs of `R` rows, before the epilogue, by 512-bit registers.
///
/// # Safety
/// The processor must have the instructions; `input` must hold `R` rows of `4 · groups` bytes, `weight`
/// `panels` panels (1 or 2) of `groups` groups, `to.steps` `R` steps, `to.bias` as many values as neurons,
/// and `to.output` be room for `R` rows of neurons.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
pub(super) unsafe fn avx512_vnni<const R: usize>(
    input: &[u8],
    weight: &[i8],
    groups: usize,
    panels: usize,
    ahead: Ahead,
    to: &Finishing<'_>,
) {
    // SAFETY: all reads and writes are within the slices as the caller promises; a prefetch of any
    // address is allowed.
    unsafe {
        let width = groups * 4;
        let (mut line, mut due) = (ahead.start, 0);
        // A single last panel is read twice; its second sums are not stored.
        let second = (panels - 1) * groups * 64;
        let (a, p) = (input.as_ptr(), weight.as_ptr());
        // A sum of `level · weight` begins at `−zero · Σ weight`: a product of two pairs of 16 bits, for
        // `Σ weight = 128 · high + low`.
        let corrections: [__m512i; 2] = std::array::from_fn(|half| {
            let sums = _mm512_loadu_si512(to.column_sums[half * LANES..].as_ptr().cast());
            let low = _mm512_and_si512(sums, _mm512_set1_epi32(127));
            _mm512_or_si512(low, _mm512_slli_epi32::<16>(_mm512_srai_epi32::<7>(sums)))
        });
        let mut acc = [[_mm512_setzero_si512(); 2]; R];
        for r in 0..R {
            let zero = -to.steps[r].zero;
            let zero = _mm512_set1_epi32(((zero * 128) << 16) | (zero & 0xFFFF));
            for half in 0..2 {
                acc[r][half] = _mm512_dpwssd_epi32(_mm512_setzero_si512(), corrections[half], zero);
            }
        }
        for g in 0..groups {
            due += ahead.lines;
            while due >= groups {
                due -= groups;
                _mm_prefetch::<_MM_HINT_T1>(line);
                line = line.wrapping_add(LINE);
            }
            let w0 = _mm512_loadu_si512(p.add(g * 64).cast());
            let w1 = _mm512_loadu_si512(p.add(second + g * 64).cast());
            for r in 0..R {
                let x = _mm512_set1_epi32(a.add(r * width + g * 4).cast::<i32>().read_unaligned());
                acc[r][0] = _mm512_dpbusd_epi32(acc[r][0], x, w0);
                acc[r][1] = _mm512_dpbusd_epi32(acc[r][1], x, w1);
            }
        }
        let masks = [lanes(to.neurons), lanes(to.neurons.saturating_sub(LANES))];
        for (half, mask) in masks.into_iter().enumerate() {
            let scales = _mm512_loadu_ps(to.scales[half * LANES..].as_ptr());
            let bias = to.bias.map_or(_mm512_setzero_ps(), |bias| {
                _mm512_maskz_loadu_ps(mask, bias.as_ptr().wrapping_add(half * LANES))
            });
            for r in 0..R {
                let scale = _mm512_mul_ps(_mm512_set1_ps(to.steps[r].scale), scales);
                let value = _mm512_fmadd_ps(_mm512_cvtepi32_ps(acc[r][half]), scale, bias);
                let output = to.output.values.wrapping_add(r * to.output.stride + half * LANES);
                _mm512_mask_storeu_ps(output, mask, value);
            }
        }
    }
}

/// [`super::quantize::quantize`], to the same levels.
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) fn quantize(row: &[f32], levels: &mut [u8]) -> Step {
    let zeros = _mm512_setzero_ps();
    let (mut least, mut most, mut odd) = ([zeros; 2], [zeros; 2], [zeros; 2]);
    for (at, chunk) in row.chunks(LANES).enumerate() {
        let (mask, at) = (lanes(chunk.len()), at % 2);
        // SAFETY: only lanes within the chunk are read.
        let x = unsafe { _mm512_maskz_loadu_ps(mask, chunk.as_ptr()) };
        least[at] = _mm512_min_ps(least[at], x);
        most[at] = _mm512_max_ps(most[at], x);
        // NaN where the value is not finite.
        odd[at] = _mm512_fmadd_ps(x, zeros, odd[at]);
    }
    if _mm512_reduce_add_ps(_mm512_add_ps(odd[0], odd[1])).is_nan() {
        levels.fill(0);
        return Step::NAN;
    }
    let least = _mm512_reduce_min_ps(_mm512_min_ps(least[0], least[1]));
    let most = _mm512_reduce_max_ps(_mm512_max_ps(most[0], most[1]));
    let (step, inverse) = Step::of(least, most);
    let (factor, zero) = (_mm512_set1_ps(inverse), _mm512_set1_ps(step.zero as f32));
    let level = |values: &[f32]| {
        // SAFETY: only lanes within the slice are read; the others become the level of zero.
        let x = unsafe { _mm512_maskz_loadu_ps(lanes(values.len()), values.as_ptr()) };
        _mm512_cvtps_epi32(_mm512_add_ps(_mm512_mul_ps(x, factor), zero))
    };
    // Packing saturates to 0 … 255, and takes 128 bits of each register in turn.
    let order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    let mut rest = row;
    for levels in levels.chunks_mut(4 * LANES) {
        let [a, b, c, d] = std::array::from_fn(|_| {
            let (values, others) = rest.split_at(rest.len().min(LANES));
            rest = others;
            level(values)
        });
        let words = [_mm512_packs_epi32(a, b), _mm512_packs_epi32(c, d)];
        let bytes = _mm512_packus_epi16(words[0], words[1]);
        let bytes = _mm512_permutexvar_epi32(order, bytes);
        let mask = if levels.len() >= 64 { !0 } else { (1u64 << levels.len()) - 1 };
        // SAFETY: only bytes within `levels` are written.
        unsafe { _mm512_mask_storeu_epi8(levels.as_mut_ptr().cast(), mask, bytes) };
    }
    step
}

/// The lanes below `count`.
#[inline(always)]
fn lanes(count: usize) -> __mmask16 {
    if count >= LANES { !0 } else { (1 << count) - 1 }
}

/// Sums of `R` rows in 256-bit registers.
///
/// # Safety
/// The processor must have the instructions; `input` must hold `R` rows of `4 · groups` bytes, `weight`
/// `panels` panels (1 or 2) of `groups` groups, and `output` `R` rows of 32 sums.
#[target_feature(enable = "avx2,avxvnni")]
pub(super) unsafe fn avx_vnni<const R: usize>(
    input: &[u8],
    weight: &[i8],
    groups: usize,
    panels: usize,
    output: &mut [i32],
) {
    // SAFETY: all reads and writes are within the slices as the caller promises.
    unsafe {
        let width = groups * 4;
        for q in 0..panels {
            let (a, p) = (input.as_ptr(), weight.as_ptr().add(q * groups * 64));
            let mut acc = [[_mm256_setzero_si256(); 2]; R];
            for g in 0..groups {
                let w0 = _mm256_loadu_si256(p.add(g * 64).cast());
                let w1 = _mm256_loadu_si256(p.add(g * 64 + 32).cast());
                for r in 0..R {
                    let x =
                        _mm256_set1_epi32(a.add(r * width + g * 4).cast::<i32>().read_unaligned());
                    acc[r][0] = _mm256_dpbusd_avx_epi32(acc[r][0], x, w0);
                    acc[r][1] = _mm256_dpbusd_avx_epi32(acc[r][1], x, w1);
                }
            }
            for r in 0..R {
                for h in 0..2 {
                    _mm256_storeu_si256(
                        output.as_mut_ptr().add(r * 32 + q * 16 + h * 8).cast(),
                        acc[r][h],
                    );
                }
            }
        }
    }
}

/// Sums of `R` rows of values widened to 16 bits, since products of bytes (`vpmaddubsw`) saturate.
///
/// # Safety
/// The processor must have the instructions; `input` must hold `R` rows of `4 · groups` bytes, `weight`
/// `panels` panels (1 or 2) of `groups` groups, and `output` `R` rows of 32 sums.
#[target_feature(enable = "avx2")]
pub(super) unsafe fn avx2<const R: usize>(
    input: &[u8],
    weight: &[i8],
    groups: usize,
    panels: usize,
    output: &mut [i32],
) {
    // SAFETY: all reads and writes are within the slices as the caller promises.
    unsafe {
        let width = groups * 4;
        for q in 0..panels {
            let (a, p) = (input.as_ptr(), weight.as_ptr().add(q * groups * 64));
            // Four neurons' pairs of sums in each register.
            let mut acc = [[_mm256_setzero_si256(); 4]; R];
            for g in 0..groups {
                let w: [__m256i; 4] = std::array::from_fn(|h| {
                    _mm256_cvtepi8_epi16(_mm_loadu_si128(p.add(g * 64 + h * 16).cast()))
                });
                for r in 0..R {
                    let x = _mm_set1_epi32(a.add(r * width + g * 4).cast::<i32>().read_unaligned());
                    let x = _mm256_cvtepu8_epi16(x);
                    for h in 0..4 {
                        acc[r][h] = _mm256_add_epi32(acc[r][h], _mm256_madd_epi16(x, w[h]));
                    }
                }
            }
            for r in 0..R {
                for h in 0..2 {
                    let s = _mm256_hadd_epi32(acc[r][2 * h], acc[r][2 * h + 1]);
                    let s = _mm256_permute4x64_epi64(s, 0b11_01_10_00);
                    _mm256_storeu_si256(output.as_mut_ptr().add(r * 32 + q * 16 + h * 8).cast(), s);
                }
            }
        }
    }
}
