//! `--dtype int16`: trainings whose products are of 16-bit integers.

use serde_json::Value;

use super::cli::{Place, fails, losparse, refs, stdout, text};

const RATER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/models/movie-sentiment");

/// The arguments of a training of a model large enough that its products are packed.
fn training(place: &Place, output: &str, dtype: &str) -> Vec<String> {
    let more = ["--epochs", "2", "--new-head", "--dtype", dtype, "--json"];
    let mut args = place.run("finetune", output, &more);
    let model = args.iter().position(|word| *word == place.arg("model")).unwrap();
    args[model] = RATER.to_string();
    // At a higher rate every difference soon grows.
    let rate = args.iter().position(|word| word == "--lr").unwrap();
    args[rate + 1] = "1e-4".to_string();
    args
}

/// The loss at every step.
fn losses(shown: &str) -> Vec<f64> {
    let events = shown.lines().map(|line| serde_json::from_str::<Value>(line).expect(line));
    events.filter(|e| e["event"] == "step").map(|e| e["loss"].as_f64().unwrap()).collect()
}

#[test]
fn a_training_in_16_bit_integers_learns_as_in_floats() {
    let place = Place::new();
    let exact = losses(&stdout(&refs(&training(&place, "floats", "f32"))));
    let args = training(&place, "integers", "int16");
    let output = losparse(&refs(&args)).output().unwrap();
    let message = text(&output.stderr);
    if !output.status.success() {
        println!("not run, since this processor lacks it: {message}");
        assert!(
            message.contains("option --dtype: int16 is for CPUs with AVX512-VNNI"),
            "{message}"
        );
        assert!(!place.path("integers").exists());
        return;
    }
    let rounded = losses(&text(&output.stdout));
    assert_eq!(rounded.len(), exact.len());
    assert!(exact.len() > 10 && rounded != exact, "{rounded:?}");
    for (rounded, exact) in rounded.iter().zip(&exact) {
        // Products are exact to about a thousandth.
        assert!((rounded - exact).abs() < 0.01 * exact, "{rounded}, {exact}");
    }
}

#[test]
fn what_does_not_train_in_16_bit_integers_says_so() {
    let place = Place::new();
    let predict = ["predict", RATER, "fine", "--dtype", "int16"];
    fails(&predict, 1, &["option --dtype: int16 is for training; run models in int8 or f32"]);
    if cfg!(feature = "ndarray") {
        let mut args = training(&place, "never", "int16");
        args.extend(["--device", "ndarray"].map(String::from));
        fails(&refs(&args), 1, &["option --dtype: int16 is for CPUs with AVX512-VNNI"]);
    }
}
