//! The parts of layers, as kernels pack them.

use burn::nn::{Embedding, LayerNorm};
use burn::tensor::Tensor;

use super::{Activation, Heads, PackableLinear};
use crate::kernels::Matrix;

/// The parts of an encoder layer.
#[derive(Clone, Copy)]
pub(crate) struct EncoderLayerParts<'a> {
    pub(crate) query: &'a dyn PackableLinear,
    pub(crate) key: &'a dyn PackableLinear,
    pub(crate) value: &'a dyn PackableLinear,
    pub(crate) heads: Heads<'a>,
    pub(crate) attention_output: &'a dyn PackableLinear,
    pub(crate) attention_norm: &'a LayerNorm,
    pub(crate) feed_forward: FeedForwardParts<'a>,
    /// Added to the variance by both normalisations.
    pub(crate) epsilon: f64,
}

/// A feed-forward network and the normalisation behind it.
#[derive(Clone, Copy)]
pub(crate) struct FeedForwardParts<'a> {
    pub(crate) intermediate: &'a dyn PackableLinear,
    pub(crate) activation: Activation,
    pub(crate) output: &'a dyn PackableLinear,
    pub(crate) norm: &'a LayerNorm,
}

/// The parts of a decoder whose head is the embedding of its words.
pub(crate) struct DecoderParts<'a> {
    /// `[vocab_size, size]`: embedding and head; integers have a scale for every row.
    pub(crate) words: Matrix,
    /// Multiplies embedded words.
    pub(crate) word_scale: f64,
    /// `[offset + positions, size]`.
    pub(crate) positions: &'a Embedding,
    /// Rows before that of position 0.
    pub(crate) position_offset: usize,
    /// Normalisation of the sum of both.
    pub(crate) embedding_norm: &'a LayerNorm,
    pub(crate) layers: Vec<DecoderLayerParts<'a>>,
    pub(crate) num_heads: usize,
    /// `[1, vocab_size]`: added to the logits.
    pub(crate) head_bias: Tensor<2>,
    /// Added to the variance by all normalisations.
    pub(crate) epsilon: f64,
}

/// The parts of a decoder layer that normalises after each residual.
pub(crate) struct DecoderLayerParts<'a> {
    pub(crate) own: AttentionParts<'a>,
    pub(crate) cross: AttentionParts<'a>,
    pub(crate) feed_forward: FeedForwardParts<'a>,
}

/// Projections of an attention and the normalisation behind it.
pub(crate) struct AttentionParts<'a> {
    pub(crate) query: &'a dyn PackableLinear,
    pub(crate) key: &'a dyn PackableLinear,
    pub(crate) value: &'a dyn PackableLinear,
    pub(crate) output: &'a dyn PackableLinear,
    pub(crate) norm: &'a LayerNorm,
}
