//! The user's own tables: rows that would be lost, labels that look like mistakes, and columns that
//! a model stores.

use std::fs;
use std::path::PathBuf;

use losparse::tasks::{TableOptions, TableTarget, TextDataset};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::cli::{Place, fails, json_lines, losparse, refs, stdout, text};

fn options(text: &str) -> TableOptions {
    TableOptions {
        name: "t".into(),
        text: text.into(),
        pair: None,
        target: TableTarget::Label { column: "label".into(), labels: None },
        format: None,
        quoting: None,
    }
}

struct Files(TempDir);

impl Files {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.path().join(name);
        fs::write(&path, text).unwrap();
        path
    }
}

fn read(text: &str) -> Result<TextDataset, String> {
    let files = Files::new();
    options("text").read_train(files.write("t.csv", text)).map_err(|e| e.to_string())
}

/// An open quote is an error that names its line, wherever it is and however it is closed.
#[test]
fn an_open_quote_never_swallows_rows() {
    for (rows, line) in [
        // Open to the end of the file.
        ("label,text\npos,a good film\nneg,\"a bad film\npos,great\nneg,boring\n", 3),
        ("text,label\n\"a good film,pos\na bad film,neg\n", 2),
        ("id,label,text\n1,pos,a\n2,neg,\"bad\n3,pos,great\n4,neg,boring", 3),
        // Closed by the next opening quote.
        ("label,text\npos,a\nneg,\"bad\npos,great\nneg,\"boring\npos,b\n", 3),
        ("text,label\na,pos\n\"b,neg\nc,pos\n\"d,neg\n", 3),
        // Closed by a quote at the end of a later row.
        ("label,text\npos,a\nneg,\"bad\npos,great\nneg,boring\"\npos,b\n", 3),
        ("label,text\npos,a\nneg,\"bad\npos,great\"\nneg,b\n", 3),
        ("text,label\na,neg\nb,pos\n\"c,neg\nd\",pos\n", 4),
        // With numbers as targets.
        ("label,text\n1,a\n0,\"b\n2,c\n0,d\"\n1,e\n", 3),
    ] {
        let message = read(rows).expect_err(rows);
        assert!(message.contains(&format!("t.csv: line {line}: ")), "{rows:?}: {message}");
        assert!(message.contains("quote"), "{rows:?}: {message}");
    }
}

#[test]
fn quoted_texts_of_several_lines_are_read() {
    for (rows, texts) in [
        (
            "text,label\n\"a good\nfilm\",pos\n\"a \"\"bad\"\" film\",neg\n",
            &["a good\nfilm", "a \"bad\" film"][..],
        ),
        ("label,text\npos,\"one, two\n\nthree, four\"\nneg,b\n", &["one, two\n\nthree, four", "b"]),
        ("label,text\r\npos,\"x\r\ny\"\r\nneg,b\r\n", &["x\r\ny", "b"]),
        ("text,label\n\"\n\",pos\nb,neg", &["\n", "b"]),
        ("text,label\na 5\" screen,pos\nb,neg\n", &["a 5\" screen", "b"]),
        ("label,text\n1,\"a list:\nmilk, bread\nend\"\n0,b\n", &["a list:\nmilk, bread\nend", "b"]),
    ] {
        let data = read(rows).unwrap_or_else(|e| panic!("{rows:?}: {e}"));
        let found: Vec<&str> = data.examples.iter().map(|e| e.text.as_str()).collect();
        assert_eq!(found, texts);
    }
    // Not quoted at all.
    let files = Files::new();
    let path = files.write("t.csv", "text,label\n\"a,pos\nb,neg\n");
    let plain = TableOptions { quoting: Some(false), ..options("text") };
    assert_eq!(plain.read_train(path).unwrap().examples[0].text, "\"a");
}

#[test]
fn an_open_quote_ends_every_command() {
    let place = Place::new();
    let rows = "review,mood\ngood,up\n\"bad,down\ngreat,up\n";
    place.write("dev.csv", rows);
    let (model, dev) = (place.arg("model"), place.arg("dev.csv"));
    let parts = ["dev.csv: line 3: ", "quote"];
    let columns = ["--text", "review", "--label", "mood"];
    fails(&[&["evaluate", &model, "--dev", &dev][..], &columns].concat(), 1, &parts);
    fails(&["predict", &model, "--file", &dev, "--text", "review"], 1, &parts);
    fails(&refs(&place.run("finetune", "never", &[])), 1, &parts);
}

/// Notes on stderr of a run.
fn notes(args: &[String]) -> String {
    let output = losparse(&refs(args)).output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stderr)
}

#[test]
fn labels_are_told_before_training_and_odd_ones_pointed_out() {
    let place = Place::new();
    let told = notes(&place.run("finetune", "first", &["--dry-run"]));
    assert!(told.contains("train: labels down (48), up (48)"), "{told}");
    assert!(told.contains("dev: labels down (12), up (12)"), "{told}");
    assert!(!told.contains("warning"), "{told}");
    let train = fs::read_to_string(place.path("train.csv")).unwrap();
    place.write("train.csv", train + "dull,nan\nbad,-\n");
    let told = notes(&place.run("finetune", "second", &["--dry-run", "--new-head"]));
    assert!(told.contains("labels - (1), down (48), nan (1), up (48)"), "{told}");
    for odd in ["warning: label \"nan\" (1 of 98 rows)", "warning: label \"-\" (1 of 98 rows)"] {
        assert!(told.contains(odd), "{told}");
    }
    let plan = &json_lines(&refs(&place.run("finetune", "x", &["--dry-run", "--new-head"])))[0];
    let listed = plan["notes"].as_array().unwrap().iter();
    let listed: Vec<&str> = listed.map(|note| note.as_str().unwrap()).collect();
    assert!(listed.iter().any(|note| note.contains("\"nan\"")), "{listed:?}");
    // A run prints them before its first update.
    let told = notes(&place.run("finetune", "real", &["--new-head", "--epochs", "1"]));
    let (labels, training) = (told.find("\"nan\"").unwrap(), told.find("· Training").unwrap());
    assert!(labels < training, "{told}");
}

#[test]
fn a_model_remembers_its_columns() {
    let place = Place::new();
    stdout(&refs(&place.run("finetune", "small", &["--epochs", "1"])));
    let (small, dev) = (place.arg("small/model"), place.arg("dev.csv"));
    let explicit = ["evaluate", &small, "--dev", &dev, "--text", "review", "--label", "mood"];
    let result = |args: &[&str]| json_lines(args)[0]["result"].clone();
    let expected = result(&explicit);
    let report: Value =
        serde_json::from_slice(&fs::read(place.path("small/report.json")).unwrap()).unwrap();
    assert_eq!(expected, report["trained"][0]);
    assert_eq!(result(&["evaluate", &small, "--dev", &dev]), expected);
    let told = losparse(&["evaluate", &small, "--dev", &dev]).output().unwrap();
    let columns = "columns as in training: text review, label mood";
    assert!(text(&told.stderr).contains(columns), "{}", text(&told.stderr));
    let answers = json_lines(&["predict", &small, "--file", &dev]);
    assert_eq!(answers, json_lines(&["predict", &small, "--file", &dev, "--text", "review"]));

    // Each given option precedes the stored one.
    let renamed = fs::read_to_string(&dev).unwrap().replace("review,mood", "line,mood");
    place.write("renamed.csv", &renamed);
    let renamed = place.arg("renamed.csv");
    fails(&["evaluate", &small, "--dev", &renamed], 1, &["no column \"review\"", "line, mood"]);
    assert_eq!(result(&["evaluate", &small, "--dev", &renamed, "--text", "line"]), expected);
    fails(
        &["evaluate", &small, "--dev", &dev, "--score", "stars"],
        1,
        &["option --score", "no scores"],
    );
    // A model that losparse did not train stores no columns.
    fails(&["evaluate", &place.arg("model"), "--dev", &dev], 1, &["option --text: missing"]);
}

#[test]
fn a_model_remembers_pairs_and_how_files_are_read() {
    let place = Place::new();
    let rows = |count| "good\t\"is\tup\nbad\tis\tdown\n".repeat(count);
    place.write("train.data", "a\tb\tmood\n".to_string() + &rows(8));
    place.write("dev.data", "a\tb\tmood\n".to_string() + &rows(4));
    let (model, output) = (place.arg("model"), place.arg("small"));
    let (train, dev) = (place.arg("train.data"), place.arg("dev.data"));
    let files = ["--train", &train, "--dev", &dev, "--format", "tsv", "--epochs", "1"];
    let columns = [
        "--text",
        "a",
        "--pair",
        "b",
        "--label",
        "mood",
        "--batch-size",
        "8",
        "--max-length",
        "24",
    ];
    stdout(&[&["finetune", &model, "-o", &output][..], &files, &columns].concat());
    let config: Value =
        serde_json::from_slice(&fs::read(place.path("small/model/config.json")).unwrap()).unwrap();
    let stored = json!({"text": "a", "pair": "b", "label": "mood", "format": "tsv"});
    assert_eq!(config["losparse"]["columns"], stored);
    let result = &json_lines(&["evaluate", &output, "--dev", &dev])[0]["result"];
    let report: Value =
        serde_json::from_slice(&fs::read(place.path("small/report.json")).unwrap()).unwrap();
    assert_eq!(*result, report["trained"][0]);
    let answers = json_lines(&["predict", &output, "--file", &dev]);
    assert_eq!(answers[0]["pair"], json!("\"is"));
    // The extension of a file precedes the stored format.
    place.write("dev.jsonl", "{\"a\": \"good\", \"b\": \"is\", \"mood\": \"up\"}\n");
    assert_eq!(json_lines(&["evaluate", &output, "--dev", &place.arg("dev.jsonl")]).len(), 1);
    change_columns(&place, json!({"text": 3}));
    fails(&["evaluate", &output, "--dev", &dev], 1, &["config.json", "losparse.columns"]);
}

fn change_columns(place: &Place, columns: Value) {
    let path = place.path("small/model/config.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    config["losparse"]["columns"] = columns;
    fs::write(path, config.to_string()).unwrap();
}

/// A text that holds its own answer would score 1.0.
#[test]
fn a_column_is_one_thing() {
    let files = Files::new();
    let path = files.write("t.csv", "text,label\na,pos\nb,neg\n");
    let fails = |options: &TableOptions, name: &str| {
        let error = options.read_train(&path).unwrap_err().to_string();
        assert!(error.contains(&format!("the column {name:?} is named for two things")), "{error}");
    };
    fails(&options("label"), "label");
    fails(&TableOptions { pair: Some("label".into()), ..options("text") }, "label");
    fails(&TableOptions { pair: Some("text".into()), ..options("text") }, "text");
    options("text").read_train(&path).unwrap();
}
