//! Runs that end well, or report that their result is not what was asked for.

use std::collections::HashSet;
use std::fs;

use serde_json::{Value, json};

use super::cli::{Place, fails, json_lines, losparse, refs, text};

/// A run's lines of JSON, its exit code and its text for people.
fn outcome(args: &[String]) -> (Vec<Value>, Option<i32>, String) {
    let output = losparse(&[&refs(args)[..], &["--json"]].concat()).output().unwrap();
    let lines = text(&output.stdout);
    let lines = lines.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    (lines, output.status.code(), text(&output.stderr))
}

fn kinds(report: &Value) -> Vec<&str> {
    let warnings = report["warnings"].as_array().unwrap();
    warnings.iter().map(|warning| warning["kind"].as_str().unwrap()).collect()
}

/// A place with 48 training examples: 6 updates of 8.
fn short_place() -> Place {
    let place = Place::new();
    place.write("train.csv", super::place::reviews(48));
    place
}

#[test]
fn a_short_training_compresses_to_what_was_asked_for() {
    let place = short_place();
    for method in ["losparse", "itp", "movement", "one-shot"] {
        let more = ["--epochs", "1", "--ratio", "0.5", "--method", method];
        let args = place.run("compress", method, &more);
        let (lines, code, told) = outcome(&args);
        let report = &lines.last().unwrap()["report"];
        assert!(!kinds(report).contains(&"larger_than_asked"), "{method}: {told}");
        assert_ne!(code, Some(1), "{told}");
        assert_eq!(report["method"]["pruning"]["schedule"]["interval"], 1, "{method}");
        let steps: Vec<&Value> = lines.iter().filter(|line| line["event"] == "step").collect();
        assert_eq!(steps.len(), 6);
        // The counted share is left, up to the neuron at the threshold.
        let (kept, scheduled) = (&steps[5]["kept"], steps[5]["keep_ratio"].as_f64().unwrap());
        let kept = kept.as_f64().unwrap();
        assert!((scheduled..scheduled + 0.01).contains(&kept), "{method}: {kept} of {scheduled}");
        assert!(steps[0]["kept"].is_null());
        let sum = |field: &str| -> f64 {
            let layers = report["account"]["layers"].as_array().unwrap();
            layers.iter().map(|layer| layer[field].as_f64().unwrap()).sum()
        };
        // Rank 1, the least, is an eighth of these small matrices.
        let stored = sum("stored_elements") / sum("dense_elements");
        assert!(stored < 0.64, "{method}: {stored}");
    }
}

#[test]
fn an_interval_that_leaves_no_time_is_refused_before_anything_is_written() {
    let place = short_place();
    let refused = |more: &[&str], parts: &[&str]| {
        fails(&refs(&place.run("compress", "never", more)), 1, parts);
        assert!(!place.path("never").exists());
    };
    let long = ["--epochs", "1", "--interval", "10"];
    refused(&long, &["option --interval: no importance is known", "of 10 updates", "of 6 on"]);
    refused(&[&long[..], &["--dry-run"]].concat(), &["option --interval"]);
    refused(
        &["--epochs", "1", "--gradient-accumulation", "3"],
        &["option --epochs: 1 epoch of this data: only 2 updates"],
    );
    let early = ["--epochs", "1", "--initial-warmup-steps", "5"];
    refused(&early, &["option --initial-warmup-steps: the schedule is longer than the training"]);
    // Pruning by magnitude needs no importance.
    let by_size = [&long[..], &["--method", "one-shot"]].concat();
    assert_ne!(outcome(&place.run("compress", "by-size", &by_size)).1, Some(1));
}

#[test]
fn more_than_was_asked_for_is_kept_and_marked_everywhere() {
    let place = Place::new();
    let more = ["--epochs", "2", "--ratio", "0.3", "--structure", "unstructured", "--keep", "last"];
    let args = place.run("compress", "loose", &more);
    let output = losparse(&refs(&args)).output().unwrap();
    let (out, told) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(3), "{out}{told}");
    assert!(out.contains("compacted"), "{out}");
    // The warning is the last line, and without colours if there is no terminal.
    let warnings: Vec<&str> = told.lines().filter(|line| line.starts_with("warning: ")).collect();
    let last = told.lines().rev().take(warnings.len()).collect::<Vec<_>>();
    assert!(last.iter().all(|line| line.starts_with("warning: ")), "{told}");
    let marked = warnings.iter().find(|line| line.contains("30.0% were asked for"));
    let marked = marked.expect(&told).trim_start_matches("warning: ");
    assert!(marked.contains("single weights were pruned"), "{marked}");
    assert!(!told.contains('\u{1b}') && !told.contains("error: "), "{told}");
    let read = |name: &str| fs::read_to_string(place.path("loose").join(name)).unwrap();
    let report: Value = serde_json::from_str(&read("report.json")).unwrap();
    assert_eq!(report["warnings"][0], json!({"kind": "larger_than_asked", "message": marked}));
    let top = |text: &str| text.lines().take(3).collect::<Vec<_>>().join("\n");
    assert!(top(&read("report.md")).contains(&format!("> **Warning:** {marked}")));
    assert!(top(&read("model/README.md")).contains(marked));
    let html = read("report.html");
    assert!(html.find(marked) < html.find("<section>"), "{html}");
    assert!(place.path("loose/model/model.safetensors").is_file());
}

#[test]
fn a_diverged_training_is_marked() {
    let place = short_place();
    for command in ["finetune", "compress"] {
        let mut args = place.run(command, command, &["--epochs", "2"]);
        let rate = args.iter().position(|word| word == "5e-3").unwrap();
        args[rate] = "1e3".into();
        let (lines, code, told) = outcome(&args);
        assert_eq!(code, Some(3), "{command}: {told}");
        let report = &lines.last().unwrap()["report"];
        assert!(kinds(report).contains(&"diverged"), "{command}: {report}");
        assert!(told.contains("lower the learning rate (--lr, here 1e3)"), "{told}");
        assert!(place.path(command).join("model/model.safetensors").is_file());
    }
}

#[test]
fn a_training_of_skipped_updates_is_marked() {
    let place = short_place();
    let scores = |text: String| text.replace(",up", ",1e38").replace(",down", ",-1e38");
    place.write("train.csv", scores(super::place::reviews(48)));
    place.write("dev.csv", super::place::reviews(24).replace(",up", ",1").replace(",down", ",0"));
    let mut args = place.run("finetune", "scores", &["--epochs", "1", "--new-head"]);
    let label = args.iter().position(|word| word == "--label").unwrap();
    args[label] = "--score".into();
    let (lines, code, told) = outcome(&args);
    assert_eq!(code, Some(3), "{told}");
    let report = &lines.last().unwrap()["report"];
    assert_eq!(kinds(report)[0], "mostly_skipped");
    assert!(told.contains("warning: 6 of 6 updates were skipped"), "{told}");
}

#[test]
fn a_model_that_always_says_the_same_is_called_so() {
    let place = Place::new();
    let model = place.arg("model");
    // All texts are the same, so the model answers all alike.
    let rows = |count: usize, mood: &str| format!("the film is good,{mood}\n").repeat(count);
    let dev = ["review,mood\n".to_string(), rows(7, "up"), rows(7, "down")].concat();
    place.write("same.csv", dev);
    let same = place.arg("same.csv");
    let args = ["evaluate", &model, "--dev", &same, "--text", "review", "--label", "mood"];
    let output = losparse(&args).output().unwrap();
    let (out, told) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(0), "{told}");
    assert!(out.contains("accuracy 0.5000 (majority 0.5000)"), "{out}");
    assert!(told.contains("warning: ") && told.contains("same answer to every example"), "{told}");
    let metrics = &json_lines(&args)[0]["result"]["metrics"];
    assert_eq!(metrics["majority_share"], json!(0.5));
}

#[test]
fn examples_that_are_trained_on_and_evaluated_on_are_counted() {
    let place = Place::new();
    let said = || {
        let args = place.run("finetune", "never", &["--dry-run"]);
        text(&losparse(&refs(&args)).output().unwrap().stderr)
    };
    assert!(said().contains("dev: 24 of 24 examples are also training examples"));
    place.write("dev.csv", "review,mood\nthe very film is good,up\nnever seen,down\n");
    assert!(said().contains("dev: 1 of 2 examples are also training examples"), "{}", said());
}

#[test]
fn without_evaluation_data_a_tenth_is_held_out() {
    let place = Place::new();
    // 60 texts, each twice; a third of them of one class.
    let row = |at: usize| {
        let mood = if at.is_multiple_of(3) { "up" } else { "down" };
        format!("good {},{mood}\n", "film ".repeat(at / 8 + 1) + &"very ".repeat(at % 8))
    };
    let rows: String = (0..60).map(|at| row(at).repeat(2)).collect();
    place.write("train.csv", format!("review,mood\n{rows}"));
    let run = |output: &str, seed: &str| {
        let mut args = place.run("finetune", output, &["--epochs", "1", "--seed", seed, "--quiet"]);
        let dev = args.iter().position(|word| word == "--dev").unwrap();
        args.drain(dev..dev + 2);
        args
    };
    let (lines, code, told) = outcome(&run("held", "7"));
    assert_eq!(code, Some(0), "{told}");
    let report = &lines.last().unwrap()["report"];
    assert_eq!(report["training"]["held_out"], 12);
    assert_eq!(report["training"]["examples"], 108);
    let split = &report["trained"][0];
    assert_eq!((&split["split"], &split["metrics"]["examples"]), (&json!("held-out"), &json!(12)));
    // A third of the held-out texts, too, is of the rarer class.
    let majority = split["metrics"]["majority_share"].as_f64().unwrap();
    assert!((majority - 8.0 / 12.0).abs() < 1e-9, "{majority}");
    let note = "12 training examples, drawn by seed 7, are held out";
    assert!(lines.iter().any(|line| line["message"].as_str().unwrap_or("").contains(note)));
    let read = |name: &str| fs::read_to_string(place.path("held").join(name)).unwrap();
    assert!(read("report.md").contains("evaluated on 12 examples of the training data"));
    assert!(read("recipe.toml").contains("dev_share = 0.1"));
    // The recipe holds out the same examples; given evaluation data replaces them.
    let [recipe, again, own] = ["held/recipe.toml", "again", "own"].map(|name| place.arg(name));
    let args = ["finetune", "--recipe", &recipe, "-o", &again].map(String::from);
    let (lines, _, _) = outcome(&args);
    assert_eq!(lines.last().unwrap()["report"]["trained"], report["trained"]);
    let dev = place.arg("dev.csv");
    let args = ["finetune", "--recipe", &recipe, "-o", &own, "--dev", &dev].map(String::from);
    let (lines, _, told) = outcome(&args);
    assert_eq!(lines.last().expect(&told)["report"]["training"]["held_out"], Value::Null);
}

#[test]
fn too_few_examples_to_hold_any_out_are_an_error() {
    let place = Place::new();
    place.write("train.csv", "review,mood\ngood,up\nbad,down\n");
    let mut args = place.run("finetune", "few", &[]);
    let dev = args.iter().position(|word| word == "--dev").unwrap();
    args.drain(dev..dev + 2);
    fails(&refs(&args), 1, &["option --dev: missing", "2 training examples are too few"]);
    assert!(!place.path("few").exists());
}

/// Every option that an error names exists.
#[test]
fn marks_are_of_kinds_that_reports_know() {
    let known: HashSet<&str> =
        ["larger_than_asked", "mostly_skipped", "diverged", "no_better_than_constant"].into();
    let place = short_place();
    let (lines, code, _) = outcome(&place.run("finetune", "tuned", &["--epochs", "1"]));
    let report = &lines.last().unwrap()["report"];
    let found = kinds(report);
    assert!(found.iter().all(|kind| known.contains(kind)), "{found:?}");
    // A run that learnt nothing is reported, not a failure.
    assert_eq!(code, Some(if found.contains(&"diverged") { 3 } else { 0 }), "{found:?}");
}
