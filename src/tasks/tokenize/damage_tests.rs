//! Damaged `tokenizer.json` files: each loads with ids in range, or is an error that names the
//! file.

use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};

use rand::{RngExt, SeedableRng, rngs::ChaCha8Rng};
use rayon::prelude::*;
use serde_json::json;

use super::*;

const TEXTS: [(&str, Option<&str>); 4] = [
    ("the cat sat [MASK] \u{fb01}t", Some("a dog <mask> é 東")),
    ("", None),
    (" \t a\u{0}\u{fffd}  1,2 </s>", None),
    ("xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx", Some("")),
];

/// Kinds of tiny tokenizers, each with the configurations to read it with.
fn kinds() -> Vec<(&'static str, Value, Vec<Value>)> {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tokenizer");
    let read = |name: &str| -> Value {
        let text = fs::read_to_string(fixtures.join(name).join("tokenizer.json")).unwrap();
        serde_json::from_str(&text).unwrap()
    };
    let fast = || json!({"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": "[PAD]"});
    let class = |name: &str| json!({"tokenizer_class": name});
    let mut short = read("stored");
    keep(&mut short, 12);
    let mut bytes = read("bytelevel");
    keep(&mut bytes, 400);
    bytes["model"]["merges"].as_array_mut().unwrap().truncate(4);
    let byte_pad = json!({"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": "<pad>"});
    let mut pieces = read("unigram");
    pieces["model"]["vocab"].as_array_mut().unwrap().truncate(14);
    let last = pieces["model"]["vocab"].as_array().unwrap().len();
    pieces["added_tokens"][4]["id"] = last.into();
    let words = json!({"version": "1.0", "truncation": null, "padding": null, "added_tokens": [
            {"id": 0, "content": "[PAD]", "single_word": false, "lstrip": true, "rstrip": true,
             "normalized": true, "special": false}],
        "normalizer": {"type": "Sequence", "normalizers": [{"type": "NFKC"}, {"type": "Lowercase"},
            {"type": "Replace", "pattern": {"String": "a"}, "content": "b"},
            {"type": "Prepend", "prepend": "c"}]},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "Whitespace"},
            {"type": "Split", "pattern": {"Regex": "[0-9]"}, "behavior": "Isolated", "invert": false},
            {"type": "Digits", "individual_digits": true},
            {"type": "FixedLength", "length": 5}]},
        "post_processor": {"type": "Sequence", "processors": [
            {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "[PAD]", "type_id": 0}},
                {"Sequence": {"id": "A", "type_id": 0}}],
             "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
             "special_tokens": {"[PAD]": {"id": "[PAD]", "ids": [0], "tokens": ["[PAD]"]}}}]},
        "decoder": {"type": "Sequence", "decoders": [{"type": "Fuse"}, {"type": "Strip",
            "content": " ", "start": 1, "stop": 0}]},
        "model": {"type": "WordLevel", "unk_token": "un", "vocab": {"[PAD]": 0, "un": 1, "cat": 2}}});
    let roberta_json = {
        let mut json = bytes.clone();
        json["post_processor"] = json!({"type": "RobertaProcessing", "sep": ["</s>", 2],
            "cls": ["<s>", 0], "trim_offsets": true, "add_prefix_space": false});
        json
    };
    vec![
        ("wordpiece", short, vec![fast(), class("BertTokenizer")]),
        ("bytes", roberta_json, vec![byte_pad, class("RobertaTokenizer")]),
        ("unigram", pieces, vec![fast(), class("DebertaV2Tokenizer")]),
        ("words", words, vec![fast()]),
    ]
}

/// Keeps the first tokens of a vocabulary.
fn keep(json: &mut Value, count: u64) {
    let vocabulary = json["model"]["vocab"].as_object_mut().unwrap();
    vocabulary.retain(|_, id| id.as_u64().unwrap() < count);
}

/// Loads and uses a tokenizer; returns whether it loads. Checks that an error names the file and
/// has one line.
fn survives(text: &[u8], config: &Value, what: &dyn Fn() -> String) -> bool {
    let config = config.to_string();
    let tokenizer = match TextTokenizer::from_bytes(text, Some(config.as_bytes()), 16) {
        Ok(tokenizer) => tokenizer,
        Err(error) => {
            let error = error.to_string();
            assert!(
                error.contains("tokenizer") || error.contains("max_length"),
                "{}: {error}",
                what()
            );
            return false;
        }
    };
    let vocabulary = tokenizer.tokenizer.get_vocab(true);
    let last = vocabulary.values().max().copied().unwrap_or(0);
    assert!(last < 1 << 24, "{}: {last}", what());
    assert!(tokenizer.pad_id() <= last, "{}: padding {}", what(), tokenizer.pad_id());
    for (text, pair) in TEXTS {
        match tokenizer.encode(text, pair) {
            Ok(encoding) => {
                assert!(encoding.get_ids().iter().all(|id| *id <= last), "{}", what());
                assert!(encoding.len() <= 16, "{}: {} tokens", what(), encoding.len());
                // A damaged decoder is an error, too.
                let _ = tokenizer.decode(encoding.get_ids());
            }
            Err(error) => {
                let error = error.to_string();
                assert!(error.contains("tokenizer.json"), "{}: {error}", what());
            }
        }
    }
    let _ = tokenizer.to_json();
    true
}

/// Pointers to all values within `value`; of large vocabularies only a sample.
fn leaves(value: &Value, path: String, all: &mut Vec<String>) {
    all.push(path.clone());
    match value {
        Value::Object(fields) => {
            let step = if fields.len() > 40 { fields.len() / 12 } else { 1 };
            for (name, field) in fields.iter().step_by(step) {
                let name = name.replace('~', "~0").replace('/', "~1");
                leaves(field, format!("{path}/{name}"), all);
            }
        }
        Value::Array(list) => {
            let step = if list.len() > 40 { list.len() / 12 } else { 1 };
            for (at, item) in list.iter().enumerate().step_by(step) {
                leaves(item, format!("{path}/{at}"), all);
            }
        }
        _ => {}
    }
}

fn odd_values() -> Vec<Value> {
    vec![
        Value::Null,
        true.into(),
        false.into(),
        0.into(),
        1.into(),
        7.into(),
        (-1).into(),
        99_999.into(),
        u32::MAX.into(),
        u64::MAX.into(),
        i64::MIN.into(),
        1e300.into(),
        0.5.into(),
        "".into(),
        " ".into(),
        "a".into(),
        "[PAD]".into(),
        "the".into(),
        "\u{0}".into(),
        "東".into(),
        "(".into(),
        "(a*)*b".into(),
        "////////////".into(),
        "x".repeat(5000).into(),
        json!([]),
        json!({}),
        json!([0]),
        json!(["a", "b"]),
        json!([["a", -1.0]]),
        json!({"a": 0}),
        json!({"type": "ByteLevel"}),
        json!({"String": ""}),
        json!({"Regex": ""}),
    ]
}

#[test]
fn every_value_replaced_by_every_odd_one_loads_or_is_one_error() {
    for (name, json, configs) in kinds() {
        let mut paths = vec![];
        leaves(&json, String::new(), &mut paths);
        let loaded = AtomicUsize::new(0);
        let odd = odd_values();
        for config in &configs {
            assert!(
                survives(json.to_string().as_bytes(), config, &|| name.into()),
                "{name} {config}"
            );
            paths.par_iter().for_each(|path| {
                for value in &odd {
                    let mut damaged = json.clone();
                    *damaged.pointer_mut(path).unwrap() = value.clone();
                    let short = value.to_string().chars().take(40).collect::<String>();
                    let what = || format!("{name} {config}: {path} = {short}");
                    let whole = survives(damaged.to_string().as_bytes(), config, &what);
                    loaded.fetch_add(usize::from(whole), Ordering::Relaxed);
                }
                // Also without it.
                let mut damaged = json.clone();
                let (parent, last) = path.rsplit_once('/').unwrap_or(("", ""));
                match damaged.pointer_mut(parent) {
                    Some(Value::Object(fields)) => {
                        fields.remove(&last.replace("~1", "/").replace("~0", "~"));
                    }
                    Some(Value::Array(list)) => {
                        list.remove(last.parse().unwrap());
                    }
                    _ => {}
                }
                let what = || format!("{name} {config}: without {path}");
                survives(damaged.to_string().as_bytes(), config, &what);
            });
        }
        let all = paths.len() * odd.len() * configs.len();
        let loaded = loaded.into_inner();
        println!("{name}: {all} replacements, of which {loaded} load");
        assert!(loaded > all / 50 && loaded < all * 9 / 10);
    }
}

#[test]
fn flipped_bytes_load_or_are_one_error() {
    for (name, json, configs) in kinds() {
        let text = json.to_string().into_bytes();
        (0..600_u64).into_par_iter().for_each(|seed| {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            let mut damaged = text.clone();
            for _ in 0..rng.random_range(1..4) {
                let at = rng.random_range(0..damaged.len());
                match rng.random_range(0..3) {
                    0 => damaged[at] ^= 1 << rng.random_range(0..8),
                    1 => damaged[at] = rng.random(),
                    _ => damaged.truncate(at.max(1)),
                }
            }
            for config in &configs {
                survives(&damaged, config, &|| format!("{name} {config}: seed {seed}"));
            }
        });
    }
}

#[test]
fn what_a_file_claims_is_checked_before_it_is_believed() {
    let (_, json, _) = kinds().swap_remove(0);
    let error = |path: &str, value: Value| {
        let mut damaged = json.clone();
        *damaged.pointer_mut(path).unwrap() = value;
        let text = damaged.to_string();
        TextTokenizer::from_bytes(text.as_bytes(), None, 16).unwrap_err().to_string()
    };
    let sep = json!({"type": "BertProcessing", "sep": ["[SEP]", 99_999], "cls": ["[CLS]", 3]});
    let found = error("/post_processor", sep);
    assert!(
        found.contains("tokenizer.json") && found.contains("no token has the id 99999"),
        "{found}"
    );
    let other = json!({"type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 3]});
    let found = error("/post_processor", other);
    assert!(found.contains("the id 3 is not that of \"[SEP]\" but of \"[CLS]\""), "{found}");
    let types = json!({"type": "TemplateProcessing", "pair": [], "special_tokens": {},
        "single": [{"Sequence": {"id": "A", "type_id": 7}}]});
    let found = error("/post_processor", types);
    assert!(found.contains("type_id: 7, but the model has 2 types"), "{found}");
    let found = error("/normalizer", json!({"type": "Precompiled", "precompiled_charsmap": ""}));
    assert!(found.contains("Precompiled is damaged"), "{found}");
    let huge = json!({"type": "Precompiled", "precompiled_charsmap": "/P///wAAAAA="});
    let found = error("/normalizer", huge);
    assert!(found.contains("4294967292 bytes stated"), "{found}");
    let found = error("/model/vocab/the", u32::MAX.into());
    assert!(found.contains("model.vocab: \"the\" has the impossible id 4294967295"), "{found}");
    let found = error("/model/vocab/the", 0.into());
    assert!(found.contains("share the id 0"), "{found}");
    let found = error("/added_tokens/0/id", 1.into());
    assert!(found.contains("should have the id 1"), "{found}");
    let deep = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000));
    let found = TextTokenizer::from_bytes(deep.as_bytes(), None, 16).unwrap_err().to_string();
    assert!(found.contains("tokenizer.json"), "{found}");
}
