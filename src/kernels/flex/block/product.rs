//! Matrix products with packed weights, one block of rows at a time.
//!
//! A weight is packed once into panels of columns in the order in which they are read, so that it
//! streams through the caches while a block of rows stays there. With many rows callers split those,
//! and each thread runs a [`product`] of its own; with few, reading the weight is what takes time,
//! and threads share it by panels ([`product_shared`]).

use std::marker::PhantomData;
use std::ops::Range;

use pulp::{Arch, NullaryFnOnce, Simd, WithSimd};
use rayon::prelude::*;

use super::weight::{PackedWeight, Panel};
use crate::kernels::flex::gelu::gelu_vectorised;

/// Inputs that are summed before the next ones are taken: 8 rows of them fit the first-level cache.
const DEPTH: usize = 768;
/// Rows that take all inputs at once: their sums stay in registers while a panel streams by.
pub(super) const FEW: usize = 8;
/// Multiplications that are worth more than one thread, with up to [`FEW`] rows counted.
pub(super) const SHARED: usize = 128 * 1024;
/// Values in a cache line.
const LINE: usize = 16;

/// Applied to a product's outputs while they are in cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Epilogue {
    /// Nothing.
    Identity,
    /// `x Φ(x)`.
    Gelu,
    /// `max(x, 0)`.
    Relu,
}

/// Rows of a larger matrix: row `i` begins at `i · stride`.
#[derive(Clone, Copy)]
pub struct Rows<'a> {
    /// From the first row on.
    pub values: &'a [f32],
    /// Distance of rows.
    pub stride: usize,
    /// Number of rows.
    pub rows: usize,
}

/// Rows to be written; see [`Rows`].
pub struct RowsMut<'a> {
    /// From the first row on.
    pub values: &'a mut [f32],
    /// Distance of rows.
    pub stride: usize,
}

/// `output = epilogue(input · weight + bias)`.
///
/// # Panics
/// If a slice is too short.
pub fn product(
    input: Rows<'_>,
    weight: &PackedWeight,
    bias: Option<&[f32]>,
    epilogue: Epilogue,
    output: RowsMut<'_>,
) {
    if let Some(block) = Block::new(input, weight, bias, epilogue, output, false) {
        // SAFETY: all panels on this thread, while `output` is borrowed.
        unsafe { block.run(0..weight.panels.len()) };
    }
}

/// `output += input · weight`.
///
/// # Panics
/// If a slice is too short.
pub fn add_product(input: Rows<'_>, weight: &PackedWeight, output: RowsMut<'_>) {
    if let Some(block) = Block::new(input, weight, None, Epilogue::Identity, output, false) {
        let block = Block { adds: true, ..block };
        // SAFETY: all panels on this thread, while `output` is borrowed.
        unsafe { block.run(0..weight.panels.len()) };
    }
}

/// [`product`] by all threads, each with some of the panels.
///
/// # Panics
/// If a slice is too short.
pub fn product_shared(
    input: Rows<'_>,
    weight: &PackedWeight,
    bias: Option<&[f32]>,
    epilogue: Epilogue,
    output: RowsMut<'_>,
) {
    let few = input.rows <= FEW;
    let Some(block) = Block::new(input, weight, bias, epilogue, output, few) else { return };
    let worth_it = weight.values.len() * input.rows.min(FEW) >= SHARED;
    // SAFETY: every panel is in one task, and all tasks end while `output` is borrowed.
    in_shares(weight.panels.len(), worth_it, |panels| unsafe { block.run(panels) });
}

/// Calls `run` with ranges that are all of `count` together, on all threads if that is worth it.
pub(super) fn in_shares(count: usize, worth_it: bool, run: impl Fn(Range<usize>) + Sync) {
    let threads = rayon::current_num_threads();
    // Some for a thread that is late to leave to the others.
    let height =
        if worth_it && threads > 1 { (count / (4 * threads)).max(1) } else { count.max(1) };
    let task = |task: usize| run(task * height..count.min((task + 1) * height));
    match count.div_ceil(height) {
        0 => {}
        1 => task(0),
        tasks => (0..tasks).into_par_iter().with_max_len(1).for_each(task),
    }
}

#[derive(Clone, Copy)]
struct Block<'a> {
    input: Rows<'a>,
    weight: &'a PackedWeight,
    bias: Option<&'a [f32]>,
    epilogue: Epilogue,
    output: Target,
    /// Whether all inputs are summed at once: never where callers split the rows, or the order of
    /// summation would depend on the number of threads.
    whole: bool,
    /// Whether the product is added to what the output holds.
    adds: bool,
}

/// See [`RowsMut`]; threads may share it that write different columns.
#[derive(Clone, Copy)]
pub(super) struct Target {
    pub(super) values: *mut f32,
    pub(super) stride: usize,
}

// SAFETY: the `run` of blocks asks that no two threads have the same panel, whose columns alone are
// written.
unsafe impl Send for Target {}
// SAFETY: as above.
unsafe impl Sync for Target {}

/// Some panels of a block.
struct Run<'a> {
    block: Block<'a>,
    panels: Range<usize>,
}

/// Part of the inputs of one panel.
#[derive(Clone, Copy)]
struct Part {
    panel: Panel,
    from: usize,
    to: usize,
}

impl WithSimd for Run<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { block, panels } = self;
        assert_eq!(S::F32_LANES, block.weight.lanes);
        let d_input = block.weight.d_input;
        let parts = if block.whole { 1 } else { d_input.div_ceil(DEPTH).max(1) };
        let deep = d_input.div_ceil(parts);
        for part in 0..parts {
            let (from, to) = (part * deep, d_input.min((part + 1) * deep));
            for panel in &block.weight.panels[panels.clone()] {
                let part = Part { panel: *panel, from, to };
                match panel.vectors {
                    3 => block.panel::<S, 3>(simd, part),
                    2 => block.panel::<S, 2>(simd, part),
                    _ => block.panel::<S, 1>(simd, part),
                }
            }
        }
    }
}

impl<'a> Block<'a> {
    /// `None` if there is nothing to compute.
    fn new(
        input: Rows<'a>,
        weight: &'a PackedWeight,
        bias: Option<&'a [f32]>,
        epilogue: Epilogue,
        output: RowsMut<'_>,
        whole: bool,
    ) -> Option<Self> {
        if input.rows == 0 || weight.d_output == 0 {
            return None;
        }
        let last = input.rows - 1;
        assert!(input.values.len() >= last * input.stride + weight.d_input);
        assert!(output.values.len() >= last * output.stride + weight.d_output);
        assert!(output.stride >= weight.d_output || last == 0);
        assert!(bias.is_none_or(|bias| bias.len() == weight.d_output));
        let output = Target { values: output.values.as_mut_ptr(), stride: output.stride };
        Some(Self { input, weight, bias, epilogue, output, whole, adds: false })
    }

    /// Computes some of the panels.
    ///
    /// # Safety
    /// The output that the block was made of is borrowed still, and no other thread has these panels.
    unsafe fn run(&self, panels: Range<usize>) {
        Arch::new().dispatch(Run { block: *self, panels });
    }
}

impl Block<'_> {
    #[inline(always)]
    fn panel<S: Simd, const V: usize>(&self, simd: S, part: Part) {
        let mut row = 0;
        // 32 registers hold 8 rows of 3 vectors, 16 hold 4.
        if S::F32_LANES >= 16 {
            while row + 8 <= self.input.rows {
                self.tile::<S, 8, V>(simd, part, row);
                row += 8;
            }
            if row + 6 <= self.input.rows {
                self.tile::<S, 6, V>(simd, part, row);
                row += 6;
            }
        }
        while row + 4 <= self.input.rows {
            self.tile::<S, 4, V>(simd, part, row);
            row += 4;
        }
        if row + 2 <= self.input.rows {
            self.tile::<S, 2, V>(simd, part, row);
            row += 2;
        }
        if row < self.input.rows {
            self.tile::<S, 1, V>(simd, part, row);
        }
        if part.to == self.weight.d_input && self.epilogue != Epilogue::Identity {
            self.finish(simd, part.panel);
        }
    }

    /// Applies the epilogue to a panel's outputs. A function of its own, never inlined: beside the sums
    /// its constants do not fit into 16 registers, and the compiler would load them with every input.
    #[inline(never)]
    fn finish<S: Simd>(&self, simd: S, panel: Panel) {
        simd.vectorize(Finish::<S> { block: self, panel, lanes: PhantomData });
    }

    #[inline(always)]
    fn tile<S: Simd, const M: usize, const V: usize>(&self, simd: S, part: Part, row: usize) {
        let Part { panel, from, to } = part;
        let (d_input, d_output) = (self.weight.d_input, self.weight.d_output);
        let width = V * S::F32_LANES;
        let columns = width.min(d_output - panel.column);
        let packed = &self.weight.values[panel.start + from * width..][..(to - from) * width];
        let (packed, _) = S::as_simd_f32s(packed);
        let (packed, _) = packed.as_chunks::<V>();
        let inputs: [&[f32]; M] = std::array::from_fn(|m| {
            &self.input.values[(row + m) * self.input.stride + from..][..to - from]
        });
        // The same part of the next panel, a share of it with every tile: it is in the second-level
        // cache when its turn comes.
        let share = (to - from) * width / self.input.rows;
        let next = self.weight.values.as_ptr();
        let next = next.wrapping_add(panel.start + (d_input + from) * width + row * share);
        let share = share * M;
        // Lines to ask for with every fourth input.
        let lines = (4 * V * M).div_ceil(self.input.rows).max(2);
        let mut fetched = 0;
        let mut sums = [[simd.splat_f32s(0.0); V]; M];
        for (at, weights) in packed.iter().enumerate() {
            if at % 4 == 0 && fetched < share {
                for line in 0..lines {
                    prefetch(next.wrapping_add(fetched + line * LINE));
                }
                fetched += lines * LINE;
            }
            for m in 0..M {
                // SAFETY: `packed` and `inputs[m]` are both `to - from` long.
                let x = simd.splat_f32s(unsafe { *inputs[m].get_unchecked(at) });
                for v in 0..V {
                    sums[m][v] = simd.mul_add_e_f32s(x, weights[v], sums[m][v]);
                }
            }
        }
        for (m, sums) in sums.iter().enumerate() {
            let start = (row + m) * self.output.stride + panel.column;
            // SAFETY: these columns of a row, within what `Block::new` has checked, are this
            // thread's alone (`Block::run`).
            let out =
                unsafe { std::slice::from_raw_parts_mut(self.output.values.add(start), columns) };
            for (v, &sum) in sums.iter().enumerate() {
                let lanes = v * S::F32_LANES..columns.min((v + 1) * S::F32_LANES);
                if lanes.is_empty() {
                    break;
                }
                let before = match self.bias {
                    _ if from > 0 || self.adds => &out[lanes.clone()],
                    Some(bias) => &bias[panel.column..][lanes.clone()],
                    None => {
                        simd.partial_store_f32s(&mut out[lanes], sum);
                        continue;
                    }
                };
                let sum = simd.add_f32s(sum, simd.partial_load_f32s(before));
                simd.partial_store_f32s(&mut out[lanes], sum);
            }
        }
    }
}

/// See [`Block::finish`].
struct Finish<'a, S: Simd> {
    block: &'a Block<'a>,
    panel: Panel,
    lanes: PhantomData<S>,
}

impl<S: Simd> NullaryFnOnce for Finish<'_, S> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Self { block, panel, .. } = self;
        let columns = (panel.vectors * S::F32_LANES).min(block.weight.d_output - panel.column);
        for row in 0..block.input.rows {
            let start = row * block.output.stride + panel.column;
            // SAFETY: as in `Block::tile`.
            let out =
                unsafe { std::slice::from_raw_parts_mut(block.output.values.add(start), columns) };
            apply::<S>(block.epilogue, out);
        }
    }
}

/// Applies an epilogue to outputs.
#[inline(always)]
pub fn apply<S: Simd>(epilogue: Epilogue, values: &mut [f32]) {
    match epilogue {
        Epilogue::Identity => {}
        Epilogue::Gelu => gelu_vectorised::<S>(values),
        Epilogue::Relu => values.iter_mut().for_each(|x| *x = x.max(0.0)),
    }
}

/// Asks for a line of the second-level cache; the address may lie beyond a weight's end.
#[inline(always)]
fn prefetch(at: *const f32) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch of any address is allowed.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T1>(at.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = at;
}
