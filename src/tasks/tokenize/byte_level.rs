//! The byte-level BPE of BART and RoBERTa from `vocab.json` and `merges.txt`, as Hugging Face's
//! `BartTokenizer` and `RobertaTokenizer` build it.

use std::path::Path;

use serde_json::{Map, Value};
use tokenizers::models::bpe::BPE;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::processors::roberta::RobertaProcessing;
use tokenizers::{AddedToken, Tokenizer};

use super::special_token;
use crate::{Error, Result};

/// Values of `tokenizer_class` whose files mean this tokenizer, less a final `Fast`.
const CLASSES: [&str; 2] = ["BartTokenizer", "RobertaTokenizer"];

/// Builds the tokenizer of a folder's `vocab.json` and `merges.txt` with the options of
/// `tokenizer_config.json`.
pub(super) fn build(folder: &Path, config: &Map<String, Value>) -> Result<Tokenizer> {
    let (vocab, merges) = (folder.join("vocab.json"), folder.join("merges.txt"));
    if let Some(class) = config.get("tokenizer_class").and_then(Value::as_str)
        && !CLASSES.contains(&class.trim_end_matches("Fast"))
    {
        let message = format!(
            "the vocabulary of a {class}, but only BART's and RoBERTa's tokenizer is made from \
             vocab.json; save this one as tokenizer.json with transformers' save_pretrained"
        );
        return Err(Error::format(vocab, message));
    }
    if !merges.is_file() {
        let message = "missing; vocab.json alone does not say how words are cut";
        return Err(Error::format(merges, message));
    }
    let failed = |error: tokenizers::Error| Error::format(&vocab, error.to_string());
    let utf8 = |path: &Path| match path.to_str() {
        Some(path) => Ok(path.to_string()),
        None => Err(Error::format(path, "the path is not Unicode; rename its folder")),
    };
    let model = BPE::from_file(&utf8(&vocab)?, &utf8(&merges)?).build().map_err(failed)?;
    let mut tokenizer = Tokenizer::new(model);
    let token = |name, default| special_token(config, name).unwrap_or(default).to_owned();
    let (cls, sep) = (token("cls_token", "<s>"), token("sep_token", "</s>"));
    let id = |tokenizer: &Tokenizer, token: &str| {
        let missing = || Error::format(&vocab, format!("{token:?} is not in the vocabulary"));
        tokenizer.token_to_id(token).ok_or_else(missing)
    };
    let (cls_id, sep_id) = (id(&tokenizer, &cls)?, id(&tokenizer, &sep)?);
    let prefix = config.get("add_prefix_space").and_then(Value::as_bool).unwrap_or(false);
    let (trim_offsets, use_regex) = (true, true);
    tokenizer.with_pre_tokenizer(Some(ByteLevel::new(prefix, trim_offsets, use_regex)));
    tokenizer.with_post_processor(Some(
        RobertaProcessing::new((sep.clone(), sep_id), (cls.clone(), cls_id))
            .trim_offsets(trim_offsets)
            .add_prefix_space(prefix),
    ));
    tokenizer.with_decoder(Some(ByteLevel::default()));

    // As in `wordpiece`: what the vocabulary lacks would get an id that the model has no row for.
    let special = [cls, token("pad_token", "<pad>"), sep, token("unk_token", "<unk>")];
    let special = special.into_iter().map(|token| AddedToken::from(token, true));
    // A mask takes the space before it.
    let mask = AddedToken::from(token("mask_token", "<mask>"), true).lstrip(true);
    let special = special.chain([mask]);
    let known: Vec<_> = special.filter(|t| tokenizer.token_to_id(&t.content).is_some()).collect();
    tokenizer.add_special_tokens(known).map_err(failed)?;
    Ok(tokenizer)
}
