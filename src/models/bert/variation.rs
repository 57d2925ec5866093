//! Differences between BERT and its close relatives.

use super::BertConfig;

/// How an architecture of BERT's layers differs from BERT; the default is BERT itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BertVariation {
    /// Whether segments have embeddings.
    pub token_types: bool,
    /// How tokens get their positions.
    pub positions: Positions,
    /// Buckets of a relative attention bias that all layers share, if there is one.
    pub relative_attention_num_buckets: Option<usize>,
}

impl Default for BertVariation {
    fn default() -> Self {
        Self {
            token_types: true,
            positions: Positions::FromZero,
            relative_attention_num_buckets: None,
        }
    }
}

impl BertVariation {
    /// The token whose embedding gets no gradient.
    pub(super) fn padding_token(&self, config: &BertConfig) -> Option<usize> {
        match self.positions {
            Positions::FromZero => config.pad_token_id,
            Positions::AfterPadding(padding) => Some(padding),
        }
    }
}

/// How tokens get their positions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Positions {
    /// 0, 1, 2, …, padding included.
    FromZero,
    /// From the padding token's id + 1 on, as fairseq counts them: padding tokens are not counted
    /// and have their id as position.
    AfterPadding(usize),
}

impl Positions {
    /// Longest sequence that `max_position_embeddings` positions are enough for.
    pub fn room(self, max_position_embeddings: usize) -> usize {
        match self {
            Self::FromZero => max_position_embeddings,
            Self::AfterPadding(padding) => max_position_embeddings.saturating_sub(padding + 1),
        }
    }
}
