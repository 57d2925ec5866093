//! Folders that describe a tokenizer in every way that transformers knows. Encodings equal those of
//! its `AutoTokenizer` (by `tests/fixtures/tokenizer_files.py`).

use std::collections::BTreeMap;
use std::fs;

use serde::Deserialize;

use super::*;

#[derive(Deserialize)]
struct Fixture {
    texts: Vec<(String, Option<String>)>,
    shared: BTreeMap<String, Value>,
    rows: Vec<Vec<Row>>,
    cases: Vec<Case>,
}

/// Index of the text, `max_length`, ids, types; `None` means types of zeros.
type Row = (usize, usize, Vec<u32>, Option<Vec<u32>>);

#[derive(Deserialize)]
struct Case {
    name: String,
    files: BTreeMap<String, Value>,
    /// Index of the rows.
    rows: Option<usize>,
}

fn fixture() -> Fixture {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tokenizer_files.json");
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

impl Case {
    fn write(&self, folder: &Path, shared: &BTreeMap<String, Value>) {
        for (name, content) in &self.files {
            let named = content.as_str().and_then(|text| text.strip_prefix('@'));
            let content = named.map_or(content, |name| &shared[name]);
            let text = content.as_str().map_or_else(|| content.to_string(), str::to_owned);
            fs::write(folder.join(name), text).unwrap();
        }
    }
}

fn check(tokenizer: &TextTokenizer, fixture: &Fixture, rows: usize, name: &str) {
    for (at, length, ids, types) in &fixture.rows[rows] {
        let tokenizer = tokenizer.clone().with_max_length(*length).unwrap();
        let (text, pair) = &fixture.texts[*at];
        let encoding = tokenizer.encode(text, pair.as_deref()).unwrap();
        let what = format!("{name}: {text:?} {pair:?} {length}: {:?}", encoding.get_tokens());
        assert_eq!(encoding.get_ids(), ids, "{what}");
        let zeros = vec![0; ids.len()];
        assert_eq!(encoding.get_type_ids(), types.as_ref().unwrap_or(&zeros), "{what}");
        let example = Example { text: text.clone(), pair: pair.clone(), label: None };
        let encoded = tokenizer.encode_examples(&[example]).unwrap();
        assert_eq!((&encoded[0].input_ids, encoded[0].token_type_ids.len()), (ids, ids.len()));
    }
}

#[test]
fn every_way_to_describe_a_tokenizer_agrees_with_transformers() {
    let fixture = fixture();
    let (mut agreed, mut refused) = (0, 0);
    for case in &fixture.cases {
        let folder = tempfile::tempdir().unwrap();
        case.write(folder.path(), &fixture.shared);
        let read = TextTokenizer::from_folder(folder.path(), 64);
        let Some(rows) = case.rows else {
            let error = read.expect_err(&case.name).to_string();
            assert!(error.starts_with(&folder.path().display().to_string()), "{error}");
            refused += 1;
            continue;
        };
        let tokenizer = read.unwrap_or_else(|error| panic!("{}: {error}", case.name));
        check(&tokenizer, &fixture, rows, &case.name);
        agreed += 1;
        // The saved tokenizer reads back as the same.
        let (json, config) = (tokenizer.to_json().unwrap(), tokenizer.config_json());
        let again =
            TextTokenizer::from_bytes(json.as_bytes(), Some(config.as_bytes()), 64).unwrap();
        check(&again, &fixture, rows, &format!("{} saved", case.name));
    }
    println!("{agreed} folders agree, {refused} are refused");
    assert!(agreed > 200 && refused < agreed / 10, "{agreed} {refused}");
}

#[test]
fn refusals_name_file_class_and_what_to_do() {
    let fixture = fixture();
    for (name, parts) in [
        ("roberta with vocab.txt", &["no tokenizer.json or vocab.json", "RobertaTokenizer"][..]),
        (
            "bert with vocab.json",
            &["no tokenizer.json or vocab.txt", "BertTokenizer", "model_type"],
        ),
        ("bert with bpe", &["tokenizer.json: its BPE", "BertTokenizer", "PreTrainedTokenizerFast"]),
        ("bart with wordpiece", &["tokenizer.json: its WordPiece", "RobertaTokenizer"]),
        ("id elsewhere", &["added_tokens.json", "\"<user>\"", "should have the id"]),
        ("no class token", &["vocab.txt", "\"[CLS]\"", "cls_token"]),
        (
            "BertJapaneseTokenizer in config.json of bert",
            &["tokenizer_class of config.json", "BertJapaneseTokenizer", "Python"],
        ),
        (
            "XLMRobertaTokenizer in tokenizer_config.json of bert",
            &["no tokenizer.json for the XLMRobertaTokenizer", "save_pretrained"],
        ),
    ] {
        let case = fixture.cases.iter().find(|case| case.name == name).unwrap();
        let folder = tempfile::tempdir().unwrap();
        case.write(folder.path(), &fixture.shared);
        let error = TextTokenizer::from_folder(folder.path(), 64).unwrap_err().to_string();
        for part in parts {
            assert!(error.contains(part), "{name}: {part:?} is not in: {error}");
        }
    }
}

/// A compressed folder's `model_type` hides the architecture from other programs, not from the
/// tokenizer.
#[test]
fn a_compressed_model_keeps_its_tokenizer() {
    let fixture = fixture();
    for name in ["bert", "mpnet", "roberta-json", "deberta"] {
        let case = fixture.cases.iter().find(|case| case.name == name).unwrap();
        let folder = tempfile::tempdir().unwrap();
        case.write(folder.path(), &fixture.shared);
        let kind = case.files["config.json"]["model_type"].as_str().unwrap();
        let config = serde_json::json!({"model_type": format!("losparse_{kind}"),
            "losparse": {"format_version": 2, "base_model_type": kind, "sha256": "0".repeat(64)}});
        fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
        let tokenizer = TextTokenizer::from_folder(folder.path(), 64).unwrap();
        check(&tokenizer, &fixture, case.rows.unwrap(), name);
    }
}

#[test]
fn types_beyond_the_models_are_refused_when_they_come() {
    let folder = tempfile::tempdir().unwrap();
    let fixture = fixture();
    let case = fixture.cases.iter().find(|case| case.name == "bert").unwrap();
    case.write(folder.path(), &fixture.shared);
    let tokenizer = TextTokenizer::from_folder(folder.path(), 64).unwrap();
    let one = tokenizer.clone().with_types(Some(1)).unwrap();
    one.encode("the cat", None).unwrap();
    let error = one.encode("the cat", Some("a dog")).unwrap_err().to_string();
    assert!(error.contains("vocab.txt") && error.contains("type_vocab_size"), "{error}");
    for types in [Some(2), None] {
        let tokenizer = tokenizer.clone().with_types(types).unwrap();
        tokenizer.encode("the cat", Some("a dog")).unwrap();
    }
}
