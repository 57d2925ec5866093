//! Rejects damaged `tokenizer.json` files. The `tokenizers` crate reads some of them, and later
//! panics, asks for all memory or gives wrong ids.

use serde_json::{Map, Value};
use tokenizers::{Model, Tokenizer};

use super::folder::Json;
use crate::Result;
use crate::checkpoint::guard;

/// Bound of token ids; no vocabulary is larger.
const MOST_TOKENS: u64 = 1 << 24;

/// Number of token types of a model whose configuration does not state it.
const TYPES: u64 = 2;

/// Runs a call of the `tokenizers` crate, and turns its panics into errors. The crate panics over
/// some damaged files, over some of them only at certain texts.
pub(super) fn guarded<T>(work: impl FnOnce() -> tokenizers::Result<T>) -> tokenizers::Result<T> {
    guard::guarded(work).unwrap_or_else(|message| Err(message.into()))
}

/// Reads a `tokenizer.json` and checks it. `model_config` is the model's `config.json`.
pub(super) fn read(json: &Json, model_config: &Map<String, Value>) -> Result<Tokenizer> {
    let fields = &json.fields;
    let vocabulary = fields.get("model").and_then(|model| model.get("vocab"));
    if let Some(vocabulary) = vocabulary.and_then(Value::as_object) {
        check_vocabulary(vocabulary)
            .map_err(|message| json.wrong(format!("model.vocab: {message}")))?;
    }
    fields.values().try_for_each(check_sizes).map_err(|message| json.wrong(message))?;
    let read = guarded(|| json.text.parse::<Tokenizer>());
    let tokenizer = read.map_err(|error| json.wrong(error))?;
    if let Some(processor) = fields.get("post_processor") {
        let types = model_config.get("type_vocab_size").and_then(Value::as_u64);
        check_types(processor, types.unwrap_or(TYPES).max(TYPES))
            .and_then(|()| check_processor(processor, &tokenizer))
            .map_err(|message| json.wrong(format!("post_processor: {message}")))?;
    }
    Ok(tokenizer)
}

/// Checks that ids are within bounds and that no two tokens share one.
pub(super) fn check_vocabulary(vocabulary: &Map<String, Value>) -> Result<(), String> {
    let mut ids = Vec::with_capacity(vocabulary.len());
    for (token, id) in vocabulary {
        match id.as_u64().filter(|id| *id < MOST_TOKENS) {
            Some(id) => ids.push((id, token)),
            None => return Err(format!("{token:?} has the impossible id {id}")),
        }
    }
    ids.sort_unstable();
    match ids.windows(2).find(|pair| pair[0].0 == pair[1].0) {
        Some(pair) => {
            let [(id, one), (_, other)] = [pair[0], pair[1]];
            Err(format!("{one:?} and {other:?} share the id {id}"))
        }
        None => Ok(()),
    }
}

/// Checks sizes that the crate allocates or divides by without checking them.
fn check_sizes(value: &Value) -> Result<(), String> {
    let fields = match value {
        Value::Array(list) => return list.iter().try_for_each(check_sizes),
        Value::Object(fields) => fields,
        _ => return Ok(()),
    };
    match fields.get("type").and_then(Value::as_str) {
        Some("Precompiled") => {
            let table = fields.get("precompiled_charsmap").and_then(Value::as_str);
            let Some(bytes) = table.and_then(leading_bytes) else {
                return Err("normalizer: the table of Precompiled is damaged".into());
            };
            let stated = u32::from_le_bytes(bytes) as usize;
            let room = table.map_or(0, |table| table.len() / 4 * 3).saturating_sub(4);
            if stated > room || !stated.is_multiple_of(4) {
                let message = format!("{stated} bytes stated and {room} there");
                return Err(format!("normalizer: the table of Precompiled is damaged: {message}"));
            }
        }
        Some("FixedLength") if fields.get("length").and_then(Value::as_u64) == Some(0) => {
            return Err("pre_tokenizer: FixedLength has the length 0".into());
        }
        _ => {}
    }
    // Vocabularies are large and hold no sizes.
    fields.iter().filter(|(name, _)| *name != "vocab").try_for_each(|(_, v)| check_sizes(v))
}

/// The first four bytes of base64 text.
fn leading_bytes(text: &str) -> Option<[u8; 4]> {
    let bits = text.bytes().take(6).try_fold(0_u64, |bits, letter| {
        let value = match letter {
            b'A'..=b'Z' => letter - b'A',
            b'a'..=b'z' => letter - b'a' + 26,
            b'0'..=b'9' => letter - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        Some(bits << 6 | u64::from(value))
    })?;
    let [_, _, _, bytes @ .., _] = (bits << 4).to_be_bytes();
    (text.len() >= 8).then_some(bytes)
}

/// Checks that token types are below `types`, the number that the model has.
fn check_types(value: &Value, types: u64) -> Result<(), String> {
    match value {
        Value::Array(list) => list.iter().try_for_each(|value| check_types(value, types)),
        Value::Object(fields) => fields.iter().try_for_each(|(name, value)| {
            if name == "type_id"
                && let Some(id) = value.as_u64().filter(|id| *id >= types)
            {
                return Err(format!("type_id: {id}, but the model has {types} types of token"));
            }
            check_types(value, types)
        }),
        _ => Ok(()),
    }
}

/// Checks that the special tokens that a post-processor adds are in the vocabulary, with the same
/// ids.
fn check_processor(value: &Value, tokenizer: &Tokenizer) -> Result<(), String> {
    let fields = match value {
        Value::Array(list) => {
            return list.iter().try_for_each(|value| check_processor(value, tokenizer));
        }
        Value::Object(fields) => fields,
        _ => return Ok(()),
    };
    for name in ["sep", "cls"] {
        let pair = fields.get(name).and_then(Value::as_array).map(Vec::as_slice);
        if let Some([Value::String(token), id]) = pair {
            check_token(number(id), token, tokenizer)?;
        }
    }
    let lists = ["ids", "tokens"].map(|name| fields.get(name).and_then(Value::as_array));
    if let [Some(ids), Some(tokens)] = lists {
        if ids.len() != tokens.len() {
            return Err(format!("{} ids of {} tokens", ids.len(), tokens.len()));
        }
        for (id, token) in ids.iter().zip(tokens) {
            check_token(number(id), token.as_str().unwrap_or_default(), tokenizer)?;
        }
    }
    fields.values().try_for_each(|value| check_processor(value, tokenizer))
}

fn number(id: &Value) -> u32 {
    id.as_u64().and_then(|id| u32::try_from(id).ok()).unwrap_or(u32::MAX)
}

fn check_token(id: u32, token: &str, tokenizer: &Tokenizer) -> Result<(), String> {
    // `Tokenizer::id_to_token` may give the normalized form of an added token, so it is not used.
    let found = match tokenizer.get_added_vocabulary().get_added_tokens_decoder().get(&id) {
        Some(added) => Some(added.content.clone()),
        None => tokenizer.get_model().id_to_token(id),
    };
    match found {
        Some(found) if found == token => Ok(()),
        Some(found) => Err(format!("the id {id} is not that of {token:?} but of {found:?}")),
        None => Err(format!("no token has the id {id} of {token:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_begins_with_a_length() {
        assert_eq!(leading_bytes("ALQCAACEAAA="), Some([0x00, 0xb4, 0x02, 0x00]));
        assert_eq!(leading_bytes(""), None);
        assert_eq!(leading_bytes("////"), None);
        assert_eq!(leading_bytes("?AAAAAAA"), None);
    }
}
