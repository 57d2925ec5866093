//! Sums of a block of rows and two panels of neurons.

#[cfg(target_arch = "x86_64")]
use crate::kernels::flex::block::product::Target;

use super::path::Path;
#[cfg(target_arch = "x86_64")]
use super::weight::Ahead;
use super::weight::{GROUP, LANES, QuantizedWeight};
#[cfg(target_arch = "x86_64")]
use super::x86::{Finishing, avx_vnni, avx2, avx512_vnni};

/// Rows that callers best pass at once.
pub(super) const ROWS: usize = 12;

/// Runs a kernel with as many rows as it takes of those left, and gives their number.
#[cfg(target_arch = "x86_64")]
macro_rules! rows {
    ($kernel:ident, $left:expr, [$($rows:literal)*], $arguments:tt) => {
        $(if $left >= $rows { rows!(@call $kernel, $rows, $arguments); $rows } else)* { 0 }
    };
    (@call $kernel:ident, $rows:literal, ($($argument:expr),*)) => {
        $kernel::<$rows>($($argument),*)
    };
}

/// Writes `Σ input · weight` of `rows` rows and up to two panels from `panel` on to `output`, whose
/// rows are `2 · LANES` long.
///
/// # Panics
/// If this processor cannot run `path`, or a slice is too short.
pub(super) fn sums(
    path: Path,
    input: &[u8],
    rows: usize,
    weight: &QuantizedWeight,
    panel: usize,
    output: &mut [i32],
) {
    let groups = weight.groups;
    let panels = (weight.panels() - panel).min(2);
    let (input, output) = (&input[..rows * groups * 4], &mut output[..rows * 2 * LANES]);
    let weight = &weight.values[panel * groups * GROUP..][..panels * groups * GROUP];
    assert!(path.is_available(), "this processor cannot run {path:?}");
    let mut row = 0;
    while row < rows {
        let (input, output) = (&input[row * groups * 4..], &mut output[row * 2 * LANES..]);
        #[cfg(target_arch = "x86_64")]
        let left = rows - row;
        row += match path {
            // SAFETY: the processor has the instructions, and the slices hold `left` rows of the
            // input and the output, and `panels` panels of the weight.
            #[cfg(target_arch = "x86_64")]
            Path::AvxVnni => unsafe {
                rows!(avx_vnni, left, [4 2 1], (input, weight, groups, panels, output))
            },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Path::Avx2 => unsafe {
                rows!(avx2, left, [2 1], (input, weight, groups, panels, output))
            },
            _ => {
                portable(&input[..groups * 4], weight, output);
                1
            }
        };
    }
}

/// Writes the outputs of all rows that `to` has steps of, before the epilogue, by [`Path::Avx512Vnni`].
///
/// # Safety
/// `to.output` must be room for them.
///
/// # Panics
/// If this processor cannot run the path, or a slice is too short.
#[cfg(target_arch = "x86_64")]
pub(super) unsafe fn outputs(
    input: &[u8],
    weight: &QuantizedWeight,
    panel: usize,
    mut ahead: Ahead,
    to: Finishing<'_>,
) {
    let (groups, rows, bias) = (weight.groups, to.steps.len(), to.bias);
    let panels = (weight.panels() - panel).min(2);
    let weight = &weight.values[panel * groups * GROUP..][..panels * groups * GROUP];
    assert!(Path::Avx512Vnni.is_available() && input.len() >= rows * groups * 4);
    assert!(to.neurons <= panels * LANES && bias.is_none_or(|bias| bias.len() >= to.neurons));
    let mut row = 0;
    while row < rows {
        let (input, left) = (&input[row * groups * 4..], rows - row);
        let values = to.output.values.wrapping_add(row * to.output.stride);
        let to = Finishing {
            steps: &to.steps[row..],
            output: Target { values, stride: to.output.stride },
            ..to
        };
        // SAFETY: the processor has the instructions, all slices are checked above, and the caller
        // promises the output.
        row += unsafe {
            rows!(avx512_vnni, left, [12 8 4 2 1], (input, weight, groups, panels, ahead, &to))
        };
        // Asked for once.
        ahead.lines = 0;
    }
}

/// One row's sums.
fn portable(input: &[u8], weight: &[i8], output: &mut [i32]) {
    let panels = weight.chunks_exact(input.len() * LANES);
    for (panel, output) in panels.zip(output.chunks_exact_mut(LANES)) {
        output.fill(0);
        for (input, group) in input.chunks_exact(4).zip(panel.chunks_exact(GROUP)) {
            for (output, weights) in output.iter_mut().zip(group.chunks_exact(4)) {
                let products = input.iter().zip(weights);
                *output += products.map(|(&x, &w)| i32::from(x) * i32::from(w)).sum::<i32>();
            }
        }
    }
}
