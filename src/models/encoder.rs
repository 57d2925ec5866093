//! Input and output shared by all encoder models.

use burn::tensor::{Device, Int, Tensor};

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
        let min = like.dtype().finfo().map_or(f64::from(f32::MIN), |info| info.min);
        let device: Device = like.device();
        let [batch, length] = mask.dims();
        let padding = mask.clone().equal_elem(0).reshape([batch, 1, 1, length]);
        let zeros = Tensor::<4>::zeros([batch, 1, 1, length], (&device, like.dtype()));
        Some(zeros.mask_fill(padding, min))
    }
}

/// What an encoder computes.
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
