//! Products of rounded rows and columns with AVX512-VNNI instructions.

use std::arch::x86_64::*;
use std::ops::Range;

use super::{Columns, LANES};
use crate::kernels::flex::block::int8::lanes;
use crate::kernels::flex::block::product::Target;

/// Rows of a tile.
pub(super) const ROWS: usize = 12;

/// Rows of levels.
#[derive(Clone, Copy)]
pub(super) struct LevelRows {
    pub(super) values: *const i16,
    pub(super) stride: usize,
    /// Scale of every row.
    pub(super) scales: *const f32,
    pub(super) rows: usize,
}

/// Values that products are added to.
#[derive(Clone, Copy)]
pub(super) enum Before<'a> {
    /// Nothing.
    Nothing,
    /// One value for every column.
    Bias(&'a [f32]),
    /// The output as it is.
    Output,
}

/// Pairs of levels that are summed, and what is added.
#[derive(Clone, Copy)]
pub(super) struct Part<'a> {
    pub(super) first: usize,
    pub(super) pairs: usize,
    pub(super) before: Before<'a>,
}

/// Writes `output[r][c] = row scale · column scale · Σ rows[r] · columns[c] + …` for some panels.
///
/// # Safety
/// Rows and columns must have all pairs of the part, and `output` room for the rows and columns.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
pub(super) unsafe fn products(
    rows: LevelRows,
    columns: &Columns,
    part: Part<'_>,
    panels: Range<usize>,
    output: Target,
) {
    let to = panels.end;
    for panel in panels.step_by(2) {
        let mut row = 0;
        while row < rows.rows {
            let left = rows.rows - row;
            // SAFETY: `left` rows are left.
            row += unsafe {
                let rows = LevelRows {
                    values: rows.values.add(row * rows.stride + 2 * part.first),
                    scales: rows.scales.add(row),
                    ..rows
                };
                let stride = output.stride;
                let output = Target { values: output.values.add(row * stride), stride };
                match left {
                    ROWS.. => tile::<ROWS>(rows, columns, part, [panel, to], output),
                    8.. => tile::<8>(rows, columns, part, [panel, to], output),
                    4.. => tile::<4>(rows, columns, part, [panel, to], output),
                    2.. => tile::<2>(rows, columns, part, [panel, to], output),
                    _ => tile::<1>(rows, columns, part, [panel, to], output),
                }
            };
        }
    }
}

/// [`products`] of `R` rows, from the part's first pair on, and two panels, or one if `to` is next; gives `R`.
///
/// # Safety
/// As for [`products`], of `R` rows.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
unsafe fn tile<const R: usize>(
    rows: LevelRows,
    columns: &Columns,
    part: Part<'_>,
    [panel, to]: [usize; 2],
    output: Target,
) -> usize {
    let pairs = part.pairs;
    // A single last panel is read twice, and stored once.
    let second = if panel + 1 < to { panel + 1 } else { panel };
    let levels = |panel: usize| {
        let from = (panel * columns.pairs + part.first) * 2 * LANES;
        columns.values[from..][..pairs * 2 * LANES].as_ptr()
    };
    let (first, other) = (levels(panel), levels(second));
    let column = panel * LANES;
    let left = columns.count - column;
    let masks = [lanes(left), if second == panel { 0 } else { lanes(left.saturating_sub(LANES)) }];
    // SAFETY: the columns are checked above; the caller promises the rest.
    unsafe {
        let mut sums = [[_mm512_setzero_si512(); 2]; R];
        for pair in 0..pairs {
            let a = _mm512_loadu_si512(first.add(pair * 2 * LANES).cast());
            let b = _mm512_loadu_si512(other.add(pair * 2 * LANES).cast());
            for (r, sums) in sums.iter_mut().enumerate() {
                let x = rows.values.add(r * rows.stride + 2 * pair).cast::<i32>().read_unaligned();
                let x = _mm512_set1_epi32(x);
                sums[0] = add_products(sums[0], x, a);
                sums[1] = add_products(sums[1], x, b);
            }
        }
        for half in 0..2 {
            let column = column + half * LANES;
            let scales = _mm512_loadu_ps(columns.scales[column..][..LANES].as_ptr());
            let bias = match part.before {
                Before::Bias(bias) => {
                    _mm512_maskz_loadu_ps(masks[half], bias.as_ptr().wrapping_add(column))
                }
                _ => _mm512_setzero_ps(),
            };
            for (r, sums) in sums.iter().enumerate() {
                let to = output.values.wrapping_add(r * output.stride + column);
                let scale = _mm512_mul_ps(_mm512_set1_ps(*rows.scales.add(r)), scales);
                let before = match part.before {
                    Before::Output => _mm512_maskz_loadu_ps(masks[half], to),
                    _ => bias,
                };
                let value = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sums[half]), scale, before);
                _mm512_mask_storeu_ps(to, masks[half], value);
            }
        }
    }
    R
}

/// `_mm512_dpwssd_epi32`, which compilers take apart into two instructions.
#[inline]
#[target_feature(enable = "avx512f,avx512vnni")]
fn add_products(mut sum: __m512i, a: __m512i, b: __m512i) -> __m512i {
    // SAFETY: an instruction on registers.
    unsafe {
        std::arch::asm!("vpdpwssd {0}, {1}, {2}", inout(zmm_reg) sum, in(zmm_reg) a, in(zmm_reg) b,
            options(pure, nomem, nostack, preserves_flags));
    }
    sum
}
