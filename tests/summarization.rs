//! Summarization from a tiny model and a few documents to a compressed folder in use.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use burn::tensor::Device;
use losparse::checkpoint::{SaveOptions, save_pretrained};
use losparse::models::bart::{BartConfig, BartForConditionalGeneration};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::cli::{fails, json_lines, losparse, stdout, text};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

fn pairs() -> String {
    fixture("summaries.jsonl").display().to_string()
}

/// A folder with a tiny random BART in `model`.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        let device = Device::default();
        device.seed(3);
        let config = BartConfig {
            vocab_size: 330,
            d_model: 32,
            encoder_layers: 1,
            decoder_layers: 1,
            encoder_attention_heads: 4,
            decoder_attention_heads: 4,
            encoder_ffn_dim: 64,
            decoder_ffn_dim: 64,
            max_position_embeddings: 64,
            dropout: 0.0,
            init_std: 0.1,
            ..BartConfig::default()
        };
        let place = Self(tempfile::tempdir().unwrap());
        let model = BartForConditionalGeneration::new(&config, &device);
        save_pretrained(&model, place.path("model"), &SaveOptions::default()).unwrap();
        place.write_tokenizer();
        place.write(
            "model/generation_config.json",
            json!({"num_beams": 2, "max_length": 24, "min_length": 0, "early_stopping": true,
                "no_repeat_ngram_size": 0, "length_penalty": 0.8})
            .to_string(),
        );
        place
    }

    /// The byte-level fixture as `vocab.json` and `merges.txt`.
    fn write_tokenizer(&self) {
        let json = fs::read_to_string(fixture("tokenizer/bytelevel/tokenizer.json")).unwrap();
        let json: Value = serde_json::from_str(&json).unwrap();
        self.write("model/vocab.json", json["model"]["vocab"].to_string());
        let merges = json["model"]["merges"].as_array().unwrap().iter();
        let merges =
            merges.map(|m| format!("{} {}\n", m[0].as_str().unwrap(), m[1].as_str().unwrap()));
        self.write("model/merges.txt", "#version: 0.2\n".to_string() + &merges.collect::<String>());
    }

    fn write(&self, name: &str, contents: impl AsRef<[u8]>) {
        fs::write(self.0.path().join(name), contents).unwrap();
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).display().to_string()
    }

    /// Runs `command` on the pairs, and returns all that it prints.
    fn run(&self, command: &str, output: &str, more: &[&str]) -> Vec<Value> {
        let (model, output, file) = (self.path("model"), self.path(output), pairs());
        let args = [
            &[command, &model, "-o", &output, "--task", "summarization"],
            &["--train", &file, "--dev", &file, "--batch-size", "4", "--lr", "3e-3"][..],
            more,
        ];
        json_lines(&args.concat())
    }
}

fn report(events: &mut Vec<Value>) -> Value {
    events.pop().expect("a run ends with its report")["report"].take()
}

/// The value of a metric on the first split.
fn metric(splits: &Value, name: &str) -> f64 {
    splits[0]["metrics"]["values"][name].as_f64().unwrap_or_else(|| panic!("{name} in {splits}"))
}

#[test]
fn compressed_folders_summarize_as_the_run_said() {
    let place = Place::new();
    let more = "--epochs 60 --ratio 0.6 --interval 5 --eval-steps 90 --storage f32";
    let more: Vec<&str> = more.split(' ').collect();
    let mut events = place.run("compress", "small", &more);
    let report = report(&mut events);
    let (before, after) = (&report["starting"], &report["compacted"]);
    let (first, last) = (metric(before, "rouge1"), metric(after, "rouge1"));
    println!("ROUGE-1 {first} → {last}, ROUGE-2 {}", metric(after, "rouge2"));
    assert!(last > 0.6 && last > first + 0.3, "{first} → {last}");
    for name in ["rouge2", "rougeL", "rougeLsum"] {
        metric(after, name);
    }
    assert_eq!(report["task"]["primary"], "rouge2");
    assert_eq!(after[0]["metrics"]["examples"], 12);
    assert_eq!(report["agreement"]["examples"], 12);
    assert_eq!(report["agreement"]["changed_predictions"], 0, "{}", report["agreement"]);
    assert_eq!(report["trained"][0]["metrics"], after[0]["metrics"]);
    let speed = events.iter().filter_map(|event| event["message"].as_str());
    let report_text = fs::read_to_string(place.path("small/report.md")).unwrap();
    assert!(report_text.contains("Compacting changed 0 of 12 answers"), "{report_text}");
    assert!(speed.filter(|message| message.contains("tokens a second")).count() >= 3);

    // The folder stores its settings, those of the search included.
    let small = place.path("small");
    let config = fs::read_to_string(place.path("small/model/config.json")).unwrap();
    let config: Value = serde_json::from_str(&config).unwrap();
    let settings = &config["losparse"]["summarization"];
    assert_eq!((&settings["num_beams"], &settings["max_length"]), (&json!(2), &json!(24)));
    assert_eq!(settings["length_penalty"], json!(0.8));
    assert_eq!(config["losparse"]["max_length"], json!(64));
    for file in ["vocab.json", "merges.txt", "generation_config.json"] {
        assert!(Path::new(&small).join("model").join(file).is_file(), "{file}");
    }
    let evaluated = json_lines(&["evaluate", &small, "--dev", &pairs()]).remove(0);
    assert_eq!(evaluated["result"], after[0]);
    let greedy = ["evaluate", &small, "--dev", &pairs(), "--num-beams", "1"];
    metric(&json!([json_lines(&greedy)[0]["result"]]), "rougeLsum");

    let best = format!("step-{:08}", report["training"]["result_step"].as_u64().unwrap());
    let best = Path::new(&small).join("checkpoints").join(best).display().to_string();
    let evaluated = json_lines(&["evaluate", &best]).remove(0);
    assert_eq!(evaluated["result"], report["trained"][0]);

    let inspected = &json_lines(&["inspect", &small])[0];
    let layers = inspected["layers"].as_array().unwrap();
    assert_eq!(layers.len(), 16, "encoder, decoder and cross-attention");
    assert!(layers.iter().all(|layer| layer["selected"] == true), "{layers:?}");
    let shown = stdout(&["inspect", &small]);
    assert!(shown.contains("bart, writes a text for a text"), "{shown}");
    assert!(shown.contains("task: summarization"), "{shown}");
}

#[test]
fn predictions_and_speed() {
    let place = Place::new();
    let more = ["--epochs", "40", "--label-smoothing", "0.1", "--training-num-beams", "1"];
    let more = [&more[..], &["--training-eval-examples", "5", "--max-eval-examples", "9"]].concat();
    let mut events = place.run("finetune", "tuned", &more);
    let losses: Vec<f64> = events.iter().filter_map(|event| event["loss"].as_f64()).collect();
    assert!(losses.len() == 120 && losses[119] < losses[0] * 0.6, "{losses:?}");
    let seen = events.iter().filter(|event| event["event"] == "evaluation");
    let seen: Vec<&Value> = seen.map(|event| &event["metrics"]["examples"]).collect();
    assert!(seen.len() == 40 && seen.iter().all(|count| **count == json!(5)), "{seen:?}");
    let report = report(&mut events);
    assert_eq!(report["trained"][0]["metrics"]["examples"], 9);

    // Texts from arguments, files and the standard input.
    let tuned = place.path("tuned");
    let all = json_lines(&["predict", &tuned, "--file", &pairs()]);
    assert_eq!(all.len(), 12);
    let document = all[1]["document"].as_str().unwrap();
    let alone = json_lines(&["predict", &tuned, document, "a cat"]);
    assert_eq!((alone.len(), &alone[0]), (2, &all[1]));
    let lines = stdout(&["predict", &tuned, "--file", &pairs()]);
    assert_eq!(lines.lines().nth(1), all[1]["summary"].as_str());
    place.write("texts.txt", format!("{document}\na cat\n"));
    assert_eq!(json_lines(&["predict", &tuned, "--file", &place.path("texts.txt")]), alone);
    place.write("texts.csv", format!("n,body\n1,\"{document}\"\n2,a cat\n"));
    let csv = place.path("texts.csv");
    assert_eq!(json_lines(&["predict", &tuned, "--file", &csv, "--document", "body"]), alone);
    let mut child = losparse(&["predict", &tuned, "--json"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let input = format!("{}\na cat\n", json!({"id": 1, "document": document}));
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = text(&child.wait_with_output().unwrap().stdout);
    let answers: Vec<Value> =
        output.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(answers, alone);
    // A given length precedes the stored one, and must suit the model.
    let recipe = place.path("tuned/recipe.toml");
    let planned = |length: &str| {
        let output = place.path("planned");
        let args = ["finetune", "--recipe", &recipe, "-o", &output, "--dry-run"];
        losparse(&[&args[..], &["--max-length", length]].concat()).output().unwrap()
    };
    assert!(planned("60").status.success());
    let refused = planned("65");
    let message = text(&refused.stderr);
    assert!(message.contains("option --max-length: 65 tokens"), "{message}");
    let long = ["predict", &tuned, document, "--max-length", "65"];
    fails(&long, 1, &["option --max-length", "65", "64"]);
    let short = &json_lines(&["predict", &tuned, document, "--max-summary-length", "3"])[0];
    let words = short["summary"].as_str().unwrap().split_whitespace().count();
    assert!(words <= 1, "{short}");

    let model = place.path("model");
    let sizes = ["--batch", "2", "--length", "16", "--repeat", "2"];
    let passes = stdout(&[&["bench", &model, &tuned][..], &sizes].concat());
    assert!(passes.contains("examples/s"), "{passes}");
    let writing = [&["bench", &model, &tuned, "--new-tokens", "8"][..], &sizes].concat();
    let times = stdout(&writing);
    assert!(times.contains("tokens/s") && times.contains("8 written by 1 beams"), "{times}");
    let times = &json_lines(&[&writing[..], &["--num-beams", "2"]].concat())[0];
    assert_eq!((&times["new_tokens"], &times["num_beams"]), (&json!(8), &json!(2)));
}

#[test]
fn misuse_is_named() {
    let place = Place::new();
    let (model, output, file) = (place.path("model"), place.path("never"), pairs());
    let base = ["compress", &model, "-o", &output, "--task", "summarization"];
    let data = [&base[..], &["--train", &file, "--dev", &file]].concat();
    fails(&base, 1, &["option --data", "missing"]);
    let with = |more: &[&str], parts: &[&str]| fails(&[&data[..], more].concat(), 1, parts);
    with(&["--document", "body"], &["no column \"body\"", "document, summary"]);
    with(&["--label-smoothing", "1.5"], &["option --label-smoothing", "1.5"]);
    with(&["--num-beams", "0"], &["option --num-beams"]);
    with(&["--max-length", "65"], &["option --max-length", "65", "64"]);
    with(&["--max-summary-length", "80"], &["option --max-summary-length", "80"]);
    with(&["--preset", "xsum"], &["option --max-length", "1024", "64"]);
    with(&["--max-target-length", "4"], &["option --max-target-length", "4 tokens"]);
    fails(&[&data[..], &["--early-stopping", "maybe"]].concat(), 2, &["true, false or never"]);
    fails(&["evaluate", &model], 1, &["option --dev", "missing"]);
    let question = ["predict", &model, "--question", "a", "--context", "b"];
    fails(&question, 1, &["option --question", "writes summaries"]);
    fails(
        &["predict", &model, "--file", &file, "--text", "body"],
        1,
        &["option --text", "--document"],
    );
    fails(&["predict", &model, "a", "--n-best", "3"], 1, &["option --n-best", "writes summaries"]);
    fails(&["predict", &model, "--file", "Cargo.toml"], 1, &["Cargo.toml"]);
    place.write("lines.txt", "{\"body\": \"a\"}\n");
    let lines = place.path("lines.txt");
    fails(&["predict", &model, "--file", &lines], 1, &["--document names the field", "line 1"]);
    place.write("model/generation_config.json", "{\"do_sample\": true}");
    with(&[], &["generation_config.json", "do_sample is not supported"]);
    place.write("model/generation_config.json", "{}");
    let dry = losparse(&data).arg("--dry-run").output().unwrap();
    assert!(dry.status.success(), "{}", text(&dry.stderr));
    assert!(text(&dry.stdout).contains("layers: 16 ("), "{}", text(&dry.stdout));
    fs::remove_file(place.path("model/merges.txt")).unwrap();
    with(&[], &["merges.txt", "missing"]);
    assert!(!Path::new(&output).exists());
}

/// Standard output and standard error of a run that must succeed.
fn both(args: &[&str], input: &str) -> (String, String) {
    let mut child = losparse(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{args:?}: {err}");
    (out, err)
}

#[test]
fn a_model_without_settings_writes_as_transformers_would() {
    let place = Place::new();
    let model = place.path("model");
    place.write("model/generation_config.json", "{}");
    let (open, said) = both(&["predict", &model, "a cat", "a dog sleeps"], "");
    assert!(said.contains("20 new tokens") && said.contains("--max-summary-length"), "{said}");
    let search = ["--num-beams", "1", "--no-repeat-ngram-size", "0", "--length-penalty", "1"];
    let lengths = ["--min-summary-length", "0", "--max-summary-length", "21"];
    let explicit = [&["predict", &model, "a cat", "a dog sleeps"], &search[..], &lengths].concat();
    let (given, said) = both(&explicit, "");
    assert_eq!(open, given);
    assert!(!said.contains("20 new tokens"), "{said}");
    // A preset that is asked for by name decides all settings.
    let bart = [&explicit[..4], &["--preset", "bart", "--max-length", "64"]].concat();
    fails(&bart, 1, &["option --max-summary-length: 128 tokens are more than the 65"]);
}

#[test]
fn lengths_are_called_as_they_are_typed() {
    let place = Place::new();
    let model = place.path("model");
    let predict = ["predict", &model, "a cat"];
    let long = [&predict[..], &["--max-summary-length", "500"]].concat();
    let output = losparse(&long).output().unwrap();
    let message = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{message}");
    assert!(message.contains("option --max-summary-length: 500 tokens"), "{message}");
    for nobody_typed in ["max_length", "max_new_tokens", "max_target_length"] {
        assert!(!message.contains(nobody_typed), "{message}");
    }
    let least = [&predict[..], &["--min-summary-length", "30"]].concat();
    fails(&least, 1, &["option --min-summary-length: 30 tokens are more than", "24"]);
    // The model's own shortest length gives way, with a note.
    for own in [r#"{"min_length": 20, "max_length": 30}"#, r#"{"min_new_tokens": 19}"#] {
        place.write("model/generation_config.json", own);
        let (_, said) = both(&[&predict[..], &["--max-summary-length", "8"]].concat(), "");
        assert!(said.contains("20 tokens, gives way to the longest, 8"), "{said}");
        let (_, said) = both(&[&predict[..], &["--max-summary-length", "25"]].concat(), "");
        assert!(!said.contains("gives way"), "{said}");
    }
    place.write("model/generation_config.json", r#"{"num_beams": 3, "num_return_sequences": 3}"#);
    let (out, said) = both(&predict, "");
    assert!(said.contains("3 texts; the best is given"), "{said}");
    assert_eq!(out.lines().count(), 1);
}

#[test]
fn enormous_settings_are_refused() {
    let place = Place::new();
    let model = place.path("model");
    let predict = ["predict", &model, "a cat"];
    let with = |more: &[&str], parts: &[&str]| fails(&[&predict[..], more].concat(), 1, parts);
    with(&["--num-beams", "1000000000"], &["option --num-beams", "vocabulary's 330 tokens"]);
    with(&["--num-beams", "18446744073709551615"], &["option --num-beams"]);
    with(&["--max-summary-length", "18446744073709551615"], &["option --max-summary-length"]);
    with(&["--min-summary-length", "18446744073709551615"], &["option --min-summary-length"]);
    with(&["--max-length", "18446744073709551615"], &["option --max-length"]);
    with(&["--batch-size", "1000000000"], &["option --batch-size", "65536"]);
    with(&["--batch-size", "0"], &["option --batch-size"]);
    for penalty in ["nan", "inf", "1e300", "-1e300"] {
        with(&[&format!("--length-penalty={penalty}")], &["option --length-penalty"]);
    }
    let bench = ["bench", &model, "--repeat", "1"];
    let with = |more: &[&str], parts: &[&str]| fails(&[&bench[..], more].concat(), 1, parts);
    with(&["--batch", "1000000000"], &["option --batch"]);
    with(&["--batch", "65536", "--length", "65"], &["option --batch", "tokens"]);
    with(&["--length", "8", "--new-tokens", "1000000000"], &["option --new-tokens"]);
    with(&["--length", "8", "--new-tokens", "65"], &["option --new-tokens", "64"]);
    with(&["--length", "8", "--new-tokens", "2", "--num-beams", "331"], &["option --num-beams"]);
    with(&["--length", "8", "--warmup", "1000000000"], &["option --warmup"]);
    // 20 tokens with the most beams possible, and no repeated n-gram of any length.
    let most = ["--num-beams", "330", "--no-repeat-ngram-size", "18446744073709551615"];
    assert_eq!(json_lines(&[&predict[..], &most].concat()).len(), 1);
}

#[test]
fn there_are_as_many_summaries_as_lines() {
    let place = Place::new();
    let model = place.path("model");
    let (out, _) = both(&["predict", &model, "--json"], "\u{feff}a cat\r\n\n  \na dog");
    let documents: Vec<String> = out
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect(line)["document"].to_string())
        .collect();
    assert_eq!(documents, ["\"a cat\"", "\"\"", "\"  \"", "\"a dog\""]);
    let (out, _) = both(&["predict", &model], "a cat\n\n\n");
    assert_eq!(out.lines().count(), 3, "{out:?}");
}
