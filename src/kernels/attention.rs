//! Scaled dot-product attention with dropout of the probabilities, and its gradients: each thread takes
//! a sequence, a head at a time, so that scores stay in cache and are not kept for the backward pass.

use std::cell::RefCell;
use std::sync::Arc;

use pulp::Arch;
use rayon::prelude::*;

use super::block::{Epilogue, PackedWeight, Rows, RowsMut, product};
use super::dropout::DropoutMask;
use super::exp::exp;
use super::lanes::{greatest, total};
use super::scratch::with_scratch;

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

/// What attention is besides queries, keys and values.
#[derive(Debug, Clone)]
pub struct AttentionSettings {
    /// Heads, side by side in the rows.
    pub heads: usize,
    /// Multiplies the products of queries and keys.
    pub scale: f32,
    /// Added to the scores.
    pub mask: Option<Arc<AttentionMask>>,
    /// Of the probabilities.
    pub dropout: DropoutMask,
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
    /// `[batch, queries, keys, size]`
    pub dims: [usize; 4],
    pub settings: &'a AttentionSettings,
}

/// Gradients of [`Attention`].
pub(crate) struct AttentionGradients {
    pub query: Vec<f32>,
    pub key: Vec<f32>,
    pub value: Vec<f32>,
    /// Empty without a bias.
    pub bias: Vec<f32>,
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
        let [_, queries, _, size] = self.dims;
        let mut output = vec![0.0; self.query.len()];
        if self.is_empty() {
            return output;
        }
        output.par_chunks_mut(queries * size).enumerate().with_max_len(1).for_each(
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

    /// All gradients, of the output's, `grad: [batch, queries, size]`.
    pub(crate) fn backward(&self, grad: &[f32]) -> AttentionGradients {
        let [_, queries, keys, size] = self.dims;
        let scores = self.settings.heads * queries * keys;
        let mut query = vec![0.0; self.query.len()];
        let mut key = vec![0.0; self.key.len()];
        let mut value = vec![0.0; self.value.len()];
        let mut bias = vec![0.0; self.bias.map_or(0, <[f32]>::len)];
        if self.is_empty() {
            return AttentionGradients { query, key, value, bias };
        }
        let biases: Vec<&mut [f32]> = match bias.is_empty() {
            true => (0..self.dims[0]).map(|_| Default::default()).collect(),
            false => bias.chunks_mut(scores).collect(),
        };
        let items = query
            .par_chunks_mut(queries * size)
            .zip(key.par_chunks_mut(keys * size))
            .zip(value.par_chunks_mut(keys * size))
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
        AttentionGradients { query, key, value, bias }
    }

    fn is_empty(&self) -> bool {
        self.dims.contains(&0)
    }

    fn head(&self, item: usize, head: usize) -> Head<'_> {
        Head { attention: self, item, head, width: self.dims[3] / self.settings.heads }
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
}

impl Head<'_> {
    /// This head's part of rows of all heads of all items.
    fn rows<'a>(&self, values: &'a [f32], length: usize) -> Rows<'a> {
        let size = self.attention.dims[3];
        let values = &values[self.item * length * size + self.head * self.width..];
        Rows { values, stride: size, rows: length }
    }

    /// This head's part of an item's rows of all heads.
    fn target<'a>(&self, values: &'a mut [f32]) -> RowsMut<'a> {
        let values = &mut values[self.head * self.width..];
        RowsMut { values, stride: self.attention.dims[3] }
    }

    fn forward(&self, scratch: &mut Scratch, output: &mut [f32]) {
        let [_, queries, keys, _] = self.attention.dims;
        let Scratch { packed, probabilities, .. } = scratch;
        self.probabilities(packed, probabilities);
        self.drop_out(probabilities);
        pack(packed, self.rows(self.attention.value, keys), self.width);
        let input = Rows { values: probabilities, stride: keys, rows: queries };
        product(input, packed, None, Epilogue::Identity, self.target(output));
    }

    fn backward(&self, scratch: &mut Scratch, grad: &[f32], targets: Targets<'_>) {
        let [_, queries, keys, _] = self.attention.dims;
        let settings = self.attention.settings;
        let Scratch { packed, probabilities, gradients, transposed } = scratch;
        let grad = self.rows(grad, queries);
        self.probabilities(packed, probabilities);
        // ∂V = dropout(P)ᵀ ∂O
        resize(transposed, queries * keys);
        resize(gradients, queries * keys);
        gradients.copy_from_slice(probabilities);
        self.drop_out(gradients);
        transpose(gradients, keys, transposed);
        pack(packed, grad, self.width);
        let input = Rows { values: transposed, stride: queries, rows: keys };
        product(input, packed, None, Epilogue::Identity, self.target(targets.value));
        // ∂P = dropout(∂O Vᵀ)
        pack_transposed(packed, self.rows(self.attention.value, keys), self.width);
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
            let rows = self.head * queries * keys..(self.head + 1) * queries * keys;
            targets.bias[rows].copy_from_slice(gradients);
        }
        gradients.iter_mut().for_each(|value| *value *= settings.scale);
        // ∂Q = ∂scores K, ∂K = ∂scoresᵀ Q
        pack(packed, self.rows(self.attention.key, keys), self.width);
        let input = Rows { values: gradients, stride: keys, rows: queries };
        product(input, packed, None, Epilogue::Identity, self.target(targets.query));
        transpose(gradients, keys, transposed);
        pack(packed, self.rows(self.attention.query, queries), self.width);
        let input = Rows { values: transposed, stride: queries, rows: keys };
        product(input, packed, None, Epilogue::Identity, self.target(targets.key));
    }

    /// `softmax(scale · Q Kᵀ + mask + bias): [queries, keys]`, before dropout.
    fn probabilities(&self, packed: &mut PackedWeight, probabilities: &mut Vec<f32>) {
        let [_, queries, keys, _] = self.attention.dims;
        resize(probabilities, queries * keys);
        pack_transposed(packed, self.rows(self.attention.key, keys), self.width);
        let query = self.rows(self.attention.query, queries);
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
            let added = &bias[self.score_row(row) * scores.len()..][..scores.len()];
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
        let Attention { settings, dims, .. } = self.attention;
        let Some(mask) = settings.mask.as_ref().filter(|mask| mask.replaces) else { return };
        for (row, gradients) in gradients.chunks_exact_mut(dims[2]).enumerate() {
            let added = &mask.values[mask.row(self.item, self.head, row)..][..dims[2]];
            for (gradient, added) in gradients.iter_mut().zip(added) {
                if *added <= f32::MIN {
                    *gradient = 0.0;
                }
            }
        }
    }

    /// Multiplies `[queries, keys]` by the mask of dropout.
    fn drop_out(&self, values: &mut [f32]) {
        let (keys, dropout) = (self.attention.dims[2], self.attention.settings.dropout);
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
    fn row(&self, item: usize, head: usize, query: usize) -> usize {
        let [items, heads, queries, keys] = self.dims;
        let at = |index: usize, count: usize| if count == 1 { 0 } else { index };
        ((at(item, items) * heads + at(head, heads)) * queries + at(query, queries)) * keys
    }
}

fn resize(values: &mut Vec<f32>, len: usize) {
    values.resize(len, 0.0);
}

pub(super) fn pack(packed: &mut PackedWeight, rows: Rows<'_>, width: usize) {
    packed.reset(rows.rows, width);
    for row in 0..rows.rows {
        packed.set_row(row, &rows.values[row * rows.stride..][..width]);
    }
}

pub(super) fn pack_transposed(packed: &mut PackedWeight, rows: Rows<'_>, width: usize) {
    packed.reset(width, rows.rows);
    packed.set_columns(|row| &rows.values[row * rows.stride..][..width]);
}

/// `[rows, columns]` to `[columns, rows]`.
pub(super) fn transpose(values: &[f32], columns: usize, output: &mut [f32]) {
    let rows = values.len() / columns;
    for from in (0..columns).step_by(16) {
        let to = columns.min(from + 16);
        for (row, values) in values.chunks_exact(columns).enumerate() {
            for column in from..to {
                output[column * rows + row] = values[column];
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
