use std::collections::BTreeMap;
use std::fs;

use serde::Deserialize;

use super::*;
use crate::tasks::Label;

#[derive(Deserialize)]
struct Case {
    text: String,
    pair: Option<String>,
    max_length: usize,
    ids: Vec<u32>,
    types: Vec<u32>,
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tokenizer")
}

fn expected(name: &str) -> Vec<Case> {
    let text = fs::read_to_string(fixtures().join("expected.json")).unwrap();
    let mut cases: BTreeMap<String, Vec<Case>> = serde_json::from_str(&text).unwrap();
    cases.remove(name).unwrap()
}

fn assert_agrees(tokenizer: &TextTokenizer, cases: &[Case]) {
    assert!(cases.len() > 40);
    for case in cases {
        let tokenizer = tokenizer.clone().with_max_length(case.max_length).unwrap();
        let encoding = tokenizer.encode(&case.text, case.pair.as_deref()).unwrap();
        let what = format!("{:?} {:?} {}", case.text, case.pair, case.max_length);
        assert_eq!(encoding.get_ids(), case.ids, "{what}");
        assert_eq!(encoding.get_type_ids(), case.types, "{what}");
        let example = Example { text: case.text.clone(), pair: case.pair.clone(), label: None };
        let encoded = tokenizer.encode_examples(&[example]).unwrap();
        assert_eq!(encoded[0].input_ids, case.ids, "{what}");
        assert_eq!(encoded[0].token_type_ids, case.types, "{what}");
    }
}

#[test]
fn every_kind_of_folder_agrees_with_transformers() {
    for name in ["uncased", "cased", "accents", "bytelevel", "unigram"] {
        let tokenizer = TextTokenizer::from_folder(fixtures().join(name), 128).unwrap();
        assert_agrees(&tokenizer, &expected(name));
    }
}

/// Writes `vocab.json` and `merges.txt` of the byte-level fixture, as in old folders of BART.
fn write_bpe_files(folder: &Path) {
    let json = fs::read_to_string(fixtures().join("bytelevel/tokenizer.json")).unwrap();
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    let mut vocab = json["model"]["vocab"].clone();
    for token in json["added_tokens"].as_array().unwrap() {
        vocab[token["content"].as_str().unwrap()] = token["id"].clone();
    }
    fs::write(folder.join("vocab.json"), vocab.to_string()).unwrap();
    let merges =
        json["model"]["merges"].as_array().unwrap().iter().map(|merge| {
            format!("{} {}\n", merge[0].as_str().unwrap(), merge[1].as_str().unwrap())
        });
    let merges: String = std::iter::once("#version: 0.2\n".to_string()).chain(merges).collect();
    fs::write(folder.join("merges.txt"), merges).unwrap();
}

#[test]
fn byte_level_bpe_is_built_of_its_two_files() {
    let folder = tempfile::tempdir().unwrap();
    write_bpe_files(folder.path());
    let read = || TextTokenizer::from_folder(folder.path(), 128);
    let tokenizer = read().unwrap();
    assert_agrees(&tokenizer, &expected("bytelevel"));
    assert_eq!((tokenizer.pad_id(), tokenizer.vocab_size()), (1, 5 + 256 + 69));
    let text = "The cat — naïve, 東京!  it's";
    let ids = tokenizer.encode(text, None).unwrap();
    assert_eq!(tokenizer.decode(ids.get_ids()).unwrap(), text);

    let config = folder.path().join("tokenizer_config.json");
    fs::write(&config, r#"{"tokenizer_class": "CLIPTokenizer"}"#).unwrap();
    let error = read().unwrap_err().to_string();
    assert!(error.contains("a CLIPTokenizer is not supported"), "{error}");
    fs::write(&config, r#"{"tokenizer_class": "BartTokenizer", "sep_token": "[SEP]"}"#).unwrap();
    let error = read().unwrap_err().to_string();
    assert!(error.contains("\"[SEP]\" is not in the vocabulary"), "{error}");
    fs::remove_file(folder.path().join("merges.txt")).unwrap();
    fs::remove_file(config).unwrap();
    let error = read().unwrap_err().to_string();
    assert!(error.contains("merges.txt: missing"), "{error}");
}

#[test]
fn stored_truncation_and_padding_are_not_obeyed() {
    let tokenizer = TextTokenizer::from_folder(fixtures().join("stored"), 128).unwrap();
    assert_agrees(&tokenizer, &expected("uncased"));
}

#[test]
fn a_saved_tokenizer_reads_back() {
    for name in ["cased", "bytelevel", "unigram"] {
        let tokenizer = TextTokenizer::from_folder(fixtures().join(name), 128).unwrap();
        let (json, config) = (tokenizer.to_json().unwrap(), tokenizer.config_json());
        let embedded =
            TextTokenizer::from_bytes(json.as_bytes(), Some(config.as_bytes()), 128).unwrap();
        assert_agrees(&embedded, &expected(name));
        assert_eq!(embedded.pad_id(), tokenizer.pad_id());
        assert!(json.contains(r#""truncation":null,"padding":null"#));

        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("tokenizer.json"), json).unwrap();
        fs::write(folder.path().join("tokenizer_config.json"), config).unwrap();
        let again = TextTokenizer::from_folder(folder.path(), 128).unwrap();
        assert_agrees(&again, &expected(name));
    }
}

#[test]
fn a_data_set_keeps_its_order_and_labels() {
    let tokenizer = TextTokenizer::from_folder(fixtures().join("uncased"), 32).unwrap();
    let words = ["cat", "dog", "mat", "sat"];
    let examples: Vec<Example> = (0..2000)
        .map(|index| Example {
            text: words[index % 4].into(),
            pair: (index % 3 == 0).then(|| words[index / 4 % 4].into()),
            label: Some(Label::Class(index % 2)),
        })
        .collect();
    let encoded = tokenizer.encode_examples(&examples).unwrap();
    assert_eq!(encoded.len(), examples.len());
    for (example, encoded) in examples.iter().zip(&encoded) {
        let encoding = tokenizer.encode(&example.text, example.pair.as_deref()).unwrap();
        assert_eq!(encoded.input_ids, encoding.get_ids());
        assert_eq!(encoded.label, example.label);
    }
    assert_eq!(tokenizer.decode(&encoded[0].input_ids).unwrap(), "cat cat");
}

#[test]
fn offsets_lead_back_to_the_text() {
    let tokenizer = TextTokenizer::from_folder(fixtures().join("uncased"), 32).unwrap();
    let (text, pair) = ("the Café", "東京 cats");
    let encoding = tokenizer.encode(text, Some(pair)).unwrap();
    let pieces: Vec<&str> = encoding
        .get_offsets()
        .iter()
        .zip(encoding.get_sequence_ids())
        .filter_map(|(&(from, to), sequence)| Some(&[text, pair][sequence?][from..to]))
        .collect();
    assert_eq!(pieces, ["the", "Café", "東", "京", "cat", "s"]);
}

#[test]
fn long_second_texts_can_be_cut_in_overlapping_pieces() {
    let tokenizer = TextTokenizer::from_folder(fixtures().join("uncased"), 32).unwrap();
    let context = "the cat sat on the mat and the dog was not in it";
    let truncation = TruncationParams {
        max_length: 10,
        strategy: TruncationStrategy::OnlySecond,
        stride: 2,
        direction: TruncationDirection::Right,
    };
    let encoding = tokenizer.encode_with("a dog", Some(context), &truncation).unwrap();
    let pieces: Vec<&str> = std::iter::once(&encoding)
        .chain(encoding.get_overflowing())
        .map(|piece| {
            assert!(piece.len() <= 10);
            let tokens = piece.get_offsets().iter().zip(piece.get_sequence_ids());
            let second: Vec<_> = tokens.filter(|(_, sequence)| *sequence == Some(1)).collect();
            &context[second[0].0.0..second[second.len() - 1].0.1]
        })
        .collect();
    let expected =
        ["the cat sat on the", "on the mat and the", "and the dog was not", "was not in it"];
    assert_eq!(pieces, expected);
    // No text, length or overlap may panic inside the tokenizers crate.
    for strategy in [
        TruncationStrategy::OnlyFirst,
        TruncationStrategy::OnlySecond,
        TruncationStrategy::LongestFirst,
    ] {
        for (max_length, stride) in (0..16).flat_map(|length| (0..12).map(move |s| (length, s))) {
            let truncation =
                TruncationParams { max_length, strategy, stride, ..truncation.clone() };
            for (text, pair) in
                [("a dog", Some(context)), (context, Some("a")), (context, None), ("", Some(""))]
            {
                if let Ok(encoding) = tokenizer.encode_with(text, pair, &truncation) {
                    assert!(encoding.len() <= max_length.max(3), "{truncation:?}");
                }
            }
        }
    }
    let too_much = TruncationParams { stride: 5, ..truncation };
    let error = tokenizer.encode_with("a dog", Some(context), &too_much).unwrap_err().to_string();
    assert!(error.contains("leave pieces of 5, no more than their overlap"), "{error}");
}

/// BART's summarizers have no embedding for the last token, `<mask>`.
#[test]
fn special_tokens_may_lack_an_embedding_until_a_text_has_one() {
    let path = fixtures().join("bytelevel/tokenizer.json");
    let mut json: serde_json::Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    let mut token = json["added_tokens"][0].clone();
    (token["id"], token["content"]) = (330.into(), "<blank>".into());
    json["added_tokens"].as_array_mut().unwrap().push(token);
    let json = json.to_string();
    let read = || TextTokenizer::from_bytes(json.as_bytes(), None, 32).unwrap();
    let all = read().with_embeddings(331).unwrap();
    assert!(all.encode("a <blank>", None).unwrap().get_ids().contains(&330));
    let fewer = read().with_embeddings(330).unwrap();
    let plain = fewer.encode("a dog", Some("a cat")).unwrap();
    assert_eq!(plain.get_ids(), all.encode("a dog", Some("a cat")).unwrap().get_ids());
    let refused = |result: Result<String>| {
        let error = result.unwrap_err().to_string();
        assert!(error.contains("<blank>") && error.contains("no embedding"), "{error}");
    };
    refused(fewer.encode("a <blank>", None).map(|_| String::new()));
    // The model does not read what is cut off, unless it is in a piece of its own.
    let long = format!("{}<blank>", "dog ".repeat(60));
    fewer.encode(&long, None).unwrap();
    fewer.encode_examples(&[example(&long)]).unwrap();
    refused(fewer.encode_with(&long, None, &fewer.truncation()).map(|_| String::new()));
    refused(fewer.encode_examples(&[example("<blank>")]).map(|_| String::new()));
    let error = read().with_embeddings(329).unwrap_err().to_string();
    assert!(error.contains("331 tokens") && error.contains("329"), "{error}");
}

fn example(text: &str) -> Example {
    Example { text: text.into(), pair: None, label: None }
}

#[test]
fn configuration_is_heeded() {
    let cased = TextTokenizer::from_folder(fixtures().join("cased"), 32).unwrap();
    assert_eq!((cased.pad_id(), cased.max_length()), (0, 32));
    assert_eq!(cased.model_max_length(), Some(512));
    let bytes = TextTokenizer::from_folder(fixtures().join("bytelevel"), 32).unwrap();
    assert_eq!((bytes.pad_id(), bytes.model_max_length()), (1, None));
    assert_eq!(bytes.vocab_size(), 5 + 256 + 69);

    // Without any other file, config.json names the padding token.
    let folder = tempfile::tempdir().unwrap();
    let copy = |from: &str, name: &str| {
        fs::copy(fixtures().join(from).join(name), folder.path().join(name)).unwrap();
    };
    copy("bytelevel", "tokenizer.json");
    fs::write(folder.path().join("config.json"), r#"{"pad_token_id": 4}"#).unwrap();
    let tokenizer = TextTokenizer::from_folder(folder.path(), 32).unwrap();
    assert_eq!(tokenizer.pad_id(), 4);
    assert!(tokenizer.config_json().contains(r#""pad_token": "<mask>""#));

    let left = r#"{"truncation_side": "left"}"#;
    fs::write(folder.path().join("tokenizer_config.json"), left).unwrap();
    let tokenizer = TextTokenizer::from_folder(folder.path(), 6).unwrap();
    let encoding = tokenizer.encode("abcdefgh", None).unwrap();
    let pieces: Vec<_> =
        encoding.get_offsets().iter().map(|&(from, to)| &"abcdefgh"[from..to]).collect();
    assert_eq!(pieces, ["", "e", "f", "g", "h", ""]);
}

#[test]
fn errors_name_folder_and_file() {
    let folder = tempfile::tempdir().unwrap();
    let read = || TextTokenizer::from_folder(folder.path(), 32).unwrap_err().to_string();
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    let here = folder.path().display().to_string();

    let none = read();
    assert!(
        none.contains(&here) && none.contains("no tokenizer.json, vocab.txt or vocab.json"),
        "{none}"
    );
    let no_folder = TextTokenizer::from_folder(folder.path().join("x"), 32).unwrap_err();
    assert!(no_folder.to_string().contains("no such folder"), "{no_folder}");

    write("vocab.txt", "[PAD]\n[UNK]\n[SEP]\na\n");
    let cls = read();
    assert!(cls.contains("vocab.txt: \"[CLS]\" is not in the vocabulary"), "{cls}");
    write("vocab.txt", "[UNK]\n[SEP]\n[CLS]\na\n");
    assert!(read().contains("\"[PAD]\" is not in the vocabulary"), "{}", read());
    write("tokenizer_config.json", r#"{"pad_token": "<p>"}"#);
    assert!(read().contains("\"<p>\" is not in the vocabulary"), "{}", read());
    write("tokenizer_config.json", r#"{"tokenizer_class": "MPNetTokenizer"}"#);
    assert!(read().contains("MPNetTokenizer"), "{}", read());
    write("tokenizer_config.json", "[1]");
    assert!(read().contains("tokenizer_config.json: not a JSON object"), "{}", read());
    write("tokenizer_config.json", "{}");
    write("tokenizer.json", "{\"version\": ");
    assert!(read().contains("tokenizer.json: not a tokenizer"), "{}", read());
    let embedded = TextTokenizer::from_bytes(b"{}", None, 32).unwrap_err().to_string();
    assert!(embedded.contains("embedded tokenizer.json"), "{embedded}");

    let short = TextTokenizer::from_folder(fixtures().join("cased"), 3).unwrap_err().to_string();
    assert!(short.contains("max_length") && short.contains("3 special tokens"), "{short}");
    assert!(TextTokenizer::from_folder(fixtures().join("cased"), 4).is_ok());
}
