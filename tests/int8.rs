//! `losparse quantize`, and models that compute in 8-bit integers.

use std::fs;
use std::path::Path;

use serde_json::Value;

use super::cli::{Place, fails, json_lines, losparse, stdout, text};

const RATER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/models/movie-sentiment");
const SPELLER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/models/g2p-bart");
const TEXTS: [&str; 4] = [
    "A quiet, funny and deeply moving film.",
    "Not one laugh.",
    "Loud, long and clumsy.",
    "It has its moments, and then it has two hours more of them.",
];

/// The probability that each text is positive.
fn ratings(model: &str, more: &[&str]) -> Vec<f64> {
    let answers = json_lines(&[&["predict", model][..], &TEXTS, more].concat());
    let positive = |answer: &Value| answer["probabilities"]["positive"].as_f64().unwrap();
    answers.iter().map(positive).collect()
}

fn off(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}

fn compute(folder: &Path) -> Value {
    let config = fs::read(folder.join("config.json")).unwrap();
    serde_json::from_slice::<Value>(&config).unwrap()["losparse"]["compute"].clone()
}

#[test]
fn a_quantized_folder_answers_nearly_as_the_model_does() {
    let place = Place::new();
    let out = place.arg("int8");
    let shown = stdout(&["quantize", RATER, "-o", &out]);
    assert!(shown.starts_with("12 of 12 layers in int8; answers move by "), "{shown}");
    assert!(shown.contains("moved most by: bert.encoder.layer."), "{shown}");
    assert_eq!(compute(&place.path("int8")), "int8");
    let exact = ratings(RATER, &[]);
    let int8 = ratings(&out, &[]);
    assert!((1e-6..0.02).contains(&off(&int8, &exact)), "{int8:?} {exact:?}");
    // The start is stored in 8 bits already, so in floats both are the same model.
    assert!(off(&ratings(&out, &["--dtype", "f32"]), &exact) < 1e-5);
    assert!(off(&ratings(RATER, &["--dtype", "int8"]), &int8) < 1e-5);
    let layers = stdout(&["inspect", &out]);
    assert!(layers.contains("int8"), "{layers}");
    // It is a start as any other; what is trained are floats.
    let mut args = place.run("finetune", "tuned", &["--epochs", "1", "--new-head"]);
    let model = args.iter().position(|word| *word == place.arg("model")).unwrap();
    args[model] = out;
    stdout(&super::cli::refs(&args));
    assert_eq!(compute(&place.path("tuned/model")), Value::Null);
}

#[test]
fn a_model_that_writes_spells_as_before() {
    let place = Place::new();
    let out = place.arg("int8");
    let words = place.path("words.txt");
    fs::write(&words, "mirror\nwerewolf\n\nelongation\n").unwrap();
    let report = json_lines(&["quantize", SPELLER, "-o", &out, "--texts", words.to_str().unwrap()]);
    let layers = report[0]["quantization"]["layers"].as_array().unwrap();
    assert!(layers.iter().all(|layer| layer["int8"] == true), "{layers:?}");
    assert!(report[0]["quantization"]["moved"].as_f64().unwrap() < 0.1, "{report:?}");
    let words = ["mirror", "werewolf", "elongation", "enchanter"];
    let spelled = |model: &str| json_lines(&[&["predict", model][..], &words].concat());
    let (before, after) = (spelled(SPELLER), spelled(&out));
    let same = before.iter().zip(&after).filter(|(a, b)| a == b).count();
    assert!(same >= 3, "{before:?} {after:?}");
}

/// All instructions give the same sums of layers; attention is rounded to 16 bits with some of them.
#[test]
fn every_path_of_instructions_answers_alike() {
    let ask = |path: Option<&str>| {
        let mut command = losparse(&["predict", RATER, TEXTS[0], "--dtype", "int8", "--json"]);
        command.env_remove("LOSPARSE_INT8_PATH");
        if let Some(path) = path {
            command.env("LOSPARSE_INT8_PATH", path);
        }
        command.output().unwrap()
    };
    let positive = |output: &std::process::Output| {
        let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
        answer["probabilities"]["positive"].as_f64().unwrap()
    };
    let best = ask(None);
    assert!(best.status.success(), "{}", text(&best.stderr));
    for path in ["avx512-vnni", "avx-vnni", "avx2", "portable"] {
        let output = ask(Some(path));
        match output.status.success() {
            true => {
                let (found, best) = (positive(&output), positive(&best));
                assert!((found - best).abs() < 1e-4, "{path}: {found}, {best}");
            }
            false => {
                let message = text(&output.stderr);
                assert!(message.contains("this processor can run"), "{path}: {message}");
                println!("not run, since this processor lacks it: {path}");
            }
        }
    }
    assert!(ask(Some("portable")).status.success());
    let wrong = ask(Some("neon"));
    assert_eq!(wrong.status.code(), Some(1));
    let message = text(&wrong.stderr);
    assert!(message.contains("LOSPARSE_INT8_PATH") && message.contains("\"neon\""), "{message}");
}

#[test]
fn what_cannot_be_quantized_is_refused_and_nothing_is_written() {
    let place = Place::new();
    let (out, empty) = (place.arg("out"), place.path("empty.txt"));
    fs::write(&empty, "\n \n").unwrap();
    let empty = empty.to_str().unwrap();
    fails(&["quantize", RATER, "-o", &out, "--texts", empty], 1, &["empty.txt", "no text in it"]);
    fails(&["quantize", &place.arg("none"), "-o", &out], 1, &["none", "no such folder"]);
    // Without a head there is nothing to measure, and nothing to answer with later.
    fs::create_dir(place.path("headless")).unwrap();
    for file in fs::read_dir(RATER).unwrap().map(|entry| entry.unwrap().path()) {
        if file.is_file() {
            fs::copy(&file, place.path("headless").join(file.file_name().unwrap())).unwrap();
        }
    }
    let weights = place.path("headless/model.safetensors");
    let bytes = fs::read(&weights).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let bare = tensors.iter().filter(|(name, _)| !name.starts_with("classifier"));
    fs::write(&weights, safetensors::serialize(bare, None).unwrap()).unwrap();
    let config = place.path("headless/config.json");
    let mut about: Value = serde_json::from_slice(&fs::read(&config).unwrap()).unwrap();
    about["losparse"].as_object_mut().unwrap().remove("sha256");
    fs::write(&config, about.to_string()).unwrap();
    fails(&["quantize", &place.arg("headless"), "-o", &out], 1, &["headless", "no trained head"]);
    let train = place.run("finetune", "never", &["--dtype", "int8"]);
    fails(&super::cli::refs(&train), 1, &["option --dtype", "int8 is for inference"]);
    if cfg!(feature = "ndarray") {
        let args = ["quantize", RATER, "-o", &out, "--device", "ndarray"];
        fails(&args, 1, &["option --device", "only flex"]);
    }
    assert!(!place.path("out").exists());
    fs::create_dir(place.path("out")).unwrap();
    fs::write(place.path("out/mine.txt"), "mine").unwrap();
    fails(&["quantize", RATER, "-o", &out], 1, &["out", "--overwrite"]);
    fails(&["quantize", RATER, "-o", &out, "--overwrite"], 1, &["out"]);
    assert_eq!(fs::read(place.path("out/mine.txt")).unwrap(), b"mine");
    let copy = place.arg("int8");
    stdout(&["quantize", RATER, "-o", &copy]);
    let same = ["quantize", &copy, "-o", &copy, "--overwrite"];
    fails(&same, 1, &["int8", "is the model itself"]);
}
