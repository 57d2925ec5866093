//! A transformer's encoder layer on `flex` in three passes: projections, attention, and all that
//! follows, each over blocks of rows (tokens) that stay in cache from one operation to the next.
//!
//! ```text
//! x ─ [K_q; R_q; K_k; R_k; K_v; R_v] ─ q | k | v     per block of tokens
//! q ← softmax(q kᵀ / √d + mask) v                    per head of a sequence, in place
//! x ← LayerNorm(x + output(q))                       per block of tokens
//! x ← LayerNorm(x + output(act(intermediate(x))))
//! ```
//!
//! A batch of enough sequences is split by sequence, and each thread takes its own through the whole
//! layer; otherwise threads share each pass. Buffers are kept per thread, so nothing is allocated
//! from call to call.
//!
//! `decoder` has a decoder's layers for a token at a time, of the same parts.

mod alone;
mod attention;
mod cached;
mod decoder;
#[cfg(target_arch = "x86_64")]
pub(crate) mod int16;
mod int8;
mod matrix;
mod norm;
mod packed_layers;
mod product;
mod tensor;
#[cfg(test)]
mod tests;
mod weight;

pub(crate) use alone::{HeadsAlone, LinearsAlone};
pub(crate) use attention::{pack, pack_transposed};
pub(crate) use decoder::{Decoder, DecoderBlock, Remembered};
pub(crate) use int8::check_path as check_int8_path;
pub(crate) use norm::Norm;
pub(crate) use packed_layers::PackedLayers;
pub(crate) use product::{Epilogue, Rows, RowsMut, add_product, product};
pub(crate) use tensor::{LinearParts, Values, WordRows, refill};
pub(crate) use weight::PackedWeight;

use std::cell::RefCell;

use rayon::prelude::*;

use super::scratch::with_scratch;
use attention::{AttentionScratch, Head, HeadRelative, HeadTable};
use packed_layers::grow;

/// Rows of a block of floats: their states stay in the second-level cache while weights pass.
const BLOCK: usize = 64;
/// … of integers, which weigh less than the states.
const INTEGER_BLOCK: usize = 48;
/// Rows of short sequences that a thread takes together.
const TOGETHER: usize = 128;
/// Rows of a block at least, else weights are read too often.
const SMALLEST: usize = 16;

/// An encoder layer that normalises after each residual, with its weights packed.
#[derive(Debug)]
pub(crate) struct EncoderBlock {
    /// Query, key and value, outputs side by side.
    pub projections: PackedLayers,
    /// The heads' output projection.
    pub attention_output: PackedLayers,
    /// The normalisation behind it.
    pub attention_norm: Norm,
    /// First half of the feed-forward network, with its activation.
    pub intermediate: PackedLayers,
    /// Second half.
    pub output: PackedLayers,
    /// The normalisation behind it.
    pub output_norm: Norm,
    /// Number of heads.
    pub heads: usize,
    /// Multiplies the scores.
    pub scale: f32,
}

/// The scores that relative positions add, for query `i` and key `j`:
/// `scale · q_i · keys[j − i + length − 1] + k_j · queries[i − j + length − 1]`.
#[derive(Clone, Copy)]
pub(crate) struct Relative<'a> {
    keys: Option<Table<'a>>,
    queries: Option<Table<'a>>,
}

/// Rows of a table `[.., hidden_size]`, one for each difference of positions.
#[derive(Clone, Copy)]
struct Table<'a> {
    values: &'a [f32],
    rows: &'a [usize],
}

/// Added to the scores: `[batch or 1, heads or 1, length or 1, length]`.
#[derive(Clone, Copy)]
pub(crate) struct Mask<'a> {
    /// Row-major.
    pub values: &'a [f32],
    /// Its shape.
    pub dims: [usize; 4],
}

#[derive(Default)]
struct Scratch {
    projected: Vec<f32>,
    /// One head's queries, keys and values.
    head: Vec<f32>,
    hidden: Vec<f32>,
    inner: Vec<f32>,
    output: Vec<f32>,
    attention: AttentionScratch,
    #[cfg(target_arch = "x86_64")]
    integers: int16::Scratch,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

fn for_each(parallel: bool, count: usize, f: impl Fn(usize) + Send + Sync) {
    match parallel {
        true => (0..count).into_par_iter().with_max_len(1).for_each(f),
        false => (0..count).for_each(f),
    }
}

/// Rows of a block that `layers` begin with, so that threads have as many.
fn height(rows: usize, threads: usize, layers: &PackedLayers) -> usize {
    let most = if layers.has_integers() { INTEGER_BLOCK } else { BLOCK };
    let blocks = rows.div_ceil(most).next_multiple_of(threads);
    rows.div_ceil(blocks).next_multiple_of(8).max(SMALLEST)
}

impl EncoderBlock {
    /// Applies the layer to `states: [batch, length, hidden_size]`, in place.
    pub fn forward(
        &self,
        states: &mut [f32],
        [batch, length]: [usize; 2],
        mask: Option<Mask<'_>>,
        relative: Option<Relative<'_>>,
    ) {
        let size = self.attention_norm.gamma.len();
        if states.is_empty() {
            return;
        }
        assert_eq!(states.len(), batch * length * size);
        let threads = rayon::current_num_threads();
        // Whole sequences to each thread while there are enough, the rest of them together.
        let together = (TOGETHER / length).max(1);
        let groups = batch / together;
        let apart = if threads == 1 { groups } else { groups - groups % threads };
        let (first, rest) = states.split_at_mut(apart * together * length * size);
        let group = |at: usize, states: &mut [f32], parallel: bool| {
            let sequences = SequenceGroup {
                block: self,
                length,
                size,
                first: at * together,
                mask,
                relative,
                parallel,
            };
            sequences.forward(states);
        };
        let chunks = first.par_chunks_mut(together * length * size).enumerate().with_max_len(1);
        chunks.for_each(|(at, states)| group(at, states, false));
        group(apart, rest, threads > 1);
    }
}

/// Some sequences of a batch.
struct SequenceGroup<'a> {
    block: &'a EncoderBlock,
    length: usize,
    size: usize,
    /// The first one's place in the batch.
    first: usize,
    mask: Option<Mask<'a>>,
    relative: Option<Relative<'a>>,
    /// Whether work is shared with other threads.
    parallel: bool,
}

impl SequenceGroup<'_> {
    fn forward(&self, states: &mut [f32]) {
        if states.is_empty() {
            return;
        }
        let rows = states.len() / self.size;
        let width = 3 * self.size;
        let threads = if self.parallel { rayon::current_num_threads() } else { 1 };
        let height = height(rows, threads, &self.block.projections);
        let mut projected =
            SCRATCH.with_borrow_mut(|scratch| std::mem::take(&mut scratch.projected));
        grow(&mut projected, rows * width);
        let used = &mut projected[..rows * width];
        self.blocks(states, used, height, |states, projected| self.project(states, projected));
        self.attend(used);
        self.blocks(states, used, height, |states, context| self.finish(states, context));
        SCRATCH.with_borrow_mut(|scratch| scratch.projected = projected);
    }

    fn blocks(
        &self,
        states: &mut [f32],
        projected: &mut [f32],
        height: usize,
        f: impl Fn(&mut [f32], &mut [f32]) + Send + Sync,
    ) {
        let (states_len, projected_len) = (height * self.size, height * 3 * self.size);
        match self.parallel {
            true => states
                .par_chunks_mut(states_len)
                .zip(projected.par_chunks_mut(projected_len))
                .with_max_len(1)
                .for_each(|(states, projected)| f(states, projected)),
            false => states
                .chunks_mut(states_len)
                .zip(projected.chunks_mut(projected_len))
                .for_each(|(states, projected)| f(states, projected)),
        }
    }

    fn project(&self, states: &mut [f32], projected: &mut [f32]) {
        let rows = Rows { values: states, stride: self.size, rows: states.len() / self.size };
        let output = RowsMut { values: projected, stride: 3 * self.size };
        with_scratch(&SCRATCH, |scratch| {
            self.block.projections.forward(rows, &mut scratch.hidden, output);
        });
    }

    /// Replaces every query by its context.
    fn attend(&self, projected: &mut [f32]) {
        let (heads, length) = (self.block.heads, self.length);
        let (head_size, width) = (self.size / heads, 3 * self.size);
        let sequences = projected.len() / (length * width);
        assert_eq!(projected.len(), sequences * length * width, "whole sequences");
        let shared = Shared(projected.as_mut_ptr());
        let shared = &shared;
        for_each(self.parallel, sequences * heads, |task| {
            let (sequence, head) = (task / heads, task % heads);
            let (first, column) = (sequence * length, head * head_size);
            let mask = self.mask.map(|mask| mask.of(self.first + sequence, head));
            let relative = self.relative.map(|relative| relative.of(column, self.size));
            // Queries (0), keys (1) or values (2).
            let row = |part: usize, token: usize| {
                let at = (first + token) * width + part * self.size + column;
                // SAFETY: within `projected`, whose length is checked above, and in columns that this
                // task alone writes (queries) or that none writes (keys, values).
                unsafe { std::slice::from_raw_parts(shared.0.add(at), head_size) }
            };
            #[cfg(target_arch = "x86_64")]
            if self.block.projections.has_integers() && int8::attends_in_int16() {
                let scale = self.block.scale;
                let head = int16::Head { length, head_size, scale, mask, relative, row };
                if head.fits() {
                    let to = shared.0.wrapping_add(first * width + column);
                    let to = product::Target { values: to, stride: width };
                    // SAFETY: the rows are this head's; queries are replaced by their contexts.
                    return with_scratch(&SCRATCH, |scratch| unsafe {
                        head.attend(&mut scratch.integers, to);
                    });
                }
            }
            with_scratch(&SCRATCH, |scratch| {
                let Scratch { head: own, attention, .. } = scratch;
                let count = length * head_size;
                grow(own, 3 * count);
                // Queries, then keys, then values.
                for (at, to) in own.chunks_exact_mut(head_size).take(3 * length).enumerate() {
                    to.copy_from_slice(row(at / length, at % length));
                }
                let (queries, rest) = own.split_at_mut(count);
                let view = |values| Rows { values, stride: head_size, rows: length };
                let (keys, values) = (view(&rest[..count]), view(&rest[count..]));
                let scale = self.block.scale;
                let head = Head { keys, values, head_size, scale, mask, relative };
                head.attend(attention, queries);
                for (at, row) in queries.chunks_exact(head_size).enumerate() {
                    // SAFETY: as above, the queries' columns; no other slice of them is alive.
                    let to = unsafe {
                        let to = shared.0.add((first + at) * width + column);
                        std::slice::from_raw_parts_mut(to, head_size)
                    };
                    to.copy_from_slice(row);
                }
            });
        });
    }

    /// Everything behind the heads' outputs.
    fn finish(&self, states: &mut [f32], context: &mut [f32]) {
        let (block, size) = (self.block, self.size);
        let rows = states.len() / size;
        // Rows a little apart from powers of two, which would share few lines of the caches.
        let inner_stride = block.intermediate.d_output().next_multiple_of(16) + 16;
        with_scratch(&SCRATCH, |scratch| {
            let Scratch { hidden, inner, output, .. } = scratch;
            grow(output, rows * size);
            grow(inner, rows * inner_stride);
            let context = Rows { values: context, stride: 3 * size, rows };
            block.attention_output.forward(
                context,
                hidden,
                RowsMut { values: output, stride: size },
            );
            block
                .attention_norm
                .add_and_normalise(states, Rows { values: output, stride: size, rows });
            let attended = Rows { values: states, stride: size, rows };
            block.intermediate.forward(
                attended,
                hidden,
                RowsMut { values: inner, stride: inner_stride },
            );
            let inner = Rows { values: inner, stride: inner_stride, rows };
            block.output.forward(inner, hidden, RowsMut { values: output, stride: size });
            block
                .output_norm
                .add_and_normalise(states, Rows { values: output, stride: size, rows });
        });
    }
}

struct Shared(*mut f32);
// SAFETY: tasks write disjoint parts of what it points to, and read only those and what none writes.
unsafe impl Sync for Shared {}

impl<'a> Relative<'a> {
    /// One head's part, from column `from` on.
    fn of(&self, from: usize, size: usize) -> HeadRelative<'a> {
        let part = |table: Table<'a>| HeadTable {
            values: table.values.get(from..).unwrap_or_default(),
            stride: size,
            rows: table.rows,
        };
        HeadRelative { keys: self.keys.map(part), queries: self.queries.map(part) }
    }
}

impl<'a> Mask<'a> {
    /// The rows of one head of one sequence, and how far they are apart.
    fn of(&self, sequence: usize, head: usize) -> (&'a [f32], usize) {
        let [batch, heads, queries, length] = self.dims;
        let sequence = if batch == 1 { 0 } else { sequence };
        let head = if heads == 1 { 0 } else { head };
        let from = (sequence * heads + head) * queries * length;
        (&self.values[from..][..queries * length], if queries == 1 { 0 } else { length })
    }
}
