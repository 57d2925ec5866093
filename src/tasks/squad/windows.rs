//! Question and context as windows of bounded length.

use std::ops::Range;

use rayon::prelude::*;

use super::{QaAnswer, QaExample, QaSettings};
use crate::tasks::tokenize::{Encoding, TruncationDirection, TruncationParams};
use crate::tasks::tokenize::{TextTokenizer, TruncationStrategy};
use crate::{Error, Result};

/// A question with a piece of its context, as the model takes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QaWindow {
    /// Index of the question among the examples.
    pub example: usize,
    /// Token ids, `[length]`.
    pub input_ids: Vec<u32>,
    /// 0 for the question, 1 for the context, where the tokenizer tells them apart, `[length]`.
    pub token_type_ids: Vec<u32>,
    /// Tokens of the context.
    pub context: Range<usize>,
    /// The context's characters that each token of `context` covers: start and end.
    pub offsets: Vec<(usize, usize)>,
    /// First and last token of the first answer; (0, 0), the first special token, where the window
    /// does not hold it whole.
    pub answer: (usize, usize),
}

/// Cuts the contexts of `examples` into windows that overlap by `doc_stride` tokens, each behind
/// its whole question. All windows of an example follow each other.
///
/// # Errors
/// If a question leaves no room for its context, or a text cannot be tokenized.
pub fn encode_windows(
    tokenizer: &TextTokenizer,
    examples: &[QaExample],
    settings: &QaSettings,
) -> Result<Vec<QaWindow>> {
    let truncation = TruncationParams {
        max_length: tokenizer.max_length(),
        strategy: TruncationStrategy::OnlySecond,
        stride: settings.doc_stride,
        direction: TruncationDirection::Right,
    };
    let windows = examples.par_iter().enumerate().map(|(at, example)| {
        let question = example.question.trim_start();
        let encoding = tokenizer.encode_with(question, Some(&example.context), &truncation);
        let encoding = encoding.map_err(|error| {
            let message = format!("question {}: {error}", example.id);
            Error::option("max_length", message)
        })?;
        let characters = Characters::of(&example.context);
        let pieces = std::iter::once(&encoding).chain(encoding.get_overflowing());
        Ok(pieces.map(|piece| window(at, piece, &characters, &example.answers)).collect())
    });
    let windows: Vec<Vec<QaWindow>> = windows.collect::<Result<_>>()?;
    Ok(windows.into_iter().flatten().collect())
}

/// Which character each byte of a text belongs to.
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

    /// The characters that a range of bytes touches.
    fn range(&self, (start, end): (usize, usize)) -> (usize, usize) {
        let at = |byte: usize| self.0.get(byte).or(self.0.last()).copied().unwrap_or(0);
        // A character of which the range has a part counts whole.
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
        let end = answer.start + answer.text.chars().count();
        let (first, last) = (offsets.first()?, offsets.last()?);
        if first.0 > answer.start || last.1 < end {
            return None;
        }
        let start = offsets.iter().rposition(|offset| offset.0 <= answer.start)?;
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
