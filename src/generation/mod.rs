//! Text generation with a cache: greedy decoding and beam search, as Hugging Face's `generate`
//! defines them.
//!
//! ```text
//! input ─ start ─► cache            the encoder once; keys and values of the cross-attention
//!          ┌─────────┐
//! tokens ─ step ─ logits ─ the best candidates ─ search ─► next tokens, parents ─┐
//!          └──────── cache ◄──────────────── reorder ◄───────────────────────────┘
//! ```
//!
//! The model lives on the device and does a few large operations a token; the search runs on the
//! host and sees only the best candidates of each hypothesis. What a decoder remembers is in its
//! cache, not in the model, so generations do not disturb each other.
//!
//! <https://github.com/huggingface/transformers/blob/v5.0.0/src/transformers/generation/utils.py>

mod beam;
mod candidates;
mod config;
mod generate;
mod rules;
#[cfg(test)]
mod tests;

pub use config::{DEFAULT_NEW_TOKENS, EarlyStopping, GenerationConfig, TokenIds};
pub use generate::{Generated, generate};

use burn::tensor::Tensor;

use crate::Result;

/// A model that decodes token by token, remembering what it has computed.
///
/// Row `i` of a generation with `b` beams is hypothesis `i % b` of example `i / b`.
pub trait CachedDecoder {
    /// The state between tokens; the model keeps nothing of a generation.
    type Cache;
    /// Input that is read once, before the first token.
    type Input;

    /// Number of examples in an input.
    fn examples(input: &Self::Input) -> usize;

    /// Number of tokens in the vocabulary.
    fn vocab_size(&self) -> usize;

    /// Longest sequence that can be decoded, in tokens.
    fn max_length(&self) -> usize;

    /// Makes ready to decode up to `max_length` tokens for `beams` hypotheses of every example.
    ///
    /// # Errors
    /// If the input cannot be decoded, such as one that is too long.
    fn start(&self, input: &Self::Input, beams: usize, max_length: usize) -> Result<Self::Cache>;

    /// Appends a token to every row; gives the logits `[rows, vocab_size]` of the next.
    fn step(&self, tokens: &[u32], cache: &mut Self::Cache) -> Tensor<2>;

    /// Makes row `i` continue what row `parents[i]`, of the same example, was.
    fn reorder(&self, parents: &[usize], cache: &mut Self::Cache);
}
