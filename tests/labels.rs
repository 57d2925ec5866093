//! Labels of a model and of a task are matched by name wherever the two meet, or rejected.

use std::fs;
use std::path::Path;

use burn::tensor::{Device, Int, Tensor};
use losparse::checkpoint::{LoadOptions, PretrainedModel, SaveOptions, save_pretrained};
use losparse::models::bart::{BartConfig, BartForSequenceClassification};
use losparse::models::bert::{BertConfig, BertForSequenceClassification};
use losparse::models::deberta_v2::{DebertaV2Config, DebertaV2ForSequenceClassification};
use losparse::models::mpnet::{MpnetConfig, MpnetForSequenceClassification};
use losparse::models::roberta::{RobertaConfig, RobertaForSequenceClassification};
use losparse::models::{
    AnySequenceClassifier, EncoderInput, FolderModel, LabelConfig, ModelConfig,
};
use serde_json::{Value, json};

use super::cli::{Place, fails, json_lines, losparse, refs, stdout, text};

const SPECIAL: [&str; 5] = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"];

/// A tiny configuration of any encoder, with the fields that all share.
fn tiny<C: ModelConfig>(labels: &[&str]) -> C {
    let mut config: C = serde_json::from_value(json!({
        "vocab_size": 13, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
        "intermediate_size": 32, "max_position_embeddings": 24, "initializer_range": 0.5,
        "pad_token_id": 0,
    }))
    .unwrap();
    *config.labels_mut() = LabelConfig::named(labels.iter().copied());
    config
}

fn bert(labels: &[&str]) -> BertForSequenceClassification {
    BertForSequenceClassification::new(&tiny::<BertConfig>(labels), &Device::default())
}

fn logits(folder: &Path, options: &LoadOptions) -> Result<(Vec<f32>, Vec<String>), String> {
    let device = Device::default();
    let loaded = AnySequenceClassifier::load(folder, &device, options);
    let (model, _) = loaded.map_err(|e| e.to_string())?;
    let ids: Tensor<2, Int> = Tensor::from_ints([[2, 6, 7, 3]], &device);
    // The token at which BART classifies.
    let ids = match &model {
        AnySequenceClassifier::Bart(_) => Tensor::from_ints([[0, 6, 7, 2]], &device),
        _ => ids,
    };
    let logits = model.forward(EncoderInput::new(ids)).into_data().try_into_vec().unwrap();
    Ok((logits, model.labels().names()))
}

fn wanted(labels: &[&str]) -> LoadOptions {
    let labels = Some(LabelConfig::named(labels.iter().copied()));
    LoadOptions { labels, ..LoadOptions::default() }
}

/// Loads `model`, with labels x, y, z, for other orders and other labels.
fn head_follows_names<M: PretrainedModel>(model: &M) {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().join("model");
    save_pretrained(model, &folder, &SaveOptions::default()).unwrap();
    let (own, names) = logits(&folder, &LoadOptions::default()).unwrap();
    assert_eq!(names, ["x", "y", "z"]);
    assert!(own[0] != own[1] && own[1] != own[2], "{own:?}");
    let (logits_of, names) = logits(&folder, &wanted(&["Z", "x", "Y"])).unwrap();
    assert_eq!(logits_of, [own[2], own[0], own[1]]);
    assert_eq!(names, ["Z", "x", "Y"]);

    let foreign = ["sports", "politics", "science"];
    let message = logits(&folder, &wanted(&foreign)).unwrap_err();
    for part in ["x, y, z", "sports, politics, science", "--new-head", "--labels"] {
        assert!(message.contains(part), "no {part} in {message}");
    }
    let called = Some(foreign.map(String::from).to_vec());
    let said = LoadOptions { called, ..wanted(&foreign) };
    assert_eq!(logits(&folder, &said).unwrap().0, own);
    let new = LoadOptions { new_head: true, ..wanted(&foreign) };
    assert_ne!(logits(&folder, &new).unwrap().0, own);

    // For another number of labels the head is new, unless the trained one is asked for or all of
    // its names occur.
    assert_eq!(logits(&folder, &wanted(&["a", "b"])).unwrap().0.len(), 2);
    let loaded = AnySequenceClassifier::load(&folder, &Device::default(), &wanted(&["a", "b"]));
    let told = loaded.unwrap().1.to_string();
    assert!(told.contains("the trained head for x, y, z is left behind"), "{told}");
    let kept = LoadOptions { keep_head: true, ..wanted(&["a", "b"]) };
    assert!(logits(&folder, &kept).unwrap_err().contains("x, y, z"));
    assert!(logits(&folder, &wanted(&["x", "y"])).unwrap_err().contains("--new-head"));
}

#[test]
fn every_kind_of_head_is_permuted_by_name() {
    let (labels, device) = (["x", "y", "z"], Device::default());
    head_follows_names(&bert(&labels));
    let config = tiny::<RobertaConfig>(&labels);
    head_follows_names(&RobertaForSequenceClassification::new(&config, &device));
    let config = tiny::<MpnetConfig>(&labels);
    head_follows_names(&MpnetForSequenceClassification::new(&config, &device));
    let config = tiny::<DebertaV2Config>(&labels);
    head_follows_names(&DebertaV2ForSequenceClassification::new(&config, &device));
    let config = BartConfig {
        vocab_size: 13,
        d_model: 16,
        encoder_layers: 1,
        decoder_layers: 1,
        encoder_attention_heads: 2,
        decoder_attention_heads: 2,
        encoder_ffn_dim: 32,
        decoder_ffn_dim: 32,
        max_position_embeddings: 24,
        init_std: 0.5,
        labels: LabelConfig::named(labels),
        ..BartConfig::default()
    };
    head_follows_names(&BartForSequenceClassification::new(&config, &device));
}

/// Changes the `config.json` of a model folder.
fn change(folder: &Path, change: impl FnOnce(&mut Value)) {
    let path = folder.join("config.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    change(&mut config);
    fs::write(path, config.to_string()).unwrap();
}

fn rename(folder: &Path, labels: &[&str]) {
    let table: Value =
        labels.iter().enumerate().map(|(id, name)| (id.to_string(), json!(name))).collect();
    change(folder, |config| {
        config["id2label"] = table;
        config["label2id"] = Value::Null;
    });
}

/// A place with a model of three labels in another order than MNLI's, and MNLI files on which it is
/// always right.
fn mnli() -> Place {
    let place = Place::of(&bert(&["CONTRADICTION", "NEUTRAL", "ENTAILMENT"]), SPECIAL);
    let pairs = [("the film is good", "bad"), ("dull", "the very great film"), ("is", "is good")];
    let mut rows = "sentence1\tsentence2\tgold_label\n".to_string();
    for (first, second) in pairs {
        let args = ["predict", &place.arg("model"), first, "--pair", second, "--max-length", "24"];
        let label = json_lines(&args)[0]["label"].as_str().unwrap().to_lowercase();
        rows += &format!("{first}\t{second}\t{label}\n");
    }
    fs::create_dir(place.path("MNLI")).unwrap();
    for file in ["dev_matched", "dev_mismatched", "train"] {
        place.write(&format!("MNLI/{file}.tsv"), &rows);
    }
    place
}

fn accuracies(args: &[&str]) -> Vec<f64> {
    let lines = json_lines(args);
    let value = |line: &Value| line["result"]["metrics"]["values"]["accuracy"].as_f64().unwrap();
    lines.iter().map(value).collect()
}

#[test]
fn glue_is_evaluated_by_name_or_not_at_all() {
    let place = mnli();
    let (model, data) = (place.arg("model"), place.arg("MNLI"));
    let evaluate = ["evaluate", &model, "--task", "mnli", "--data", &data];
    assert_eq!(accuracies(&evaluate), [1.0, 1.0]);
    let told = losparse(&evaluate).output().unwrap();
    assert!(text(&told.stderr).contains("labels matched by name"), "{}", text(&told.stderr));

    let foreign = place.copy("foreign");
    rename(&foreign, &["sports", "politics", "science"]);
    let foreign = place.arg("foreign");
    let evaluate = ["evaluate", &foreign, "--task", "mnli", "--data", &data];
    let parts = ["sports, politics, science", "entailment, neutral, contradiction", "--new-head"];
    fails(&evaluate, 1, &parts);
    let dry = [
        "finetune",
        &foreign,
        "--task",
        "mnli",
        "--data",
        &data,
        "--max-length",
        "24",
        "--dry-run",
    ];
    fails(&dry, 1, &parts);
    stdout(&[&dry[..], &["--new-head"]].concat());
    // The names of the outputs can be given.
    let called = "contradiction,neutral,entailment";
    assert_eq!(accuracies(&[&evaluate[..], &["--labels", called]].concat()), [1.0, 1.0]);
    let called = "neutral,contradiction,entailment";
    let evaluate = ["evaluate", &model, "--task", "mnli", "--data", &data, "--labels", called];
    fails(&evaluate, 1, &["another order than the model itself"]);

    let nameless = place.copy("nameless");
    rename(&nameless, &["LABEL_0", "LABEL_1", "LABEL_2"]);
    let nameless = place.arg("nameless");
    let evaluate = ["evaluate", &nameless, "--task", "mnli", "--data", &data];
    let told = losparse(&evaluate).output().unwrap();
    assert!(text(&told.stderr).contains("by index alone"), "{}", text(&told.stderr));
    let called = "contradiction,neutral,entailment";
    assert_eq!(accuracies(&[&evaluate[..], &["--labels", called]].concat()), [1.0, 1.0]);

    let two = Place::new();
    let evaluate = ["evaluate", &two.arg("model"), "--task", "mnli", "--data", &data];
    fails(&evaluate, 1, &["down, up", "entailment, neutral, contradiction"]);
}

/// The place's evaluation data with the labels that `model` predicts.
fn as_answered(place: &Place, model: &str) -> String {
    let dev = place.arg("dev.csv");
    let answers = json_lines(&["predict", model, "--file", &dev, "--text", "review"]);
    let row = |answer: &Value| {
        format!("{},{}\n", answer["text"].as_str().unwrap(), answer["label"].as_str().unwrap())
    };
    let rows: String = answers.iter().map(row).collect();
    format!("review,mood\n{rows}")
}

#[test]
fn training_goes_on_with_the_meaning_of_a_trained_head() {
    let place = Place::new();
    // The sorted labels of the data are down, up.
    rename(&place.path("model"), &["UP", "DOWN"]);
    let answered = as_answered(&place, &place.arg("model")).to_lowercase();
    place.write("dev.csv", &answered);
    let dev = place.arg("dev.csv");
    let columns = ["--dev", &dev, "--text", "review", "--label", "mood"];
    for (command, output, more) in [
        ("finetune", "tuned", &["--epochs", "1"][..]),
        ("compress", "small", &["--ratio", "0.9", "--interval", "2", "--epochs", "1"]),
        ("finetune", "ordered", &["--epochs", "1", "--labels", "up,down"]),
    ] {
        let mut args = place.run(command, output, more);
        let rate = args.iter_mut().find(|word| *word == "5e-3").unwrap();
        *rate = "1e-9".to_string();
        stdout(&refs(&args));
        let report = fs::read(place.path(output).join("report.json")).unwrap();
        let report: Value = serde_json::from_slice(&report).unwrap();
        let before = &report["starting"][0]["metrics"]["values"]["accuracy"];
        assert_eq!(before, &json!(1.0), "{command}");
        if command == "compress" {
            continue;
        }
        let tuned = place.arg(output);
        assert_eq!(as_answered(&place, &tuned), answered, "{command}");
        assert_eq!(accuracies(&[&["evaluate", &tuned][..], &columns].concat()), [1.0]);
    }
    let config: Value =
        serde_json::from_slice(&fs::read(place.path("ordered/model/config.json")).unwrap())
            .unwrap();
    assert_eq!(config["id2label"], json!({"0": "up", "1": "down"}));

    // The names of the model precede the order that is given.
    let model = place.arg("model");
    let evaluate = [&["evaluate", &model][..], &columns].concat();
    assert_eq!(accuracies(&evaluate), [1.0]);
    assert_eq!(accuracies(&[&evaluate[..], &["--labels", "down,up"]].concat()), [1.0]);
    let foreign = |rows: &str| rows.replace(",up", ",good").replace(",down", ",bad");
    let train = fs::read_to_string(place.path("train.csv")).unwrap();
    place.write("train.csv", foreign(&train));
    place.write("dev.csv", foreign(&answered));
    fails(&refs(&place.run("finetune", "never", &["--dry-run"])), 1, &["UP, DOWN", "bad, good"]);
    fails(&evaluate, 1, &["UP, DOWN", "--labels"]);
    assert_eq!(accuracies(&[&evaluate[..], &["--labels", "good,bad"]].concat()), [1.0]);
    fails(&refs(&place.run("compress", "never", &["--dry-run"])), 1, &["--new-head"]);
    stdout(&refs(&place.run("compress", "never", &["--dry-run", "--labels", "good,bad"])));
    stdout(&refs(&place.run("compress", "never", &["--dry-run", "--new-head"])));

    // One more label does not silently replace the head.
    place.write("train.csv", train + "dull,nan\n");
    place.write("dev.csv", &answered);
    fails(&refs(&place.run("finetune", "never", &["--dry-run"])), 1, &["nan", "--new-head"]);
}

#[test]
fn other_data_for_a_checkpoint_have_its_runs_labels() {
    let place = Place::new();
    stdout(&refs(&place.run("finetune", "tuned", &["--epochs", "1"])));
    let checkpoint = fs::read_dir(place.path("tuned/checkpoints")).unwrap().next().unwrap();
    let checkpoint = checkpoint.unwrap().path().display().to_string();
    assert_eq!(accuracies(&["evaluate", &checkpoint]).len(), 1);
    let train = fs::read_to_string(place.path("train.csv")).unwrap();
    place.write("other.csv", train.replace(",up", ",a").replace(",down", ",b"));
    let other = place.arg("other.csv");
    let recipe = format!(
        "[task]\ntrain = {other:?}\ndev = {other:?}\ntext = \"review\"\nlabel = \"mood\"\n"
    );
    place.write("other.toml", recipe);
    let recipe = place.arg("other.toml");
    fails(&["evaluate", &checkpoint, "--recipe", &recipe], 1, &["down, up", "a, b"]);
}

#[test]
fn a_task_and_a_head_of_other_labels_are_refused() {
    let place = Place::new();
    stdout(&refs(&place.run("finetune", "tuned", &["--epochs", "1"])));
    let small = place.path("tuned/model");
    change(&small, |config| {
        config["losparse"]["task"]["kind"]["labels"] = json!(["up", "down"]);
    });
    let (small, dev) = (small.display().to_string(), place.arg("dev.csv"));
    let parts = ["config.json", "losparse.task", "up, down", "down, up"];
    fails(&["predict", &small, "good"], 1, &parts);
    fails(&["evaluate", &small, "--dev", &dev, "--text", "review", "--label", "mood"], 1, &parts);
    let data = ["--train", &place.arg("train.csv"), "--dev", &dev, "--dry-run"];
    let columns = ["--text", "review", "--label", "mood"];
    fails(&[&["finetune", &small][..], &data, &columns].concat(), 1, &parts);
}

#[test]
fn label_tables_of_all_kinds_are_read() {
    let place = Place::new();
    for (name, id2label, label2id, labels) in [
        ("numbers", json!({"0": 0, "1": 1}), json!({"0": 0, "1": 1}), ["0", "1"]),
        (
            "strings",
            json!({"0": "neg", "1": "pos"}),
            json!({"neg": "0", "pos": "1"}),
            ["neg", "pos"],
        ),
        ("gap", json!({"0": "neg", "2": "pos"}), json!({"neg": 0, "pos": 2}), ["neg", "pos"]),
        ("none", Value::Null, Value::Null, ["LABEL_0", "LABEL_1"]),
    ] {
        change(&place.copy(name), |config| {
            config["id2label"] = id2label;
            config["label2id"] = label2id;
        });
        let answer = json_lines(&["predict", &place.arg(name), "good"]).remove(0);
        let names: Vec<&String> = answer["probabilities"].as_object().unwrap().keys().collect();
        assert_eq!(names, labels, "{name}");
    }
    change(&place.copy("disagree"), |config| {
        config["id2label"] = json!({"0": "neg", "1": "pos"});
        config["label2id"] = json!({"neg": 1, "pos": 0});
    });
    fails(
        &["predict", &place.arg("disagree"), "good"],
        1,
        &["config.json", "id2label", "label2id"],
    );
    rename(&place.copy("twice"), &["same", "same"]);
    fails(&["predict", &place.arg("twice"), "good"], 1, &["id2label", "\"same\""]);
}

#[test]
fn answers_that_say_nothing_are_refused() {
    let one = Place::of(&bert(&["only"]), SPECIAL);
    change(&one.path("model"), |config| {
        config["problem_type"] = json!("single_label_classification");
    });
    let model = one.arg("model");
    fails(&["predict", &model, "good"], 1, &["config.json", "problem_type", "always 1"]);

    let place = Place::new();
    let dev = place.arg("dev.csv");
    let kind = |name: &str, kind: &str| {
        change(&place.copy(name), |config| config["problem_type"] = json!(kind));
        place.arg(name)
    };
    let several = kind("several", "multi_label_classification");
    stdout(&["predict", &several, "good"]);
    let data = ["--dev", &dev, "--text", "review", "--label", "mood"];
    fails(&[&["evaluate", &several][..], &data].concat(), 1, &["multi_label"]);
    let scores = kind("scores", "regression");
    fails(&["predict", &scores, "good"], 1, &["regression", "2 outputs"]);
    let more = ["--train", &place.arg("train.csv"), "--dry-run"];
    fails(&[&["finetune", &several][..], &data, &more].concat(), 1, &["multi_label", "--new-head"]);
}

#[test]
fn the_labels_of_a_file_and_of_a_model_are_told_where_they_differ() {
    let place = Place::new();
    change(&place.path("model"), |config| {
        config["id2label"] = Value::Null;
        config["label2id"] = Value::Null;
    });
    place.write("01.csv", "review,mood\ngood,1\nbad,0\ndull,0\n");
    let (model, dev) = (place.arg("model"), place.arg("01.csv"));
    let evaluate = ["evaluate", &model, "--dev", &dev, "--text", "review", "--label", "mood"];
    fails(&evaluate, 1, &["LABEL_0, LABEL_1", "0 (2), 1 (1)", "--labels 0,1"]);
    assert_eq!(accuracies(&[&evaluate[..], &["--labels", "0, 1"]].concat()).len(), 1);
    place.write("01.csv", "review,mood\ngood,nan\nbad,0\ndull,0\n");
    fails(&evaluate, 1, &["LABEL_0, LABEL_1", "0 (2), nan (1)"]);
    for labels in ["0", "0,0", "0,1,2", "0,,1", ","] {
        fails(&[&evaluate[..], &["--labels", labels]].concat(), 1, &["labels"]);
    }
}
