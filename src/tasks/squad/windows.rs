//! Encodes questions with their contexts as windows of bounded length.

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

use rayon::prelude::*;

use super::{QaAnswer, QaExample, QaSettings};
use crate::tasks::tokenize::{Encoding, TruncationDirection, TruncationParams};
use crate::tasks::tokenize::{TextTokenizer, TruncationStrategy};
use crate::{Error, Result};

/// A question with a piece of its context, encoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QaWindow {
    /// Index of the question among the examples.
    pub example: usize,
    /// Token ids, `[length]`.
    pub input_ids: Vec<u32>,
    /// 0 for the question, 1 for the context if the tokenizer distinguishes them, `[length]`.
    pub token_type_ids: Vec<u32>,
    /// The tokens that are of the context.
    pub context: Range<usize>,
    /// For each token of `context`, the characters of the context that it covers: start and end.
    pub offsets: Vec<(usize, usize)>,
    /// First and last token of the first answer; (0, 0), the first special token, if the window
    /// does not hold all of it.
    pub answer: (usize, usize),
}

/// Tokens to keep of a question that is too long: `max_query_length` of BERT's `run_squad.py` and
/// of `transformers`.
const LONGEST_QUESTION: usize = 64;

/// Cuts the contexts of `examples` into windows that overlap by `doc_stride` tokens, each after its
/// question. A question that leaves no room for new tokens of the context is cut to 64 tokens, or
/// to half of the window if that is less. Windows of the same example are adjacent.
///
/// # Errors
/// If the overlap leaves no room for new tokens of a context, or a text cannot be tokenized.
pub fn encode_windows(
    tokenizer: &TextTokenizer,
    examples: &[QaExample],
    settings: &QaSettings,
) -> Result<Vec<QaWindow>> {
    encode_each(tokenizer, examples, settings, |window| window)
}

/// As [`encode_windows`], but without offsets: training does not need them, and they are most of a
/// window's memory.
///
/// # Errors
/// As [`encode_windows`].
pub fn encode_training_windows(
    tokenizer: &TextTokenizer,
    examples: &[QaExample],
    settings: &QaSettings,
) -> Result<Vec<QaWindow>> {
    encode_each(tokenizer, examples, settings, |window| QaWindow { offsets: Vec::new(), ..window })
}

fn encode_each(
    tokenizer: &TextTokenizer,
    examples: &[QaExample],
    settings: &QaSettings,
    kept: impl Fn(QaWindow) -> QaWindow + Sync,
) -> Result<Vec<QaWindow>> {
    let truncation = TruncationParams {
        max_length: tokenizer.max_length(),
        strategy: TruncationStrategy::OnlySecond,
        stride: settings.doc_stride,
        direction: TruncationDirection::Right,
    };
    let cut = AtomicUsize::new(0);
    let windows = examples.par_iter().enumerate().map(|(at, example)| {
        let question = example.question.trim_start();
        let encode = |text: &str| tokenizer.encode_with(text, Some(&example.context), &truncation);
        let encoding = encode(question).or_else(|error| {
            let failed = |error: Error| {
                let message = match error {
                    // The tokenizer's file is not at fault.
                    Error::Format { message, .. } => message,
                    other => other.to_string(),
                };
                Error::option("doc_stride", format!("question {}: {message}", example.id))
            };
            match shortened(tokenizer, question, settings.doc_stride).map_err(failed)? {
                Some(shorter) => {
                    cut.fetch_add(1, Ordering::Relaxed);
                    encode(shorter).map_err(failed)
                }
                None => Err(failed(error)),
            }
        })?;
        let characters = Characters::of(&example.context);
        let pieces = std::iter::once(&encoding).chain(encoding.get_overflowing());
        let windows = pieces.map(|piece| window(at, piece, &characters, &example.answers));
        Ok(windows.map(&kept).collect())
    });
    let windows: Vec<Vec<QaWindow>> = windows.collect::<Result<_>>()?;
    match cut.into_inner() {
        0 => {}
        count => log::warn!(
            "{count} questions were cut: they leave no room for their contexts in {} tokens",
            tokenizer.max_length()
        ),
    }
    Ok(windows.into_iter().flatten().collect())
}

/// The beginning of a question that leaves room for its context; `None` if it is short enough, or
/// nothing of it would be left.
fn shortened<'a>(
    tokenizer: &TextTokenizer,
    question: &'a str,
    stride: usize,
) -> Result<Option<&'a str>> {
    let alone = TruncationParams {
        max_length: tokenizer.max_length(),
        strategy: TruncationStrategy::OnlyFirst,
        stride: 0,
        direction: TruncationDirection::Right,
    };
    let encoding = tokenizer.encode_with(question, None, &alone)?;
    let of_question = |(at, id): (usize, &Option<usize>)| (*id == Some(0)).then_some(at);
    let tokens: Vec<usize> =
        encoding.get_sequence_ids().iter().enumerate().filter_map(of_question).collect();
    let special = tokenizer.encode_with("", Some(""), &alone)?.len();
    let room = tokenizer.max_length().saturating_sub(special);
    let most = LONGEST_QUESTION.min(room / 2).min(room.saturating_sub(stride + 1));
    if most == 0 || tokens.len() <= most {
        return Ok(None);
    }
    let (_, end) = encoding.get_offsets()[tokens[most - 1]];
    Ok(question.get(..end))
}

/// The character that each byte of a text belongs to.
struct Characters(Vec<usize>);

impl Characters {
    fn of(text: &str) -> Self {
        let mut at = Vec::with_capacity(text.len() + 1);
        for (index, character) in text.chars().enumerate() {
            at.resize(at.len() + character.len_utf8(), index);
        }
        at.push(text.chars().count());
        Self(at)
    }

    /// The characters that a range of bytes overlaps.
    fn range(&self, (start, end): (usize, usize)) -> (usize, usize) {
        let at = |byte: usize| self.0.get(byte).or(self.0.last()).copied().unwrap_or(0);
        // A character that is only partly in the range counts as a whole.
        let last = self.0.len() - 1;
        let end = if end == 0 { 0 } else { at(end.min(last).max(1) - 1) + 1 };
        (at(start), end.min(self.0[last]))
    }
}

fn window(
    example: usize,
    piece: &Encoding,
    characters: &Characters,
    answers: &[QaAnswer],
) -> QaWindow {
    let sequence = piece.get_sequence_ids();
    let of_context = |id: &Option<usize>| *id == Some(1);
    let context = match sequence.iter().position(of_context) {
        Some(first) => first..sequence.iter().rposition(of_context).unwrap_or(first) + 1,
        None => 0..0,
    };
    let offsets: Vec<(usize, usize)> =
        piece.get_offsets()[context.clone()].iter().map(|&range| characters.range(range)).collect();
    let answer = answers.first().and_then(|answer| {
        let begin = answer.start?;
        let end = begin + answer.text.chars().count();
        let (first, last) = (offsets.first()?, offsets.last()?);
        if first.0 > begin || last.1 < end {
            return None;
        }
        let start = offsets.iter().rposition(|offset| offset.0 <= begin)?;
        let end = offsets.iter().position(|offset| offset.1 >= end)?;
        Some((context.start + start, context.start + end))
    });
    QaWindow {
        example,
        input_ids: piece.get_ids().to_vec(),
        token_type_ids: piece.get_type_ids().to_vec(),
        context,
        offsets,
        answer: answer.unwrap_or((0, 0)),
    }
}

#[cfg(test)]
#[path = "windows_tests.rs"]
mod tests;
