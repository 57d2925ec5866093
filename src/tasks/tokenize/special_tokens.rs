//! Reads special and added tokens from all files that may hold them, as transformers does.

use std::collections::BTreeMap;

use serde_json::{Map, Value};
use tokenizers::{AddedToken, Model, Tokenizer};

use super::class::Class;
use super::damage::guarded;
use super::folder::Files;
use crate::{Error, Result};

/// Names of the special tokens of every tokenizer, in the order in which new ones get their ids.
pub(super) const NAMED: [&str; 7] =
    ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];

/// A folder's special and added tokens.
#[derive(Debug, Default)]
pub(super) struct SpecialTokens {
    /// Tokens by name: first those of [`NAMED`] in its order, then the model's own.
    named: Vec<(String, AddedToken)>,
    /// Special tokens without a name.
    extra: Vec<AddedToken>,
    /// Tokens whose id a file states, and that file.
    stated: BTreeMap<u32, (AddedToken, &'static str)>,
}

const CONFIG: &str = "tokenizer_config.json";
const MAP: &str = "special_tokens_map.json";
const ADDED: &str = "added_tokens.json";
const JSON: &str = "tokenizer.json";

impl SpecialTokens {
    /// Reads the tokens of a folder's files. Tokens that no file names are the defaults of `class`.
    pub(super) fn read(files: &Files, class: Class) -> Result<Self> {
        let mut fields = files.config.clone();
        let empty = |value: Option<&Value>| match value {
            None | Some(Value::Null) => true,
            Some(Value::Array(list)) => list.is_empty(),
            Some(Value::Object(object)) => object.is_empty(),
            Some(_) => false,
        };
        if empty(fields.get("extra_special_tokens"))
            && let Some(older) = fields.remove("additional_special_tokens")
        {
            fields.insert("extra_special_tokens".into(), older);
        }
        let mut specials = Self::default();
        if let Some(decoder) = fields.get("added_tokens_decoder") {
            // It replaces the tokens of all other files.
            specials.read_decoder(decoder, files)?;
        } else {
            merge_map(&mut fields, files)?;
            specials.read_added(&fields, files)?;
            specials.read_json(files)?;
        }
        specials.read_named(&fields, files, class)?;
        Ok(specials)
    }

    fn read_decoder(&mut self, decoder: &Value, files: &Files) -> Result<()> {
        let wrong =
            |m: String| Error::format(files.path(CONFIG), format!("added_tokens_decoder: {m}"));
        let Some(decoder) = decoder.as_object() else {
            return Err(wrong("not an object of tokens by their id".into()));
        };
        for (id, value) in decoder {
            let Ok(number) = id.trim().parse() else {
                return Err(wrong(format!("{id:?} is no id of a token")));
            };
            let token = match value {
                Value::Object(_) => token(value, false),
                _ => Err(format!("{value} is no object that describes a token")),
            };
            let token = token.map_err(|m| wrong(format!("{id}: {m}")))?;
            self.stated.insert(number, (token, CONFIG));
        }
        Ok(())
    }

    fn read_added(&mut self, fields: &Map<String, Value>, files: &Files) -> Result<()> {
        let extra = fields.get("extra_special_tokens").and_then(Value::as_array);
        let extra = extra.into_iter().flatten().filter_map(content);
        let special: Vec<&str> =
            NAMED.iter().filter_map(|name| content(fields.get(*name)?)).chain(extra).collect();
        for (text, id) in &files.added_tokens {
            let Some(number) = id.as_u64().and_then(|id| u32::try_from(id).ok()) else {
                let message = format!("{text:?}: {id} is no id of a token");
                return Err(Error::format(files.path(ADDED), message));
            };
            let token = AddedToken::from(text.as_str(), special.contains(&text.as_str()));
            if let Some((other, _)) = self.stated.insert(number, (token, ADDED)) {
                let message = format!("{:?} and {text:?} share the id {number}", other.content);
                return Err(Error::format(files.path(ADDED), message));
            }
        }
        Ok(())
    }

    fn read_json(&mut self, files: &Files) -> Result<()> {
        let Some(json) = &files.json else { return Ok(()) };
        let Some(tokens) = json.fields.get("added_tokens") else { return Ok(()) };
        let Some(tokens) = tokens.as_array() else {
            return Err(json.wrong("added_tokens: not a list"));
        };
        let mut seen = std::collections::BTreeSet::new();
        for value in tokens {
            let id = value.get("id").and_then(Value::as_u64).and_then(|id| u32::try_from(id).ok());
            let Some(id) = id else {
                return Err(json.wrong(format!("added_tokens: {value} has no id")));
            };
            let token =
                token(value, false).map_err(|m| json.wrong(format!("added_tokens: {m}")))?;
            if !seen.insert(id) {
                let message =
                    format!("added_tokens: {:?} has the id {id} of another", token.content);
                return Err(json.wrong(message));
            }
            self.stated.insert(id, (token, JSON));
        }
        Ok(())
    }

    fn read_named(
        &mut self,
        fields: &Map<String, Value>,
        files: &Files,
        class: Class,
    ) -> Result<()> {
        let wrong = |name: &str, message: String| {
            Error::format(files.path(CONFIG), format!("{name}: {message}"))
        };
        let flagged = |text: &str, stated: &BTreeMap<u32, (AddedToken, &str)>| {
            let stated = stated.values().find(|(token, _)| token.content == text);
            stated.map(|(token, _)| token.clone())
        };
        for name in NAMED {
            let value = match fields.get(name) {
                Some(Value::Null) => continue,
                Some(value) => {
                    let own = token(value, true).map_err(|message| wrong(name, message))?;
                    flagged(&own.content, &self.stated).unwrap_or(own)
                }
                None => match default(class, name, files) {
                    Some(token) => token,
                    None => continue,
                },
            };
            self.named.push((name.to_string(), value));
        }
        let own = |(name, value): (&String, &Value)| {
            let token = token(value, true).map_err(|message| wrong(name, message))?;
            Ok((name.clone(), token))
        };
        let is_own = |(name, value): &(&String, &Value)| {
            name.ends_with("_token")
                && !NAMED.contains(&name.as_str())
                && (value.is_string() || value.is_object())
        };
        for field in fields.iter().filter(is_own) {
            self.named.push(own(field)?);
        }
        match fields.get("extra_special_tokens").or(fields.get("additional_special_tokens")) {
            None | Some(Value::Null) => {}
            Some(Value::Array(tokens)) => {
                let tokens =
                    tokens.iter().map(|value| token(value, false)).collect::<Result<_, _>>();
                self.extra = tokens.map_err(|message| wrong("extra_special_tokens", message))?;
            }
            Some(Value::Object(tokens)) => {
                for field in tokens {
                    self.named.push(own(field)?);
                }
            }
            Some(other) => {
                return Err(wrong("extra_special_tokens", format!("{other} is no list of tokens")));
            }
        }
        // A token with a name is special, whatever its description.
        let named = self.named.iter_mut().map(|(_, token)| token);
        named.for_each(|token| token.special = true);
        for (token, _) in self.stated.values_mut() {
            token.special |= self.named.iter().any(|(_, named)| named.content == token.content);
        }
        Ok(())
    }

    /// The text of a named token.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        let found = self.named.iter().find(|(known, _)| known == name);
        found.map(|(_, token)| token.content.as_str())
    }

    /// Whether a file states the id of the token `text`.
    pub(super) fn states(&self, text: &str) -> bool {
        self.stated.values().any(|(token, _)| token.content == text)
    }

    /// Adds the tokens to `tokenizer`. A token that its vocabulary lacks gets the next id.
    ///
    /// # Errors
    /// If a token's id differs from the one that a file states.
    pub(super) fn add_to(&self, tokenizer: &mut Tokenizer, files: &Files) -> Result<()> {
        let known = tokenizer.get_added_tokens_decoder();
        let mut tokens: Vec<AddedToken> =
            self.stated.values().map(|(token, _)| token.clone()).collect();
        let named = self.named.iter().map(|(_, token)| token);
        for token in named.chain(&self.extra) {
            let same = |other: &AddedToken| other.content == token.content;
            if !tokens.iter().any(same) && !known.values().any(same) {
                tokens.push(token.clone());
            }
        }
        let added = guarded(|| tokenizer.add_tokens(tokens));
        added.map_err(|error| Error::format(files.place(), error.to_string()))?;
        for (id, (token, file)) in &self.stated {
            let found = tokenizer.token_to_id(&token.content);
            if found != Some(*id) {
                let found = found.map_or("none".to_string(), |found| found.to_string());
                let message = format!(
                    "the added token {:?} should have the id {id}, but by the vocabulary it has \
                     {found}; the files are not of one tokenizer",
                    token.content
                );
                return Err(Error::format(files.path(file), message));
            }
        }
        for (id, token) in tokenizer.get_added_tokens_decoder() {
            let other = tokenizer.get_model().id_to_token(id);
            if let Some(other) = other.filter(|other| *other != token.content) {
                let message = format!(
                    "the added token {:?} and {other:?} of the vocabulary share the id {id}",
                    token.content
                );
                return Err(Error::format(files.place(), message));
            }
        }
        Ok(())
    }
}

/// Lays the fields of `special_tokens_map.json` over those of `tokenizer_config.json`.
fn merge_map(fields: &mut Map<String, Value>, files: &Files) -> Result<()> {
    for (name, value) in &files.special_tokens_map {
        let mut value = value.clone();
        if name == "extra_special_tokens" {
            if let (Value::Array(more), Some(Value::Array(list))) =
                (&mut value, fields.get(name.as_str()))
            {
                let new = more.iter().filter(|token| !list.contains(token)).cloned();
                *more = list.iter().cloned().chain(new).collect();
            }
        } else if let Value::Object(object) = &mut value {
            object.insert("special".into(), true.into());
        } else if !matches!(value, Value::Null | Value::String(_) | Value::Array(_)) {
            let message = format!("{name}: {value} is no token");
            return Err(Error::format(files.path(MAP), message));
        }
        fields.insert(name.clone(), value);
    }
    Ok(())
}

/// Parses a token: its text, or an object. A `named` token is special.
fn token(value: &Value, named: bool) -> Result<AddedToken, String> {
    let Value::Object(fields) = value else {
        let text = value.as_str().ok_or_else(|| format!("{value} is no token"))?;
        return Ok(AddedToken::from(text, true));
    };
    let Some(text) = fields.get("content").and_then(Value::as_str) else {
        return Err(format!("{value} has no content"));
    };
    let flag = |name: &str| match fields.get(name) {
        None => Ok(None),
        Some(Value::Bool(flag)) => Ok(Some(*flag)),
        Some(other) => Err(format!("{text:?}: {name}: {other} is neither true nor false")),
    };
    let special = flag("special")?.unwrap_or(false) || named;
    Ok(AddedToken::from(text, special)
        .single_word(flag("single_word")?.unwrap_or(false))
        .lstrip(flag("lstrip")?.unwrap_or(false))
        .rstrip(flag("rstrip")?.unwrap_or(false))
        .normalized(flag("normalized")?.unwrap_or(!special)))
}

/// The text of a token as in files: a string, or the `content` of an object.
pub(super) fn content(value: &Value) -> Option<&str> {
    value.as_str().or_else(|| value.get("content")?.as_str())
}

/// The default token of a class.
fn default(class: Class, name: &str, files: &Files) -> Option<AddedToken> {
    let text = match (class, name) {
        (Class::Bert, "bos_token" | "eos_token") => return None,
        (Class::Herbert, "bos_token" | "eos_token") => return None,
        (Class::Bert | Class::DebertaV2, "cls_token" | "bos_token") => "[CLS]",
        (Class::Bert | Class::DebertaV2, "sep_token" | "eos_token") => "[SEP]",
        (Class::Bert | Class::DebertaV2, "pad_token") => "[PAD]",
        (Class::Bert | Class::DebertaV2, "mask_token") => "[MASK]",
        (Class::Bert | Class::DebertaV2 | Class::Mpnet, "unk_token") => "[UNK]",
        (Class::Json, "pad_token") => {
            let padding = files.json.as_ref()?.fields.get("padding")?;
            padding.get("pad_token")?.as_str()?
        }
        (Class::Json, _) => return None,
        (_, "cls_token" | "bos_token") => "<s>",
        (_, "sep_token" | "eos_token") => "</s>",
        (_, "pad_token") => "<pad>",
        (_, "mask_token") => "<mask>",
        (_, "unk_token") => "<unk>",
        _ => return None,
    };
    let lstrip = class == Class::Mpnet && name == "mask_token";
    Some(AddedToken::from(text, true).lstrip(lstrip))
}
