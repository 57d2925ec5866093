//! Cuts long texts before they are tokenized: a tokenizer takes about a hundred bytes of memory for
//! each byte of text, and truncation drops most tokens of a long text.
//!
//! Texts are cut only where neither words nor added tokens can span the cut, so the tokens of a
//! text's beginning are the first tokens of the text.

use serde_json::Value;
use tokenizers::{ModelWrapper, Tokenizer};

/// Bytes to tokenize first: so many for each token that is needed, and at least [`LEAST_BYTES`].
const BYTES_A_TOKEN: usize = 16;
const LEAST_BYTES: usize = 4096;

/// Bytes to keep at each end of a longer run of letters and digits. WordPiece reads words of up to
/// 100 characters, so such a run is one unknown token anyway.
const LONGEST_RUN: usize = 1024;

/// The places where a tokenizer allows cuts.
#[derive(Debug, Clone, Default)]
pub(super) struct Cuts {
    /// Before a single space between ASCII letters or digits.
    spaces: bool,
    /// Between two ideographs, and between one and a comma or full stop.
    ideographs: bool,
    /// Within words that are too long: each is one unknown token, however long it is.
    long_words: bool,
}

impl Cuts {
    /// The places that normalizer, pre-tokenizer, model and added tokens allow.
    pub(super) fn of(tokenizer: &Tokenizer) -> Self {
        let json = |value: serde_json::Result<Value>| value.unwrap_or_default();
        let normalizer = json(serde_json::to_value(tokenizer.get_normalizer()));
        let splits = json(serde_json::to_value(tokenizer.get_pre_tokenizer()));
        let added = tokenizer.get_added_vocabulary().get_added_tokens_decoder();
        let contents = || added.values().map(|token| token.content.as_str());
        let none_has = |unwanted: fn(char) -> bool| !contents().any(|c| c.contains(unwanted));
        // An added token that takes in the spaces beside it may not begin or end like a word.
        let greedy = added.values().filter(|token| token.lstrip || token.rstrip);
        let ends = |text: &str| [text.chars().next(), text.chars().next_back()];
        let greedy_words = greedy.flat_map(|token| ends(&token.content)).flatten();
        let spaces = local(&normalizer, is_bytes(&splits))
            && words(&splits)
            && none_has(char::is_whitespace)
            && !greedy_words.into_iter().any(|end| end.is_ascii_alphanumeric());
        let bert = splits["type"] == "BertPreTokenizer" && normalizer["type"] == "BertNormalizer";
        let chinese = normalizer["handle_chinese_chars"] == true;
        let word_piece = match tokenizer.get_model() {
            ModelWrapper::WordPiece(model) => model.max_input_chars_per_word <= LONGEST_RUN / 2,
            _ => false,
        };
        let one_word = |text: &str| text.chars().all(|c| c.is_ascii_alphanumeric());
        Self {
            spaces,
            ideographs: spaces && bert && chinese && none_has(|c| ideograph(c) || stop(c)),
            long_words: spaces && bert && word_piece && !contents().any(one_word),
        }
    }

    /// The last place up to `most` where `text` may be cut, or else the first place after it, or
    /// else its end.
    fn place(&self, text: &str, most: usize) -> usize {
        if !self.spaces || text.len() <= most {
            return text.len();
        }
        let before = (1..=most).rev().find(|&at| self.may_cut(text, at));
        let after = || (most + 1..text.len()).find(|&at| self.may_cut(text, at));
        before.or_else(after).unwrap_or(text.len())
    }

    fn may_cut(&self, text: &str, at: usize) -> bool {
        let bytes = text.as_bytes();
        let letter = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_alphanumeric);
        if bytes[at] == b' ' {
            return letter(at - 1) && letter(at + 1);
        }
        if !self.ideographs || !text.is_char_boundary(at) {
            return false;
        }
        let around = (text[..at].chars().next_back(), text[at..].chars().next());
        match around {
            (Some(left), Some(right)) => ideograph(left) && (ideograph(right) || stop(right)),
            _ => false,
        }
    }

    /// The text without the middles of very long words, if there are any and that changes no token.
    pub(super) fn shortened(&self, text: &str) -> Option<String> {
        if !self.long_words || text.len() <= LEAST_BYTES {
            return None;
        }
        let mut short: Option<String> = None;
        let (mut copied, mut start) = (0, 0);
        let bytes = text.as_bytes();
        for at in 0..=bytes.len() {
            if bytes.get(at).is_some_and(u8::is_ascii_alphanumeric) {
                continue;
            }
            if at - start > 2 * LONGEST_RUN {
                let short = short.get_or_insert_default();
                short.push_str(&text[copied..start + LONGEST_RUN]);
                copied = at - LONGEST_RUN;
            }
            start = at + 1;
        }
        short.map(|short| short + &text[copied..])
    }

    /// Encodes longer and longer beginnings of `text`, until one has at least `tokens` tokens or is
    /// the whole text. Returns also whether it is the whole text.
    pub(super) fn encode_until<T, E>(
        &self,
        text: &str,
        tokens: usize,
        encode: impl Fn(&str) -> Result<T, E>,
        length: impl Fn(&T) -> usize,
    ) -> Result<(T, bool), E> {
        let mut most = tokens.saturating_mul(BYTES_A_TOKEN).max(LEAST_BYTES);
        loop {
            let end = self.place(text, most);
            let encoding = encode(&text[..end])?;
            if end == text.len() || length(&encoding) >= tokens {
                return Ok((encoding, end == text.len()));
            }
            most = end.max(most).saturating_mul(4);
        }
    }

    /// Whether `text` has more tokens than `pair`. Counts both piece by piece, no further than
    /// needed.
    pub(super) fn is_longer<E>(
        &self,
        text: &str,
        pair: &str,
        count: impl Fn(&str) -> Result<usize, E>,
    ) -> Result<bool, E> {
        let mut rest = [text, pair];
        let mut counted = [0, 0];
        loop {
            // Count on with the text that has fewer tokens so far; if equal, with one that is not
            // at its end.
            let ahead = match counted[0].cmp(&counted[1]) {
                std::cmp::Ordering::Less => 1,
                std::cmp::Ordering::Greater => 0,
                std::cmp::Ordering::Equal => usize::from(!rest[0].is_empty()),
            };
            let behind = 1 - ahead;
            if rest[behind].is_empty() {
                return Ok(counted[0] > counted[1]);
            }
            let end = self.place(rest[behind], 16 * LEAST_BYTES);
            counted[behind] += count(&rest[behind][..end])?;
            rest[behind] = &rest[behind][end..];
        }
    }
}

/// Whether a normalizer treats the texts before and after a space between letters independently.
/// With byte-level words (`bytes`), spaces at the ends of a text are tokens, so it must not strip
/// them.
fn local(normalizer: &Value, bytes: bool) -> bool {
    match normalizer["type"].as_str() {
        None => normalizer.is_null(),
        Some("Sequence") => {
            let parts = normalizer["normalizers"].as_array();
            parts.is_some_and(|parts| parts.iter().all(|part| local(part, bytes)))
        }
        Some("Strip") => !bytes,
        Some("Replace") => {
            let pattern = normalizer["pattern"]["Regex"].as_str();
            matches!(pattern, Some(r"\s{2,}|[\n\r\t]" | " {2,}"))
        }
        Some(kind) => matches!(
            kind,
            "BertNormalizer"
                | "NFC"
                | "NFD"
                | "NFKC"
                | "NFKD"
                | "Lowercase"
                | "StripAccents"
                | "Nmt"
                | "Precompiled"
        ),
    }
}

/// Whether a pre-tokenizer splits at a space between letters.
fn words(splits: &Value) -> bool {
    match splits["type"].as_str() {
        Some("BertPreTokenizer" | "Whitespace" | "WhitespaceSplit") => true,
        Some("ByteLevel") => splits["use_regex"] != false,
        Some("Metaspace") => splits["split"] != false && splits["prepend_scheme"] != "never",
        Some("Sequence") => match splits["pretokenizers"].as_array().map(Vec::as_slice) {
            Some([only]) => words(only),
            Some([first, only]) => first["type"] == "Punctuation" && words(only),
            _ => false,
        },
        _ => false,
    }
}

fn is_bytes(splits: &Value) -> bool {
    splits.to_string().contains("ByteLevel")
}

/// Whether BERT's normalizer puts spaces around a character. Rarer ranges are left out.
fn ideograph(c: char) -> bool {
    matches!(c, '\u{4e00}'..='\u{9fff}')
}

fn stop(c: char) -> bool {
    matches!(c, '\u{3001}' | '\u{3002}' | '\u{ff0c}')
}

#[cfg(test)]
#[path = "long_texts_tests.rs"]
mod tests;
