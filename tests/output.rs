//! Printing and writing of hostile names.

use std::fs;

use serde_json::Value;

use super::cli::{json_lines, losparse, refs, stdout, text};
use super::place::Place;

/// Control characters: colours, clear the screen, ring, overwrite the line, reverse the direction.
const HOSTILE: &str = "\u{1b}[31mup\u{9b}2J\u{7}\r\u{202e}";
/// The same text, escaped.
const SHOWN: &str = "\\u{1b}[31mup\\u{9b}2J\\u{7}\\r\\u{202e}";

fn has_no_control(text: &str) {
    let bad = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
    assert!(!text.contains(bad), "{text:?}");
}

/// A model with a hostile second label.
fn hostile(place: &Place, name: &str) -> String {
    let file = place.copy(name).join("config.json");
    let mut config: Value = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
    config["id2label"]["1"] = HOSTILE.into();
    config["label2id"] = serde_json::json!({"down": 0, HOSTILE: 1});
    fs::write(&file, config.to_string()).unwrap();
    place.arg(name)
}

#[test]
fn labels_and_texts_do_nothing_to_a_terminal() {
    let place = Place::new();
    let model = hostile(&place, "hostile");
    let table = stdout(&["predict", &model, "good", "bad", "dull", HOSTILE]);
    has_no_control(&table);
    assert!(table.lines().all(|line| line.chars().count() < 120), "{table}");
    let shown = stdout(&["inspect", &model]);
    has_no_control(&shown);
    assert!(shown.contains(&format!("labels: down, {SHOWN}")), "{shown}");
    let answers = json_lines(&["predict", &model, HOSTILE]);
    assert_eq!(answers[0]["text"], HOSTILE);
    assert!(answers[0]["probabilities"][HOSTILE].is_f64(), "{}", answers[0]);
}

#[test]
fn names_in_errors_and_notes_do_nothing_to_a_terminal() {
    let place = Place::new();
    place.write("columns.csv", format!("review,{}\ngood,x\n", HOSTILE.replace('\r', "")));
    let (model, columns) = (place.arg("model"), place.arg("columns.csv"));
    for args in [
        &["predict", &model, "--file", &columns, "--text", HOSTILE][..],
        &["predict", &format!("{model}/{HOSTILE}"), "good"],
        &["inspect", &model, "--layers", HOSTILE],
        &["evaluate", &model, "--task", HOSTILE],
    ] {
        let output = losparse(args).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        let message = text(&output.stderr);
        has_no_control(&message);
        assert!(message.contains("\\u{1b}[31m"), "{message}");
    }
}

#[test]
fn reports_show_names_as_they_are() {
    let place = Place::new();
    let task = "<img src=x onerror=alert(1)> `a` | *b* [c](http://d)";
    let more = ["--epochs", "1", "--task", task];
    stdout(&refs(&place.run("finetune", "run", &more)));
    let report = fs::read_to_string(place.path("run/report.md")).unwrap();
    let title = report.lines().next().unwrap();
    assert_eq!(
        title,
        "# Fine-tuning: \\<img src=x onerror=alert(1)\\> \\`a\\` \\| \\*b\\* \\[c\\](http://d)"
    );
    let page = fs::read_to_string(place.path("run/report.html")).unwrap();
    assert!(!page.contains("<img") && !page.contains("<a "), "{page}");
    assert!(page.contains("<title>Fine-tuning: &lt;img src=x onerror=alert(1)&gt;"), "{page}");
}

/// Arguments and paths need not be UTF-8.
#[cfg(target_os = "linux")]
#[test]
fn a_model_s_folder_may_have_any_name() {
    use std::os::unix::ffi::OsStrExt;
    let place = Place::new();
    let folder = place.path("x").with_file_name(std::ffi::OsStr::from_bytes(b"m\xff"));
    fs::rename(place.copy("copy"), &folder).unwrap();
    let (dev, columns) = (place.arg("dev.csv"), ["--text", "review", "--label", "mood"]);
    for (command, more) in [
        ("evaluate", [&["--dev", &dev][..], &columns].concat()),
        ("inspect", vec![]),
        ("predict", vec!["good"]),
        ("bench", vec!["--length", "8", "--repeat", "1"]),
    ] {
        for json in [&["--json"][..], &[]] {
            let mut run = losparse(&[command]);
            let output = run.arg(&folder).args(&more).args(json).output().unwrap();
            let message = text(&output.stderr);
            assert!(output.status.success(), "{command}: {message}");
        }
    }
}
