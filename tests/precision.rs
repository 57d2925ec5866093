//! `--dtype`: matrix products of 16-bit floats in inference and training.

use std::fs;

use losparse::device::{self, Backend};
use serde_json::Value;

use super::cli::{Place, fails, json_lines, losparse, refs, stdout, text};

const RATER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/models/movie-sentiment");
const SPELLER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/models/g2p-bart");
const TEXTS: [&str; 3] =
    ["A quiet, funny and deeply moving film.", "Not one laugh.", "Loud, long and clumsy."];

/// The rater's probability that each text is positive.
fn ratings(more: &[&str]) -> Vec<f64> {
    let answers = json_lines(&[&["predict", RATER][..], &TEXTS, more].concat());
    let positive = |answer: &Value| answer["probabilities"]["positive"].as_f64().unwrap();
    answers.iter().map(positive).collect()
}

/// Rounding to 8 significant bits moves logits of size 3 by some hundredths.
fn assert_near(rounded: &[f64], exact: &[f64], tolerance: f64) {
    let off = rounded.iter().zip(exact).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    assert!(off > 0.0 && off < tolerance, "{off}: {rounded:?} {exact:?}");
}

#[test]
fn reduced_products_give_nearly_the_same_predictions() {
    let exact = ratings(&[]);
    assert_eq!(ratings(&["--dtype", "f32"]), exact);
    assert_near(&ratings(&["--dtype", "f16"]), &exact, 2e-3);
    assert_near(&ratings(&["--dtype", "bf16"]), &exact, 2e-2);
    for word in ["werewolf", "compress"] {
        let exact = json_lines(&["predict", SPELLER, word]);
        for dtype in ["f16", "bf16"] {
            assert_eq!(json_lines(&["predict", SPELLER, word, "--dtype", dtype]), exact);
        }
    }
}

/// On every other backend of this build and machine. The name makes it one of the cross-backend
/// checks.
#[test]
fn cross_backend_reduced_products() {
    let exact = ratings(&["--device", "flex"]);
    for (backend, device) in device::available() {
        if backend == Backend::Flex || device.is_err() {
            continue;
        }
        for (dtype, tolerance) in [("f16", 2e-3), ("bf16", 2e-2)] {
            let options = ["--device", backend.name(), "--dtype", dtype];
            let output = losparse(&[&["predict", RATER, "dull"][..], &options].concat()).output();
            let output = output.unwrap();
            if output.status.success() {
                assert_near(&ratings(&options), &exact, tolerance);
                println!("{backend}: {dtype} agrees");
            } else {
                let message = text(&output.stderr);
                assert!(message.contains(&format!("does not multiply in {dtype}")), "{message}");
                println!("{backend}: {}", message.trim());
            }
        }
    }
}

#[test]
fn a_model_is_compressed_with_reduced_products() {
    let place = Place::new();
    let settings =
        ["--epochs", "4", "--ratio", "0.4", "--low-rank-ratio", "0.2", "--interval", "2"];
    let losses = |output: &str, more: &[&str]| {
        let args = place.run("compress", output, &[&settings[..], &["--json"], more].concat());
        let out = stdout(&refs(&args));
        let events = out.lines().map(|line| serde_json::from_str::<Value>(line).expect(line));
        events.filter_map(|event| event["loss"].as_f64()).collect::<Vec<_>>()
    };
    let exact = losses("exact", &[]);
    let rounded = losses("rounded", &["--dtype", "bf16"]);
    // The first updates hardly differ; later updates may keep other neurons.
    assert_near(&rounded[..4], &exact[..4], 2e-2);
    let report = fs::read(place.path("rounded/report.json")).unwrap();
    let report: Value = serde_json::from_slice(&report).unwrap();
    assert_eq!(report["device"], "flex in bf16");
    // Saved weights are exact.
    let (exact, rounded) = (place.path("exact/model"), place.path("rounded/model"));
    let bytes = |folder: std::path::PathBuf| {
        fs::metadata(folder.join("model.safetensors")).unwrap().len() as f64
    };
    let ratio = bytes(rounded) / bytes(exact);
    assert!((0.9..1.1).contains(&ratio), "{ratio}");
}

#[test]
fn formats_that_cannot_be_are_named() {
    let place = Place::shared();
    let model = place.arg("model");
    fails(
        &["predict", &model, "good", "--dtype", "fp8"],
        2,
        &["fp8", "give f32, f16, bf16, int8 or int16"],
    );
    let train = place.run("finetune", "never", &["--dtype", "f16"]);
    fails(&refs(&train), 1, &["option --dtype", "train in bf16 or f32"]);
    assert!(!place.path("never").exists());
    if cfg!(feature = "ndarray") {
        let args = ["predict", &model, "good", "--device", "ndarray", "--dtype", "bf16"];
        fails(&args, 1, &["option --dtype", "does not multiply in bf16"]);
    }
    let output = losparse(&["predict", &model, "good"]).env("LOSPARSE_DTYPE", "half").output();
    let message = text(&output.unwrap().stderr);
    assert!(
        message.contains("half") && message.contains("give f32, f16, bf16, int8 or int16"),
        "{message}"
    );
}
