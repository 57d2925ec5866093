//! Text to token ids, with Hugging Face's `tokenizers`.

mod build;
mod check;
mod class;
mod cut;
mod encode;
mod files;
mod special;

use std::path::{Path, PathBuf};

use rayon::prelude::*;
use serde_json::{Map, Value};
pub use tokenizers::{Encoding, TruncationDirection, TruncationParams, TruncationStrategy};
use tokenizers::{PostProcessorWrapper, Tokenizer};

use self::class::{Class, Named};
use self::cut::Cuts;
use self::files::Files;
use self::special::{NAMED, Specials};
use super::batch::EncodedExample;
use super::{Example, TextDataset};
use crate::checkpoint::guard;
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
    direction: TruncationDirection,
    max_length: usize,
    pad_id: u32,
    /// Whether the second text's tokens are told from the first's by their type.
    typed: bool,
    /// Types of token that the model has, if it has any.
    types: Option<usize>,
    /// Tokens that the model embeds, if not all.
    embedded: Option<u32>,
    /// Where long texts may be cut before they are tokenized.
    cuts: Cuts,
    /// The file it was read from, for messages.
    origin: PathBuf,
}

impl TextTokenizer {
    /// Reads the tokenizer of a model folder in Hugging Face's layout, as transformers'
    /// `AutoTokenizer` does: of the class that `tokenizer_class` in `tokenizer_config.json` or
    /// `config.json` names, or else of the one for `model_type`. BERT's, RoBERTa's and BART's,
    /// MPNet's, DeBERTa-v2's and HerBERT's take their vocabulary from `tokenizer.json`, or the
    /// first four and HerBERT's from the older `vocab.txt`, or `vocab.json` and `merges.txt`; their
    /// other options from `tokenizer_config.json`. All other classes are as `tokenizer.json` says.
    /// Added tokens are those of `tokenizer_config.json`, or else of `special_tokens_map.json`,
    /// `added_tokens.json` and `tokenizer.json`. Any truncation or padding stored in the files is
    /// replaced by truncation to `max_length` tokens, special ones included.
    ///
    /// # Errors
    /// If the class cannot be made of the folder's files, one is broken or contradicts another,
    /// there is no padding token, or `max_length` leaves no room beside the special tokens of a
    /// pair.
    pub fn from_folder(folder: impl AsRef<Path>, max_length: usize) -> Result<Self> {
        Self::assemble(Files::read(folder.as_ref())?, max_length)
    }

    /// Makes a tokenizer of the contents of `tokenizer.json` and, if at hand,
    /// `tokenizer_config.json`; see [`TextTokenizer::from_folder`].
    ///
    /// # Errors
    /// Those of [`TextTokenizer::from_folder`].
    pub fn from_bytes(json: &[u8], config: Option<&[u8]>, max_length: usize) -> Result<Self> {
        Self::assemble(Files::embedded(json, config)?, max_length)
    }

    fn assemble(files: Files, max_length: usize) -> Result<Self> {
        let named = class::find(&files.config, &files.model_config, files.json.is_some());
        let named = named.map_err(|message| Error::format(files.place(), message))?;
        let named = match named {
            Some(named) => named,
            None => unnamed(&files)?,
        };
        let specials = Specials::read(&files, named.class)?;
        let (mut tokenizer, origin) = build::build(&files, &named, &specials)?;
        let mut config = files.config.clone();
        let pad_id = find_pad_id(&tokenizer, &specials, &files.model_config, &origin)?;
        for name in NAMED {
            let stored = special::content(config.get(name).unwrap_or_default());
            if let Some(token) = specials.get(name).filter(|token| stored != Some(*token)) {
                config.insert(name.into(), token.into());
            }
        }
        if specials.get("pad_token").is_none()
            && let Some(token) = tokenizer.id_to_token(pad_id)
        {
            config.insert("pad_token".into(), token.into());
        }
        if named.types.is_some() {
            config.insert("tokenizer_class".into(), named.name.into());
        }
        let typed = match config.get("model_input_names").and_then(Value::as_array) {
            Some(names) => names.iter().any(|name| name == "token_type_ids"),
            None => named.types.unwrap_or(true),
        };
        if config.get("split_special_tokens") == Some(&Value::Bool(true)) {
            tokenizer.set_encode_special_tokens(true);
        }
        let stored = files.json.as_ref().and_then(|json| json.fields.get("truncation"));
        let stored_left = stored.is_some_and(|truncation| truncation["direction"] == "Left");
        let direction = match config.get("truncation_side").and_then(Value::as_str) {
            Some("left") => TruncationDirection::Left,
            Some(_) => TruncationDirection::Right,
            None if stored_left => TruncationDirection::Left,
            None => TruncationDirection::Right,
        };
        if direction == TruncationDirection::Left {
            config.insert("truncation_side".into(), "left".into());
        }
        tokenizer.with_padding(None);
        tokenizer
            .with_truncation(None)
            .map_err(|error| Error::format(&origin, error.to_string()))?;
        let post_processor = tokenizer.get_post_processor().cloned();
        tokenizer.with_post_processor(None::<PostProcessorWrapper>);
        let (embedded, types, cuts) = (None, None, Cuts::of(&tokenizer));
        Self {
            tokenizer,
            post_processor,
            config,
            direction,
            max_length,
            pad_id,
            typed,
            types,
            embedded,
            cuts,
            origin,
        }
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
    /// If an ordinary token or the padding is beyond them: tokenizer and model do not belong
    /// together.
    pub fn with_embeddings(mut self, count: usize) -> Result<Self> {
        if self.pad_id as usize >= count {
            let message = format!(
                "the padding token has the id {}, but the model embeddings for {count} tokens: they \
                 do not belong together",
                self.pad_id
            );
            return Err(Error::format(&self.origin, message));
        }
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

    /// The same tokenizer for a model with embeddings of `count` types of token; `None` is one that
    /// takes no types.
    ///
    /// # Errors
    /// If a text alone has a type beyond them. A pair with one is an error when it comes.
    pub fn with_types(mut self, count: Option<usize>) -> Result<Self> {
        self.types = count;
        self.encode("", None)?;
        Ok(self)
    }

    /// An error if a token or its type has no embedding.
    fn check_embedded(&self, encoding: &Encoding) -> Result<()> {
        let beyond = |count: usize| {
            let types = encoding.get_type_ids().iter();
            types.copied().find(|id| *id as usize >= count).map(|id| (id, count))
        };
        if let Some((id, count)) = self.types.and_then(beyond) {
            let message = format!(
                "it gives tokens the type {id}, but the model has {count} types of token \
                 (type_vocab_size); tokenizer and model do not belong together"
            );
            return Err(Error::format(&self.origin, message));
        }
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
        let encode = |text: &str| self.words(text, true);
        let (text, pair) = self.beginnings(text, pair, encode)?;
        self.finish(text, pair, &self.truncation(), false)
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
        let encode = |text: &str| self.words(text, true);
        let encoding =
            self.finish(encode(text)?, pair.map(encode).transpose()?, truncation, true)?;
        encoding.get_overflowing().iter().try_for_each(|piece| self.check_embedded(piece))?;
        Ok(encoding)
    }

    /// Encodes examples, on all cores, in their order.
    ///
    /// # Errors
    /// Those of [`TextTokenizer::encode`].
    pub fn encode_examples(&self, examples: &[Example]) -> Result<Vec<EncodedExample>> {
        let truncation = self.truncation();
        let encode = |text: &str| self.words(text, false);
        let examples = examples.par_iter().map(|example| {
            let pair = example.pair.as_deref();
            let (text, pair) = self.beginnings(&example.text, pair, encode)?;
            let encoding = self.finish(text, pair, &truncation, false)?;
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
        let text = guarded(|| self.tokenizer.decode(ids, true));
        text.map_err(|error| Error::format(&self.origin, error.to_string()))
    }

    /// Contents of a `tokenizer.json` for this tokenizer, without truncation and padding.
    ///
    /// # Errors
    /// If serialization fails.
    pub fn to_json(&self) -> Result<String> {
        let mut whole = self.tokenizer.clone();
        whole.with_post_processor(self.post_processor.clone());
        let json = guarded(|| whole.to_string(false));
        json.map_err(|error| Error::format(&self.origin, error.to_string()))
    }

    /// Contents of a `tokenizer_config.json` for this tokenizer: what was read, and the padding
    /// token.
    pub fn config_json(&self) -> String {
        format!("{:#}", Value::Object(self.config.clone()))
    }
}

/// Runs `work` of the `tokenizers` crate, which panics over some damaged files: over some only at
/// some text.
fn guarded<T>(work: impl FnOnce() -> tokenizers::Result<T>) -> tokenizers::Result<T> {
    guard::guarded(work).unwrap_or_else(|message| Err(message.into()))
}

/// The class of a folder whose files name none.
fn unnamed(files: &Files) -> Result<Named> {
    let (class, types) = if files.json.is_some() {
        (Class::Json, None)
    } else if files.path("vocab.txt").is_file() {
        (Class::Bert, Some(true))
    } else if files.path("vocab.json").is_file() {
        (Class::Roberta, Some(false))
    } else {
        return Err(Error::format(
            files.place(),
            "no tokenizer.json, vocab.txt or vocab.json; save the model's tokenizer here with \
             transformers' AutoTokenizer.from_pretrained(…).save_pretrained(…)",
        ));
    };
    let (name, place) = match class {
        Class::Bert => ("BertTokenizer", "vocab.txt"),
        Class::Roberta => ("RobertaTokenizer", "vocab.json"),
        _ => ("PreTrainedTokenizerFast", "tokenizer.json"),
    };
    Ok(Named { class, name: name.into(), place, types })
}

/// The padding token's id: that of the special token, or else from `config.json` or by its usual
/// names.
fn find_pad_id(
    tokenizer: &Tokenizer,
    specials: &Specials,
    model_config: &Map<String, Value>,
    origin: &Path,
) -> Result<u32> {
    if let Some(token) = specials.get("pad_token") {
        return tokenizer.token_to_id(token).ok_or_else(|| {
            let message = format!("the padding token {token:?} is not in the vocabulary");
            Error::format(origin, message)
        });
    }
    let stored = model_config.get("pad_token_id").and_then(Value::as_u64);
    let stored = stored.and_then(|id| u32::try_from(id).ok());
    stored
        .or_else(|| ["[PAD]", "<pad>"].iter().find_map(|token| tokenizer.token_to_id(token)))
        .ok_or_else(|| {
            let message = "no padding token; name one as pad_token in tokenizer_config.json";
            Error::format(origin, message)
        })
}

#[cfg(test)]
mod damage_tests;
#[cfg(test)]
mod files_tests;
#[cfg(test)]
mod tests;
