//! Builds tokenizers as transformers' classes do. A class takes the vocabulary from
//! `tokenizer.json` or from older files, and everything else from its own definition and the
//! options of `tokenizer_config.json`.
//!
//! Definitions: `models/{bert,mpnet,roberta,xlm_roberta,deberta_v2,herbert}/tokenization_*.py` of
//! <https://github.com/huggingface/transformers>.

use std::path::PathBuf;

use serde_json::{Map, Value, json};
use tokenizers::{ModelWrapper, Tokenizer};

use super::class::{Class, Named};
use super::damage::{self, guarded};
use super::folder::{Files, Json};
use super::special_tokens::SpecialTokens;
use crate::{Error, Result};

/// A tokenizer, and the file of its vocabulary.
pub(super) type Built = (Tokenizer, PathBuf);

/// Builds the tokenizer of a class, with its added tokens.
pub(super) fn build(files: &Files, named: &Named, specials: &SpecialTokens) -> Result<Built> {
    let parts = Parts { files, named, specials };
    if named.class == Class::Json {
        let Some(json) = &files.json else { return Err(parts.no_vocabulary("tokenizer.json")) };
        let mut tokenizer = damage::read(json, &files.model_config)?;
        specials.add_to(&mut tokenizer, files)?;
        return Ok((tokenizer, json.path.clone()));
    }
    let (model, origin) = parts.model()?;
    let mut whole = parts.pipeline()?;
    whole.insert("version".into(), "1.0".into());
    whole.insert("model".into(), model);
    let tokenizer = guarded(|| Ok(serde_json::from_value::<Tokenizer>(whole.into())?));
    let mut tokenizer = tokenizer.map_err(|error| Error::format(&origin, error.to_string()))?;
    parts.check_special(&tokenizer, &origin)?;
    specials.add_to(&mut tokenizer, files)?;
    let processor = parts.post_processor(&tokenizer, &origin)?;
    tokenizer.with_post_processor(Some(processor));
    Ok((tokenizer, origin))
}

struct Parts<'a> {
    files: &'a Files,
    named: &'a Named,
    specials: &'a SpecialTokens,
}

impl Parts<'_> {
    /// A boolean option of `tokenizer_config.json`.
    fn flag(&self, name: &str, default: bool) -> Result<bool> {
        match self.files.config.get(name) {
            None => Ok(default),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(other) => {
                let message = format!("{name}: {other} is neither true nor false");
                Err(Error::format(self.files.path("tokenizer_config.json"), message))
            }
        }
    }

    fn token(&self, name: &str) -> &str {
        self.specials.get(name).unwrap_or_default()
    }

    /// The error if the folder has none of the files that the class needs.
    fn no_vocabulary(&self, needed: &str) -> Error {
        let Named { name, place, .. } = self.named;
        let message = format!(
            "no {needed} for the {name} that {place} asks for; save the model's tokenizer here with \
             transformers' AutoTokenizer.from_pretrained(…).save_pretrained(…), or name the class \
             that fits the files as tokenizer_class of tokenizer_config.json"
        );
        Error::format(self.files.place(), message)
    }

    /// The model with its vocabulary, and the file of the vocabulary.
    fn model(&self) -> Result<(Value, PathBuf)> {
        match (&self.files.json, self.named.class) {
            (Some(json), _) => Ok((self.model_of_json(json)?, json.path.clone())),
            (None, Class::Bert | Class::Mpnet) => {
                let Some(text) = self.files.text("vocab.txt")? else {
                    return Err(self.no_vocabulary("tokenizer.json or vocab.txt"));
                };
                let lines = text.lines().enumerate();
                let vocab = lines.map(|(at, line)| (line.trim_end().to_string(), at.into()));
                let vocab = Value::Object(vocab.collect());
                Ok((self.word_piece(vocab), self.files.path("vocab.txt")))
            }
            (None, Class::Roberta | Class::Herbert) => {
                let path = self.files.path("vocab.json");
                let Some(text) = self.files.text("vocab.json")? else {
                    return Err(self.no_vocabulary("tokenizer.json or vocab.json"));
                };
                let vocab: Map<String, Value> = serde_json::from_str(&text)
                    .map_err(|error| Error::format(&path, format!("not a JSON object: {error}")))?;
                damage::check_vocabulary(&vocab).map_err(|m| Error::format(&path, m))?;
                Ok((self.bpe(vocab.into(), self.merges()?), path))
            }
            (None, _) => Err(self.no_vocabulary("tokenizer.json")),
        }
    }

    /// The merges of `merges.txt`.
    fn merges(&self) -> Result<Value> {
        let path = self.files.path("merges.txt");
        let Some(text) = self.files.text("merges.txt")? else {
            let message = "missing; vocab.json alone does not say how words are cut";
            return Err(Error::format(path, message));
        };
        let lines = text.lines().enumerate().filter(|(_, line)| !line.starts_with("#version"));
        let pairs = lines.map(|(at, line)| match line.split(' ').collect::<Vec<_>>()[..] {
            [left, right] => Ok(json!([left, right])),
            _ => Err(Error::format(&path, format!("line {}: not a pair of tokens", at + 1))),
        });
        Ok(Value::Array(pairs.collect::<Result<_>>()?))
    }

    fn model_of_json(&self, json: &Json) -> Result<Value> {
        let whole = damage::read(json, &self.files.model_config)?;
        let kind = match whole.get_model() {
            ModelWrapper::BPE(_) => "BPE",
            ModelWrapper::WordPiece(_) => "WordPiece",
            ModelWrapper::WordLevel(_) => "WordLevel",
            ModelWrapper::Unigram(_) => "Unigram",
        };
        let field = |name: &str| {
            let model = json.fields.get("model");
            model.and_then(|model| model.get(name)).cloned().unwrap_or_default()
        };
        match (self.named.class, kind) {
            (Class::Bert | Class::Mpnet, "WordPiece") => Ok(self.word_piece(field("vocab"))),
            (Class::Roberta | Class::Herbert, "BPE") => {
                Ok(self.bpe(field("vocab"), field("merges")))
            }
            (Class::DebertaV2, "Unigram") => self.unigram(field("vocab")),
            (Class::XlmRoberta, "Unigram") => {
                Ok(json!({"type": "Unigram", "unk_id": 3, "vocab": field("vocab"),
                    "byte_fallback": false}))
            }
            _ => {
                let Named { name, place, .. } = self.named;
                let message = format!(
                    "its {kind} is not the model of the {name} that {place} asks for; if \
                     tokenizer.json is right as it stands, name PreTrainedTokenizerFast as \
                     tokenizer_class of tokenizer_config.json"
                );
                Err(Error::format(&json.path, message))
            }
        }
    }

    fn word_piece(&self, vocab: Value) -> Value {
        json!({"type": "WordPiece", "unk_token": self.token("unk_token"), "vocab": vocab,
            "continuing_subword_prefix": "##", "max_input_chars_per_word": 100})
    }

    fn bpe(&self, vocab: Value, merges: Value) -> Value {
        let (unknown, suffix) = match self.named.class {
            Class::Herbert => (Value::from(self.token("unk_token")), "</w>"),
            _ => (Value::Null, ""),
        };
        json!({"type": "BPE", "dropout": null, "unk_token": unknown, "fuse_unk": false,
            "continuing_subword_prefix": if suffix.is_empty() { Some("") } else { None },
            "end_of_word_suffix": suffix, "byte_fallback": false, "ignore_merges": false,
            "vocab": vocab, "merges": merges})
    }

    /// The unknown token is the piece of its name with the score 0, or else the piece `unk_id`.
    fn unigram(&self, vocab: Value) -> Result<Value> {
        let unknown = self.token("unk_token");
        let unscored = |piece: &Value| piece[0] == unknown && piece[1].as_f64() == Some(0.0);
        let found = vocab.as_array().and_then(|pieces| pieces.iter().position(unscored));
        let stated = match self.files.config.get("unk_id") {
            None => 1,
            Some(id) => id.as_u64().ok_or_else(|| {
                let message = format!("unk_id: {id} is no id of a token");
                Error::format(self.files.path("tokenizer_config.json"), message)
            })? as usize,
        };
        Ok(json!({"type": "Unigram", "unk_id": found.unwrap_or(stated), "vocab": vocab,
            "byte_fallback": false}))
    }

    /// Normalizer, pre-tokenizer and decoder.
    fn pipeline(&self) -> Result<Map<String, Value>> {
        let bert = |lowercase: bool, accents: Value, chinese: bool| {
            json!({"type": "BertNormalizer", "clean_text": true, "lowercase": lowercase,
                "handle_chinese_chars": chinese, "strip_accents": accents})
        };
        let parts = match self.named.class {
            Class::Bert | Class::Mpnet => {
                let accents = match self.files.config.get("strip_accents") {
                    None | Some(Value::Null) => Value::Null,
                    Some(_) => self.flag("strip_accents", false)?.into(),
                };
                let chinese = self.flag("tokenize_chinese_chars", true)?;
                json!({"normalizer": bert(self.flag("do_lower_case", true)?, accents, chinese),
                    "pre_tokenizer": {"type": "BertPreTokenizer"},
                    "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": true}})
            }
            Class::Herbert => json!({"normalizer": bert(false, false.into(), true),
                "pre_tokenizer": {"type": "BertPreTokenizer"},
                "decoder": {"type": "BPEDecoder", "suffix": "</w>"}}),
            Class::DebertaV2 => self.deberta()?,
            Class::XlmRoberta => self.xlm_roberta()?,
            Class::Roberta | Class::Json => {
                let bytes = |prefix: bool| {
                    json!({"type": "ByteLevel", "add_prefix_space": prefix, "trim_offsets": true,
                        "use_regex": true})
                };
                json!({"pre_tokenizer": bytes(self.flag("add_prefix_space", false)?),
                    "decoder": bytes(true)})
            }
        };
        match parts {
            Value::Object(parts) => Ok(parts),
            _ => Ok(Map::new()),
        }
    }

    fn deberta(&self) -> Result<Value> {
        let mut normalizers = vec![];
        if self.flag("do_lower_case", false)? {
            normalizers.push(json!({"type": "Lowercase"}));
        }
        normalizers.extend([
            json!({"type": "Replace", "pattern": {"Regex": r"\s{2,}|[\n\r\t]"}, "content": " "}),
            json!({"type": "NFC"}),
            json!({"type": "Strip", "strip_left": false, "strip_right": true}),
        ]);
        let mut splits = vec![];
        if self.flag("split_by_punct", false)? {
            splits.push(json!({"type": "Punctuation", "behavior": "Isolated"}));
        }
        let scheme = if self.flag("add_prefix_space", true)? { "always" } else { "first" };
        let words = json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme,
            "split": true});
        splits.push(words.clone());
        Ok(json!({"normalizer": {"type": "Sequence", "normalizers": normalizers},
            "pre_tokenizer": {"type": "Sequence", "pretokenizers": splits}, "decoder": words}))
    }

    /// The characters' map of the vocabulary's SentencePiece model is all that is taken from the
    /// normalizer of `tokenizer.json`.
    fn xlm_roberta(&self) -> Result<Value> {
        let normalizer = self.files.json.as_ref().and_then(|json| json.fields.get("normalizer"));
        let of_sequence = normalizer.and_then(|whole| whole.get("normalizers"));
        let steps = match of_sequence.and_then(Value::as_array) {
            Some(steps) => steps.iter().collect(),
            None => Vec::from_iter(normalizer),
        };
        let mapped = steps.into_iter().rfind(|step| {
            step.get("type").and_then(Value::as_str) == Some("Precompiled")
                && step.get("precompiled_charsmap").is_some()
        });
        let scheme = if self.flag("add_prefix_space", true)? { "always" } else { "never" };
        let words = json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme,
            "split": true});
        Ok(json!({"normalizer": mapped, "decoder": words, "pre_tokenizer": {"type": "Sequence",
            "pretokenizers": [{"type": "WhitespaceSplit"}, words]}}))
    }

    /// Checks that the tokens that every text needs are in the vocabulary: others would get ids
    /// that the model has no embeddings of.
    fn check_special(&self, tokenizer: &Tokenizer, origin: &PathBuf) -> Result<()> {
        let [first, last] = self.around();
        let mut needed = vec![first, last, "pad_token"];
        match self.named.class {
            Class::Bert | Class::Mpnet | Class::Herbert => needed.push("unk_token"),
            Class::Roberta | Class::DebertaV2 | Class::XlmRoberta | Class::Json => {}
        }
        for name in needed {
            let token = self.specials.get(name).ok_or_else(|| {
                let message = format!("{name}: a {} needs it", self.named.name);
                Error::format(self.files.path("tokenizer_config.json"), message)
            })?;
            // The unknown token must be in the model's vocabulary; others may be added tokens.
            let added = name != "unk_token" && self.specials.states(token);
            if tokenizer.token_to_id(token).is_none() && !added {
                let message = format!(
                    "{token:?} is not in the vocabulary; name the {name} that the {} has in \
                     tokenizer_config.json",
                    self.named.name
                );
                return Err(Error::format(origin, message));
            }
        }
        Ok(())
    }

    /// Names of the tokens around a text.
    fn around(&self) -> [&'static str; 2] {
        match self.named.class {
            Class::XlmRoberta => ["bos_token", "eos_token"],
            _ => ["cls_token", "sep_token"],
        }
    }

    fn post_processor(
        &self,
        tokenizer: &Tokenizer,
        origin: &PathBuf,
    ) -> Result<tokenizers::PostProcessorWrapper> {
        let pair = |name: &str| {
            let token = self.token(name);
            (token, tokenizer.token_to_id(token))
        };
        let [cls, sep] = self.around().map(pair);
        let processor = match self.named.class {
            Class::Roberta | Class::Mpnet | Class::XlmRoberta | Class::Json => {
                let is_roberta = self.named.class == Class::Roberta;
                let trim = !is_roberta || self.flag("trim_offsets", true)?;
                let prefix = is_roberta && self.flag("add_prefix_space", false)?;
                json!({"type": "RobertaProcessing", "sep": sep, "cls": cls, "trim_offsets": trim,
                    "add_prefix_space": prefix})
            }
            Class::Bert | Class::DebertaV2 => {
                json!({"type": "BertProcessing", "sep": sep, "cls": cls})
            }
            Class::Herbert => {
                if (cls.1, sep.1) != (Some(0), Some(2)) {
                    let message = format!(
                        "{:?} and {:?} are not the tokens 0 and 2, which a HerbertTokenizer puts \
                         around texts",
                        cls.0, sep.0
                    );
                    return Err(Error::format(origin, message));
                }
                json!({"type": "BertProcessing", "sep": sep, "cls": cls})
            }
        };
        let processor = serde_json::from_value(processor);
        processor.map_err(|error| Error::format(origin, error.to_string()))
    }
}
