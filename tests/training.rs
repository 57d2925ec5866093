//! Effects of training settings on the weights, through the command line.

use std::collections::BTreeMap;
use std::fs;

use losparse::checkpoint::TensorSource;
use serde_json::{Value, json};

use super::cli::{Place, json_lines, refs};

type Weights = BTreeMap<String, Vec<f32>>;

fn weights(place: &Place, folder: &str) -> Weights {
    let source = TensorSource::open(place.path(folder)).unwrap();
    let values = |name: &str| match name.ends_with(".order") {
        true => source.read_int(name).unwrap().into_iter().map(|at| at as f32).collect(),
        false => source.read(name).unwrap(),
    };
    source.names().map(|name| (name.to_string(), values(name))).collect()
}

/// Differences of all weights.
fn differences(a: &Weights, b: &Weights) -> Vec<f64> {
    assert!(a.keys().eq(b.keys()));
    let values = |weights: &Weights| weights.values().flatten().copied().collect::<Vec<f32>>();
    let pairs = values(a).into_iter().zip(values(b));
    pairs.map(|(a, b)| f64::from(a) - f64::from(b)).collect()
}

fn largest(differences: &[f64]) -> f64 {
    assert!(differences.iter().all(|d| d.is_finite()));
    differences.iter().fold(0.0, |most, d| most.max(d.abs()))
}

/// Fine-tunes; returns the JSON lines of the run.
fn finetune(place: &Place, output: &str, settings: &str) -> Vec<Value> {
    let more: Vec<&str> = settings.split(' ').collect();
    // No option may be given twice, so drop those of the place that are set here.
    let mut args = place.run("finetune", output, &[]);
    for option in ["--lr", "--batch-size", "--epochs"] {
        if more.contains(&option) {
            let at = args.iter().position(|word| word == option).unwrap();
            args.drain(at..at + 2);
        }
    }
    args.extend(more.iter().map(|word| word.to_string()));
    json_lines(&refs(&args))
}

fn report(lines: &[Value]) -> &Value {
    &lines.last().unwrap()["report"]
}

/// A place whose model has no dropout.
pub(super) fn without_dropout() -> Place {
    let place = Place::new();
    let path = place.path("model/config.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    for field in ["hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout"] {
        config[field] = json!(0.0);
    }
    fs::write(path, config.to_string()).unwrap();
    place
}

/// With an ε this large, AdamW's updates are proportional to the gradients. With the usual ε,
/// rounding would decide them where a gradient is 0.
const LINEAR: &str = "--adam-epsilon 1 --lr-decay constant --lr-warmup-steps 0 --keep last";

#[test]
fn accumulated_batches_train_like_a_large_one() {
    let place = without_dropout();
    // Every update sees all 96 examples.
    finetune(&place, "whole", &format!("--lr 0.3 --epochs 5 --batch-size 96 {LINEAR}"));
    let parts = "--lr 0.3 --epochs 5 --batch-size 24 --gradient-accumulation 4";
    let lines = finetune(&place, "parts", &format!("{parts} {LINEAR}"));
    assert_eq!(report(&lines)["training"]["steps"], 5);
    let [start, whole, parts] =
        ["model", "whole/model", "parts/model"].map(|folder| weights(&place, folder));
    let moved = largest(&differences(&start, &whole));
    let apart = largest(&differences(&whole, &parts));
    assert!(moved > 1e-3, "{moved}");
    assert!(apart < 1e-6, "{apart} apart, {moved} moved");
}

#[test]
fn gradients_of_too_large_a_norm_are_scaled_down() {
    let place = without_dropout();
    let settings = format!("--lr 5 --epochs 1 --batch-size 96 {LINEAR}");
    let lines = finetune(&place, "clipped", &format!("{settings} --max-grad-norm 1e-4"));
    let step = lines.iter().find(|line| line["event"] == "step").unwrap();
    assert!(step["gradient_norm"].as_f64().unwrap() > 1e-3, "{step}");
    let moved = differences(&weights(&place, "model"), &weights(&place, "clipped/model"));
    let norm = moved.iter().map(|d| d * d).sum::<f64>().sqrt();
    // lr · norm, plus the rounding of weights of up to 1.
    assert!((norm / 5e-4 - 1.0).abs() < 1e-2, "{norm}");
}

#[test]
fn evaluations_and_checkpoints_change_no_weight() {
    let place = Place::new();
    let settings = "--lr 5e-3 --epochs 2 --keep last";
    finetune(&place, "rarely", settings);
    finetune(&place, "often", &format!("{settings} --eval-steps 6 --save-steps 2"));
    let often = weights(&place, "often/model");
    assert_eq!(weights(&place, "rarely/model"), often);
    assert_ne!(weights(&place, "model"), often);
}

#[test]
fn the_best_evaluated_model_is_kept() {
    let place = Place::new();
    let lines = finetune(&place, "best", "--lr 2e-2 --epochs 6 --eval-steps 4");
    let report = report(&lines);
    let history = report["history"].as_array().unwrap();
    assert_eq!(history.len(), 18);
    let accuracy = |at: usize| history[at][1]["values"]["accuracy"].as_f64().unwrap();
    // The last of equals.
    let best = (0..18).max_by(|&a, &b| accuracy(a).total_cmp(&accuracy(b))).unwrap();
    assert_eq!(report["training"]["result_step"], history[best][0]);
    assert_eq!(report["trained"][0]["metrics"], history[best][1]);
}

#[test]
fn the_saved_recipe_says_everything_and_repeats_the_run() {
    let place = Place::new();
    let args = place.run("compress", "first", &["--epochs", "2", "--interval", "2"]);
    json_lines(&refs(&args));
    let recipe = place.path("first/recipe.toml");
    let text = fs::read_to_string(&recipe).unwrap();
    for setting in [
        "initial_warmup_share = 0.125",
        "final_warmup_share = 0.375",
        "lr_warmup_share = 0.1",
        "learning_rate = 0.005",
        "interval = 2",
        "max_length = 12",
        "epochs = 2",
    ] {
        assert!(text.contains(setting), "no {setting} in {text}");
    }
    // Defaults that depend on the training's length are not stored as numbers.
    assert!(!text.contains("_steps"), "{text}");
    let output = place.path("again").display().to_string();
    let recipe = recipe.display().to_string();
    json_lines(&["compress", "--recipe", &recipe, "-o", &output]);
    assert_eq!(weights(&place, "first/model"), weights(&place, "again/model"));
    // With another length it is still the same recipe.
    for (epochs, warmups) in [("1", [1, 4]), ("5", [7, 22])] {
        let longer = ["--epochs", epochs, "--dry-run"];
        let args = [&["compress", "--recipe", &recipe][..], &longer].concat();
        let schedule = &json_lines(&args)[0]["schedule"];
        let found = [&schedule["initial_warmup_steps"], &schedule["final_warmup_steps"]];
        assert_eq!(found, warmups.map(|steps| json!(steps)).each_ref(), "{schedule}");
    }
}
