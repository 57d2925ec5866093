//! A transformer's decoder on `flex`, one token of each hypothesis (row) at a time.
//!
//! Rows are few, so reading the weights is what takes the time: every product reads its weight once
//! for all rows, and threads share its panels.
//!
//! ```text
//! x ─ [K_q; R_q; K_k; R_k; K_v; R_v] ─ q | k | v     k and v go behind those of earlier tokens
//! q ← softmax(q kᵀ / √d) v                           a row at a time, over its own path
//! x ← LayerNorm(x + attention_output(q))
//! q ← softmax(query(x) kᵀ / √d + mask) v             a head of an example at a time, for all its rows
//! x ← LayerNorm(x + cross_output(q))
//! x ← LayerNorm(x + output(act(intermediate(x))))
//! logits = x · head + bias                           behind the last layer
//! ```

use rayon::prelude::*;

use super::cached::{Decoded, PackedHead};
use super::matrix::Weight;
use super::packed_layers::grow;
use super::product::{Epilogue, Rows, RowsMut};
use super::{BLOCK, Norm, PackedLayers, SCRATCH};
use crate::kernels::flex::scratch::with_scratch;

/// Multiplications of attention that are worth more than one thread.
const SHARED: usize = 64 * 1024;

/// A decoder layer that normalises after each residual, with its weights packed.
#[derive(Debug)]
pub(crate) struct DecoderBlock {
    /// Query, key and value of the self-attention, outputs side by side.
    pub projections: PackedLayers,
    /// Its output projection.
    pub attention_output: PackedLayers,
    /// The normalisation behind it.
    pub attention_norm: Norm,
    /// The cross-attention's query.
    pub query: PackedLayers,
    /// Its key and value, of the encoder's output, side by side.
    pub keys_values: PackedLayers,
    /// Its output projection.
    pub cross_output: PackedLayers,
    /// The normalisation behind it.
    pub cross_norm: Norm,
    /// First half of the feed-forward network, with its activation.
    pub intermediate: PackedLayers,
    /// Second half.
    pub output: PackedLayers,
    /// The normalisation behind it.
    pub output_norm: Norm,
}

/// Decoder layers and language-model head.
#[derive(Debug)]
pub(crate) struct Decoder {
    /// First to last.
    pub layers: Vec<DecoderBlock>,
    /// `[size, vocab_size]`.
    pub head: Weight,
    /// `[vocab_size]`.
    pub head_bias: Vec<f32>,
    /// Width of the states.
    pub size: usize,
    /// Number of heads.
    pub heads: usize,
    /// Multiplies the scores.
    pub scale: f32,
}

/// The state of one generation, and room to compute in.
#[derive(Debug)]
pub(crate) struct Remembered {
    layers: Vec<LayerMemory>,
    /// Rows of an example.
    beams: usize,
    /// `[batch, source]`, added to the cross-attention's scores.
    mask: Option<Vec<f32>>,
    source: usize,
    room: Room,
}

#[derive(Debug)]
struct LayerMemory {
    /// `[positions, rows, size]`.
    keys: Vec<f32>,
    /// Like `keys`.
    values: Vec<f32>,
    /// Keys and values of the encoder's output, `[batch, heads]`.
    cross: Vec<PackedHead>,
}

#[derive(Debug, Default)]
struct Room {
    /// `[rows, 3 · size]`
    projected: Vec<f32>,
    /// First products of compact layers.
    hidden: Vec<f32>,
    /// `[rows, size]`
    context: Vec<f32>,
    /// `[batch, heads, beams, head_size]`
    crossed: Vec<f32>,
    /// `[rows, inner size]`
    inner: Vec<f32>,
    /// `[rows, size]`
    output: Vec<f32>,
}

impl Decoder {
    /// Makes ready to decode `beams` rows for every example of `encoded: [batch, source, size]`; `mask`
    /// is `[batch, source]`.
    pub fn start(
        &self,
        encoded: &[f32],
        source: usize,
        beams: usize,
        mask: Option<Vec<f32>>,
    ) -> Remembered {
        let (size, head_size) = (self.size, self.size / self.heads);
        let (rows, width) = (encoded.len() / size, 2 * size);
        let batch = rows.checked_div(source).unwrap_or(0);
        let mut projected = vec![0.0; rows * width];
        let layer = |layer: &DecoderBlock| {
            let outputs = projected.par_chunks_mut(BLOCK * width);
            let inputs = encoded.par_chunks(BLOCK * size);
            outputs.zip(inputs).with_max_len(1).for_each(|(values, input)| {
                let rows = Rows { values: input, stride: size, rows: input.len() / size };
                let output = RowsMut { values, stride: width };
                with_scratch(&SCRATCH, |scratch| {
                    layer.keys_values.forward(rows, &mut scratch.hidden, output)
                });
            });
            let head = |at: usize| {
                let (example, head) = (at / self.heads, at % self.heads);
                let from = example * source * width + head * head_size;
                let part = |from| Rows { values: &projected[from..], stride: width, rows: source };
                PackedHead::new(part(from), part(from + size), head_size)
            };
            let cross = (0..batch * self.heads).into_par_iter().map(head).collect();
            LayerMemory { keys: Vec::new(), values: Vec::new(), cross }
        };
        let layers = self.layers.iter().map(layer).collect();
        Remembered { layers, beams, mask, source, room: Room::default() }
    }

    /// Writes the logits `[rows, vocab_size]` behind another token of every row, of which `states:
    /// [rows, size]` are the embeddings and `paths` say in which row each position's token was, this
    /// one's included.
    pub fn step(
        &self,
        states: &mut [f32],
        paths: &[Vec<usize>],
        memory: &mut Remembered,
        logits: &mut [f32],
    ) {
        // On a thread of the pool: from outside, every product would have to wake its threads.
        rayon::scope(|_| {
            let Remembered { layers, beams, mask, source, room } = memory;
            let rows = paths.len();
            room.make(rows, self);
            for (layer, memory) in self.layers.iter().zip(layers) {
                self.attend_to_path(layer, states, paths, memory, room);
                let cross = Cross { heads: &memory.cross, beams: *beams, source: *source };
                self.attend_to_source(layer, states, cross, mask.as_deref(), room);
                layer.feed_forward(Rows { values: states, stride: self.size, rows }, room);
                let output = &room.output[..rows * self.size];
                add_and_normalise(&layer.output_norm, states, output);
            }
            let states = Rows { values: states, stride: self.size, rows };
            let target = RowsMut { values: logits, stride: self.head.d_output() };
            let bias = Some(self.head_bias.as_slice());
            self.head.product_shared(states, bias, Epilogue::Identity, target);
        });
    }

    fn attend_to_path(
        &self,
        layer: &DecoderBlock,
        states: &mut [f32],
        paths: &[Vec<usize>],
        memory: &mut LayerMemory,
        room: &mut Room,
    ) {
        let (rows, size) = (paths.len(), self.size);
        let Room { projected, hidden, context, output, .. } = room;
        let input = Rows { values: states, stride: size, rows };
        let target = RowsMut { values: projected, stride: 3 * size };
        layer.projections.forward_shared(input, hidden, target);
        for row in projected.chunks_exact(3 * size).take(rows) {
            memory.keys.extend_from_slice(&row[size..2 * size]);
            memory.values.extend_from_slice(&row[2 * size..]);
        }
        let (keys, values) = (&memory.keys, &memory.values);
        let decoded = Decoded { keys, values, rows, heads: self.heads, scale: self.scale };
        let attend = |row: usize, context: &mut [f32]| {
            let query = &projected[row * 3 * size..][..size];
            with_scratch(&SCRATCH, |scratch| {
                decoded.attend(query, &paths[row], &mut scratch.hidden, context)
            });
        };
        let positions: usize = paths.iter().map(Vec::len).sum();
        let context = &mut context[..rows * size];
        match 2 * positions * size >= SHARED {
            true => context
                .par_chunks_mut(size)
                .enumerate()
                .for_each(|(row, context)| attend(row, context)),
            false => {
                context.chunks_mut(size).enumerate().for_each(|(row, context)| attend(row, context))
            }
        }
        let input = Rows { values: context, stride: size, rows };
        let target = RowsMut { values: output, stride: size };
        layer.attention_output.forward_shared(input, hidden, target);
        add_and_normalise(&layer.attention_norm, states, &output[..rows * size]);
    }

    fn attend_to_source(
        &self,
        layer: &DecoderBlock,
        states: &mut [f32],
        cross: Cross<'_>,
        mask: Option<&[f32]>,
        room: &mut Room,
    ) {
        let (size, head_size) = (self.size, self.size / self.heads);
        let (rows, beams, source) = (states.len() / size, cross.beams, cross.source);
        let Room { hidden, context, crossed, output, .. } = room;
        let input = Rows { values: states, stride: size, rows };
        let target = RowsMut { values: context, stride: size };
        layer.query.forward_shared(input, hidden, target);
        let attend = |at: usize, head: &PackedHead, crossed: &mut [f32]| {
            let (example, column) = (at / self.heads, at % self.heads * head_size);
            let queries = context.chunks_exact(size).skip(example * beams);
            for (to, query) in crossed.chunks_exact_mut(head_size).zip(queries) {
                to.copy_from_slice(&query[column..][..head_size]);
            }
            let mask = mask.map(|mask| &mask[example * source..][..source]);
            with_scratch(&SCRATCH, |scratch| {
                head.attend(crossed, self.scale, mask, &mut scratch.hidden)
            });
        };
        let parts = crossed[..rows * size].par_chunks_mut(beams * head_size);
        let parts = parts.zip(cross.heads).enumerate();
        parts.for_each(|(at, (crossed, head))| attend(at, head, crossed));
        // [batch, heads, beams, head_size] → [batch, beams, heads, head_size]
        for (at, part) in crossed[..rows * size].chunks_exact(beams * head_size).enumerate() {
            let (example, column) = (at / self.heads, at % self.heads * head_size);
            let to = context.chunks_exact_mut(size).skip(example * beams);
            for (from, to) in part.chunks_exact(head_size).zip(to) {
                to[column..][..head_size].copy_from_slice(from);
            }
        }
        let input = Rows { values: context, stride: size, rows };
        let target = RowsMut { values: output, stride: size };
        layer.cross_output.forward_shared(input, hidden, target);
        add_and_normalise(&layer.cross_norm, states, &output[..rows * size]);
    }
}

/// The encoder's output as a layer attends to it.
#[derive(Clone, Copy)]
struct Cross<'a> {
    /// `[batch, heads]`.
    heads: &'a [PackedHead],
    beams: usize,
    source: usize,
}

impl DecoderBlock {
    /// Leaves its result in the room's `output`.
    fn feed_forward(&self, states: Rows<'_>, room: &mut Room) {
        let Room { hidden, inner, output, .. } = room;
        let (rows, stride) = (states.rows, inner_stride(self));
        let target = RowsMut { values: inner, stride };
        self.intermediate.forward_shared(states, hidden, target);
        let inner = Rows { values: inner, stride, rows };
        let target = RowsMut { values: output, stride: states.stride };
        self.output.forward_shared(inner, hidden, target);
    }
}

impl Room {
    fn make(&mut self, rows: usize, decoder: &Decoder) {
        let size = decoder.size;
        grow(&mut self.projected, rows * 3 * size);
        grow(&mut self.context, rows * size);
        grow(&mut self.crossed, rows * size);
        grow(&mut self.output, rows * size);
        let inner = decoder.layers.iter().map(inner_stride).max().unwrap_or(0);
        grow(&mut self.inner, rows * inner);
    }
}

/// Rows a little apart from powers of two, which would share few lines of the caches.
fn inner_stride(layer: &DecoderBlock) -> usize {
    layer.intermediate.d_output().next_multiple_of(16) + 16
}

/// `x ← LayerNorm(x + added)`, both row by row.
fn add_and_normalise(norm: &Norm, x: &mut [f32], added: &[f32]) {
    let stride = norm.gamma.len();
    let rows = x.len() / stride;
    let run = |x: &mut [f32], values: &[f32]| {
        let rows = x.len() / stride;
        norm.add_and_normalise(x, Rows { values, stride, rows });
    };
    if x.len() < SHARED / 4 {
        return run(x, added);
    }
    let height = rows.div_ceil(rayon::current_num_threads()) * stride;
    x.par_chunks_mut(height).zip(added.par_chunks(height)).for_each(|(x, added)| run(x, added));
}
