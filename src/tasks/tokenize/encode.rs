//! Tokenizes texts, truncates them and adds special tokens.

use tokenizers::{PostProcessor, truncate_encodings};

use super::damage::guarded;
use super::{Encoding, TextTokenizer, TruncationDirection, TruncationParams, TruncationStrategy};
use crate::{Error, Result};

impl TextTokenizer {
    /// Tokens of a text, without special tokens and not truncated.
    pub(super) fn words(&self, text: &str, offsets: bool) -> Result<Encoding> {
        let short = if offsets { None } else { self.cuts.shortened(text) };
        let text = short.as_deref().unwrap_or(text);
        let encoding = guarded(|| match offsets {
            true => self.tokenizer.encode(text, false),
            false => self.tokenizer.encode_fast(text, false),
        });
        encoding.map_err(|error| Error::format(&self.origin, error.to_string()))
    }

    /// Tokens of a text or pair, or of their beginnings if truncation drops the rest.
    ///
    /// Texts without places to cut, and texts that are truncated at their left, are tokenized
    /// whole. Of a pair the longer text is truncated first, and keeps one token more if their
    /// number is odd. So if both are too long, their tokens are counted to the end of the shorter
    /// text.
    pub(super) fn beginnings(
        &self,
        text: &str,
        pair: Option<&str>,
        encode: impl Fn(&str) -> Result<Encoding>,
    ) -> Result<(Encoding, Option<Encoding>)> {
        if self.direction == TruncationDirection::Left {
            return Ok((encode(text)?, pair.map(encode).transpose()?));
        }
        let room = self.max_length.saturating_sub(self.added_tokens(pair.is_some()));
        let until = |text| self.cuts.encode_until(text, room + 2, &encode, Encoding::len);
        let (mut first, whole) = until(text)?;
        let Some(pair) = pair else { return Ok((first, None)) };
        let (mut second, pair_whole) = until(pair)?;
        // If one text is whole and the other one's beginning has more tokens already, the other is
        // longer.
        let known = (whole && (pair_whole || first.len() < second.len()))
            || (pair_whole && second.len() < first.len());
        if !known && room % 2 == 1 {
            let count = |text: &str| self.words(text, false).map(|encoding| encoding.len());
            let first_is_longer = self.cuts.is_longer(text, pair, count)?;
            let shorter = if first_is_longer { &mut second } else { &mut first };
            shorter.truncate(room + 1, 0, TruncationDirection::Right);
        }
        Ok((first, Some(second)))
    }

    /// Truncates and adds special tokens. If `pieces`, the encoding keeps what is cut off.
    pub(super) fn finish(
        &self,
        text: Encoding,
        mut pair: Option<Encoding>,
        truncation: &TruncationParams,
        pieces: bool,
    ) -> Result<Encoding> {
        let finish = || {
            if let Some(pair) = &mut pair {
                pair.set_type_ids(vec![1; pair.len()]);
            }
            let room = truncation.max_length.saturating_sub(self.added_tokens(pair.is_some()));
            let params = TruncationParams { max_length: room, ..truncation.clone() };
            let lengths = (text.len(), pair.as_ref().map(Encoding::len));
            check_room(lengths, &params)?;
            let (mut text, mut pair) = truncate_encodings(text, pair, &params)?;
            if !pieces {
                text.take_overflowing();
                if let Some(pair) = &mut pair {
                    pair.take_overflowing();
                }
            }
            match &self.post_processor {
                Some(processor) => processor.process(text, pair, true),
                None => {
                    let both = [Some(text), pair].into_iter().flatten().collect();
                    let both = <dyn PostProcessor>::default_process(both, true)?;
                    Ok(Encoding::merge(both, false))
                }
            }
        };
        let mut encoding =
            guarded(finish).map_err(|error| Error::format(&self.origin, error.to_string()))?;
        if !self.typed {
            let pieces = encoding.get_overflowing_mut().iter_mut();
            pieces.for_each(|piece| piece.set_type_ids(vec![0; piece.len()]));
            encoding.set_type_ids(vec![0; encoding.len()]);
        }
        self.check_embedded(&encoding)?;
        Ok(encoding)
    }

    /// Truncation to the maximum length: the longer text loses tokens first, at the side that the
    /// files name.
    pub(super) fn truncation(&self) -> TruncationParams {
        TruncationParams {
            max_length: self.max_length,
            strategy: TruncationStrategy::LongestFirst,
            direction: self.direction,
            stride: 0,
        }
    }

    /// Number of special tokens that are added to a text or pair.
    pub(super) fn added_tokens(&self, is_pair: bool) -> usize {
        self.post_processor.as_ref().map_or(0, |processor| processor.added_tokens(is_pair))
    }
}

/// Rejects pieces no longer than their overlap, over which `truncate_encodings` panics. `lengths`
/// are those of the text and its pair; the lengths in `params` exclude special tokens.
fn check_room(
    lengths: (usize, Option<usize>),
    params: &TruncationParams,
) -> tokenizers::Result<()> {
    let TruncationParams { max_length, strategy, stride, .. } = *params;
    let (text, pair) = (lengths.0, lengths.1.unwrap_or(0));
    if text + pair <= max_length {
        return Ok(());
    }
    let piece = match strategy {
        TruncationStrategy::OnlyFirst => max_length.saturating_sub(pair),
        TruncationStrategy::OnlySecond => max_length.saturating_sub(text),
        TruncationStrategy::LongestFirst if lengths.1.is_some() => max_length / 2,
        TruncationStrategy::LongestFirst => max_length,
    };
    if stride > 0 && stride >= piece {
        let message = format!(
            "texts of {text} and {pair} tokens leave pieces of {piece}, no more than their overlap, \
             doc_stride ({stride}); lower doc_stride or raise max_length"
        );
        return Err(message.into());
    }
    Ok(())
}
