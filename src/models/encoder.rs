//! Input and output shared by all encoder models.

use std::sync::Arc;

use burn::tensor::{Int, Tensor};

use crate::kernels::Sequences;
use crate::ops::{ForwardContext, hiding_mask};

/// A batch of token sequences.
#[derive(Debug, Clone)]
pub struct EncoderInput {
    /// `[batch, length]`: tokens.
    pub input_ids: Tensor<2, Int>,
    /// `[batch, length]`: 1 for tokens, 0 for padding; `None`: no padding.
    pub attention_mask: Option<Tensor<2, Int>>,
    /// `[batch, length]`: segment of each token; `None`: all 0.
    pub token_type_ids: Option<Tensor<2, Int>>,
    /// `[batch, length]`: position of each token; `None`: 0, 1, ….
    pub position_ids: Option<Tensor<2, Int>>,
    /// The tokens of each row, if padding is at the end and nothing that the encoder gives for it is
    /// looked at: in training on `flex`, encoders of BERT's kind and DeBERTa then compute nothing for
    /// it. Everything else goes by `attention_mask`, which must say the same.
    pub sequences: Option<Arc<Sequences>>,
    /// Return the hidden states after the embeddings and after every layer.
    pub output_hidden_states: bool,
    /// Return the attention probabilities of every layer.
    pub output_attentions: bool,
}

impl EncoderInput {
    /// Tokens without padding.
    pub fn new(input_ids: Tensor<2, Int>) -> Self {
        Self {
            input_ids,
            attention_mask: None,
            token_type_ids: None,
            position_ids: None,
            sequences: None,
            output_hidden_states: false,
            output_attentions: false,
        }
    }

    /// With a padding mask `[batch, length]`.
    pub fn with_attention_mask(mut self, mask: Tensor<2, Int>) -> Self {
        self.attention_mask = Some(mask);
        self
    }

    /// With segments `[batch, length]`.
    pub fn with_token_type_ids(mut self, token_type_ids: Tensor<2, Int>) -> Self {
        self.token_type_ids = Some(token_type_ids);
        self
    }

    /// With positions `[batch, length]`.
    pub fn with_position_ids(mut self, position_ids: Tensor<2, Int>) -> Self {
        self.position_ids = Some(position_ids);
        self
    }

    /// Leaves padding uncomputed where that is faster: of the last hidden state, what belongs to padding
    /// is any token's then. Not for heads that look at every position, as question answering's. The
    /// attention mask is needed all the same and must say the same: other devices, inference and models
    /// that do not leave padding out go by that. Models panic if the sequences are not of the input's shape.
    pub fn with_sequences(mut self, sequences: Option<Arc<Sequences>>) -> Self {
        self.sequences = sequences;
        self
    }

    /// Asks for the hidden states of all layers.
    pub fn with_hidden_states(mut self) -> Self {
        self.output_hidden_states = true;
        self
    }

    /// Asks for the attention probabilities of all layers.
    pub fn with_attentions(mut self) -> Self {
        self.output_attentions = true;
        self
    }

    /// The additive mask `[batch, 1, 1, length]` as Hugging Face makes it: 0 for tokens, the
    /// smallest finite number for padding.
    pub(crate) fn additive_mask(&self, like: &Tensor<3>) -> Option<Tensor<4>> {
        let mask = self.attention_mask.as_ref()?;
        let [batch, length] = mask.dims();
        let padding = mask.clone().equal_elem(0).reshape([batch, 1, 1, length]);
        Some(hiding_mask(padding, like))
    }

    /// The context of layers that begin with `embedded`: the sequences, where their padding is left
    /// uncomputed, or else the additive mask.
    ///
    /// # Panics
    /// As [`EncoderInput::unpadded`].
    pub(crate) fn context(&self, embedded: &Tensor<3>) -> ForwardContext {
        match self.unpadded(embedded) {
            Some(sequences) => ForwardContext::of_sequences(sequences),
            None => self.padded_context(embedded),
        }
    }

    /// The additive mask, whether or not there are sequences.
    pub(crate) fn padded_context(&self, embedded: &Tensor<3>) -> ForwardContext {
        let mask = self.additive_mask(embedded);
        ForwardContext::new(mask).with_attentions(self.output_attentions)
    }

    /// The sequences whose padding is left uncomputed in layers that begin with `embedded`.
    ///
    /// # Panics
    /// If they are not those of its shape.
    pub(crate) fn unpadded(&self, embedded: &Tensor<3>) -> Option<Arc<Sequences>> {
        let sequences = self.sequences.as_ref()?;
        let [batch, length, _] = embedded.dims();
        assert_eq!([sequences.count(), sequences.length()], [batch, length], "sequences");
        let all = self.output_hidden_states || self.output_attentions;
        (!all && ForwardContext::leaves_padding_out(embedded)).then(|| sequences.clone())
    }
}

/// The output `[batch, length, hidden]` of an attention or a layer, and the attention's probabilities
/// `[batch, heads, queries, keys]`, if the context asks for them.
pub type Attended = (Tensor<3>, Option<Tensor<4>>);

/// Hidden states and attention probabilities of layers, as far as an input asks for them.
pub(crate) struct Collected {
    pub(crate) hidden_states: Option<Vec<Tensor<3>>>,
    pub(crate) attentions: Option<Vec<Tensor<4>>>,
}

impl Collected {
    pub(crate) fn new(input: &EncoderInput) -> Self {
        Self {
            hidden_states: input.output_hidden_states.then(Vec::new),
            attentions: input.output_attentions.then(Vec::new),
        }
    }

    pub(crate) fn push(&mut self, hidden_states: &Tensor<3>, attention: Option<Tensor<4>>) {
        if let Some(all) = &mut self.hidden_states {
            all.push(hidden_states.clone());
        }
        self.push_attention(attention);
    }

    pub(crate) fn push_attention(&mut self, attention: Option<Tensor<4>>) {
        if let (Some(all), Some(attention)) = (&mut self.attentions, attention) {
            all.push(attention);
        }
    }
}

/// The states `[batch, hidden_size]` of the first tokens of `[batch, length, hidden_size]`.
pub(crate) fn first_token(hidden_states: Tensor<3>) -> Tensor<2> {
    let [batch, _, hidden_size] = hidden_states.dims();
    hidden_states.narrow(1, 0, 1).reshape([batch, hidden_size])
}

/// The output of an encoder.
#[derive(Debug, Clone)]
pub struct EncoderOutput {
    /// `[batch, length, hidden_size]`: output of the last layer.
    pub last_hidden_state: Tensor<3>,
    /// `[batch, hidden_size]`: the pooler's output, if there is a pooler.
    pub pooler_output: Option<Tensor<2>>,
    /// `[batch, length, hidden_size]` after the embeddings and after every layer, if asked for.
    pub hidden_states: Option<Vec<Tensor<3>>>,
    /// `[batch, heads, length, length]` of every layer, if asked for.
    pub attentions: Option<Vec<Tensor<4>>>,
}

#[cfg(all(test, feature = "flex"))]
#[path = "encoder_tests.rs"]
mod tests;
