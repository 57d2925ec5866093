//! Sums with vector instructions of x86-64.

use std::arch::x86_64::*;

use super::quantize::Step;
use super::weight::{Ahead, LANES};
use super::{LINE, PAIR};
use crate::kernels::flex::block::product::Target;

/// Turns integer sums into outputs.
pub(super) struct Finishing<'a> {
    /// Scales and zero points of `R` rows at least.
    pub(super) steps: &'a [Step],
    /// Sums of the columns of a pair of panels.
    pub(super) column_sums: &'a [i32; PAIR],
    /// Scales of the columns of a pair of panels.
    pub(super) scales: &'a [f32; PAIR],
    /// Biases of the neurons that there are.
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

/// The least, the greatest, and NaN where a value was not finite, with some more values.
#[inline]
#[target_feature(enable = "avx512f")]
fn extremes([least, most, odd]: [__m512; 3], x: __m512) -> [__m512; 3] {
    let odd = _mm512_fmadd_ps(x, _mm512_setzero_ps(), odd);
    [_mm512_min_ps(least, x), _mm512_max_ps(most, x), odd]
}

/// [`super::quantize::quantize`], to the same levels.
///
/// # Panics
/// If there are not as many levels as values, up to a whole group.
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) fn quantize(row: &[f32], levels: &mut [u8]) -> Step {
    assert!(levels.len() == row.len().next_multiple_of(4));
    let zeros = _mm512_setzero_ps();
    let mut found = [[zeros; 3]; 2];
    let (chunks, rest) = row.as_chunks::<{ 2 * LANES }>();
    for chunk in chunks {
        // SAFETY: 32 values.
        let values =
            unsafe { [_mm512_loadu_ps(chunk.as_ptr()), _mm512_loadu_ps(chunk[LANES..].as_ptr())] };
        found = [extremes(found[0], values[0]), extremes(found[1], values[1])];
    }
    for (at, values) in rest.chunks(LANES).enumerate() {
        // SAFETY: only lanes within the slice are read.
        let values = unsafe { _mm512_maskz_loadu_ps(lanes(values.len()), values.as_ptr()) };
        found[at] = extremes(found[at], values);
    }
    let [[least, most, odd], others] = found;
    if _mm512_reduce_add_ps(_mm512_add_ps(odd, others[2])).is_nan() {
        levels.fill(0);
        return Step::NAN;
    }
    let least = _mm512_reduce_min_ps(_mm512_min_ps(least, others[0]));
    let most = _mm512_reduce_max_ps(_mm512_max_ps(most, others[1]));
    let (step, inverse) = Step::of(least, most);
    let (factor, zero) = (_mm512_set1_ps(inverse), _mm512_set1_ps(step.zero as f32));
    let level = |x: __m512| _mm512_cvtps_epi32(_mm512_add_ps(_mm512_mul_ps(x, factor), zero));
    // Packing saturates to 0 … 255, and takes 128 bits of each register in turn.
    let order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    let pack = |[a, b, c, d]: [__m512; 4]| {
        let words =
            [_mm512_packs_epi32(level(a), level(b)), _mm512_packs_epi32(level(c), level(d))];
        _mm512_permutexvar_epi32(order, _mm512_packus_epi16(words[0], words[1]))
    };
    let (chunks, rest) = row.as_chunks::<{ 4 * LANES }>();
    let (whole, tail) = levels.split_at_mut(row.len() - rest.len());
    for (values, levels) in chunks.iter().zip(whole.chunks_exact_mut(4 * LANES)) {
        // SAFETY: 64 values and levels.
        unsafe {
            let values = std::array::from_fn(|at| _mm512_loadu_ps(values[at * LANES..].as_ptr()));
            _mm512_storeu_si512(levels.as_mut_ptr().cast(), pack(values));
        }
    }
    if !tail.is_empty() {
        // SAFETY: only lanes within `rest` are read, the others become the level of zero; only bytes within
        // `tail`, which has less than 64 (`Weight::width`), are written.
        unsafe {
            let values = std::array::from_fn(|at| {
                let count = rest.len().saturating_sub(at * LANES);
                _mm512_maskz_loadu_ps(lanes(count), rest.as_ptr().wrapping_add(at * LANES))
            });
            let mask = u64::MAX >> (64 - tail.len());
            _mm512_mask_storeu_epi8(tail.as_mut_ptr().cast(), mask, pack(values));
        }
    }
    step
}

/// The lanes below `count`.
#[inline(always)]
pub(crate) fn lanes(count: usize) -> __mmask16 {
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
