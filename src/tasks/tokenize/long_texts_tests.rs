//! Texts that are cut before they are tokenized have the same tokens as whole texts.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use rand::{RngExt, SeedableRng, rngs::ChaCha8Rng};

use super::super::*;
use super::*;

fn tokenizers() -> Vec<(&'static str, TextTokenizer)> {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tokenizer");
    let folder =
        |name: &'static str| (name, TextTokenizer::from_folder(fixtures.join(name), 64).unwrap());
    let class = |file: &str, name: &'static str| {
        let json = fs::read(fixtures.join(file).join("tokenizer.json")).unwrap();
        let config = format!(r#"{{"tokenizer_class": "{name}"}}"#);
        (name, TextTokenizer::from_bytes(&json, Some(config.as_bytes()), 64).unwrap())
    };
    vec![
        folder("uncased"),
        folder("cased"),
        folder("accents"),
        folder("bytelevel"),
        folder("unigram"),
        class("bytelevel", "RobertaTokenizer"),
        class("unigram", "DebertaV2Tokenizer"),
    ]
}

/// Token ids if every text is tokenized whole.
fn whole(tokenizer: &TextTokenizer, text: &str, pair: Option<&str>) -> Vec<u32> {
    let words = |text: &str| tokenizer.words(text, true).unwrap();
    let (text, pair) = (words(text), pair.map(words));
    let encoding = tokenizer.finish(text, pair, &tokenizer.truncation(), false).unwrap();
    encoding.get_ids().to_vec()
}

fn assert_same(name: &str, tokenizer: &TextTokenizer, text: &str, pair: Option<&str>, what: &str) {
    let expected = whole(tokenizer, text, pair);
    let example = Example { text: text.into(), pair: pair.map(str::to_owned), label: None };
    let found = tokenizer.encode_examples(&[example]).unwrap().swap_remove(0).input_ids;
    assert_eq!(found, expected, "{name}, {what}, {} tokens", tokenizer.max_length());
    let found = tokenizer.encode(text, pair).unwrap();
    assert_eq!(found.get_ids(), expected, "{name}, {what}, {} tokens", tokenizer.max_length());
}

/// Random texts of words, punctuation and very long runs.
fn random(rng: &mut ChaCha8Rng, bytes: usize, parts: &[&str]) -> String {
    let mut text = String::new();
    while text.len() < bytes {
        let part = parts[rng.random_range(0..parts.len())];
        text.push_str(part);
        match rng.random_range(0..12) {
            0 => text.push_str(&part.repeat(rng.random_range(1..2000))),
            1 => text.push_str(&"x1".repeat(rng.random_range(1..3000))),
            2..8 => text.push(' '),
            _ => {}
        }
    }
    text
}

const PARTS: [&str; 22] = [
    "the",
    "cat",
    "sat",
    "unbelievable",
    "isn't",
    "2023",
    "[MASK]",
    "[SEP]",
    "<mask>",
    ". ",
    ",",
    "  ",
    "\n",
    "\t",
    "é",
    "e\u{301}",
    "東京",
    "東、京。",
    "\u{fb01}",
    "\u{1f600}",
    "x",
    "\u{3000}",
];

#[test]
fn cut_texts_have_the_tokens_of_whole_ones() {
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    for (name, tokenizer) in tokenizers() {
        for round in 0..8 {
            let few: Vec<&str> =
                (0..1 + round % 5).map(|_| PARTS[rng.random_range(0..22)]).collect();
            let parts = if round % 3 == 0 { &few[..] } else { &PARTS[..] };
            let bytes = [100, 5000, 20_000, 60_000][round % 4];
            let (text, pair) = (random(&mut rng, bytes, parts), random(&mut rng, bytes, parts));
            for length in [8, 129] {
                let tokenizer = tokenizer.clone().with_max_length(length).unwrap();
                let what = format!("round {round}");
                assert_same(name, &tokenizer, &text, None, &what);
                assert_same(name, &tokenizer, &text, Some(&pair), &what);
                assert_same(name, &tokenizer, "a dog", Some(&pair), &what);
                assert_same(name, &tokenizer, &text, Some(""), &what);
            }
        }
    }
}

/// If the number of tokens is odd, the longer text keeps one more, however far its end is.
#[test]
fn the_longer_text_of_a_pair_is_known_to_the_last_token() {
    for (name, tokenizer) in tokenizers() {
        let many = "the cat sat ".repeat(7000);
        let more = format!("{many}a dog");
        for length in [10, 11] {
            let tokenizer = tokenizer.clone().with_max_length(length).unwrap();
            assert_same(name, &tokenizer, &many, Some(&more), "second longer");
            assert_same(name, &tokenizer, &more, Some(&many), "first longer");
            assert_same(name, &tokenizer, &many, Some(&many), "equally long");
            assert_same(
                name,
                &tokenizer,
                &many,
                Some("the cat sat on the mat and sat"),
                "one short",
            );
        }
    }
}

#[test]
fn added_tokens_are_never_cut() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tokenizer");
    let folder = tempfile::tempdir().unwrap();
    let vocabulary = fs::read_to_string(fixtures.join("uncased/vocab.txt")).unwrap();
    fs::write(folder.path().join("vocab.txt"), &vocabulary).unwrap();
    for token in ["cat sat", "xx", "京東", "sat"] {
        for strip in [false, true] {
            let config = serde_json::json!({"extra_special_tokens": [{"__type": "AddedToken",
                "content": token, "lstrip": strip, "rstrip": strip, "normalized": strip}]});
            fs::write(folder.path().join("tokenizer_config.json"), config.to_string()).unwrap();
            let tokenizer = TextTokenizer::from_folder(folder.path(), 64).unwrap();
            for word in ["cat sat ", "x", "東京", "the cat sat on "] {
                let (text, longer) = (word.repeat(4001), word.repeat(4002));
                assert_same(token, &tokenizer, &text, Some(&longer), word);
            }
        }
    }
}

/// Number of bytes that the tokenizer gets of a text of 20 MB.
#[test]
fn the_tokenizer_gets_as_much_as_the_longest_input_needs() {
    const SIZE: usize = 20_000_000;
    for (name, tokenizer) in tokenizers() {
        for part in ["the cat sat on the mat. ", "it's 2023, the [MASK] (cat)! ", "x", "東京、"]
        {
            let endless = matches!(
                name,
                "bytelevel" | "unigram" | "RobertaTokenizer" | "DebertaV2Tokenizer" | "accents"
            );
            if endless && !part.contains(' ') && !(name == "accents" && part == "x") {
                continue; // Nothing tells words apart: tokenized whole.
            }
            let text = part.repeat(SIZE / part.len());
            let given = AtomicUsize::new(0);
            let encode = |text: &str| {
                given.fetch_add(text.len(), Ordering::Relaxed);
                tokenizer.words(text, false)
            };
            let short = tokenizer.cuts.shortened(&text);
            let text = short.as_deref().unwrap_or(&text);
            let (encoding, _) =
                tokenizer.cuts.encode_until(text, 512, encode, Encoding::len).unwrap();
            let given = given.into_inner();
            assert!(encoding.len() >= 512 || text.len() < SIZE, "{name}, {part:?}");
            assert!(given <= 5 * 512 * BYTES_A_TOKEN, "{name}, {part:?}: {given} bytes");
        }
    }
}

#[test]
fn endless_words_are_shortened_in_their_middle() {
    let (_, tokenizer) = tokenizers().swap_remove(0);
    let cuts = &tokenizer.cuts;
    assert_eq!(cuts.shortened(&"cat ".repeat(5000)), None);
    let text = format!("a {} b {}", "x".repeat(5000), "y".repeat(9000));
    let short = cuts.shortened(&text).unwrap();
    assert_eq!(short, format!("a {} b {}", "x".repeat(2048), "y".repeat(2048)));
    let both = [text.as_str(), &short].map(|text| tokenizer.words(text, false).unwrap());
    assert_eq!(both[0].get_ids(), both[1].get_ids());
}
