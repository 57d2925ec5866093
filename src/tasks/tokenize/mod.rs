//! Texts as token ids, by Hugging Face's `tokenizers` crate.
//!
//! Begin with [`TextTokenizer::from_folder`]. It reads the files (`folder.rs`), finds the
//! tokenizer's class (`class.rs`) and special tokens (`special_tokens.rs`), checks for damage
//! (`damage.rs`) and builds the tokenizer (`build.rs`). `encode.rs` tokenizes; `long_texts.rs`
//! spares it most of the text that truncation would drop.

mod build;
mod class;
mod damage;
mod encode;
mod folder;
mod long_texts;
mod special_tokens;

use std::path::{Path, PathBuf};

use rayon::prelude::*;
use serde_json::{Map, Value};
pub use tokenizers::{Encoding, TruncationDirection, TruncationParams, TruncationStrategy};
use tokenizers::{PostProcessorWrapper, Tokenizer};

use self::class::{Class, Named};
use self::damage::guarded;
use self::folder::Files;
use self::long_texts::Cuts;
use self::special_tokens::{NAMED, SpecialTokens};
use super::batch::EncodedExample;
use super::{Example, TextDataset};
use crate::{Error, Result};

/// A model's tokenizer with a maximum length. It adds special tokens and truncates, but never pads.
#[derive(Debug, Clone)]
pub struct TextTokenizer {
    /// The tokenizer without truncation, padding and post-processor. With a maximum length, a
    /// `Tokenizer` stops reading a text once it is reached, and then cannot tell which text of a
    /// pair is longer. So truncation and special tokens are a second step here.
    tokenizer: Tokenizer,
    /// Adds the special tokens.
    post_processor: Option<PostProcessorWrapper>,
    /// `tokenizer_config.json`, with at least `pad_token`.
    config: Map<String, Value>,
    direction: TruncationDirection,
    max_length: usize,
    pad_id: u32,
    /// Whether tokens of the second text have another type than those of the first.
    typed: bool,
    /// Number of token types that the model has, if any.
    types: Option<usize>,
    /// Number of tokens that the model embeds, if not all.
    embedded: Option<u32>,
    /// Where long texts can be cut before they are tokenized.
    cuts: Cuts,
    /// The file of its vocabulary, for messages.
    origin: PathBuf,
}

impl TextTokenizer {
    /// Reads the tokenizer of a model folder in Hugging Face's layout, as transformers'
    /// `AutoTokenizer` does. Its class is the one that `tokenizer_class` in `tokenizer_config.json`
    /// or `config.json` names, or else the one for `model_type`.
    ///
    /// The classes of BERT, RoBERTa and BART, MPNet, DeBERTa-v2 and HerBERT take their vocabulary
    /// from `tokenizer.json`, and their options from `tokenizer_config.json`. Without
    /// `tokenizer.json`, BERT and MPNet use the older `vocab.txt`, RoBERTa, BART and HerBERT
    /// `vocab.json` and `merges.txt`. All other classes are as `tokenizer.json` describes.
    ///
    /// Added tokens are those of `tokenizer_config.json`, or else of `special_tokens_map.json`,
    /// `added_tokens.json` and `tokenizer.json`. Truncation to `max_length` tokens, special ones
    /// included, replaces any truncation and padding of the files.
    ///
    /// # Errors
    /// If the folder lacks files that the class needs, a file is broken or contradicts another,
    /// there is no padding token, or `max_length` leaves no room beside the special tokens of a
    /// pair.
    pub fn from_folder(folder: impl AsRef<Path>, max_length: usize) -> Result<Self> {
        Self::assemble(Files::read(folder.as_ref())?, max_length)
    }

    /// Reads a tokenizer from the contents of `tokenizer.json` and, if given,
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
        let specials = SpecialTokens::read(&files, named.class)?;
        let (mut tokenizer, origin) = build::build(&files, &named, &specials)?;
        let mut config = files.config.clone();
        let pad_id = find_pad_id(&tokenizer, &specials, &files.model_config, &origin)?;
        for name in NAMED {
            let stored = special_tokens::content(config.get(name).unwrap_or_default());
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

    /// The same tokenizer, truncating to `max_length` tokens, special ones included. Of a pair, the
    /// longer text loses tokens first (`longest_first`).
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

    /// The same tokenizer for a model that embeds `count` tokens. Special tokens may be beyond them
    /// (BART's summarizers have no row for `<mask>`), but a text with such a token is an error.
    ///
    /// # Errors
    /// If an ordinary token or the padding token is beyond them: tokenizer and model do not belong
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

    /// The same tokenizer for a model with embeddings of `count` token types; `None` for a model
    /// without.
    ///
    /// # Errors
    /// If single texts get a type beyond them. For pairs, encoding one is the error.
    pub fn with_types(mut self, count: Option<usize>) -> Result<Self> {
        self.types = count;
        self.encode("", None)?;
        Ok(self)
    }

    /// Checks that every token and token type has an embedding.
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

    /// Encodes a text or pair. The encoding's offsets are byte positions in the text that a token
    /// is from (`get_sequence_ids` tells which of the two).
    ///
    /// # Errors
    /// If the tokenizer cannot represent the text (its vocabulary lacks an unknown token).
    pub fn encode(&self, text: &str, pair: Option<&str>) -> Result<Encoding> {
        let encode = |text: &str| self.words(text, true);
        let (text, pair) = self.beginnings(text, pair, encode)?;
        self.finish(text, pair, &self.truncation(), false)
    }

    /// As [`TextTokenizer::encode`], with its own truncation, whose `max_length` includes special
    /// tokens. The encoding's `get_overflowing` has what is cut off.
    ///
    /// # Errors
    /// Those of [`TextTokenizer::encode`], and if truncating the given text alone cannot reach
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

    /// Encodes examples on all cores; the results are in the order of the examples.
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

    /// Largest number of tokens of an encoding.
    pub fn max_length(&self) -> usize {
        self.max_length
    }

    /// The longest input of the model, if the tokenizer's configuration states it.
    pub fn model_max_length(&self) -> Option<usize> {
        // Tokenizers of models without a limit store about 1e30.
        let length = self.config.get("model_max_length")?.as_u64()?;
        usize::try_from(length).ok().filter(|length| *length < 1 << 24)
    }

    /// Number of token ids, added tokens included: a model needs at least as many embeddings.
    pub fn vocab_size(&self) -> usize {
        self.tokenizer.get_vocab_size(true)
    }

    /// The text of token ids, without special tokens.
    ///
    /// # Errors
    /// If the tokenizer's decoder fails.
    pub fn decode(&self, ids: &[u32]) -> Result<String> {
        let text = guarded(|| self.tokenizer.decode(ids, true));
        text.map_err(|error| Error::format(&self.origin, error.to_string()))
    }

    /// The contents of a `tokenizer.json` for this tokenizer, without truncation and padding.
    ///
    /// # Errors
    /// If serialization fails.
    pub fn to_json(&self) -> Result<String> {
        let mut whole = self.tokenizer.clone();
        whole.with_post_processor(self.post_processor.clone());
        let json = guarded(|| whole.to_string(false));
        json.map_err(|error| Error::format(&self.origin, error.to_string()))
    }

    /// The contents of a `tokenizer_config.json` for this tokenizer: those that were read, and the
    /// padding token.
    pub fn config_json(&self) -> String {
        format!("{:#}", Value::Object(self.config.clone()))
    }
}

/// The class for a folder whose files name none.
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

/// The id of the padding token: that of the special token `pad_token`, or else of `config.json`, or
/// else of the token called `[PAD]` or `<pad>`.
fn find_pad_id(
    tokenizer: &Tokenizer,
    specials: &SpecialTokens,
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
mod folder_tests;
#[cfg(test)]
mod tests;
