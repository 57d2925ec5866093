//! Tokenizers of model folders through the command: the class that the files ask for, and damage.

use std::fs;
use std::path::{Path, PathBuf};

use losparse::tasks::TextTokenizer;
use serde_json::{Value, json};

use super::cli::{Place, fails, json_lines};

fn edit(path: &Path, change: impl FnOnce(&mut Value)) {
    let mut value: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    change(&mut value);
    fs::write(path, value.to_string()).unwrap();
}

/// A copy of the place's model with a `tokenizer.json`.
fn with_json(place: &Place, name: &str) -> PathBuf {
    let folder = place.copy(name);
    let json = TextTokenizer::from_folder(&folder, 12).unwrap().to_json().unwrap();
    fs::write(folder.join("tokenizer.json"), json).unwrap();
    fs::remove_file(folder.join("vocab.txt")).unwrap();
    folder
}

fn probability(folder: &Path, text: &str) -> f64 {
    let answers = json_lines(&["predict", &folder.display().to_string(), text]);
    answers[0]["probability"].as_f64().unwrap()
}

#[test]
fn the_class_is_found_in_every_file() {
    let place = Place::new();
    let expected = probability(&place.path("model"), "the film is GOOD");
    for (name, file) in [("in-config", "config.json"), ("in-own", "tokenizer_config.json")] {
        let folder = place.copy(name);
        fs::write(folder.join("tokenizer_config.json"), "{}").unwrap();
        assert_eq!(probability(&folder, "the film is GOOD"), expected);
        // Words with capitals are unknown.
        fs::write(folder.join("tokenizer_config.json"), r#"{"do_lower_case": false}"#).unwrap();
        assert_ne!(probability(&folder, "the film is GOOD"), expected);
        let path = folder.join(file);
        let arg = folder.display().to_string();
        edit(&path, |config| config["tokenizer_class"] = "BertJapaneseTokenizer".into());
        let parts =
            ["BertJapaneseTokenizer", "tokenizer_class of", file, "PreTrainedTokenizerFast"];
        fails(&["predict", &arg, "good"], 1, &parts);
        edit(&path, |config| config["tokenizer_class"] = "RobertaTokenizerFast".into());
        let parts = ["no tokenizer.json or vocab.json", "RobertaTokenizer", "save_pretrained"];
        fails(&["predict", &arg, "good"], 1, &parts);
        edit(&path, |config| config["tokenizer_class"] = "CamembertTokenizer".into());
        let parts = ["a CamembertTokenizer is not supported", "PreTrainedTokenizerFast"];
        fails(&["predict", &arg, "good"], 1, &parts);
        edit(&path, |config| config["tokenizer_class"] = "XLMRobertaTokenizer".into());
        fails(&["predict", &arg, "good"], 1, &["no tokenizer.json for the XLMRobertaTokenizer"]);
    }
}

/// The vocabulary's last word as an added token, in each file that may hold one. It stays one token
/// even within a longer word.
#[test]
fn added_tokens_of_every_file_stay_whole() {
    let place = Place::new();
    let expected = probability(&place.path("model"), "good dull good");
    let apart = probability(&place.path("model"), "gooddullgood");
    assert_ne!(apart, expected);
    let flags = json!({"content": "dull", "lstrip": false, "normalized": false, "rstrip": false,
        "single_word": false, "special": true});
    for (file, content) in [
        ("added_tokens.json", json!({"dull": 12})),
        ("special_tokens_map.json", json!({"additional_special_tokens": ["dull"]})),
        ("special_tokens_map.json", json!({"mask_token": "dull"})),
        ("tokenizer_config.json", json!({"added_tokens_decoder": {"12": flags}})),
        ("tokenizer_config.json", json!({"extra_special_tokens": ["dull"]})),
    ] {
        let folder = place.copy("added");
        fs::write(folder.join(file), content.to_string()).unwrap();
        assert_eq!(probability(&folder, "gooddullgood"), expected, "{file}: {content}");
        fs::remove_dir_all(&folder).unwrap();
    }
    let folder = with_json(&place, "json");
    edit(&folder.join("tokenizer.json"), |json| {
        let mut token = flags.clone();
        token["id"] = 12.into();
        json["added_tokens"].as_array_mut().unwrap().push(token);
    });
    assert_eq!(probability(&folder, "gooddullgood"), expected);
}

#[test]
fn a_damaged_tokenizer_is_one_error_that_names_it() {
    let place = Place::new();
    let folder = with_json(&place, "damaged");
    let path = folder.join("tokenizer.json");
    let whole = fs::read(&path).unwrap();
    let arg = folder.display().to_string();
    let template = |kind: u64| {
        json!({"type": "TemplateProcessing", "pair": [], "special_tokens": {},
            "single": [{"Sequence": {"id": "A", "type_id": kind}}]})
    };
    let damages: [(&str, Value, &str); 6] = [
        (
            "/post_processor",
            json!({"type": "BertProcessing", "sep": ["[SEP]", 99_999], "cls": ["[CLS]", 2]}),
            "no token has the id 99999",
        ),
        ("/post_processor", template(7), "type_id: 7"),
        ("/normalizer", json!({"type": "Precompiled", "precompiled_charsmap": ""}), "Precompiled"),
        ("/model/vocab/good", u32::MAX.into(), "impossible id"),
        ("/model/vocab/good", 1.into(), "share the id 1"),
        ("/added_tokens/0/id", 9.into(), "should have the id 9"),
    ];
    for class in ["BertTokenizer", "PreTrainedTokenizerFast"] {
        let config = json!({"tokenizer_class": class, "pad_token": "[PAD]"});
        fs::write(folder.join("tokenizer_config.json"), config.to_string()).unwrap();
        for (at, value, part) in &damages {
            fs::write(&path, &whole).unwrap();
            edit(&path, |json| *json.pointer_mut(at).unwrap() = value.clone());
            fails(&["predict", &arg, "good film"], 1, &["tokenizer.json", part]);
        }
        fs::write(&path, &whole).unwrap();
        probability(&folder, "good film");
    }
}

/// A text of a megabyte gets the same answer as its beginning, which is all that the model reads.
#[test]
fn a_long_text_is_answered_as_its_beginning() {
    let place = Place::shared();
    let text = "the film is very good ".repeat(50_000);
    let answer = |text: &str| {
        let encoder = TextTokenizer::from_folder(place.path("model"), 24).unwrap();
        encoder.encode(text, None).unwrap().get_ids().to_vec()
    };
    assert_eq!(answer(&text), answer(&text[..1000]));
    let rows = place.path("long.csv");
    fs::write(&rows, format!("review\n{text}\n{}\n", &text[..1000])).unwrap();
    let (model, rows) = (place.arg("model"), rows.display().to_string());
    let answers = json_lines(&["predict", &model, "--file", &rows, "--text", "review"]);
    assert_eq!(answers[0]["probabilities"], answers[1]["probabilities"]);
}
