//! The task `g2p`: the built-in speller, compressed a little on a few words and used.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::cli::{fails, json_lines};

const SPELLER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/models/g2p-bart");

/// Writes the header and first words of the speller's `split` to a file in `folder`.
fn words(folder: &Path, split: &str, count: usize) -> String {
    let all = fs::read_to_string(Path::new(SPELLER).join("data").join(split)).unwrap();
    let few: Vec<&str> = all.lines().take(count + 1).collect();
    let path = folder.join(split);
    fs::write(&path, few.join("\n")).unwrap();
    path.display().to_string()
}

/// The value of a metric on the first split.
fn metric(splits: &Value, name: &str) -> f64 {
    splits[0]["metrics"]["values"][name].as_f64().unwrap_or_else(|| panic!("{name} in {splits}"))
}

#[test]
fn a_speller_is_compressed_evaluated_and_used() {
    let folder = tempfile::tempdir().unwrap();
    let (train, dev) =
        (words(folder.path(), "train.tsv", 256), words(folder.path(), "dev.tsv", 40));
    let small = folder.path().join("small").display().to_string();
    let args = [
        &["compress", SPELLER, "-o", &small, "--task", "g2p", "--train", &train, "--dev", &dev][..],
        &["--ratio", "0.7", "--low-rank-ratio", "0.3", "--interval", "2", "--lr", "1e-3"],
        &["--epochs", "2", "--batch-size", "16"],
    ];
    let report = json_lines(&args.concat()).pop().unwrap()["report"].take();
    assert_eq!(
        (&report["task"]["name"], &report["task"]["primary"]),
        (&json!("g2p"), &json!("word_accuracy"))
    );
    let [before, after] = ["starting", "compacted"].map(|when| {
        let splits = &report[when];
        (metric(splits, "word_accuracy"), metric(splits, "phoneme_error_rate"))
    });
    println!("word accuracy, phoneme error rate: {before:?} → {after:?}");
    assert!(before.0 > 0.4 && before.1 < 0.2, "{before:?}");
    assert!(after.1 < 0.6, "{after:?}");
    assert_eq!(report["compacted"][0]["metrics"]["examples"], 40);
    assert_eq!(report["agreement"]["changed_predictions"], 0, "{}", report["agreement"]);

    // The folder stores its task and its settings of generation.
    let evaluated = json_lines(&["evaluate", &small, "--dev", &dev]).remove(0);
    assert_eq!(evaluated["result"], report["compacted"][0]);
    let dense = json_lines(&["predict", SPELLER, "werewolf"]).remove(0);
    assert_eq!(dense["summary"], "W EH1 R W UH2 L F");
    let answers = json_lines(&["predict", &small, "werewolf", "cat"]);
    assert_eq!(answers.len(), 2);
    for answer in answers {
        let phonemes: Vec<&str> = answer["summary"].as_str().unwrap().split(' ').collect();
        let known = |p: &&str| p.starts_with(|c: char| c.is_ascii_uppercase()) && p.len() <= 3;
        assert!(phonemes.iter().all(known), "{answer}");
    }
    fails(&["evaluate", &small, "--dev", &dev, "--document", "spelling"], 1, &["spelling", "word"]);
}
