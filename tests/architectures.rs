//! The commands on architectures other than BERT: classifiers from a tiny random model to a
//! compressed folder in use, and BART in the layout of its published models.

use std::fs;

use burn::tensor::Device;
use losparse::models::LabelConfig;
use losparse::models::bart::{BartConfig, BartForSequenceClassification, BartModel};
use losparse::models::deberta_v2::{DebertaV2Config, DebertaV2ForSequenceClassification};
use serde_json::{Value, json};

use super::cli::{Place, fails, json_lines, refs, stdout};

/// A vocabulary with BART's token ids.
const BART_TOKENS: [&str; 5] = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"];

fn bart() -> BartConfig {
    BartConfig {
        vocab_size: 13,
        d_model: 16,
        encoder_layers: 1,
        decoder_layers: 1,
        encoder_attention_heads: 2,
        decoder_attention_heads: 2,
        encoder_ffn_dim: 32,
        decoder_ffn_dim: 32,
        max_position_embeddings: 24,
        labels: LabelConfig::named(["down", "up"]),
        ..BartConfig::default()
    }
}

/// A place with a tiny BART whose tokenizer ends texts with `end`.
fn bart_place(end: &str) -> Place {
    let model = BartForSequenceClassification::new(&bart(), &Device::default());
    let place = Place::of(&model, BART_TOKENS);
    let [start, pad, _, unknown, mask] = BART_TOKENS;
    let config = json!({"tokenizer_class": "BertTokenizer", "cls_token": start, "pad_token": pad, "sep_token": end,
        "unk_token": unknown, "mask_token": mask});
    place.write("model/tokenizer_config.json", config.to_string());
    place
}

/// compress → evaluate → predict → bench.
fn compressed_and_used(place: &Place, layers: usize) {
    let more = "--epochs 4 --ratio 0.4 --low-rank-ratio 0.2 --interval 2 --storage f32";
    let more: Vec<&str> = more.split(' ').collect();
    stdout(&refs(&place.run("compress", "small", &more)));
    let report = fs::read(place.path("small/report.json")).unwrap();
    let report: Value = serde_json::from_slice(&report).unwrap();
    let difference = report["agreement"]["largest_logit_difference"].as_f64().unwrap();
    assert!(difference < 1e-4, "{difference}");
    let timed = report["latency"]["contestants"].as_array().unwrap();
    assert_eq!(timed.len(), 2, "{timed:?}");

    let (small, dev) = (place.arg("small"), place.arg("dev.csv"));
    let inspected = &json_lines(&["inspect", &small])[0];
    assert_eq!(inspected["layers"].as_array().unwrap().len(), layers);
    let data = ["--dev", &dev, "--text", "review", "--label", "mood"];
    let result = &json_lines(&[&["evaluate", &small][..], &data].concat())[0]["result"];
    assert_eq!(*result, report["compacted"][0]);
    let model = place.arg("model");
    let pair = ["predict", &model, "the film is good", "--pair", "it is great"];
    for args in [&["predict", &small, "the film is dull"][..], &pair] {
        let answer = json_lines(args).remove(0);
        assert!(["up", "down"].contains(&answer["label"].as_str().unwrap()), "{answer}");
    }
    let sizes = ["--batch", "3", "--length", "8", "--repeat", "2"];
    let times = &json_lines(&[&["bench", &model, &small][..], &sizes].concat())[0];
    assert_eq!(times["contestants"].as_array().unwrap().len(), 2);
}

#[test]
fn bart_classifies() {
    // Six linear layers in an encoder layer, ten in a decoder layer.
    compressed_and_used(&bart_place("</s>"), 16);
}

#[test]
fn deberta_classifies() {
    let config = DebertaV2Config {
        vocab_size: 13,
        hidden_size: 16,
        num_hidden_layers: 2,
        num_attention_heads: 2,
        intermediate_size: 32,
        max_position_embeddings: 24,
        relative_attention: true,
        position_buckets: 4,
        position_biased_input: false,
        pos_att_type: vec!["p2c".into(), "c2p".into()],
        norm_rel_ebd: "layer_norm".into(),
        share_att_key: true,
        labels: LabelConfig::named(["down", "up"]),
        ..DebertaV2Config::default()
    };
    let model = DebertaV2ForSequenceClassification::new(&config, &Device::default());
    let place = Place::of(&model, ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]);
    compressed_and_used(&place, 12);
}

#[test]
fn bart_classifies_only_texts_that_end() {
    let place = bart_place("<mask>");
    let model = place.arg("model");
    let parts = ["does not end texts with token 2", "eos_token_id"];
    fails(&["predict", &model, "good"], 1, &parts);
    fails(&refs(&place.run("finetune", "never", &[])), 1, &parts);
    let path = place.path("model/config.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    config["eos_token_id"] = Value::Null;
    fs::write(&path, config.to_string()).unwrap();
    fails(&["bench", &model], 1, &["config.json", "eos_token_id: missing"]);
}

/// `facebook/bart-base` names `BartModel` as its architecture and has no head.
#[test]
fn bart_as_published_writes_texts() {
    let model = BartModel::new(&bart(), &Device::default());
    let place = Place::of(&model, BART_TOKENS);
    let config = fs::read_to_string(place.path("model/config.json")).unwrap();
    let config: Value = serde_json::from_str(&config).unwrap();
    assert_eq!(config["architectures"], json!(["BartModel"]));
    let model = place.arg("model");
    assert!(stdout(&["inspect", &model]).contains("bart, writes a text for a text"));
    let sizes = ["--batch", "2", "--length", "6", "--repeat", "1", "--num-beams", "2"];
    let times = stdout(&[&["bench", &model, "--new-tokens", "4"][..], &sizes].concat());
    assert!(times.contains("4 written by 2 beams"), "{times}");
}
