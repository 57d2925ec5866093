//! Sums with vector instructions of x86-64.

use std::arch::x86_64::*;

use super::LINE;
use super::weight::Ahead;

/// Sums of `R` rows in 512-bit registers.
///
/// # Safety
/// The processor must have the instructions; `input` must hold `R` rows of `4 · groups` bytes, `weight`
/// `panels` panels (1 or 2) of `groups` groups, and `output` `R` rows of 32 sums.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
pub(super) unsafe fn avx512_vnni<const R: usize>(
    input: &[u8],
    weight: &[i8],
    groups: usize,
    panels: usize,
    ahead: Ahead,
    output: &mut [i32],
) {
    // SAFETY: all reads and writes are within the slices as the caller promises; a prefetch of any
    // address is allowed.
    unsafe {
        let width = groups * 4;
        let (mut line, mut due) = (ahead.start, 0);
        // A single last panel is read twice; its second sums are not stored.
        let second = (panels - 1) * groups * 64;
        let (a, p) = (input.as_ptr(), weight.as_ptr());
        let mut acc = [[_mm512_setzero_si512(); 2]; R];
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
        for r in 0..R {
            for q in 0..panels {
                _mm512_storeu_si512(output.as_mut_ptr().add(r * 32 + q * 16).cast(), acc[r][q]);
            }
        }
    }
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
