use std::path::Path;

use super::*;
use crate::tasks::squad::{QaDataset, task};
use serde::Deserialize;
use serde::de::DeserializeOwned;

fn fixture<T: DeserializeOwned>(name: &str) -> T {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/squad").join(name);
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// Values follow the formulas of the official scripts (`fixtures/squad.py`); the published code
/// confirms them (`fixtures/squad_published.py`).
#[test]
fn pairs_score_as_in_the_official_scripts() {
    let pairs: Vec<(String, String, String, bool, f64, f64)> = fixture("pairs.json");
    assert!(pairs.len() > 30);
    for (prediction, answer, normalized, exact, version_1, version_2) in pairs {
        let pair = format!("{prediction:?} for {answer:?}");
        assert_eq!(normalize_answer(&prediction), normalized, "{pair}");
        assert_eq!(exact_match(&prediction, &answer), exact, "{pair}");
        assert!((word_f1(&prediction, &answer, false) - version_1).abs() < 1e-12, "{pair}");
        assert!((word_f1(&prediction, &answer, true) - version_2).abs() < 1e-12, "{pair}");
    }
}

#[derive(Deserialize)]
struct Run {
    version_2: bool,
    metrics: BTreeMap<MetricKind, f64>,
    /// The answer, the best one that is not empty, and the score difference of giving none.
    answers: Vec<(String, String, f64)>,
}

#[test]
fn whole_runs_score_as_in_the_official_scripts() {
    let runs: Vec<Run> = fixture("metrics.json");
    assert_eq!(runs.len(), 16);
    for (number, run) in runs.into_iter().enumerate() {
        let version = if run.version_2 { "train-v2.0.json" } else { "train-v1.1.json" };
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/squad");
        let data = QaDataset::read(folder.join(version)).unwrap();
        let answers = run.answers.into_iter();
        let answers: Vec<QaPrediction> = answers
            .map(|(text, best_non_null, difference)| QaPrediction {
                text,
                best_non_null,
                score_diff: Some(difference),
                candidates: vec![],
            })
            .collect();
        let task = task("own", run.version_2);
        let report = score(&task, &data.examples, &answers, run.version_2).unwrap();
        assert_eq!(report.examples, answers.len());
        let kinds = |values: &BTreeMap<MetricKind, f64>| values.keys().copied().collect::<Vec<_>>();
        assert_eq!(kinds(&report.values), kinds(&run.metrics), "run {number}");
        let mut listed = task.metrics.clone();
        listed.sort_unstable();
        assert_eq!(kinds(&report.values), listed, "run {number}");
        for (kind, value) in run.metrics {
            let distance = (report.values[&kind] - value).abs();
            assert!(distance < 1e-12, "run {number}: {kind} differs by {distance}");
        }
    }
}

#[test]
fn questions_without_answers_need_version_2() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/squad");
    let data = QaDataset::read(folder.join("train-v2.0.json")).unwrap();
    let answer = QaPrediction {
        text: String::new(),
        best_non_null: String::new(),
        score_diff: None,
        candidates: vec![],
    };
    let answers = vec![answer; data.len()];
    let error = score(&task("own", false), &data.examples, &answers, false).unwrap_err();
    assert!(error.to_string().contains("question q3 has no answer"), "{error}");
    assert!(score(&task("own", false), &[], &[], false).is_err());
    assert!(score(&task("own", true), &data.examples, &answers[1..], true).is_err());
}
