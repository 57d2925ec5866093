use std::collections::BTreeMap;

use super::*;
use crate::inspect::WarningKind;
use crate::inspect::{Latency, LinearAccount};
use crate::pruning::{Importance, Schedule};
use crate::tasks::MetricKind;

fn split(accuracy: f64) -> Vec<SplitMetrics> {
    let values = BTreeMap::from([(MetricKind::Accuracy, accuracy)]);
    let primary = MetricKind::Accuracy;
    let metrics =
        MetricReport { values, primary, examples: 277, majority_share: Some(0.5271), f1_of: None };
    vec![SplitMetrics { split: "dev".into(), metrics }]
}

fn latency(name: &str, median_ms: f64, speedup: f64) -> Latency {
    let examples_per_second = 8000.0 / median_ms;
    Latency {
        name: name.into(),
        median_ms,
        min_ms: median_ms - 1.0,
        max_ms: median_ms + 1.0,
        examples_per_second,
        speedup,
    }
}

pub(crate) fn report() -> RunReport {
    let names = vec!["a".to_string(), "b".to_string()];
    RunReport {
        task: Task::classification("rte", names).unwrap(),
        model: "bert-base".into(),
        method: Some(MethodReport {
            ratio: 0.2,
            low_rank_ratio: 0.05,
            rank: None,
            approximate: Some(Approximate::Outputs),
            layers: vec!["**".into()],
            pruning: Some(PruningConfig::new(Schedule::new(0.15, 800))),
        }),
        training: TrainingReport {
            examples: 2490,
            steps: 800,
            epochs: 5.14,
            examples_per_update: 16,
            learning_rate: 9e-5,
            max_length: 128,
            seed: 42,
            skipped_updates: 1,
            result_step: 780,
            best_of: Some(6),
            held_out: None,
            seconds: 400.0,
            seconds_per_step: Some(0.5),
            resumed: false,
            dense_seconds: Some(100.0),
            teacher: Some(TeacherReport {
                folder: None,
                fine_tuned_first: true,
                weight: 1.0,
                temperature: 2.0,
            }),
        },
        history: vec![(400, split(0.6).remove(0).metrics), (780, split(0.66).remove(0).metrics)],
        history_loss: (1..=4).map(|at| (200 * at, 0.7 - 0.1 * at as f64)).collect(),
        starting: split(0.7),
        baseline: None,
        trained: split(0.66),
        compacted: split(0.66),
        agreement: Some(Agreement {
            largest_logit_difference: 3.2e-6,
            changed_predictions: 0,
            examples: 277,
        }),
        int8: None,
        account: ModelAccount {
            layers: vec![LinearAccount::planned("layer.0.query", [768, 768], 20, 115)],
            other_elements: 1_000_000,
        },
        starting_bytes: Some(6_359_296),
        bytes: Some(4_467_776),
        latency: Some(LatencyReport {
            batch: 8,
            length: 128,
            repetitions: 20,
            threads: 2,
            contestants: vec![latency("dense", 40.0, 1.0), latency("compacted", 16.0, 2.5)],
        }),
        device: "flex".into(),
        machine: Some(Machine {
            cpu: "Abacus".into(),
            cores: 2,
            memory_bytes: 8 << 30,
            os: "none".into(),
            threads: 2,
            device: "flex".into(),
        }),
        date: "2026-03-01T18:05:09Z".into(),
        command: "losparse compress bert-base -o small --task rte".into(),
        versions: RunReport::current_versions(),
        inputs: Some(Inputs::default()),
        warnings: Vec::new(),
    }
}

#[test]
fn json_round_trip_on_disk() {
    let folder = tempfile::tempdir().unwrap();
    let report = report();
    report.write(folder.path(), &[]).unwrap();
    assert_eq!(RunReport::read(folder.path().join("report.json")).unwrap(), report);
    let markdown = std::fs::read_to_string(folder.path().join("report.md")).unwrap();
    assert_eq!(markdown, report.to_markdown());
    let picture = ("What is kept".to_string(), "plots/kept.svg".to_string());
    report.write(folder.path(), &[picture]).unwrap();
    let markdown = std::fs::read_to_string(folder.path().join("report.md")).unwrap();
    let order = ["## Training", "![What is kept](plots/kept.svg)", "## Layers"];
    let places = order.map(|part| markdown.find(part));
    assert!(places.is_sorted() && places[0].is_some(), "{markdown}");
    std::fs::write(folder.path().join("report.json"), "{}").unwrap();
    let error = RunReport::read(folder.path().join("report.json")).unwrap_err().to_string();
    assert!(error.contains("report.json") && error.contains("task"), "{error}");
}

#[test]
fn markdown_says_everything() {
    let text = report().to_markdown();
    for part in [
        "# Compression: rte",
        "LoSparse (low-rank + sparse): 1 of 1 linear layers (`**`) to 20.0% of their weights",
        "a low-rank part of 5.0% that keeps the layers' outputs, and 15.0% of the sparse part's neurons",
        "from update 100 on",
        "last 300 of 800 updates",
        "| as given, before training | dev | 277 | accuracy 0.7000 (majority 0.5271) |",
        "| compressed, masked | dev | 277 | accuracy 0.6600 (majority 0.5271) |",
        "| compressed, compacted | dev | 277 | accuracy 0.6600 (majority 0.5271) |",
        "at most 3.20e-6 on 277 examples and changed 0 predictions",
        "best, by accuracy, of 6 evaluations at the final ratio on this same evaluation data (update 780)",
        "on disk: 4,467,776 bytes (the model started from: 6,359,296)",
        "batch 8, 128 tokens, 20 repetitions taken in turns, 2 threads, on flex.",
        "| compacted | 16.00 | 15.00 | 17.00 | 500.0 | ×2.50 |",
        "0.500 s an update, 500 s in all, 100 s of it for the dense model",
        "- teacher: the dense model itself, fine-tuned first; weight 1, temperature 2",
        "skipped updates (loss or gradient not finite): 1",
        "seed 42, device flex",
        "- 2026-03-01T18:05:09Z, on Abacus, 2 cores, 8 GiB, none, 2 threads, device flex",
        "- `losparse compress bert-base -o small --task rte`",
        "burn 0.22.1",
        "| layer.0.query | planned | 768 × 768 | 20 | 115 of 768 |",
    ] {
        assert!(text.contains(part), "no {part:?} in\n{text}");
    }
}

#[test]
fn markdown_compares_with_what_there_is() {
    let mut report = report();
    assert!(!report.to_markdown().contains("head was new"));
    report.starting.clear();
    report.baseline = Some(Baseline {
        report: "tuned/report.json".into(),
        metrics: split(0.68),
        other_start: true,
    });
    let text = report.to_markdown();
    for part in [
        "No figure before: the head was new.",
        "| dense, fine-tuned | dev | 277 | accuracy 0.6800 (majority 0.5271) |\n| compressed, masked |",
        "The dense model's figures are those of `tuned/report.json`, which started from another \
         model.",
    ] {
        assert!(text.contains(part), "no {part:?} in\n{text}");
    }
}

#[test]
fn markdown_claims_nothing_that_was_not_done() {
    let mut report = report();
    report.method = None;
    report.agreement = None;
    report.latency = None;
    report.compacted.clear();
    report.starting.clear();
    report.training.best_of = None;
    let text = report.to_markdown();
    assert!(text.starts_with("# Fine-tuning: rte"), "{text}");
    assert!(text.contains("| fine-tuned | dev |"), "{text}");
    assert!(text.contains("the model after update 780"), "{text}");
    for absent in ["compacted", "as given", "Latency", "Layers", "best", "ratio", "NaN"] {
        assert!(!text.contains(absent), "{absent} in\n{text}");
    }
}

#[test]
fn reports_without_teacher_and_approximation_read_and_claim_neither() {
    let mut json = serde_json::to_value(report()).unwrap();
    json["method"].as_object_mut().unwrap().remove("approximate");
    let training = json["training"].as_object_mut().unwrap();
    training.remove("dense_seconds").and(training.remove("teacher")).unwrap();
    let mut old: RunReport = serde_json::from_value(json).unwrap();
    let text = old.to_markdown();
    for absent in ["teacher", "that keeps", "dense model,"] {
        assert!(!text.contains(absent), "{absent} in\n{text}");
    }
    assert!(text.contains("0.500 s an update, 400 s in all\n"), "{text}");
    let mut teacher = report().training.teacher.unwrap();
    teacher.folder = Some("large".into());
    old.training.teacher = Some(teacher);
    assert!(old.to_markdown().contains("- teacher: `large`; weight 1, temperature 2\n"));
}

#[test]
fn a_label_in_a_metric_breaks_no_table() {
    let mut report = report();
    report.trained[0].metrics.values.insert(MetricKind::F1, 0.5);
    report.trained[0].metrics.f1_of = Some("a|<b>".into());
    let text = report.to_markdown();
    assert!(text.contains(r#"f1 0.5000 (of "a\|\<b\>") |"#), "{text}");
}

#[test]
fn warnings_come_first() {
    let mut report = report();
    let plain = report.to_markdown();
    report.warnings = vec![Warning {
        kind: WarningKind::Diverged,
        message: "the training *diverged*:\nlower --lr".into(),
    }];
    let text = report.to_markdown();
    let marked = "# Compression: rte\n\n> **Warning:** the training \\*diverged\\*: lower --lr\n\n";
    assert!(text.starts_with(marked), "{text}");
    assert_eq!(text.replacen(marked, "# Compression: rte\n\n", 1), plain);
    assert!(report.is_spoilt());
    let json = report.to_json().unwrap();
    assert!(json.contains("\"kind\": \"diverged\""), "{json}");
    // Reports of earlier versions have none.
    let mut old: serde_json::Value = serde_json::from_str(&json).unwrap();
    old.as_object_mut().unwrap().remove("warnings");
    assert!(!serde_json::from_value::<RunReport>(old).unwrap().is_spoilt());
}

#[test]
fn what_was_held_out_is_said() {
    let mut report = report();
    report.training.held_out = Some(277);
    let text = report.to_markdown();
    assert!(
        text.contains("- evaluated on 277 examples of the training data that were held out"),
        "{text}"
    );
}

#[test]
fn methods_are_called_by_their_names() {
    let mut method = report().method.unwrap();
    assert!(method.name().starts_with("LoSparse") && method.short_name() == "LoSparse");
    method.low_rank_ratio = 0.0;
    assert!(method.name().contains("ITP") && method.short_name() == "ITP");
    method.rank = Some(4);
    assert!(method.name().starts_with("LoSparse"));
    method.rank = Some(0);
    assert!(method.name().contains("ITP"));
    for (importance, name) in [
        (Importance::Movement, "structured movement pruning"),
        (Importance::SnipMomentum, "pruning by SNIP-momentum"),
        (Importance::Random, "random pruning"),
        (Importance::Magnitude, "iterative magnitude pruning"),
    ] {
        method.pruning.as_mut().unwrap().importance = importance;
        assert_eq!(method.name(), name);
    }
    method.pruning.as_mut().unwrap().schedule.curve = Curve::OneShot;
    assert_eq!(method.name(), "one-shot magnitude pruning");
    method.pruning.as_mut().unwrap().importance = Importance::Sensitivity;
    assert_eq!(method.name(), "one-shot pruning by sensitivity");
    method.pruning = None;
    assert_eq!((method.name(), method.short_name()), ("low-rank only", "low-rank"));
}

#[test]
fn agreement_is_over_all_logits() {
    let masked = [vec![0.5, 0.25], vec![0.1, 0.2]];
    let compacted = [vec![0.5, 0.0], vec![0.2, 0.1]];
    let agreement = Agreement::between(&masked, &compacted).unwrap();
    assert_eq!(agreement.largest_logit_difference, 0.25);
    assert_eq!((agreement.changed_predictions, agreement.examples), (1, 2));
    let broken = Agreement::between(&masked[..1], &[vec![f32::NAN, 0.0]]).unwrap();
    assert_eq!(broken.largest_logit_difference, f64::INFINITY);
    assert!(Agreement::between(&masked, &compacted[..1]).is_err());
}
