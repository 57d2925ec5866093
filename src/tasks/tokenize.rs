//! Text to token ids, with Hugging Face's `tokenizers`.

mod byte_level;
mod wordpiece;

use std::path::{Path, PathBuf};

use rayon::prelude::*;
use serde_json::{Map, Value};
pub use tokenizers::{Encoding, TruncationDirection, TruncationParams, TruncationStrategy};
use tokenizers::{PostProcessor, PostProcessorWrapper, Tokenizer, truncate_encodings};

use super::batch::EncodedExample;
use super::rows::read_text;
use super::{Example, TextDataset};
use crate::{Error, Result};

/// A model's tokenizer with a maximum length. It adds special tokens and truncates; it never pads.
#[derive(Debug, Clone)]
pub struct TextTokenizer {
    /// Without truncation, padding and post-processor. A `Tokenizer` that knows its maximum length
    /// stops reading a text once it is reached, and then cannot tell which text of a pair is the
    /// longer; so truncation and special tokens come in a second step, here.
    tokenizer: Tokenizer,
    /// Adds the special tokens.
    post_processor: Option<PostProcessorWrapper>,
    /// `tokenizer_config.json`, with at least `pad_token`.
    config: Map<String, Value>,
    max_length: usize,
    pad_id: u32,
    /// Tokens that the model embeds, if not all.
    embedded: Option<u32>,
    /// The file it was read from, for messages.
    origin: PathBuf,
}

impl TextTokenizer {
    /// Reads the tokenizer of a model folder in Hugging Face's layout: `tokenizer.json`, or else
    /// BERT's WordPiece from `vocab.txt`, or else BART's and RoBERTa's byte-level BPE from
    /// `vocab.json` and `merges.txt`; `tokenizer_config.json` and `config.json` are heeded if
    /// they are there. Any truncation or padding stored in the files is replaced by truncation to
    /// `max_length` tokens, special ones included.
    ///
    /// # Errors
    /// If the folder has neither file, one is broken, there is no padding token, or `max_length`
    /// leaves no room beside the special tokens of a pair.
    pub fn from_folder(folder: impl AsRef<Path>, max_length: usize) -> Result<Self> {
        let folder = folder.as_ref();
        let config = read_object(&folder.join("tokenizer_config.json"))?.unwrap_or_default();
        let json = folder.join("tokenizer.json");
        let vocab = folder.join("vocab.txt");
        let (tokenizer, origin) = if json.is_file() {
            let text = read_text(&json)?;
            let tokenizer = text.parse::<Tokenizer>();
            let tokenizer = tokenizer.map_err(|error| {
                Error::format(&json, format!("not a tokenizer of Hugging Face's format: {error}"))
            })?;
            (tokenizer, json)
        } else if vocab.is_file() {
            (wordpiece::build(&read_text(&vocab)?, &config, &vocab)?, vocab)
        } else if folder.join("vocab.json").is_file() {
            (byte_level::build(folder, &config)?, folder.join("vocab.json"))
        } else if folder.is_dir() {
            return Err(Error::format(
                folder,
                "no tokenizer.json, vocab.txt or vocab.json; save the model's tokenizer here with \
                 transformers' AutoTokenizer.from_pretrained(…).save_pretrained(…)",
            ));
        } else {
            return Err(Error::format(folder, "no such folder; a model's folder is expected"));
        };
        let model_config = read_object(&folder.join("config.json"))?.unwrap_or_default();
        Self::assemble(tokenizer, config, &model_config, max_length, origin)
    }

    /// Makes a tokenizer of the contents of `tokenizer.json` and, if at hand,
    /// `tokenizer_config.json`; see [`TextTokenizer::from_folder`].
    ///
    /// # Errors
    /// Those of [`TextTokenizer::from_folder`].
    pub fn from_bytes(json: &[u8], config: Option<&[u8]>, max_length: usize) -> Result<Self> {
        let origin = PathBuf::from("embedded tokenizer.json");
        let tokenizer = Tokenizer::from_bytes(json)
            .map_err(|error| Error::format(&origin, error.to_string()))?;
        let config = config.map(serde_json::from_slice).transpose().map_err(|error| {
            Error::format("embedded tokenizer_config.json", format!("not a JSON object: {error}"))
        })?;
        Self::assemble(tokenizer, config.unwrap_or_default(), &Map::new(), max_length, origin)
    }

    fn assemble(
        mut tokenizer: Tokenizer,
        mut config: Map<String, Value>,
        model_config: &Map<String, Value>,
        max_length: usize,
        origin: PathBuf,
    ) -> Result<Self> {
        let pad_id = find_pad_id(&tokenizer, &config, model_config, &origin)?;
        if special_token(&config, "pad_token").is_none()
            && let Some(token) = tokenizer.id_to_token(pad_id)
        {
            config.insert("pad_token".into(), token.into());
        }
        tokenizer.with_padding(None);
        tokenizer
            .with_truncation(None)
            .map_err(|error| Error::format(&origin, error.to_string()))?;
        let post_processor = tokenizer.get_post_processor().cloned();
        tokenizer.with_post_processor(None::<PostProcessorWrapper>);
        let embedded = None;
        Self { tokenizer, post_processor, config, max_length, pad_id, embedded, origin }
            .with_max_length(max_length)
    }

    /// The same tokenizer, truncating to `max_length` tokens, special ones included: from a pair,
    /// tokens are taken off the longer text first (`longest_first`).
    ///
    /// # Errors
    /// If `max_length` leaves no room beside the special tokens of a pair.
    pub fn with_max_length(mut self, max_length: usize) -> Result<Self> {
        let special = self.added_tokens(true);
        if max_length <= special {
            let message = format!(
                "{max_length} tokens leave no room for text beside {special} special tokens"
            );
            return Err(Error::option("max_length", message));
        }
        self.max_length = max_length;
        Ok(self)
    }

    /// The same tokenizer for a model that embeds `count` tokens. Special tokens beyond them are no
    /// fault (BART's summarizers have no row for `<mask>`), but a text that has one is.
    ///
    /// # Errors
    /// If an ordinary token is beyond them: tokenizer and model do not belong together.
    pub fn with_embeddings(mut self, count: usize) -> Result<Self> {
        let added = self.tokenizer.get_added_tokens_decoder();
        let special = |id: &u32| added.get(id).is_some_and(|token| token.special);
        let vocabulary = self.tokenizer.get_vocab(true);
        let mut beyond = vocabulary.values().filter(|id| **id as usize >= count).peekable();
        if beyond.peek().is_none() {
            return Ok(self);
        }
        if !beyond.all(special) {
            let tokens = vocabulary.values().max().map_or(0, |last| *last as usize + 1);
            let message = format!(
                "the tokenizer has {tokens} tokens but the model embeddings for {count}: they do \
                 not belong together"
            );
            return Err(Error::format(&self.origin, message));
        }
        self.embedded = u32::try_from(count).ok();
        Ok(self)
    }

    /// An error if a token has no embedding.
    fn check_embedded(&self, encoding: &Encoding) -> Result<()> {
        let Some(count) = self.embedded else { return Ok(()) };
        let Some(id) = encoding.get_ids().iter().find(|id| **id >= count) else {
            return Ok(());
        };
        let token = self.tokenizer.id_to_token(*id).unwrap_or_else(|| id.to_string());
        let message = format!("has {token}, a token that the model has no embedding of");
        Err(Error::option("text", message))
    }

    /// Encodes one text or pair. The encoding's offsets are byte positions in the text it came
    /// from (`get_sequence_ids` tells which), so tokens can be traced back.
    ///
    /// # Errors
    /// If the tokenizer cannot represent the text (a vocabulary without an unknown token).
    pub fn encode(&self, text: &str, pair: Option<&str>) -> Result<Encoding> {
        let encode = |text| self.tokenizer.encode(text, false);
        self.finish(encode(text), pair.map(encode), &self.truncation())
    }

    /// As [`TextTokenizer::encode`], truncated as `truncation` says; its `max_length` counts
    /// special tokens. What is cut off is in the encoding's `get_overflowing`.
    ///
    /// # Errors
    /// Those of [`TextTokenizer::encode`], and if the text to truncate is too short to reach
    /// `max_length`, or pieces would be no longer than their overlap `stride`.
    pub fn encode_with(
        &self,
        text: &str,
        pair: Option<&str>,
        truncation: &TruncationParams,
    ) -> Result<Encoding> {
        let encode = |text| self.tokenizer.encode(text, false);
        let encoding = self.finish(encode(text), pair.map(encode), truncation)?;
        encoding.get_overflowing().iter().try_for_each(|piece| self.check_embedded(piece))?;
        Ok(encoding)
    }

    /// Truncates and adds special tokens.
    fn finish(
        &self,
        text: tokenizers::Result<Encoding>,
        pair: Option<tokenizers::Result<Encoding>>,
        truncation: &TruncationParams,
    ) -> Result<Encoding> {
        let finish = || {
            let (text, mut pair) = (text?, pair.transpose()?);
            if let Some(pair) = &mut pair {
                pair.set_type_ids(vec![1; pair.len()]);
            }
            let room = truncation.max_length.saturating_sub(self.added_tokens(pair.is_some()));
            let params = TruncationParams { max_length: room, ..truncation.clone() };
            let lengths = (text.len(), pair.as_ref().map(Encoding::len));
            check_room(lengths, &params)?;
            let (text, pair) = truncate_encodings(text, pair, &params)?;
            match &self.post_processor {
                Some(processor) => processor.process(text, pair, true),
                None => {
                    let both = [Some(text), pair].into_iter().flatten().collect();
                    let both = <dyn PostProcessor>::default_process(both, true)?;
                    Ok(Encoding::merge(both, false))
                }
            }
        };
        let failed = |error: tokenizers::Error| Error::format(&self.origin, error.to_string());
        let encoding = finish().map_err(failed)?;
        self.check_embedded(&encoding)?;
        Ok(encoding)
    }

    /// Tokens off the longer text first, from the side `tokenizer_config.json` says.
    fn truncation(&self) -> TruncationParams {
        let left = self.config.get("truncation_side").and_then(Value::as_str) == Some("left");
        TruncationParams {
            max_length: self.max_length,
            strategy: TruncationStrategy::LongestFirst,
            direction: if left { TruncationDirection::Left } else { TruncationDirection::Right },
            stride: 0,
        }
    }

    /// Number of special tokens around a text or pair.
    fn added_tokens(&self, is_pair: bool) -> usize {
        self.post_processor.as_ref().map_or(0, |processor| processor.added_tokens(is_pair))
    }

    /// Encodes examples, on all cores, in their order.
    ///
    /// # Errors
    /// Those of [`TextTokenizer::encode`].
    pub fn encode_examples(&self, examples: &[Example]) -> Result<Vec<EncodedExample>> {
        let truncation = self.truncation();
        let encode = |text: &str| self.tokenizer.encode_fast(text, false);
        let examples = examples.par_iter().map(|example| {
            let pair = example.pair.as_deref().map(encode);
            let encoding = self.finish(encode(&example.text), pair, &truncation)?;
            Ok(EncodedExample {
                input_ids: encoding.get_ids().to_vec(),
                token_type_ids: encoding.get_type_ids().to_vec(),
                label: example.label,
            })
        });
        examples.collect()
    }

    /// Encodes a data set: [`TextTokenizer::encode_examples`].
    ///
    /// # Errors
    /// Those of [`TextTokenizer::encode`].
    pub fn encode_dataset(&self, dataset: &TextDataset) -> Result<Vec<EncodedExample>> {
        self.encode_examples(&dataset.examples)
    }

    /// Id of the padding token.
    pub fn pad_id(&self) -> u32 {
        self.pad_id
    }

    /// Tokens an encoding has at most.
    pub fn max_length(&self) -> usize {
        self.max_length
    }

    /// The longest input the model was made for, if the tokenizer's configuration says so.
    pub fn model_max_length(&self) -> Option<usize> {
        // Models without a limit store about 1e30.
        let length = self.config.get("model_max_length")?.as_u64()?;
        usize::try_from(length).ok().filter(|length| *length < 1 << 24)
    }

    /// Number of token ids, added tokens included: the embeddings a model needs at least.
    pub fn vocab_size(&self) -> usize {
        self.tokenizer.get_vocab_size(true)
    }

    /// Text of the tokens, without special ones.
    ///
    /// # Errors
    /// If the tokenizer's decoder fails.
    pub fn decode(&self, ids: &[u32]) -> Result<String> {
        let text = self.tokenizer.decode(ids, true);
        text.map_err(|error| Error::format(&self.origin, error.to_string()))
    }

    /// Contents of a `tokenizer.json` for this tokenizer, without truncation and padding.
    ///
    /// # Errors
    /// If serialization fails.
    pub fn to_json(&self) -> Result<String> {
        let mut whole = self.tokenizer.clone();
        whole.with_post_processor(self.post_processor.clone());
        let json = whole.to_string(false);
        json.map_err(|error| Error::format(&self.origin, error.to_string()))
    }

    /// Contents of a `tokenizer_config.json` for this tokenizer: what was read, and the padding
    /// token.
    pub fn config_json(&self) -> String {
        format!("{:#}", Value::Object(self.config.clone()))
    }
}

/// Refuses what `truncate_encodings` panics on: pieces no longer than their overlap. `lengths` are
/// those of the text and of its pair; `params` leaves out special tokens.
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
            "pieces of a text of {text} and {pair} tokens would have {piece} tokens, no more than \
             their overlap (stride {stride}); raise max_length or shorten the other text"
        );
        return Err(message.into());
    }
    Ok(())
}

/// The padding token's id: from `tokenizer_config.json`, `config.json`, the padding stored in
/// `tokenizer.json`, or by its usual names.
fn find_pad_id(
    tokenizer: &Tokenizer,
    config: &Map<String, Value>,
    model_config: &Map<String, Value>,
    origin: &Path,
) -> Result<u32> {
    if let Some(token) = special_token(config, "pad_token") {
        return tokenizer.token_to_id(token).ok_or_else(|| {
            let message = format!("the padding token {token:?} is not in the vocabulary");
            Error::format(origin, message)
        });
    }
    let stored = model_config.get("pad_token_id").and_then(Value::as_u64);
    let stored = stored.and_then(|id| u32::try_from(id).ok());
    stored
        .or_else(|| tokenizer.get_padding().map(|padding| padding.pad_id))
        .or_else(|| ["[PAD]", "<pad>"].iter().find_map(|token| tokenizer.token_to_id(token)))
        .ok_or_else(|| {
            let message = "no padding token; name one as pad_token in tokenizer_config.json";
            Error::format(origin, message)
        })
}

/// A special token of `tokenizer_config.json`: a string, or an object with `content`.
fn special_token<'a>(config: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    let value = config.get(name)?;
    value.as_str().or_else(|| value.get("content")?.as_str())
}

fn read_object(path: &Path) -> Result<Option<Map<String, Value>>> {
    if !path.is_file() {
        return Ok(None);
    }
    let object = serde_json::from_str(&read_text(path)?);
    let object =
        object.map_err(|error| Error::format(path, format!("not a JSON object: {error}")))?;
    Ok(Some(object))
}

#[cfg(test)]
mod tests;
