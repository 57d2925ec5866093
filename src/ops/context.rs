//! The context that the layers of one forward pass share: the mask of their scores, and the rows that
//! they compute.

use std::sync::Arc;

use burn::tensor::{Bool, Int, Tensor, TensorData};

use crate::kernels::{Sequences, fuses_products};

/// Where attention looks in one forward pass, and whether its probabilities are wanted. By default it
/// looks everywhere.
#[derive(Debug, Clone, Default)]
pub struct ForwardContext {
    /// Added to the scores.
    pub(super) mask: Option<ScoreMask>,
    /// With these, hidden states are rows of tokens alone, `[1, tokens, d]`.
    pub(super) sequences: Option<Arc<Sequences>>,
    /// Whether layers return the probabilities of their attention.
    pub(super) attentions: bool,
}

/// `[batch or 1, heads or 1, queries or 1, keys]`, added to the scores.
#[derive(Debug, Clone)]
pub(super) struct ScoreMask {
    pub(super) added: Tensor<4>,
    pub(super) kind: MaskKind,
}

#[derive(Debug, Clone)]
#[allow(clippy::large_enum_variant)] // One a forward pass.
pub(super) enum MaskKind {
    /// Nothing flows back into it.
    Constant,
    /// It has a relative bias in it, which is trained.
    Trained,
    /// Its smallest number takes a score's place where this is true, so that nothing flows back to it.
    Replacing(Tensor<4, Bool>),
}

impl ForwardContext {
    /// Attention that adds `mask: [batch or 1, heads or 1, queries or 1, keys]` to its scores.
    pub fn new(mask: Option<Tensor<4>>) -> Self {
        let mask = mask.map(|added| ScoreMask { added, kind: MaskKind::Constant });
        Self { mask, ..Self::default() }
    }

    /// Asks for the attention's probabilities, if `attentions`. Without them layers are faster.
    pub fn with_attentions(self, attentions: bool) -> Self {
        Self { attentions, ..self }
    }

    /// Attention of tokens to their own sequence, whose padding is not computed. Only for training where
    /// [`ForwardContext::leaves_padding_out`].
    pub(crate) fn of_sequences(sequences: Arc<Sequences>) -> Self {
        Self { sequences: Some(sequences), ..Self::default() }
    }

    /// Whether layers that begin with `embedded` are faster without padding.
    pub(crate) fn leaves_padding_out(embedded: &Tensor<3>) -> bool {
        embedded.is_autodiff() && fuses_products(embedded)
    }

    /// Adds a trained `bias: [1, heads, length, length]` to the scores as well.
    pub(crate) fn with_bias(&self, bias: Tensor<4>) -> Self {
        let added = match &self.mask {
            Some(mask) => bias + mask.added.clone(),
            None => bias,
        };
        Self { mask: Some(ScoreMask { added, kind: MaskKind::Trained }), ..self.clone() }
    }

    /// Puts the smallest number in the place of scores where `hidden: [batch, 1, length, length]` is
    /// true; `like` has the scores' format.
    pub(crate) fn hiding(&self, hidden: Tensor<4, Bool>, like: &Tensor<3>) -> Self {
        // Added to scores of any size, the smallest number leaves the smallest number.
        let added = hiding_mask(hidden.clone(), like);
        let kind = MaskKind::Replacing(hidden);
        Self { mask: Some(ScoreMask { added, kind }), ..self.clone() }
    }

    /// Whether hidden states are rows of tokens alone.
    pub(crate) fn is_unpadded(&self) -> bool {
        self.sequences.is_some()
    }

    /// Number and length of the sequences that `hidden_states` belong to.
    pub(crate) fn dims(&self, hidden_states: &Tensor<3>) -> [usize; 2] {
        match &self.sequences {
            Some(sequences) => [sequences.count(), sequences.length()],
            None => [hidden_states.dims()[0], hidden_states.dims()[1]],
        }
    }

    /// The rows that layers compute, of `[batch, length, d]`: all of them, or `[1, tokens, d]`.
    pub(crate) fn rows(&self, padded: Tensor<3>) -> Tensor<3> {
        let Some(sequences) = &self.sequences else { return padded };
        let [batch, length, d] = padded.dims();
        select(padded.reshape([batch * length, d]), sequences.places()).unsqueeze()
    }

    /// [`ForwardContext::rows`] undone: `[batch, length, d]`, with any token's row where padding is.
    pub(crate) fn padded(&self, rows: Tensor<3>) -> Tensor<3> {
        let Some(sequences) = &self.sequences else { return rows };
        let [_, tokens, d] = rows.dims();
        let padded = select(rows.reshape([tokens, d]), sequences.padded());
        padded.reshape([sequences.count(), sequences.length(), d])
    }
}

/// A mask to add to scores, in the format of `like`: 0, and its smallest finite number where `hidden`
/// is true.
pub(crate) fn hiding_mask(hidden: Tensor<4, Bool>, like: &Tensor<3>) -> Tensor<4> {
    let zeros = Tensor::zeros(hidden.dims(), (&like.device(), like.dtype()));
    zeros.mask_fill(hidden, smallest(like))
}

/// The smallest finite number of a tensor's format.
pub(super) fn smallest<const D: usize>(tensor: &Tensor<D>) -> f64 {
    tensor.dtype().finfo().map_or(f64::from(f32::MIN), |info| info.min)
}

fn select(rows: Tensor<2>, numbers: Vec<i32>) -> Tensor<2> {
    let count = numbers.len();
    let numbers = TensorData::new(numbers, [count]);
    let numbers = Tensor::<1, Int>::from_data(numbers, &rows.device());
    rows.select(0, numbers)
}
