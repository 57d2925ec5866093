//! Scaled dot-product attention with dropout of the probabilities, and its gradients: each thread takes
//! a sequence, a head at a time, so that scores stay in cache and are not kept for the backward pass.

use std::cell::RefCell;
use std::ops::Range;
use std::sync::Arc;

use pulp::Arch;
use rayon::prelude::*;

use super::block::{Epilogue, PackedWeight, Rows, RowsMut, pack, pack_transposed, product};
use super::dropout::DropoutMask;
use super::exp::exp;
use super::lanes::{greatest, total};
use super::scratch::with_scratch;
use super::sequences::{Sequences, split_rows};

/// Added to the scores: `[batch or 1, heads or 1, queries or 1, keys]`, row by row.
#[derive(Debug)]
pub struct AttentionMask {
    /// Its values.
    pub values: Vec<f32>,
    /// Its shape.
    pub dims: [usize; 4],
    /// Whether the smallest number stands in the place of a score rather than being added to it: then
    /// nothing flows back to that score. This makes a difference in rows that are masked whole only.
    pub replaces: bool,
}

/// Settings of attention.
#[derive(Debug, Clone)]
pub struct AttentionSettings {
    /// Heads, side by side in the rows.
    pub heads: usize,
    /// Multiplies the products of queries and keys.
    pub scale: f32,
    /// Added to the scores.
    pub mask: Option<Arc<AttentionMask>>,
    /// Dropout of the probabilities.
    pub dropout: DropoutMask,
    /// With these, queries, keys and values are `[1, tokens, size]`: rows of sequences of different
    /// lengths one after another. Each attends to itself, and nothing is padded; masks and biases still
    /// have rows and columns for padding.
    pub sequences: Option<Arc<Sequences>>,
}

/// Rows of all heads side by side: `[batch, length, size]`.
#[derive(Clone, Copy)]
pub(crate) struct Attention<'a> {
    /// `[batch, queries, size]`
    pub query: &'a [f32],
    /// `[batch, keys, size]`
    pub key: &'a [f32],
    /// `[batch, keys, size]`
    pub value: &'a [f32],
    /// Added to the scores: `[batch, heads, queries, keys]`.
    pub bias: Option<&'a [f32]>,
    /// `[batch, queries, keys, size]`; with sequences their number and what they would be padded to.
    pub dims: [usize; 4],
    pub settings: &'a AttentionSettings,
}

#[derive(Default)]
struct Scratch {
    packed: PackedWeight,
    probabilities: Vec<f32>,
    gradients: Vec<f32>,
    transposed: Vec<f32>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

impl Attention<'_> {
    /// The heads' outputs side by side, `[batch, queries, size]`.
    pub(crate) fn forward(&self) -> Vec<f32> {
        let mut output = vec![0.0; self.query.len()];
        if self.is_empty() {
            return output;
        }
        self.items(&mut output).into_par_iter().enumerate().with_max_len(1).for_each(
            |(item, output)| {
                with_scratch(&SCRATCH, |scratch| {
                    for head in 0..self.settings.heads {
                        self.head(item, head).forward(scratch, output);
                    }
                });
            },
        );
        output
    }

    /// The gradients of query, key, value and bias, of the output's, `grad: [batch, queries, size]`.
    pub(crate) fn backward(&self, grad: &[f32]) -> [Vec<f32>; 4] {
        let mut query = vec![0.0; self.query.len()];
        let mut key = vec![0.0; self.key.len()];
        let mut value = vec![0.0; self.value.len()];
        let mut bias = vec![0.0; self.bias.map_or(0, <[f32]>::len)];
        if self.is_empty() {
            return [query, key, value, bias];
        }
        let biases = parts(&mut bias, self.dims[0]);
        let items = self
            .items(&mut query)
            .into_par_iter()
            .zip(self.items(&mut key))
            .zip(self.items(&mut value))
            .zip(biases)
            .enumerate()
            .with_max_len(1);
        items.for_each(|(item, (((query, key), value), bias))| {
            with_scratch(&SCRATCH, |scratch| {
                for head in 0..self.settings.heads {
                    let targets = Targets { query, key, value, bias };
                    self.head(item, head).backward(scratch, grad, targets);
                }
            });
        });
        [query, key, value, bias]
    }

    fn is_empty(&self) -> bool {
        self.dims.contains(&0)
    }

    /// Each item's rows.
    fn items<'a>(&self, values: &'a mut [f32]) -> Vec<&'a mut [f32]> {
        let [batch, .., size] = self.dims;
        split_rows(values, size, self.settings.sequences.as_deref(), batch)
    }

    fn head(&self, item: usize, head: usize) -> Head<'_> {
        let [_, queries, keys, size] = self.dims;
        let (width, attention) = (size / self.settings.heads, self);
        let (query_rows, key_rows) = match &self.settings.sequences {
            Some(sequences) => (sequences.rows(item), sequences.rows(item)),
            None => (item * queries..(item + 1) * queries, item * keys..(item + 1) * keys),
        };
        Head { attention, item, head, width, query_rows, key_rows }
    }
}

/// Each sequence's part of `values`.
pub(super) fn parts(values: &mut [f32], batch: usize) -> Vec<&mut [f32]> {
    match values.is_empty() {
        true => (0..batch).map(|_| Default::default()).collect(),
        false => values.chunks_mut(values.len() / batch).collect(),
    }
}

/// Where a head's gradients are written: an item's rows of all heads.
struct Targets<'a> {
    query: &'a mut [f32],
    key: &'a mut [f32],
    value: &'a mut [f32],
    bias: &'a mut [f32],
}

struct Head<'a> {
    attention: &'a Attention<'a>,
    item: usize,
    head: usize,
    /// Size of a head.
    width: usize,
    query_rows: Range<usize>,
    key_rows: Range<usize>,
}

impl Head<'_> {
    /// Numbers of queries and keys.
    fn lengths(&self) -> [usize; 2] {
        [self.query_rows.len(), self.key_rows.len()]
    }

    /// This head's part of an item's queries, or what has their rows.
    fn queries<'a>(&self, values: &'a [f32]) -> Rows<'a> {
        self.rows(values, &self.query_rows)
    }

    /// This head's part of an item's keys, or what has their rows.
    fn keys<'a>(&self, values: &'a [f32]) -> Rows<'a> {
        self.rows(values, &self.key_rows)
    }

    fn rows<'a>(&self, values: &'a [f32], rows: &Range<usize>) -> Rows<'a> {
        let size = self.attention.dims[3];
        let values = &values[rows.start * size + self.head * self.width..];
        Rows { values, stride: size, rows: rows.len() }
    }

    /// This head's part of an item's rows of all heads.
    fn target<'a>(&self, values: &'a mut [f32]) -> RowsMut<'a> {
        let values = &mut values[self.head * self.width..];
        RowsMut { values, stride: self.attention.dims[3] }
    }

    fn forward(&self, scratch: &mut Scratch, output: &mut [f32]) {
        let [queries, keys] = self.lengths();
        let Scratch { packed, probabilities, .. } = scratch;
        self.probabilities(packed, probabilities);
        self.drop_out(probabilities);
        pack(packed, self.keys(self.attention.value), self.width);
        let input = Rows { values: probabilities, stride: keys, rows: queries };
        product(input, packed, None, Epilogue::Identity, self.target(output));
    }

    fn backward(&self, scratch: &mut Scratch, grad: &[f32], targets: Targets<'_>) {
        let [queries, keys] = self.lengths();
        let settings = self.attention.settings;
        let Scratch { packed, probabilities, gradients, transposed } = scratch;
        let grad = self.queries(grad);
        self.probabilities(packed, probabilities);
        // ∂V = dropout(P)ᵀ ∂O
        resize(transposed, queries * keys);
        resize(gradients, queries * keys);
        gradients.copy_from_slice(probabilities);
        self.drop_out(gradients);
        let input = Rows { values: gradients, stride: keys, rows: queries };
        transpose(input, keys, transposed);
        pack(packed, grad, self.width);
        let input = Rows { values: transposed, stride: queries, rows: keys };
        product(input, packed, None, Epilogue::Identity, self.target(targets.value));
        // ∂P = dropout(∂O Vᵀ)
        pack_transposed(packed, self.keys(self.attention.value), self.width);
        let target = RowsMut { values: gradients, stride: keys };
        product(grad, packed, None, Epilogue::Identity, target);
        self.drop_out(gradients);
        // ∂scores = P ∘ (∂P − Σ P ∘ ∂P)
        Arch::new().dispatch(
            #[inline(always)]
            || softmax_gradient(probabilities, gradients, keys),
        );
        self.leave_out_replaced(gradients);
        if !targets.bias.is_empty() {
            let [_, height, across, _] = self.attention.dims;
            let rows = targets.bias[self.head * height * across..].chunks_exact_mut(across);
            for (bias, gradients) in rows.zip(gradients.chunks_exact(keys)) {
                bias[..keys].copy_from_slice(gradients);
            }
        }
        gradients.iter_mut().for_each(|value| *value *= settings.scale);
        // ∂Q = ∂scores K, ∂K = ∂scoresᵀ Q
        pack(packed, self.keys(self.attention.key), self.width);
        let input = Rows { values: gradients, stride: keys, rows: queries };
        product(input, packed, None, Epilogue::Identity, self.target(targets.query));
        transpose(input, keys, transposed);
        pack(packed, self.queries(self.attention.query), self.width);
        let input = Rows { values: transposed, stride: queries, rows: keys };
        product(input, packed, None, Epilogue::Identity, self.target(targets.key));
    }

    /// `softmax(scale · Q Kᵀ + mask + bias): [queries, keys]`, before dropout.
    fn probabilities(&self, packed: &mut PackedWeight, probabilities: &mut Vec<f32>) {
        let [queries, keys] = self.lengths();
        resize(probabilities, queries * keys);
        pack_transposed(packed, self.keys(self.attention.key), self.width);
        let query = self.queries(self.attention.query);
        let target = RowsMut { values: probabilities, stride: keys };
        product(query, packed, None, Epilogue::Identity, target);
        Arch::new().dispatch(
            #[inline(always)]
            || {
                for (row, scores) in probabilities.chunks_exact_mut(keys).enumerate() {
                    self.softmax(row, scores);
                }
            },
        );
    }

    #[inline(always)]
    fn softmax(&self, row: usize, scores: &mut [f32]) {
        let Attention { settings, bias, .. } = self.attention;
        let scale = settings.scale;
        match settings.mask.as_ref() {
            Some(mask) => {
                let added = &mask.values[mask.row(self.item, self.head, row)..][..scores.len()];
                let scores = scores.iter_mut().zip(added);
                scores.for_each(|(score, added)| *score = *score * scale + added);
            }
            None => scores.iter_mut().for_each(|score| *score *= scale),
        }
        if let Some(bias) = bias {
            let added = &bias[self.score_row(row) * self.attention.dims[2]..][..scores.len()];
            scores.iter_mut().zip(added).for_each(|(score, added)| *score += added);
        }
        let most = greatest(scores);
        scores.iter_mut().for_each(|score| *score = exp(*score - most));
        let factor = 1.0 / total(scores, |_, score| score);
        scores.iter_mut().for_each(|score| *score *= factor);
    }

    /// Number of a row of scores among all items' and heads'.
    fn score_row(&self, row: usize) -> usize {
        let [_, queries, ..] = self.attention.dims;
        (self.item * self.attention.settings.heads + self.head) * queries + row
    }

    /// Nothing flows back to a score that the mask replaces.
    fn leave_out_replaced(&self, gradients: &mut [f32]) {
        let mask = self.attention.settings.mask.as_ref();
        let Some(mask) = mask.filter(|mask| mask.replaces) else { return };
        let [_, keys] = self.lengths();
        for (row, gradients) in gradients.chunks_exact_mut(keys).enumerate() {
            let added = &mask.values[mask.row(self.item, self.head, row)..][..keys];
            for (gradient, added) in gradients.iter_mut().zip(added) {
                if *added <= f32::MIN {
                    *gradient = 0.0;
                }
            }
        }
    }

    /// Multiplies `[queries, keys]` by the mask of dropout.
    fn drop_out(&self, values: &mut [f32]) {
        let ([_, keys], dropout) = (self.lengths(), self.attention.settings.dropout);
        if dropout.is_idle() {
            return;
        }
        Arch::new().dispatch(
            #[inline(always)]
            || {
                for (row, values) in values.chunks_exact_mut(keys).enumerate() {
                    dropout.row(self.score_row(row)).apply(values);
                }
            },
        );
    }
}

impl AttentionMask {
    /// Where the row for a query begins.
    pub(super) fn row(&self, item: usize, head: usize, query: usize) -> usize {
        let [items, heads, queries, keys] = self.dims;
        let at = |index: usize, count: usize| if count == 1 { 0 } else { index };
        ((at(item, items) * heads + at(head, heads)) * queries + at(query, queries)) * keys
    }
}

fn resize(values: &mut Vec<f32>, len: usize) {
    values.resize(len, 0.0);
}

/// `columns` values of each row to `[columns, rows]`.
pub(super) fn transpose(input: Rows<'_>, columns: usize, output: &mut [f32]) {
    let Rows { values, stride, rows } = input;
    for from in (0..columns).step_by(16) {
        let to = columns.min(from + 16);
        for row in 0..rows {
            for (at, value) in values[row * stride..][from..to].iter().enumerate() {
                output[(from + at) * rows + row] = *value;
            }
        }
    }
}

/// `gradients ← P ∘ (gradients − Σ P ∘ gradients)`, row by row.
#[inline(always)]
fn softmax_gradient(probabilities: &[f32], gradients: &mut [f32], keys: usize) {
    let rows = gradients.chunks_exact_mut(keys).zip(probabilities.chunks_exact(keys));
    for (gradients, probabilities) in rows {
        let along = total(gradients, |at, gradient| gradient * probabilities[at]);
        for (gradient, p) in gradients.iter_mut().zip(probabilities) {
            *gradient = (*gradient - along) * p;
        }
    }
}
