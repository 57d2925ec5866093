//! Question answering from a tiny model and a few questions to a compressed folder in use.

use std::fs;
use std::path::{Path, PathBuf};

use burn::tensor::Device;
use losparse::checkpoint::{PretrainedModel, SaveOptions, save_pretrained};
use losparse::models::bert::{BertConfig, BertForQuestionAnswering};
use losparse::models::deberta_v2::{DebertaV2Config, DebertaV2ForQuestionAnswering};
use losparse::models::mpnet::{MpnetConfig, MpnetForQuestionAnswering};
use losparse::models::roberta::{RobertaConfig, RobertaForQuestionAnswering};
use serde_json::Value;
use tempfile::TempDir;

use super::cli::{fails, json_lines, losparse, stdout};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

fn questions(version: &str) -> String {
    fixture("squad").join(format!("train-{version}.json")).display().to_string()
}

/// A folder with a tiny random model in `model`.
struct Place(TempDir);

impl Place {
    fn new<M: PretrainedModel>(model: &M) -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        let folder = place.0.path().join("model");
        save_pretrained(model, &folder, &SaveOptions::default()).unwrap();
        fs::copy(fixture("tokenizer/uncased/vocab.txt"), folder.join("vocab.txt")).unwrap();
        // The data is the same for every model.
        let config = r#"{"tokenizer_class": "BertTokenizer"}"#;
        fs::write(folder.join("tokenizer_config.json"), config).unwrap();
        place
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).display().to_string()
    }

    /// Runs `command` on the questions of a version, and returns the report.
    fn run(&self, command: &str, output: &str, version: &str, more: &[&str]) -> Value {
        let (model, output, file) = (self.path("model"), self.path(output), questions(version));
        let task = if version == "v2.0" { "squad_v2" } else { "squad" };
        let args = [
            &[command, &model, "-o", &output, "--task", task, "--train", &file, "--dev", &file],
            &["--max-length", "32", "--doc-stride", "8", "--batch-size", "8"][..],
            more,
        ]
        .concat();
        json_lines(&args).pop().expect("a run ends with its report")["report"].take()
    }
}

fn sizes() -> BertConfig {
    BertConfig {
        vocab_size: 90,
        hidden_size: 32,
        num_hidden_layers: 2,
        num_attention_heads: 4,
        intermediate_size: 64,
        max_position_embeddings: 48,
        hidden_dropout_prob: 0.0,
        attention_probs_dropout_prob: 0.0,
        initializer_range: 0.15,
        ..BertConfig::default()
    }
}

fn bert() -> BertForQuestionAnswering {
    let device = Device::default();
    device.seed(1);
    BertForQuestionAnswering::new(&sizes(), &device)
}

/// The value of a metric on the first split.
fn metric(splits: &Value, name: &str) -> f64 {
    splits[0]["metrics"]["values"][name].as_f64().unwrap_or_else(|| panic!("{name} in {splits}"))
}

const LEARN: [&str; 4] = ["--epochs", "60", "--lr", "3e-3"];

#[test]
fn compressed_folders_answer_as_the_run_said() {
    let place = Place::new(&bert());
    let more = [&LEARN[..], &["--ratio", "0.5", "--interval", "5", "--storage", "f32"]].concat();
    let report = place.run("compress", "small", "v1.1", &more);
    assert_eq!(report["starting"].as_array().unwrap().len(), 1, "the model has a head already");
    let (before, f1) = (metric(&report["starting"], "f1"), metric(&report["compacted"], "f1"));
    println!("F1 {before} → {f1}, exact match {}", metric(&report["compacted"], "exact_match"));
    assert!(f1 > 0.6 && f1 > before + 0.3, "{before} → {f1}");
    assert_eq!(report["compacted"][0]["metrics"]["examples"], 11);
    assert_eq!(report["agreement"]["examples"], 11);
    assert_eq!(report["agreement"]["changed_predictions"], 0, "{}", report["agreement"]);
    let difference = report["agreement"]["largest_logit_difference"].as_f64().unwrap();
    assert!(difference < 1e-3, "{difference}");
    let text = fs::read_to_string(place.path("small/report.md")).unwrap();
    assert!(text.contains("exact_match") && text.contains("f1"), "{text}");

    // The folder stores length, stride and task, so none is given.
    let small = place.path("small");
    let file = questions("v1.1");
    let evaluated = json_lines(&["evaluate", &small, "--dev", &file]).remove(0);
    assert_eq!(evaluated["result"], report["compacted"][0]);

    let answers = json_lines(&["predict", &small, "--file", &file]);
    assert_eq!(answers.len(), 11);
    let right = fs::read_to_string(&file).unwrap();
    let right: Value = serde_json::from_str(&right).unwrap();
    let first = &right["data"][0]["paragraphs"][0];
    let context = first["context"].as_str().unwrap();
    let question = first["qas"][0]["question"].as_str().unwrap();
    let one = ["predict", &small, "--question", question, "--context", context];
    let alone = json_lines(&one).remove(0);
    assert_eq!((&alone["answer"], &answers[0]["id"]), (&answers[0]["answer"], &"q1".into()));
    let range = alone["start"].as_u64().unwrap() as usize..alone["end"].as_u64().unwrap() as usize;
    let cut: String = context.chars().skip(range.start).take(range.len()).collect();
    assert_eq!(alone["answer"], cut.as_str());
    let table = stdout(&one);
    assert!(table.contains(&cut) && table.contains(question), "{table}");

    let shown = stdout(&["inspect", &small]);
    assert!(shown.contains("answers questions") && shown.contains("task: squad"), "{shown}");
    let model = place.path("model");
    let times = stdout(&["bench", &model, &small, "--length", "16", "--repeat", "2"]);
    assert!(times.contains("speed"), "{times}");
}

#[test]
fn questions_without_answers() {
    let place = Place::new(&bert());
    let report = place.run("finetune", "tuned", "v2.0", &LEARN);
    let found = &report["trained"];
    for name in ["HasAns_exact", "HasAns_f1", "NoAns_exact", "best_f1", "best_f1_thresh"] {
        metric(found, name);
    }
    assert!(
        metric(found, "f1") > 0.5 && metric(found, "best_f1") >= metric(found, "f1"),
        "{found}"
    );
    assert_eq!(found[0]["metrics"]["examples"], 13);

    // The given task precedes the one that the model was trained for.
    let as_v1 = ["evaluate", &place.path("tuned"), "--task", "squad", "--dev", &questions("v1.1")];
    let metrics = &json_lines(&as_v1).remove(0)["result"];
    assert!(!metrics.to_string().contains("NoAns_exact"), "{metrics}");

    // A threshold that every score exceeds, and one that none does.
    let (tuned, file) = (place.path("tuned"), questions("v2.0"));
    for (threshold, nothing) in [("-1e6", true), ("1e6", false)] {
        let args = ["predict", &tuned, "--file", &file, "--null-score-diff-threshold", threshold];
        for answer in json_lines(&args) {
            assert_eq!(answer["answer"] == "", nothing, "{answer}");
            assert!(answer["score_diff"].is_f64());
        }
    }
}

#[test]
fn misuse_is_named() {
    let place = Place::new(&bert());
    let model = place.path("model");
    let (v1, v2) = (questions("v1.1"), questions("v2.0"));
    let output = place.path("never");
    let base = ["compress", &model, "-o", &output, "--task", "squad", "--max-length", "32"];
    let with = |more: &[&str], parts: &[&str]| fails(&[&base[..], more].concat(), 1, parts);
    with(&[], &["option --data", "missing"]);
    with(&["--data", "no/such"], &["no/such", "no such folder"]);
    with(&["--train", &v2, "--dev", &v1], &["question q3 has no answer", "squad_v2"]);
    with(&["--train", &v1, "--dev", &v1, "--n-best", "0"], &["option --n-best"]);
    with(
        &["--train", &v1, "--dev", &v1, "--doc-stride", "30"],
        &["option --doc-stride", "--doc-stride (30)", "question q"],
    );
    with(&["--train", "Cargo.toml", "--dev", &v1], &["Cargo.toml", "SQuAD"]);
    fails(&["predict", &model, "the cat"], 1, &["option TEXT", "--question"]);
    fails(&["predict", &model], 1, &["option --question", "missing"]);
    let question = ["predict", &model, "--question", "the", "--context"];
    fails(&[&question[..], &[" "]].concat(), 1, &["option --context", "no text"]);
    fails(&[&question[..], &["a", "--num-beams", "2"]].concat(), 1, &["option --num-beams"]);
    fails(&["predict", &model, "--question", "the"], 2, &["--context"]);
    fails(&["evaluate", &model], 1, &["option --dev", "missing"]);
    let dry = losparse(&[&base[..], &["--train", &v1, "--dev", &v1, "--doc-stride", "8"]].concat())
        .arg("--dry-run")
        .output()
        .unwrap();
    assert!(dry.status.success(), "{}", String::from_utf8_lossy(&dry.stderr));
    assert!(!Path::new(&output).exists());
}

/// The same with the other architectures.
#[test]
fn roberta_mpnet_and_deberta_are_compressed_too() {
    let device = Device::default();
    device.seed(2);
    let bert = BertConfig { pad_token_id: Some(0), type_vocab_size: 1, ..sizes() };
    let roberta = RobertaForQuestionAnswering::new(&RobertaConfig { bert: bert.clone() }, &device);
    let mpnet = MpnetConfig { bert, ..MpnetConfig::default() };
    let mpnet = MpnetForQuestionAnswering::new(&mpnet, &device);
    let deberta = DebertaV2Config {
        vocab_size: 90,
        hidden_size: 32,
        num_hidden_layers: 1,
        num_attention_heads: 4,
        intermediate_size: 64,
        max_position_embeddings: 48,
        relative_attention: true,
        position_buckets: 8,
        position_biased_input: false,
        pos_att_type: vec!["p2c".into(), "c2p".into()],
        norm_rel_ebd: "layer_norm".into(),
        share_att_key: true,
        initializer_range: 0.15,
        ..DebertaV2Config::default()
    };
    let deberta = DebertaV2ForQuestionAnswering::new(&deberta, &device);
    for place in [Place::new(&roberta), Place::new(&mpnet), Place::new(&deberta)] {
        // These have one type of token.
        let config = r#"{"tokenizer_class": "DistilBertTokenizer"}"#;
        fs::write(place.path("model/tokenizer_config.json"), config).unwrap();
        let more = ["--epochs", "2", "--ratio", "0.3", "--storage", "f32"];
        let report = place.run("compress", "small", "v1.1", &more);
        assert_eq!(report["agreement"]["changed_predictions"], 0, "{}", report["agreement"]);
        let small = place.path("small");
        let evaluated = json_lines(&["evaluate", &small, "--dev", &questions("v1.1")]).remove(0);
        assert_eq!(evaluated["result"], report["compacted"][0]);
    }
}

/// A file of one context with these questions.
fn asked(place: &Place, questions: &str) -> String {
    let file = place.path("asked.json");
    let text = format!(
        r#"{{"data": [{{"paragraphs": [{{"context": "The cat sleeps in the city.",
            "qas": [{questions}]}}]}}]}}"#
    );
    fs::write(&file, text).unwrap();
    file
}

const GOOD: &str = r#"{"id": "a", "question": "Who sleeps?", "answers": [{"text": "The cat", "answer_start": 0}]}"#;

#[test]
fn files_that_are_nearly_squad_s_are_read_as_meant() {
    let place = Place::new(&bert());
    let model = place.path("model");
    let evaluate = |task: &str, questions: &str| {
        let file = asked(&place, questions);
        let args = ["evaluate", &model, "--task", task, "--dev", &file, "--max-length", "32"];
        json_lines(&[&args[..], &["--doc-stride", "8"]].concat()).remove(0)["result"].take()
    };
    let alone = evaluate("squad_v2", GOOD);
    assert_eq!(alone["metrics"]["examples"], 1);
    // Any id, and any way to write a whole number, is accepted.
    for same in [
        GOOD.replace("\"a\"", "388140"),
        GOOD.replace("\"answer_start\": 0", "\"answer_start\": 0.0"),
        GOOD.replace("\"answer_start\": 0", "\"answer_start\": \"0\""),
        GOOD.replace("}]", "}, {\"text\": \"\", \"answer_start\": 0}]"),
    ] {
        assert_eq!(evaluate("squad_v2", &same), alone, "{same}");
    }
    // Answers to impossible questions are ignored, and so are answers without text.
    let none = r#"{"id": "b", "question": "Why?", "is_impossible": true, "answers": []}"#;
    let both = evaluate("squad_v2", &format!("{GOOD}, {none}"));
    assert_eq!(both["metrics"]["examples"], 2);
    assert!(both["metrics"]["values"]["NoAns_exact"].is_f64(), "{both}");
    for same in [
        none.replace("[]", r#"[{"text": "", "answer_start": -1}]"#),
        none.replace("[]", r#"[{"text": "", "answer_start": null}]"#),
        none.replace("[]", "null"),
        none.replace("true", "false").replace("[]", r#"[{"text": "", "answer_start": 0}]"#),
    ] {
        assert_eq!(evaluate("squad_v2", &format!("{GOOD}, {same}")), both, "{same}");
    }
    // In SQuAD 1.1, questions whose answer has no text are left out.
    let empty = r#"{"id": "b", "question": "Why?", "answers": [{"text": "", "answer_start": 0}]}"#;
    let one = evaluate("squad", &format!("{empty}, {GOOD}"));
    assert_eq!(one, evaluate("squad", GOOD));
    let file = asked(&place, &format!("{empty}, {GOOD}"));
    let args = ["evaluate", &model, "--task", "squad", "--dev", &file, "--max-length", "32"];
    let output = losparse(&[&args[..], &["--doc-stride", "8"]].concat()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("1 questions, 1 skipped"), "{said}");
}

#[test]
fn a_question_that_is_too_long_is_cut() {
    let place = Place::new(&bert());
    let model = place.path("model");
    let long = GOOD.replace("Who sleeps?", &"who ".repeat(200)).replace("\"a\"", "\"b\"");
    let file = asked(&place, &format!("{GOOD}, {long}"));
    let lengths = ["--max-length", "32", "--doc-stride", "8"];
    let evaluate =
        [&["evaluate", &model, "--task", "squad", "--dev", &file], &lengths[..]].concat();
    let output = losparse(&evaluate).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    assert!(said.contains("warning: 1 questions were cut"), "{said}");
    let answers = json_lines(&[&["predict", &model, "--file", &file], &lengths[..]].concat());
    assert_eq!(answers.len(), 2);
    assert!(!answers[1]["answer"].as_str().unwrap().is_empty(), "{}", answers[1]);
    // Also in training, where the target must be a span of the context.
    let output = place.path("tuned");
    let train = ["finetune", &model, "-o", &output, "--task", "squad", "--epochs", "1"];
    let files = ["--train", &file, "--dev", &file, "--batch-size", "2"];
    stdout(&[&train[..], &files, &lengths].concat());
}

#[test]
fn what_is_not_squad_s_is_named() {
    let place = Place::new(&bert());
    let model = place.path("model");
    for (question, part) in [
        (r#"{"question": "Who?"}"#.to_string(), "question number 2: id is missing"),
        (GOOD.replace("[{", "{").replace("}]", "}"), "question a: answers: "),
        (GOOD.replace(": 0", ": 0.5"), "question a: answers[0].answer_start: 0.5"),
        (GOOD.replace("\"question\"", "\"ask\""), "question a: question is missing"),
        (
            GOOD.replace("}]}", "}], \"is_impossible\": \"no\"}"),
            "question a: is_impossible: \"no\" is not true or false",
        ),
    ] {
        let file = asked(&place, &format!("{GOOD}, {question}"));
        fails(&["predict", &model, "--file", &file], 1, &["asked.json", part]);
    }
    let twice = asked(&place, &format!("{GOOD}, {GOOD}"));
    let output = losparse(&["predict", &model, "--file", &twice, "--json"]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout).lines().count(), 2);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("1 questions repeat the id of another one, such as \"a\""), "{said}");
}
