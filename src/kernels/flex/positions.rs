//! The scores that relative positions add (DeBERTa's content → position and position → content), and
//! their gradients: each thread takes a sequence, a head at a time.

use std::cell::RefCell;
use std::sync::Arc;

use rayon::prelude::*;

use super::attention::{parts, transpose};
use super::block::{Epilogue, PackedWeight, Rows, RowsMut, pack, pack_transposed, product};
use super::scratch::with_scratch;
use super::sequences::{Sequences, split_rows};

/// Settings of the scores of relative positions.
#[derive(Debug, Clone)]
pub struct PositionSettings {
    /// Heads, side by side in the rows.
    pub heads: usize,
    /// Multiplies the products of queries and position keys.
    pub scale: f32,
    /// With these, queries and keys are `[1, tokens, size]`: rows of sequences of different lengths one
    /// after another. Tables and scores still have rows and columns for padding, scores of which are 0.
    pub sequences: Option<Arc<Sequences>>,
}

/// Rows of all heads side by side.
#[derive(Clone, Copy)]
pub(crate) struct Positions<'a> {
    /// `[batch, length, size]`
    pub query: &'a [f32],
    /// `[batch, length, size]`
    pub key: &'a [f32],
    /// `[2·length, size]`: the key of each difference, or empty.
    pub keys: &'a [f32],
    /// `[2·length, size]`: the query of each difference, or empty.
    pub queries: &'a [f32],
    /// `[batch, length, size]`; with sequences their number and what they would be padded to.
    pub dims: [usize; 3],
    pub settings: &'a PositionSettings,
}

/// Elements a task takes of a sum over sequences.
const CHUNK: usize = 16 * 1024;

#[derive(Default)]
struct Scratch {
    packed: PackedWeight,
    /// `[length, differences]`
    products: Vec<f32>,
    turned: Vec<f32>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

impl Positions<'_> {
    /// `[batch, heads, length, length]`.
    pub(crate) fn forward(&self) -> Vec<f32> {
        let [batch, length, _] = self.dims;
        let heads = self.settings.heads;
        let mut output = vec![0.0; batch * heads * length * length];
        if self.dims.contains(&0) {
            return output;
        }
        output.par_chunks_mut(length * length).enumerate().with_max_len(1).for_each(
            |(at, scores)| {
                with_scratch(&SCRATCH, |scratch| {
                    self.head(at / heads, at % heads).forward(scratch, scores);
                });
            },
        );
        output
    }

    /// The gradients of query, key, keys and queries, of the output's.
    pub(crate) fn backward(&self, grad: &[f32]) -> [Vec<f32>; 4] {
        let [batch, ..] = self.dims;
        let mut query = vec![0.0; self.query.len()];
        let mut key = vec![0.0; self.key.len()];
        if self.dims.contains(&0) {
            let [keys, queries] = [self.keys, self.queries].map(|table| vec![0.0; table.len()]);
            return [query, key, keys, queries];
        }
        // One of each sequence, since several meet in a row.
        let mut keys = vec![0.0; batch * self.keys.len()];
        let mut queries = vec![0.0; batch * self.queries.len()];
        let items = self
            .items(&mut query)
            .into_par_iter()
            .zip(self.items(&mut key))
            .zip(parts(&mut keys, batch))
            .zip(parts(&mut queries, batch))
            .enumerate()
            .with_max_len(1);
        items.for_each(|(item, (((query, key), keys), queries))| {
            with_scratch(&SCRATCH, |scratch| {
                for head in 0..self.settings.heads {
                    let targets = Targets { query, key, keys, queries };
                    self.head(item, head).backward(scratch, grad, targets);
                }
            });
        });
        [query, key, sum(keys, batch), sum(queries, batch)]
    }

    /// Each sequence's rows.
    fn items<'a>(&self, values: &'a mut [f32]) -> Vec<&'a mut [f32]> {
        let [batch, _, size] = self.dims;
        split_rows(values, size, self.settings.sequences.as_deref(), batch)
    }

    fn head(&self, item: usize, head: usize) -> Head<'_> {
        let [_, padded, size] = self.dims;
        let width = size / self.settings.heads;
        let (start, length) = match &self.settings.sequences {
            Some(sequences) => (sequences.rows(item).start, sequences.rows(item).len()),
            None => (item * padded, padded),
        };
        Head { positions: self, item, head, width, start, length }
    }
}

/// The sum of `batch` parts one after another, in their order.
fn sum(mut parts: Vec<f32>, batch: usize) -> Vec<f32> {
    let len = parts.len() / batch.max(1);
    let (first, others) = parts.split_at_mut(len);
    first.par_chunks_mut(CHUNK).enumerate().for_each(|(at, sums)| {
        for other in others.chunks(len.max(1)) {
            let values = &other[at * CHUNK..][..sums.len()];
            sums.iter_mut().zip(values).for_each(|(sum, value)| *sum += value);
        }
    });
    parts.truncate(len);
    parts
}

/// Where a head's gradients are written: a sequence's rows of all heads.
struct Targets<'a> {
    query: &'a mut [f32],
    key: &'a mut [f32],
    keys: &'a mut [f32],
    queries: &'a mut [f32],
}

struct Head<'a> {
    positions: &'a Positions<'a>,
    item: usize,
    head: usize,
    /// Size of a head.
    width: usize,
    /// The sequence's first row.
    start: usize,
    /// Its tokens.
    length: usize,
}

impl Head<'_> {
    /// This head's part of a sequence's rows of all heads.
    fn rows<'a>(&self, values: &'a [f32]) -> Rows<'a> {
        let [.., size] = self.positions.dims;
        let values = &values[self.start * size + self.head * self.width..];
        Rows { values, stride: size, rows: self.length }
    }

    /// Where a table `[2·length, size]`, of which the last row stands for nothing, has this head's part
    /// of the differences that this sequence has.
    fn first_of_table(&self) -> usize {
        let [_, padded, size] = self.positions.dims;
        (padded - self.length) * size + self.head * self.width
    }

    /// This head's part of a table.
    fn table<'a>(&self, values: &'a [f32]) -> Rows<'a> {
        let values = &values[self.first_of_table()..];
        Rows { values, stride: self.positions.dims[2], rows: 2 * self.length - 1 }
    }

    /// This head's part of an item's rows of all heads.
    fn target<'a>(&self, values: &'a mut [f32]) -> RowsMut<'a> {
        let values = &mut values[self.head * self.width..];
        RowsMut { values, stride: self.positions.dims[2] }
    }

    fn forward(&self, scratch: &mut Scratch, scores: &mut [f32]) {
        let Positions { query, key, keys, queries, settings, .. } = *self.positions;
        let ([_, padded, _], length) = (self.positions.dims, self.length);
        if !keys.is_empty() {
            self.products(scratch, query, keys);
            for (row, scores) in scores.chunks_exact_mut(padded).take(length).enumerate() {
                let products = &scratch.products[band(row, length)];
                let pairs = scores.iter_mut().zip(products);
                pairs.for_each(|(score, product)| *score = product * settings.scale);
            }
        }
        if !queries.is_empty() {
            // Rows are keys here, so what they add is turned.
            self.products(scratch, key, queries);
            let Scratch { products, turned, .. } = scratch;
            turned.resize(length * length, 0.0);
            for (row, turned) in turned.chunks_exact_mut(length).enumerate() {
                turned.copy_from_slice(&products[band(row, length)]);
            }
            add_transposed(turned, length, scores, padded);
        }
    }

    /// The products of every row with every difference: `[length, differences]`.
    fn products(&self, scratch: &mut Scratch, rows: &[f32], table: &[f32]) {
        let table = self.table(table);
        let Scratch { packed, products, .. } = scratch;
        products.resize(self.length * table.rows, 0.0);
        pack_transposed(packed, table, self.width);
        let target = RowsMut { values: products, stride: table.rows };
        product(self.rows(rows), packed, None, Epilogue::Identity, target);
    }

    fn backward(&self, scratch: &mut Scratch, grad: &[f32], targets: Targets<'_>) {
        let Positions { query, key, keys, queries, settings, .. } = *self.positions;
        let ([_, padded, _], length) = (self.positions.dims, self.length);
        let (area, whole) = (length * length, padded * padded);
        let grad = &grad[(self.item * settings.heads + self.head) * whole..][..whole];
        let grad = Rows { values: grad, stride: padded, rows: length };
        if !keys.is_empty() {
            self.spread(scratch, grad, settings.scale);
            self.gradients(scratch, (query, keys), targets.query, targets.keys);
        }
        if !queries.is_empty() {
            let mut turned = std::mem::take(&mut scratch.turned);
            turned.resize(area, 0.0);
            transpose(grad, length, &mut turned);
            let grad = Rows { values: &turned, stride: length, rows: length };
            self.spread(scratch, grad, 1.0);
            scratch.turned = turned;
            self.gradients(scratch, (key, queries), targets.key, targets.queries);
        }
    }

    /// The gradient of the products, from that of the scores.
    fn spread(&self, scratch: &mut Scratch, grad: Rows<'_>, scale: f32) {
        let length = self.length;
        let products = &mut scratch.products;
        products.clear();
        products.resize(length * (2 * length - 1), 0.0);
        for row in 0..length {
            let grad = &grad.values[row * grad.stride..][..length];
            let products = products[band(row, length)].iter_mut().zip(grad);
            products.for_each(|(product, grad)| *product = grad * scale);
        }
    }

    /// Gradients of the rows and of the table.
    fn gradients(
        &self,
        scratch: &mut Scratch,
        (rows, table): (&[f32], &[f32]),
        of_rows: &mut [f32],
        of_table: &mut [f32],
    ) {
        let length = self.length;
        let (rows, table) = (self.rows(rows), self.table(table));
        let (across, size) = (table.rows, self.positions.dims[2]);
        let Scratch { packed, products, turned } = scratch;
        pack(packed, table, self.width);
        let input = Rows { values: products, stride: across, rows: length };
        product(input, packed, None, Epilogue::Identity, self.target(of_rows));
        turned.resize(products.len(), 0.0);
        transpose(Rows { values: products, stride: across, rows: length }, across, turned);
        pack(packed, rows, self.width);
        let input = Rows { values: turned, stride: length, rows: across };
        let target = RowsMut { values: &mut of_table[self.first_of_table()..], stride: size };
        product(input, packed, None, Epilogue::Identity, target);
    }
}

/// Where row `row` of `[length, 2·length − 1]` has the differences of its pairs: it begins a column
/// further left than the row above.
fn band(row: usize, length: usize) -> std::ops::Range<usize> {
    let from = row * (2 * length - 1) + length - 1 - row;
    from..from + length
}

/// Adds the transpose of `values: [length, length]` to `output`, whose rows are `stride` apart.
fn add_transposed(values: &[f32], length: usize, output: &mut [f32], stride: usize) {
    for from in (0..length).step_by(16) {
        let to = length.min(from + 16);
        for (row, values) in values.chunks_exact(length).take(length).enumerate() {
            for column in from..to {
                output[column * stride + row] += values[column];
            }
        }
    }
}
