//! Word embeddings, in floats or 8-bit integers.

use burn::module::{Module, Param};
use burn::nn::Embedding;
use burn::tensor::{Device, Int, Tensor};

use super::quantized::{int8_vec, params, quantize_rows};
use super::{leaf, to_vec};
use crate::kernels::{Matrix, is_flex_f32};
use crate::ops::word_embeddings;

/// The embedding of a model's words: a row of `[vocab_size, d_model]` for each.
#[derive(Module, Debug)]
pub enum WordEmbedding {
    /// In floats, as pretrained.
    Float(Embedding),
    /// In 8-bit integers with a scale for every word, for inference.
    Int8(Int8Rows),
}

/// Rows of 8-bit integers, each with its scale.
#[derive(Module, Debug)]
pub struct Int8Rows {
    /// `[vocab_size, d_model]`, from −127 to 127.
    pub levels: Param<Tensor<2, Int>>,
    /// `[vocab_size]`.
    pub scales: Param<Tensor<1>>,
}

impl WordEmbedding {
    /// Embeds tokens. The row of `pad_token_id` gets no gradient, as with PyTorch's `padding_idx`.
    ///
    /// # Shapes
    /// - `input_ids`: `[batch, length]`
    /// - output: `[batch, length, d_model]`
    pub fn forward(&self, input_ids: &Tensor<2, Int>, pad_token_id: Option<usize>) -> Tensor<3> {
        match self {
            Self::Float(embedding) => word_embeddings(embedding, input_ids, pad_token_id),
            Self::Int8(rows) => rows.forward(input_ids),
        }
    }

    /// The whole matrix in floats, `[vocab_size, d_model]`.
    pub(crate) fn weight(&self) -> Tensor<2> {
        match self {
            Self::Float(embedding) => embedding.weight.val(),
            Self::Int8(rows) => rows.levels.val().float() * rows.scales.val().unsqueeze_dim::<2>(1),
        }
    }

    /// `[vocab_size, d_model]`.
    pub(crate) fn weight_dims(&self) -> [usize; 2] {
        match self {
            Self::Float(embedding) => embedding.weight.lazy_shape().dims(),
            Self::Int8(rows) => rows.levels.lazy_shape().dims(),
        }
    }

    /// The matrix as kernels take it; scales are those of rows.
    pub(crate) fn matrix(&self) -> Matrix {
        match self {
            Self::Float(embedding) => Matrix::Float(embedding.weight.val()),
            Self::Int8(rows) => {
                Matrix::Int8 { values: rows.levels.val(), scales: rows.scales.val() }
            }
        }
    }

    /// The embedding in 8-bit integers; on backends that do not compute in them, rounded alike and still in
    /// floats.
    pub fn quantize(self) -> Self {
        let Self::Float(embedding) = self else { return self };
        let weight = embedding.weight.val();
        let ([rows, _], device) = (weight.dims(), weight.device());
        let (levels, scales) = quantize_rows(&to_vec(weight), rows);
        Int8Rows::new(levels, scales, &device).on_backend()
    }

    /// The embedding in floats.
    pub fn dequantize(self) -> Self {
        match self {
            Self::Float(_) => self,
            Self::Int8(_) => Self::Float(Embedding { weight: leaf(self.weight()) }),
        }
    }
}

impl Int8Rows {
    /// Rows side by side, with a scale each.
    pub(crate) fn new(levels: Vec<i8>, scales: Vec<f32>, device: &Device) -> Self {
        let rows = scales.len();
        let size = levels.len().checked_div(rows).unwrap_or(0);
        let (levels, scales) = params(levels, [rows, size], scales, device);
        Self { levels, scales }
    }

    /// Levels row by row, and scales.
    pub(crate) fn to_vecs(&self) -> (Vec<i8>, Vec<f32>) {
        (int8_vec(self.levels.val()), to_vec(self.scales.val()))
    }

    /// The rows as their backend computes with them: as they are, or in floats.
    pub(crate) fn on_backend(self) -> WordEmbedding {
        let is_flex = is_flex_f32(&self.scales.val());
        let rows = WordEmbedding::Int8(self);
        if is_flex { rows } else { rows.dequantize() }
    }

    fn forward(&self, input_ids: &Tensor<2, Int>) -> Tensor<3> {
        let [batch, length] = input_ids.dims();
        let ids = input_ids.clone().reshape([batch * length]);
        let levels = self.levels.val().select(0, ids.clone()).float();
        let scales = self.scales.val().select(0, ids);
        let [_, size] = levels.dims();
        (levels * scales.unsqueeze_dim::<2>(1)).reshape([batch, length, size])
    }
}
