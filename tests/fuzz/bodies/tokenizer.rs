//! Tokenizer files, and texts through what they make.

use std::path::Path;

use losparse::Result;
use losparse::tasks::tokenize::{TruncationDirection, TruncationParams, TruncationStrategy};
use losparse::tasks::{Example, TextTokenizer};

use super::files::Files;
use super::input::Input;
use super::{Outcome, outcome, seeds};

/// Keys of tokenizer files that readers know, and kinds of their parts.
const KEYS: [&str; 40] = [
    "pad_token",
    "unk_token",
    "cls_token",
    "sep_token",
    "mask_token",
    "tokenizer_class",
    "do_lower_case",
    "strip_accents",
    "tokenize_chinese_chars",
    "add_prefix_space",
    "truncation_side",
    "model_max_length",
    "added_tokens_decoder",
    "additional_special_tokens",
    "special",
    "content",
    "normalizer",
    "pre_tokenizer",
    "post_processor",
    "decoder",
    "dropout",
    "continuing_subword_prefix",
    "end_of_word_suffix",
    "byte_fallback",
    "ignore_merges",
    "max_input_chars_per_word",
    "fuse_unk",
    "unk_id",
    "type",
    "pattern",
    "behavior",
    "invert",
    "split",
    "prepend_scheme",
    "replacement",
    "truncation",
    "padding",
    "direction",
    "stride",
    "model_type",
];

/// Texts of all kinds: pairs, none, long, of no words, of many scripts.
const TEXTS: [&str; 8] = [
    "",
    "the film is very good",
    "The Cat sat — naïve CAFÉ, 東京!  it's\n",
    "\u{0}\u{feff}\u{200d}👩‍👩‍👧 e\u{301}\u{301}\u{301} \u{1b}[0m",
    "[CLS] [MASK] <mask> [SEP]</s> the",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "    \t \u{a0}\u{3000}",
    "ﬁﬂ Ⅷ ½ ａｂｃ ｶﾞ 각 Ω\u{fffd}",
];

fn seeds() -> Vec<Files> {
    let json = seeds::tokenizer_json().to_string();
    let config = br#"{"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": "[PAD]"}"#;
    let mut word_piece = seeds::tokenizer_json();
    word_piece["model"]["type"] = "WordPiece".into();
    word_piece["model"]["continuing_subword_prefix"] = "##".into();
    word_piece["model"]["max_input_chars_per_word"] = 100.into();
    word_piece["normalizer"]["type"] = "NFKD".into();
    word_piece["decoder"] =
        serde_json::json!({"type": "WordPiece", "prefix": "##", "cleanup": true});
    vec![
        Files::of([("tokenizer.json", json.as_bytes()), ("tokenizer_config.json", config)]),
        Files::of([("tokenizer.json", word_piece.to_string().as_bytes())]),
        Files::of([(
            "tokenizer.json",
            include_bytes!("../../fixtures/tokenizer/unigram/tokenizer.json"),
        )]),
        Files::of([
            ("tokenizer.json", include_bytes!("../../fixtures/tokenizer/bytelevel/tokenizer.json")),
            (
                "tokenizer_config.json",
                include_bytes!("../../fixtures/tokenizer/bytelevel/tokenizer_config.json"),
            ),
        ]),
        Files::of([
            ("vocab.txt", include_bytes!("../../fixtures/tokenizer/cased/vocab.txt")),
            ("config.json", br#"{"model_type": "bert", "pad_token_id": 0}"#),
            (
                "tokenizer_config.json",
                br#"{"do_lower_case": false, "tokenizer_class": "BertTokenizer",
                    "strip_accents": true, "tokenize_chinese_chars": true, "added_tokens_decoder":
                    {"3": {"content": "[CLS]", "special": true}}}"#,
            ),
            ("special_tokens_map.json", br#"{"pad_token": "[PAD]", "cls_token": "[CLS]"}"#),
            ("added_tokens.json", br#"{}"#),
        ]),
        Files::of([
            (
                "vocab.json",
                br#"{"<s>": 0, "<pad>": 1, "</s>": 2, "<unk>": 3, "<mask>": 4, "t": 5, "h": 6,
                    "e": 7, "th": 8, "the": 9, "\u0120": 10, "\u0120the": 11}"#,
            ),
            ("merges.txt", b"#version: 0.2\nt h\nth e\n\xc4\xa0 the\n"),
            ("config.json", br#"{"model_type": "roberta", "pad_token_id": 1}"#),
            (
                "tokenizer_config.json",
                br#"{"add_prefix_space": true, "tokenizer_class": "RobertaTokenizer",
                    "truncation_side": "left", "mask_token": {"content": "<mask>"}}"#,
            ),
        ]),
    ]
}

/// A folder with the tokenizer files of the input. What is read keeps lengths, and reads the same
/// once it is saved.
pub fn tokenizer(data: &[u8]) -> Outcome {
    let mut input = Input::new(data);
    let mut files = input.choose(&seeds()).clone();
    let (length, stride) = (usize::from(input.byte() % 32), usize::from(input.byte() % 8));
    files.edit(&mut input, &KEYS, |_| true);
    let (_scratch, folder) = files.folder("model");
    outcome(read(&folder, length, stride))
}

fn read(folder: &Path, length: usize, stride: usize) -> Result<()> {
    let tokenizer = TextTokenizer::from_folder(folder, length)?;
    assert_eq!(tokenizer.max_length(), length);
    let (json, config) = (tokenizer.to_json()?, tokenizer.config_json());
    let again = TextTokenizer::from_bytes(json.as_bytes(), Some(config.as_bytes()), length)
        .expect("a tokenizer that was saved can be read");
    let embedded = tokenizer.clone().with_embeddings(13);
    let mut result = Ok(());
    for (at, text) in TEXTS.iter().enumerate() {
        let pair = (at % 2 == 1).then(|| TEXTS[(at + 3) % TEXTS.len()]);
        let encoding = match tokenizer.encode(text, pair) {
            Ok(encoding) => encoding,
            // Others may be fine.
            Err(error) => {
                result = Err(error);
                continue;
            }
        };
        let ids = encoding.get_ids();
        assert!(ids.len() <= length, "{} tokens of at most {length}", ids.len());
        assert_eq!(encoding.get_type_ids().len(), ids.len());
        let saved = again.encode(text, pair).expect("as before it was saved");
        assert_eq!(saved.get_ids(), ids, "other tokens after saving");
        let example = Example { text: text.to_string(), pair: pair.map(String::from), label: None };
        let batch = tokenizer.encode_examples(&[example]).expect("as alone");
        assert_eq!(batch[0].input_ids, ids, "other tokens in a batch");
        if let Ok(embedded) = &embedded
            && let Ok(encoding) = embedded.encode(text, pair)
        {
            assert!(encoding.get_ids().iter().all(|&id| id < 13), "a token without embedding");
        }
        tokenizer.decode(ids)?;
        let truncation = TruncationParams {
            max_length: length,
            strategy: TruncationStrategy::OnlySecond,
            stride,
            direction: TruncationDirection::Right,
        };
        if let Ok(encoding) = tokenizer.encode_with(text, Some(TEXTS[at / 2]), &truncation) {
            let pieces = std::iter::once(&encoding).chain(encoding.get_overflowing());
            for piece in pieces {
                assert!(piece.len() <= length, "{} tokens of {length}", piece.len());
            }
        }
    }
    result
}
