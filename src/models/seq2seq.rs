//! Input, output and loss shared by all text-to-text models.

use burn::tensor::{Bool, Int, Tensor, activation, assert_shape};

use super::EncoderInput;
use super::classification::cross_entropy;
use crate::ops::hiding_mask;

/// A batch for an encoder and a decoder.
#[derive(Debug, Clone)]
pub struct Seq2SeqInput {
    /// The encoder's input; its `output_hidden_states` and `output_attentions` ask for both sides'.
    pub encoder: EncoderInput,
    /// `[batch, target]`: tokens to decode; `None`: the encoder's, shifted right.
    pub decoder_input_ids: Option<Tensor<2, Int>>,
    /// `[batch, target]`: 1 for tokens, 0 for padding; `None`: no padding.
    pub decoder_attention_mask: Option<Tensor<2, Int>>,
}

impl Seq2SeqInput {
    /// Both sides read `encoder`.
    pub fn new(encoder: EncoderInput) -> Self {
        Self { encoder, decoder_input_ids: None, decoder_attention_mask: None }
    }

    /// With the decoder's tokens `[batch, target]`.
    pub fn with_decoder_input_ids(mut self, ids: Tensor<2, Int>) -> Self {
        self.decoder_input_ids = Some(ids);
        self
    }

    /// With the decoder's padding mask `[batch, target]`.
    pub fn with_decoder_attention_mask(mut self, mask: Tensor<2, Int>) -> Self {
        self.decoder_attention_mask = Some(mask);
        self
    }
}

/// The output of an encoder and a decoder.
#[derive(Debug, Clone)]
pub struct Seq2SeqOutput {
    /// `[batch, target, hidden]`: output of the decoder's last layer.
    pub last_hidden_state: Tensor<3>,
    /// `[batch, target, hidden]` before the first and after every decoder layer, if asked for.
    pub decoder_hidden_states: Option<Vec<Tensor<3>>>,
    /// `[batch, heads, target, target]` of every decoder layer, if asked for.
    pub decoder_attentions: Option<Vec<Tensor<4>>>,
    /// `[batch, heads, target, source]` of every decoder layer, if asked for.
    pub cross_attentions: Option<Vec<Tensor<4>>>,
    /// `[batch, source, hidden]`: output of the encoder's last layer.
    pub encoder_last_hidden_state: Tensor<3>,
    /// `[batch, source, hidden]` before the first and after every encoder layer, if asked for.
    pub encoder_hidden_states: Option<Vec<Tensor<3>>>,
    /// `[batch, heads, source, source]` of every encoder layer, if asked for.
    pub encoder_attentions: Option<Vec<Tensor<4>>>,
}

/// Teacher forcing: `[batch, target]` one place to the right behind `decoder_start_token_id`, with
/// padding where labels are −100.
pub fn shift_tokens_right(
    ids: Tensor<2, Int>,
    pad_token_id: usize,
    decoder_start_token_id: usize,
) -> Tensor<2, Int> {
    let [batch, length] = ids.dims();
    let start = Tensor::full([batch, 1], decoder_start_token_id as i64, &ids.device());
    if length <= 1 {
        return start;
    }
    let shifted = Tensor::cat(vec![start, ids.narrow(1, 0, length - 1)], 1);
    let ignored = shifted.clone().equal_elem(-100);
    shifted.mask_fill(ignored, pad_token_id as i64)
}

/// The loss `[1]` of a language model, mean over all tokens but those labelled −100:
/// cross-entropy, smoothed by `label_smoothing` in 0..1 as Hugging Face's `LabelSmoother` does.
///
/// # Shapes
/// - `logits`: `[batch, target, vocab_size]`
/// - `labels`: `[batch, target]`
///
/// # Panics
/// If the shapes do not fit.
pub fn language_model_loss(
    logits: Tensor<3>,
    labels: Tensor<2, Int>,
    label_smoothing: f64,
) -> Tensor<1> {
    let [batch, length, vocab_size] = logits.dims();
    assert_shape!(labels, [batch, length]);
    let logits: Tensor<2> = logits.reshape([batch * length, vocab_size]);
    let labels: Tensor<1, Int> = labels.reshape([batch * length]);
    if label_smoothing == 0.0 {
        return cross_entropy(logits, labels);
    }
    let counted = labels.clone().equal_elem(-100).bool_not().float().cast(logits.dtype());
    let log_probabilities = activation::log_softmax(logits.clone(), 1);
    let every: Tensor<1> = log_probabilities.sum_dim(1).reshape([batch * length]);
    let smoothed = -(every * counted.clone()).sum() / (counted.sum() * vocab_size as f64);
    cross_entropy(logits, labels) * (1.0 - label_smoothing) + smoothed * label_smoothing
}

/// The additive mask `[batch or 1, 1, length, length]` of a decoder as Hugging Face makes it: 0 for
/// the tokens so far, the smallest finite number for later ones and padding.
pub(crate) fn causal_mask(like: &Tensor<3>, padding_mask: Option<&Tensor<2, Int>>) -> Tensor<4> {
    let [_, length, _] = like.dims();
    // [length, length] → [1, 1, length, length]
    let later = Tensor::<2, Bool>::tril_mask([length, length], 0, &like.device()).unsqueeze::<4>();
    let hidden = match padding_mask {
        Some(mask) => {
            let [batch, _] = mask.dims();
            let padding = mask.clone().equal_elem(0).reshape([batch, 1, 1, length]);
            let shape = [batch, 1, length, length];
            padding.expand(shape).bool_or(later.expand(shape))
        }
        None => later,
    };
    hiding_mask(hidden, like)
}
