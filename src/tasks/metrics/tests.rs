use std::collections::BTreeMap;

use burn::tensor::{Device, Tensor};
use serde::Deserialize;

use super::classification::{accuracy, f1, macro_f1, majority_share, matthews};
use super::correlation::{pearson, spearman};
use super::*;
use crate::models::Labels;
use crate::tasks::{Label, Task, TaskKind};

const CASES: &str = include_str!("../../../tests/fixtures/metrics.json");

#[derive(Deserialize)]
struct Cases {
    classification: Vec<ClassCase>,
    regression: Vec<ScoreCase>,
}

#[derive(Deserialize)]
struct ClassCase {
    name: String,
    classes: usize,
    labels: Vec<usize>,
    predictions: Vec<usize>,
    accuracy: f64,
    f1: Option<f64>,
    macro_f1: f64,
    matthews_correlation: f64,
}

#[derive(Deserialize)]
struct ScoreCase {
    name: String,
    labels: Vec<f64>,
    predictions: Vec<f64>,
    pearson: Option<f64>,
    spearmanr: Option<f64>,
}

fn cases() -> Cases {
    serde_json::from_str(CASES).unwrap()
}

fn assert_close(case: &str, ours: f64, theirs: f64) {
    assert!((ours - theirs).abs() <= 1e-12, "{case}: {ours} here, {theirs} there");
}

#[test]
fn classification_agrees_with_scikit_learn() {
    let cases = cases().classification;
    assert_eq!(cases.len(), 14);
    for case in cases {
        let (labels, predictions) = (&case.labels, &case.predictions);
        assert_close(&case.name, accuracy(labels, predictions), case.accuracy);
        assert_close(&case.name, macro_f1(labels, predictions, case.classes), case.macro_f1);
        let ours = matthews(labels, predictions, case.classes);
        assert_close(&case.name, ours, case.matthews_correlation);
        assert_eq!(case.f1.is_some(), case.classes == 2);
        if let Some(theirs) = case.f1 {
            assert_close(&case.name, f1(labels, predictions), theirs);
        }
    }
}

#[test]
fn correlations_agree_with_scipy() {
    let cases = cases().regression;
    assert_eq!(cases.len(), 12);
    for case in cases {
        // SciPy gives NaN where a correlation is 0 here.
        let ours = pearson(&case.labels, &case.predictions);
        assert_close(&case.name, ours, case.pearson.unwrap_or(0.0));
        let ours = spearman(&case.labels, &case.predictions);
        assert_close(&case.name, ours, case.spearmanr.unwrap_or(0.0));
    }
}

#[test]
fn correlations_of_nothing_are_zero() {
    assert_eq!(pearson(&[], &[]), 0.0);
    assert_eq!(spearman(&[1.0], &[2.0]), 0.0);
}

#[test]
fn names_parse_and_print() {
    for kind in MetricKind::ALL {
        assert_eq!(kind.to_string().parse::<MetricKind>().unwrap(), kind);
        assert_eq!(serde_json::to_value(kind).unwrap(), kind.name());
        let worse = kind.name().ends_with("thresh") || kind.name().ends_with("error_rate");
        assert_eq!(kind.higher_is_better(), !worse, "{kind}");
    }
    assert_eq!("MCC".parse::<MetricKind>().unwrap(), MetricKind::Matthews);
    assert_eq!("Spearman".parse::<MetricKind>().unwrap(), MetricKind::Spearman);
    assert_eq!("ROUGE-L".parse::<MetricKind>().unwrap(), MetricKind::RougeL);
    let message = "bleu".parse::<MetricKind>().unwrap_err().to_string();
    assert!(message.contains("\"bleu\"") && message.contains("spearmanr"), "{message}");
}

#[test]
fn metrics_of_texts_do_not_score_classes_or_numbers() {
    let classes = TaskKind::Classification { labels: vec!["a".into(), "b".into()] };
    for kind in MetricKind::ROUGE.into_iter().chain(MetricKind::PHONEMES) {
        kind.check(&TaskKind::Summarization).unwrap();
        for task in [&classes, &TaskKind::Regression] {
            let message = kind.check(task).unwrap_err().to_string();
            assert!(message.contains(&format!("{kind} scores generated texts")), "{message}");
        }
    }
}

#[test]
fn a_model_is_compared_with_one_that_answers_every_example_alike() {
    let report = |primary, value, majority_share| MetricReport {
        values: BTreeMap::from([(primary, value)]),
        primary,
        examples: 100,
        majority_share,
        f1_of: None,
    };
    let standing = |report: MetricReport| {
        (report.is_no_better_than_constant(), report.is_clearly_better_than_constant())
    };
    // Here, chance moves an accuracy around 0.5 by 0.05.
    for (accuracy, expected) in
        [(0.49, (true, false)), (0.5, (true, false)), (0.6, (false, false)), (0.66, (false, true))]
    {
        assert_eq!(standing(report(MetricKind::Accuracy, accuracy, Some(0.5))), expected);
    }
    assert_eq!(standing(report(MetricKind::Pearson, 0.0, None)), (true, false));
    assert_eq!(standing(report(MetricKind::Matthews, 0.2, Some(0.7))), (false, false));
    assert_eq!(standing(report(MetricKind::Spearman, 0.4, None)), (false, true));
    // Other metrics have no such comparison.
    assert_eq!(standing(report(MetricKind::Rouge1, 0.0, None)), (false, false));
    assert_eq!((majority_share(&[]), majority_share(&[2, 0, 2, 2])), (0.0, 0.75));
}

fn three_way() -> Task {
    let labels = ["a", "b", "c"].map(String::from).to_vec();
    let metrics = vec![MetricKind::Matthews, MetricKind::Accuracy, MetricKind::MacroF1];
    Task::new("t", TaskKind::Classification { labels }, metrics).unwrap()
}

#[test]
fn predictions_over_batches_are_scored_as_one() {
    let mut predictions = Predictions::new(&three_way()).unwrap();
    // Predicted: 2, 0 (first of equals), 1.
    predictions.push(&[0., 1., 2., 3., 3., 3.], &[Label::Class(2), Label::Class(1)]).unwrap();
    predictions.push(&[-5., -1., -2.], &[Label::Class(1)]).unwrap();
    let report = predictions.report().unwrap();
    let (labels, guesses) = ([2, 1, 1], [2, 0, 1]);
    assert_eq!(report.values[&MetricKind::Accuracy], 2.0 / 3.0);
    assert_eq!(report.values[&MetricKind::MacroF1], macro_f1(&labels, &guesses, 3));
    assert_eq!(report.primary_value(), matthews(&labels, &guesses, 3));
    assert_eq!(report.examples, 3);
    // Two of the three labels are 1.
    assert_eq!(report.majority_share, Some(2.0 / 3.0));
    let text = "accuracy 0.6667 (majority 0.6667), macro_f1 0.5556, matthews_correlation 0.6124";
    assert_eq!(report.to_string(), text);
    let json = serde_json::to_string(&report).unwrap();
    assert_eq!(serde_json::from_str::<MetricReport>(&json).unwrap(), report);
    assert!(json.contains(r#""primary":"matthews_correlation""#), "{json}");
    assert!(!json.contains("f1_of"), "{json}");
}

#[test]
fn f1_names_its_label() {
    let labels = vec!["other".to_string(), "equivalent".to_string()];
    let mut predictions = Predictions::new(&Task::classification("own", labels).unwrap()).unwrap();
    predictions.push(&[0., 1., 1., 0.], &[Label::Class(1), Label::Class(1)]).unwrap();
    let text = "accuracy 0.5000 (majority 1.0000), f1 0.6667 (of \"equivalent\")";
    assert_eq!(predictions.report().unwrap().to_string(), text);
}

#[test]
fn device_batches_score_like_host_batches() {
    let device = Device::default();
    let task = three_way();
    let logits = [[0.5, 1.0, -2.0], [3.0, 0.0, 1.0], [0.0, 0.25, 4.0]];
    let labels = Labels::Classes(Tensor::from_ints([1, 2, 2], &device));
    let mut on_device = Predictions::new(&task).unwrap();
    on_device.push_batch(Tensor::from_floats(logits, &device), &labels).unwrap();
    let mut on_host = Predictions::new(&task).unwrap();
    let labels = [Label::Class(1), Label::Class(2), Label::Class(2)];
    on_host.push(&logits.concat(), &labels).unwrap();
    assert_eq!(on_device.report().unwrap(), on_host.report().unwrap());
    assert_eq!(on_host.report().unwrap().values[&MetricKind::Accuracy], 2.0 / 3.0);

    let task = Task::regression("t");
    let mut scores = Predictions::new(&task).unwrap();
    let labels = Labels::Values(Tensor::from_floats([[1.0], [2.0], [4.0]], &device));
    let logits = Tensor::from_floats([[0.5], [0.0], [2.0]], &device);
    scores.push_batch(logits, &labels).unwrap();
    let report = scores.report().unwrap();
    assert_eq!(report.primary_value(), pearson(&[1.0, 2.0, 4.0], &[0.5, 0.0, 2.0]));
    assert_close("ranks 1, 2, 3 and 2, 1, 3", report.values[&MetricKind::Spearman], 0.5);
}

#[test]
fn unusable_answers_are_refused_and_not_kept() {
    let mut predictions = Predictions::new(&three_way()).unwrap();
    assert!(predictions.report().unwrap_err().to_string().contains("no example"));
    predictions.push(&[1., 2., 3.], &[Label::Class(0)]).unwrap();
    let mut refuse = |logits: &[f32], label| {
        let error = predictions.push(logits, &[label]).unwrap_err().to_string();
        assert_eq!(predictions.len(), 1);
        error
    };
    let nan = refuse(&[0., f32::NAN, 0.], Label::Class(0));
    assert!(nan.contains("example 1 is NaN"), "{nan}");
    assert!(refuse(&[0., 0.], Label::Class(0)).contains("2 logits for 1 examples"));
    assert!(refuse(&[0., 0., 0.], Label::Class(3)).contains("Class(3) does not fit"));
    assert!(refuse(&[0., 0., 0.], Label::Score(1.)).contains("Score(1.0) does not fit"));
}

#[test]
fn the_better_report_has_the_larger_primary_value() {
    let report = |value| MetricReport {
        majority_share: None,
        f1_of: None,
        values: [(MetricKind::F1, value), (MetricKind::Accuracy, 1.0 - value)].into(),
        primary: MetricKind::F1,
        examples: 1,
    };
    assert!(report(0.5).is_better_than(&report(0.4)));
    assert!(!report(0.5).is_better_than(&report(0.5)));
}
