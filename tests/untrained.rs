//! Compression without training, as the command does it.

use std::fs;
use std::path::Path;

use burn::tensor::{Device, Int, Tensor};
use losparse::checkpoint::{LoadOptions, SaveOptions, save_pretrained};
use losparse::decompose::{SequentialConfig, decompose_in_order};
use losparse::inspect::bytes_on_disk;
use losparse::linear::{Compressible, LayerSelection};
use losparse::models::bert::{BertConfig, BertForQuestionAnswering, BertForSequenceClassification};
use losparse::models::{AnyModel, EncoderInput, FolderModel};
use serde_json::{Value, json};

use super::cli::{fails, json_lines, stdout};
use super::place::Place;

const SPELLER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/models/g2p-bart");

/// Arguments of a compression of `model` on the texts of `train.csv`.
fn args(place: &Place, model: &str, output: &str, more: &[&str]) -> Vec<String> {
    let given = [place.arg(model), "-o".into(), place.arg(output), "--unlabelled".into()];
    let mut all = vec!["compress".to_string()];
    all.extend(given);
    all.extend([place.arg("train.csv"), "--text".into(), "review".into()]);
    all.push("--no-training".into());
    all.extend(more.iter().map(|word| word.to_string()));
    all
}

fn report(args: &[String]) -> Value {
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    json_lines(&args).pop().unwrap()["report"].take()
}

fn refused(args: &[String], code: i32, parts: &[&str]) {
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    fails(&args, code, parts);
}

/// Scores of the texts of `dev.csv`, as the command prints them.
fn answers(place: &Place, model: &str) -> Vec<Value> {
    let (model, file) = (place.arg(model), place.arg("dev.csv"));
    json_lines(&["predict", &model, "--file", &file, "--text", "review"])
}

fn errors(report: &Value) -> Vec<f64> {
    let layers = report["layers"].as_array().unwrap().iter();
    layers.map(|layer| layer["error"].as_f64().unwrap()).collect()
}

#[test]
fn a_whole_model_answers_the_same_and_errors_grow_as_the_ratio_falls() {
    let place = Place::new();
    let whole = report(&args(&place, "model", "whole", &["--ratio", "1"]));
    assert_eq!(answers(&place, "whole"), answers(&place, "model"));
    assert!(errors(&whole).iter().all(|error| *error == 0.0));
    let mut before = 0.0;
    for ratio in ["0.8", "0.5", "0.3"] {
        let small = report(&args(&place, "model", ratio, &["--ratio", ratio]));
        let errors = errors(&small);
        assert_eq!(errors.len(), 12);
        let mean = errors.iter().sum::<f64>() / 12.0;
        assert!(mean > before && mean < 1.0, "{mean} at {ratio}");
        before = mean;
        let linear = small["account"]["layers"].as_array().unwrap().iter();
        let sum = |name: &str| {
            linear.clone().map(|layer| layer[name].as_u64().unwrap()).sum::<u64>() as f64
        };
        assert!(sum("stored_elements") <= ratio.parse::<f64>().unwrap() * sum("dense_elements"));
        assert_eq!(small["bytes"].as_u64(), bytes_on_disk(place.path(ratio).join("model")).ok());
        let latency = small["latency"]["contestants"].as_array().unwrap();
        assert!(latency.len() == 2 && small["metrics"] == json!([]));
    }
    let text = fs::read_to_string(place.path("0.3/report.md")).unwrap();
    assert!(
        text.contains("relative output error") && text.contains("layer.1.output.dense"),
        "{text}"
    );
}

#[test]
fn the_result_is_evaluated_if_there_is_data_and_is_a_model_like_others() {
    let place = Place::new();
    let dev = place.arg("dev.csv");
    let more = ["--ratio", "0.5", "--dev", &dev, "--label", "mood", "--storage", "f16"];
    let report = report(&args(&place, "model", "small", &more));
    let small = place.arg("small");
    let evaluated =
        json_lines(&["evaluate", &small, "--dev", &dev, "--text", "review", "--label", "mood"]);
    assert_eq!(report["metrics"][0], evaluated[0]["result"]);
    assert_eq!(report["metrics"][0]["metrics"]["examples"], 24);
    assert!(stdout(&["inspect", &small]).contains("rank"));
    // A second time it replaces the result only if asked to.
    let again = |more: &[&str]| args(&place, "model", "small", more);
    refused(&again(&[]), 1, &["small: holds a result; replace it with --overwrite"]);
    report_of_overwrite(&again(&["--overwrite"]));
    refused(&args(&place, "small", "twice", &[]), 1, &["is compact already, not dense"]);
}

fn report_of_overwrite(args: &[String]) {
    assert_eq!(report(args)["ratio"], 0.2);
}

#[test]
fn texts_come_from_lines_tables_and_questions() {
    let place = Place::new();
    let table = fs::read_to_string(place.path("train.csv")).unwrap();
    let lines: Vec<&str> = table
        .lines()
        .skip(1)
        .filter_map(|line| line.split_once(','))
        .map(|(text, _)| text)
        .collect();
    place.write("lines.txt", lines.join("\n\n"));
    let json = lines.iter().map(|text| format!("{}\n", json!({ "review": text })));
    place.write("lines.jsonl", json.collect::<String>());
    let expected = errors(&report(&args(&place, "model", "csv", &[])));
    for file in ["lines.txt", "lines.jsonl"] {
        let (model, output, texts) =
            (place.arg("model"), place.arg(&format!("of-{file}")), place.arg(file));
        let mut all =
            ["compress", &model, "-o", &output, "--no-training", "--unlabelled", &texts].to_vec();
        if file.ends_with("jsonl") {
            all.extend(["--text", "review"]);
        }
        let all: Vec<String> = all.into_iter().map(String::from).collect();
        assert_eq!(errors(&report(&all)), expected, "{file}");
    }
}

#[test]
fn an_encoder_without_a_head_stays_one() {
    let place = Place::new();
    let bare = place.copy("bare");
    let (model, _) = AnyModel::load(&bare, &Device::default(), &LoadOptions::default()).unwrap();
    let AnyModel::SequenceClassifier(losparse::models::AnySequenceClassifier::Bert(model)) = model
    else {
        panic!("another model")
    };
    let head = ["classifier.weight", "classifier.bias"].map(String::from).to_vec();
    let options = SaveOptions {
        without: head.clone(),
        tokenizer_from: Some(bare.clone()),
        ..SaveOptions::default()
    };
    save_pretrained::<BertForSequenceClassification>(&model, &bare, &options).unwrap();
    let loaded = |folder: &Path| {
        AnyModel::load(folder, &Device::default(), &LoadOptions::default()).unwrap()
    };
    assert_eq!(loaded(&bare).1.newly_initialised, sorted(&head));
    report(&args(&place, "bare", "small", &["--ratio", "0.5"]));
    let (small, found) = loaded(&place.path("small/model"));
    assert_eq!(found.newly_initialised, sorted(&head));
    let mut ranks = Vec::new();
    small.for_each_linear(&mut |_, linear| ranks.push(linear.state().rank()));
    assert!(ranks.len() == 12 && ranks.iter().all(|rank| *rank > 0), "{ranks:?}");
    // It cannot be evaluated, which is said before any work.
    let dev = place.arg("dev.csv");
    let more = ["--dev", &dev, "--label", "mood"];
    refused(&args(&place, "bare", "other", &more), 1, &["bare: the model has no trained head"]);
    assert!(!place.path("other").exists());
}

/// Packed weights that it has kept give no input to see.
#[test]
fn a_model_that_has_run_before_is_fitted_all_the_same() {
    let place = Place::shared();
    let device = Device::default();
    let (model, _) = AnyModel::load(place.path("model"), &device, &LoadOptions::default()).unwrap();
    let examples = Tensor::<2, Int>::from_ints([[2, 5, 6, 7, 9, 3], [2, 8, 6, 11, 12, 3]], &device);
    let forward = |model: &AnyModel| model.answers(EncoderInput::new(examples.clone())).map(drop);
    let fitted = |model: AnyModel| {
        let config = SequentialConfig::new(0.5);
        decompose_in_order(model, &LayerSelection::all(), config, forward).unwrap().1
    };
    let fresh = fitted(model.clone());
    forward(&model).unwrap();
    assert!(fresh.iter().all(|layer| layer.measured), "{fresh:?}");
    assert_eq!(fitted(model), fresh);
}

fn sorted(names: &[String]) -> Vec<String> {
    let mut names = names.to_vec();
    names.sort();
    names
}

#[test]
fn questions_and_words_have_no_labels_either() {
    let place = Place::new();
    let config = BertConfig {
        vocab_size: 13,
        hidden_size: 16,
        num_hidden_layers: 1,
        num_attention_heads: 2,
        intermediate_size: 32,
        max_position_embeddings: 24,
        ..BertConfig::default()
    };
    let model = BertForQuestionAnswering::new(&config, &Device::default());
    let options =
        SaveOptions { tokenizer_from: Some(place.path("model")), ..SaveOptions::default() };
    save_pretrained(&model, place.path("asked"), &options).unwrap();
    let squad = json!({"data": [{"paragraphs": [{"context": "the film is very good", "qas": [
        {"id": "1", "question": "is the film dull", "answers": [{"text": "good", "answer_start": 17}]}
    ]}]}]});
    place.write("asked.json", squad.to_string());
    let folder = place.arg("words");
    let (asked, texts) = (place.arg("asked"), place.arg("asked.json"));
    let all = ["compress", &asked, "-o", &folder, "--no-training", "--unlabelled", &texts];
    let all: Vec<String> = all.into_iter().map(String::from).collect();
    assert!(errors(&report(&all)).len() == 6 && place.path("words/model").is_dir());

    // The decoder is fitted too, to what the model itself writes.
    let words: String = fs::read_to_string(Path::new(SPELLER).join("data/train.tsv"))
        .unwrap()
        .lines()
        .take(65)
        .map(|line| format!("{line}\n"))
        .collect();
    place.write("words.tsv", words);
    let (small, texts) = (place.arg("speller"), place.arg("words.tsv"));
    let all = [
        &["compress", SPELLER, "-o", &small, "--no-training", "--unlabelled", &texts][..],
        &["--ratio", "0.9", "--document", "word"],
    ];
    let all: Vec<String> = all.concat().into_iter().map(String::from).collect();
    let report = report(&all);
    let layers = report["layers"].as_array().unwrap();
    assert!(layers.iter().all(|layer| layer["measured"] == true), "{layers:?}");
    assert!(layers.iter().any(|layer| layer["name"].as_str().unwrap().contains("encoder_attn")));
    let answer = json_lines(&["predict", &small, "cat"]).remove(0);
    assert_eq!(answer["summary"], "K AE1 T");
}

#[test]
fn what_it_does_not_take_is_refused() {
    let place = Place::shared();
    let train = place.arg("train.csv");
    // A refused command leaves nothing behind.
    let refused = |more: &[&str], code, parts: &[&str]| {
        refused(&args(place, "model", "refused", more), code, parts);
        assert!(!place.path("refused").exists());
    };
    for more in [
        &["--epochs", "3"][..],
        &["--learning-rate", "1e-3"],
        &["--teacher", "none"],
        &["--resume"],
        &["--dry-run"],
        &["--recipe", "recipe.toml"],
        &["--train", &train],
        &["--method", "itp"],
        &["--rank", "3"],
        &["--approximate", "weights"],
        &["--importance", "magnitude"],
        &["--seed", "3"],
    ] {
        refused(more, 2, &["--no-training", more[0], "cannot be used with"]);
    }
    refused(&["--storage", "int8"], 1, &["option --storage", "losparse quantize"]);
    refused(&["--label", "mood"], 1, &["option --label: is for the evaluation"]);
    refused(&["--ratio", "0"], 1, &["option --ratio: 0 is not a share", "more than 0"]);
    refused(&["--task", "sst2"], 1, &["its trained head is for the labels down, up"]);
    refused(&["--doc-stride", "4"], 1, &["option --doc-stride"]);
    refused(&["--low-rank-ratio", "0.5"], 1, &["low-rank-ratio"]);
    refused(&["--layers", "decoder.*"], 1, &["matches no layer"]);
    refused(&["--max-length", "512"], 1, &["512 tokens are more than the model's 24"]);
    refused(&["--ratio", "0"], 1, &["option --ratio"]);
    let model = place.arg("model");
    let output = place.arg("refused");
    for (more, parts) in [
        (&["--no-training"][..], &["--unlabelled <FILE>"][..]),
        (&["--unlabelled", &train], &["--no-training"]),
    ] {
        fails(&[&["compress", &model, "-o", &output], more].concat(), 2, parts);
    }
    let no_column = ["compress", &model, "-o", &output, "--no-training", "--unlabelled", &train];
    fails(&no_column, 1, &["option --text: missing"]);
}

#[test]
fn texts_without_labels_are_for_a_compression_without_training() {
    let place = Place::shared();
    let args = place.run("compress", "labelled", &["--unlabelled", "nowhere.txt"]);
    refused(&args, 1, &["option --unlabelled: is for a compression without training"]);
    assert!(!place.path("labelled").exists());
}

#[test]
fn a_stopped_result_is_replaced_and_its_length_is_remembered() {
    let place = Place::new();
    let dev = place.arg("dev.csv");
    let more = ["--ratio", "0.5", "--dev", &dev, "--label", "mood", "--max-length", "5"];
    let report = report(&args(&place, "model", "small", &more));
    let small = place.arg("small");
    let data = ["--dev", &dev, "--text", "review", "--label", "mood"];
    let evaluated = json_lines(&[&["evaluate", &small][..], &data].concat());
    assert_eq!(report["metrics"][0], evaluated[0]["result"]);
    // As if it had been killed while the result was evaluated.
    fs::remove_file(place.path("small/report.json")).unwrap();
    fs::remove_file(place.path("small/report.md")).unwrap();
    refused(
        &args(&place, "model", "small", &[]),
        1,
        &["holds a result; replace it with --overwrite"],
    );
    report_of_overwrite(&args(&place, "model", "small", &["--overwrite"]));
    // A file of somebody else's is not.
    fs::write(place.path("small/notes.txt"), "mine").unwrap();
    fs::remove_file(place.path("small/report.json")).unwrap();
    let again = args(&place, "model", "small", &["--overwrite"]);
    refused(&again, 1, &["is not empty and holds no result without training"]);
}
