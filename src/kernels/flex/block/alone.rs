//! Passes of an encoder layer on their own.

use rayon::prelude::*;

use super::{
    BLOCK, EncoderBlock, Epilogue, Norm, PackedLayers, Relative, Rows, RowsMut, SCRATCH, SMALLEST,
    SequenceGroup, Table, height,
};
use crate::kernels::flex::scratch::with_scratch;

/// Packed layers, applied as in [`EncoderBlock::forward`]: each thread to its blocks of rows, or all to
/// the few that there are.
#[derive(Debug)]
pub(crate) struct LinearsAlone {
    pub layers: PackedLayers,
    pub d_input: usize,
}

impl LinearsAlone {
    /// Writes `output: [rows, d_output]` of `input: [rows, d_input]`.
    pub fn forward(&self, input: &[f32], output: &mut [f32]) {
        let (d_input, stride) = (self.d_input, self.layers.d_output());
        let rows = input.len() / d_input;
        if rows <= SMALLEST {
            let rows = Rows { values: input, stride: d_input, rows };
            let output = RowsMut { values: output, stride };
            return with_scratch(&SCRATCH, |scratch| {
                self.layers.forward_shared(rows, &mut scratch.hidden, output);
            });
        }
        let height = height(rows, rayon::current_num_threads(), &self.layers);
        let blocks = input.par_chunks(height * d_input).zip(output.par_chunks_mut(height * stride));
        blocks.with_max_len(1).for_each(|(values, output)| {
            let rows = Rows { values, stride: d_input, rows: values.len() / d_input };
            with_scratch(&SCRATCH, |scratch| {
                let output = RowsMut { values: output, stride };
                self.layers.forward(rows, &mut scratch.hidden, output);
            });
        });
    }
}

/// The heads of an encoder layer.
pub(crate) struct HeadsAlone {
    /// Without projections.
    block: EncoderBlock,
    size: usize,
}

impl HeadsAlone {
    /// `count` heads, together `size` wide.
    pub fn new(count: usize, size: usize) -> Self {
        let none = || PackedLayers::new(&[], None, false, Epilogue::Identity);
        let norm = || Norm { gamma: vec![1.0; size], beta: vec![0.0; size], epsilon: 1e-12 };
        let block = EncoderBlock {
            projections: none(),
            attention_output: none(),
            attention_norm: norm(),
            intermediate: none(),
            output: none(),
            output_norm: norm(),
            heads: count,
            scale: 1.0 / ((size / count) as f32).sqrt(),
        };
        Self { block, size }
    }

    /// Replaces the queries of sequences, `projected: [batch · length, 3 · size]` with queries, keys and
    /// values side by side, by their contexts; with a table of relative positions `[2·length − 1, size]`
    /// both content and positions count.
    pub fn attend(&self, projected: &mut [f32], length: usize, positions: Option<&[f32]>) {
        let rows: Vec<usize> = (0..2 * length - 1).collect();
        let table = positions.map(|values| Table { values, rows: &rows });
        let sequences = SequenceGroup {
            block: &self.block,
            length,
            size: self.size,
            first: 0,
            mask: None,
            relative: table.map(|table| Relative { keys: Some(table), queries: Some(table) }),
            parallel: true,
        };
        sequences.attend(projected);
    }
}

impl Norm {
    /// `x ← LayerNorm(x + added)` as in [`EncoderBlock::forward`]: each thread its blocks of rows.
    pub fn apply(&self, x: &mut [f32], added: &[f32]) {
        let d = self.gamma.len();
        let height = (x.len() / d).div_ceil(rayon::current_num_threads()).clamp(1, BLOCK);
        let blocks = x.par_chunks_mut(height * d).zip(added.par_chunks(height * d));
        blocks.with_max_len(1).for_each(|(x, added)| {
            let added = Rows { values: added, stride: d, rows: added.len() / d };
            self.add_and_normalise(x, added);
        });
    }
}
