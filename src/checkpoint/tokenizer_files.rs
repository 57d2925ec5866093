//! Files of a tokenizer, copied with a model from folder to folder.

use std::path::Path;

use serde_json::{Map, Value};

use crate::{Error, Result, files};

/// Files of a tokenizer, copied byte for byte.
pub const TOKENIZER_FILES: [&str; 11] = [
    "tokenizer.json",
    CONFIG,
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "spm.model",
    "spiece.model",
    "sentencepiece.bpe.model",
    "generation_config.json",
];

const CONFIG: &str = "tokenizer_config.json";

/// Reads the files of a tokenizer that are in a folder.
///
/// # Errors
/// If one cannot be read.
pub(super) fn read(folder: &Path) -> Result<Vec<(&'static str, Vec<u8>)>> {
    let there = TOKENIZER_FILES.into_iter().filter(|name| folder.join(name).exists());
    there.map(|name| Ok((name, files::read(folder.join(name))?))).collect()
}

/// Class of the tokenizer that `transformers` takes for a `model_type` if no file names one.
pub(crate) fn class_of_model(model_type: &str) -> Option<&'static str> {
    match model_type {
        "bert" => Some("BertTokenizer"),
        "roberta" | "bart" => Some("RobertaTokenizer"),
        "mpnet" => Some("MPNetTokenizer"),
        "deberta-v2" => Some("DebertaV2Tokenizer"),
        _ => None,
    }
}

/// Writes the class of the tokenizer, by the architecture, into files that do not name it: beside a
/// `model_type` that it does not know, `transformers` could not tell.
///
/// # Errors
/// If `tokenizer_config.json` is no JSON object.
pub(super) fn name_class(
    tokenizer: &mut Vec<(&'static str, Vec<u8>)>,
    model_type: &str,
    folder: &Path,
) -> Result<()> {
    let Some(class) = class_of_model(model_type).filter(|_| !tokenizer.is_empty()) else {
        return Ok(());
    };
    let stored = tokenizer.iter().position(|(name, _)| *name == CONFIG);
    let mut config: Map<String, Value> = match stored {
        Some(at) => serde_json::from_slice(&tokenizer[at].1)
            .map_err(|e| Error::format(folder.join(CONFIG), e.to_string()))?,
        None => Map::new(),
    };
    let named = config.get("tokenizer_class").is_some_and(|name| !name.is_null() && name != "");
    if named {
        return Ok(());
    }
    config.insert("tokenizer_class".into(), class.into());
    let text = serde_json::to_string_pretty(&config)
        .map_err(|e| Error::format(folder.join(CONFIG), e.to_string()))?;
    let bytes = (text + "\n").into_bytes();
    match stored {
        Some(at) => tokenizer[at].1 = bytes,
        None => tokenizer.push((CONFIG, bytes)),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_is_named_only_where_none_is() {
        let named = |files: &[(&'static str, &str)], model_type: &str| {
            let files = files.iter().map(|(name, text)| (*name, text.as_bytes().to_vec()));
            let mut files: Vec<_> = files.collect();
            name_class(&mut files, model_type, Path::new("")).unwrap();
            let config = files.into_iter().find(|(name, _)| *name == CONFIG)?.1;
            let config: Value = serde_json::from_slice(&config).unwrap();
            Some(config["tokenizer_class"].as_str()?.to_string())
        };
        let vocab = ("vocab.txt", "[PAD]");
        let class = Some("BertTokenizer".to_string());
        assert_eq!(named(&[vocab], "bert"), class);
        assert_eq!(named(&[vocab, (CONFIG, r#"{"do_lower_case": false}"#)], "bert"), class);
        let own = named(&[vocab, (CONFIG, r#"{"tokenizer_class": "Own"}"#)], "bert");
        assert_eq!(own.as_deref(), Some("Own"));
        assert_eq!(named(&[vocab], "other"), None);
        assert_eq!(named(&[], "bert"), None);
        let class =
            named(&[("tokenizer.json", "{}"), (CONFIG, "{\"tokenizer_class\": \"\"}")], "bart");
        assert_eq!(class.as_deref(), Some("RobertaTokenizer"));
    }
}
