//! BERT's tokenizer from `vocab.txt`, as transformers' `BertTokenizer` builds it.

use std::path::Path;

use serde_json::{Map, Value};
use tokenizers::decoders::wordpiece::WordPiece as WordPieceDecoder;
use tokenizers::models::wordpiece::WordPiece;
use tokenizers::normalizers::BertNormalizer;
use tokenizers::pre_tokenizers::bert::BertPreTokenizer;
use tokenizers::processors::bert::BertProcessing;
use tokenizers::{AddedToken, Tokenizer};

use super::special_token;
use crate::{Error, Result};

/// Values of `tokenizer_class` whose `vocab.txt` means BERT's tokenizer, less a final `Fast`.
const CLASSES: [&str; 4] =
    ["BertTokenizer", "DistilBertTokenizer", "ElectraTokenizer", "MobileBertTokenizer"];

/// Builds the tokenizer of `vocab`, one token a line, with the options of
/// `tokenizer_config.json`; `path` is for messages.
pub(super) fn build(vocab: &str, config: &Map<String, Value>, path: &Path) -> Result<Tokenizer> {
    if let Some(class) = config.get("tokenizer_class").and_then(Value::as_str)
        && !CLASSES.contains(&class.trim_end_matches("Fast"))
    {
        let message = format!(
            "the vocabulary of a {class}, but only BERT's tokenizer is made from vocab.txt; save \
             this one as tokenizer.json with transformers' save_pretrained"
        );
        return Err(Error::format(path, message));
    }
    let failed = |error: tokenizers::Error| Error::format(path, error.to_string());
    let token = |name, default| special_token(config, name).unwrap_or(default).to_owned();
    let flag = |name| config.get(name).and_then(Value::as_bool);

    let unknown = token("unk_token", "[UNK]");
    let model = WordPiece::builder()
        .vocab(WordPiece::read_bytes(vocab.as_bytes()).map_err(failed)?)
        .unk_token(unknown.clone())
        .build()
        .map_err(failed)?;
    let mut tokenizer = Tokenizer::new(model);
    let id = |tokenizer: &Tokenizer, token: &str| {
        tokenizer
            .token_to_id(token)
            .ok_or_else(|| Error::format(path, format!("{token:?} is not in the vocabulary")))
    };

    let (cls, sep) = (token("cls_token", "[CLS]"), token("sep_token", "[SEP]"));
    id(&tokenizer, &unknown)?;
    let (cls_id, sep_id) = (id(&tokenizer, &cls)?, id(&tokenizer, &sep)?);
    let clean_text = true;
    let normalizer = BertNormalizer::new(
        clean_text,
        flag("tokenize_chinese_chars").unwrap_or(true),
        flag("strip_accents"),
        flag("do_lower_case").unwrap_or(true),
    );
    tokenizer.with_normalizer(Some(normalizer)).map_err(failed)?;
    tokenizer.with_pre_tokenizer(Some(BertPreTokenizer));
    tokenizer.with_post_processor(Some(BertProcessing::new(
        (sep.clone(), sep_id),
        (cls.clone(), cls_id),
    )));
    tokenizer.with_decoder(Some(WordPieceDecoder::default()));

    // Special tokens written out in a text stay whole. One that the vocabulary lacks would get a
    // new id beyond the model's embeddings, so it is left out.
    let special = [unknown, sep, token("pad_token", "[PAD]"), cls, token("mask_token", "[MASK]")];
    let special = special.into_iter().filter(|token| tokenizer.token_to_id(token).is_some());
    let special: Vec<_> = special.map(|token| AddedToken::from(token, true)).collect();
    tokenizer.add_special_tokens(special).map_err(failed)?;
    Ok(tokenizer)
}
