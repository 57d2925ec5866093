//! Every field of every architecture's `config.json`, set to wrong values: the model loads and
//! computes, or there is one error. It never panics or allocates memory for a huge number.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::Command;

use burn::tensor::{Device, Int, Tensor, TensorData};
use losparse::checkpoint::{
    LoadOptions, PretrainedModel, SaveOptions, StorageDtype, save_pretrained,
};
use losparse::models::bart::{
    BartConfig, BartForConditionalGeneration, BartForSequenceClassification,
};
use losparse::models::bert::{BertConfig, BertForQuestionAnswering, BertForSequenceClassification};
use losparse::models::deberta_v2::{DebertaV2Config, DebertaV2ForSequenceClassification};
use losparse::models::mpnet::{MpnetConfig, MpnetForSequenceClassification};
use losparse::models::roberta::{RobertaConfig, RobertaForSequenceClassification};
use losparse::models::{AnyModel, FolderModel, LabelConfig};
use serde_json::{Value, json};
use tempfile::TempDir;

fn bert() -> BertConfig {
    BertConfig {
        vocab_size: 13,
        hidden_size: 8,
        num_hidden_layers: 1,
        num_attention_heads: 2,
        intermediate_size: 12,
        max_position_embeddings: 9,
        labels: LabelConfig::named(["down", "up"]),
        ..BertConfig::default()
    }
}

fn bart() -> BartConfig {
    BartConfig {
        vocab_size: 13,
        d_model: 8,
        encoder_layers: 1,
        decoder_layers: 1,
        encoder_attention_heads: 2,
        decoder_attention_heads: 2,
        encoder_ffn_dim: 12,
        decoder_ffn_dim: 12,
        max_position_embeddings: 9,
        labels: LabelConfig::named(["down", "up"]),
        ..BartConfig::default()
    }
}

fn deberta() -> DebertaV2Config {
    DebertaV2Config {
        vocab_size: 13,
        hidden_size: 8,
        num_hidden_layers: 1,
        num_attention_heads: 2,
        intermediate_size: 12,
        max_position_embeddings: 9,
        type_vocab_size: 2,
        relative_attention: true,
        position_buckets: 4,
        pos_att_type: vec!["p2c".into(), "c2p".into()],
        norm_rel_ebd: "layer_norm".into(),
        conv_kernel_size: 3,
        labels: LabelConfig::named(["down", "up"]),
        ..DebertaV2Config::default()
    }
}

fn saved<M: PretrainedModel>(model: &M, dtype: StorageDtype) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let losparse = json!({"max_length": 5, "ratio": 0.5, "layers": ["a"], "task": null});
    let options = SaveOptions { dtype, losparse: Some(losparse), ..SaveOptions::default() };
    save_pretrained(model, folder.path(), &options).unwrap();
    folder
}

/// A folder for each architecture, and for each head that reads further fields.
fn folders() -> Vec<(&'static str, TempDir)> {
    let (device, dense) = (Device::default(), StorageDtype::F32);
    let roberta = RobertaConfig { bert: BertConfig { pad_token_id: Some(1), ..bert() } };
    let mpnet = MpnetConfig { bert: bert(), ..MpnetConfig::default() };
    let classifier = BertForSequenceClassification::new(&bert(), &device);
    vec![
        ("bert", saved(&classifier, dense)),
        ("bert int8", saved(&classifier, StorageDtype::Int8)),
        ("bert qa", saved(&BertForQuestionAnswering::new(&bert(), &device), dense)),
        ("roberta", saved(&RobertaForSequenceClassification::new(&roberta, &device), dense)),
        ("mpnet", saved(&MpnetForSequenceClassification::new(&mpnet, &device), dense)),
        ("deberta", saved(&DebertaV2ForSequenceClassification::new(&deberta(), &device), dense)),
        ("bart", saved(&BartForSequenceClassification::new(&bart(), &device), dense)),
        ("bart writes", saved(&BartForConditionalGeneration::new(&bart(), &device), dense)),
    ]
}

/// Fields that a saved configuration may lack.
const ABSENT: [&str; 12] = [
    "num_labels",
    "problem_type",
    "position_embedding_type",
    "classifier_dropout",
    "embedding_size",
    "attention_head_size",
    "pooler_hidden_size",
    "cls_dropout",
    "num_beams",
    "forced_bos_token_id",
    "tokenizer_class",
    "unknown",
];

/// Values to set a field to; `None` removes it.
fn values() -> Vec<Option<Value>> {
    let given = [
        json!(null),
        json!(0),
        json!(1),
        json!(2),
        json!(3),
        json!(-1),
        json!(1_000_000),
        json!(1u64 << 24),
        json!(1u64 << 40),
        json!(1_000_000_000_000_000_000u64),
        json!(1u64 << 63),
        json!(u64::MAX),
        json!(i64::MIN),
        json!(1e18),
        json!(1e300),
        json!(1e-300),
        json!(0.5),
        json!(-0.5),
        json!("NaN"),
        json!(""),
        json!("gelu"),
        json!([]),
        json!({}),
        json!({"0": "a"}),
        json!({"0": 1e300, "18446744073709551615": "b"}),
        json!(true),
        json!(false),
        json!(vec![0; 100_000]),
        json!(vec!["c2p"; 1000]),
    ];
    std::iter::once(None).chain(given.into_iter().map(Some)).collect()
}

/// Loads the model and computes with it; returns the error if it does not load.
fn used(folder: &Path) -> Result<(), String> {
    let device = Device::default();
    let loaded = AnyModel::load(folder, &device, &LoadOptions::default());
    let (model, _) = loaded.map_err(|e| e.to_string())?;
    let length = model.max_length().min(4);
    let mut ids: Vec<i32> = vec![3; length];
    if let (Some(last), Some(token)) = (ids.last_mut(), model.end_token()) {
        *last = token as i32;
    }
    assert!(!model.labels().names().is_empty());
    model.config_json().map_err(|e| e.to_string())?;
    let ids = Tensor::<2, Int>::from_data(TensorData::new(ids, [1, length]), &device);
    model.run(ids).map_err(|e| e.to_string())
}

fn set(config: &mut Value, path: &[&str], value: &Option<Value>) {
    let (field, parents) = path.split_last().unwrap();
    let parent = parents.iter().fold(config, |value, name| &mut value[*name]);
    let parent = parent.as_object_mut().unwrap();
    match value {
        Some(value) => parent.insert((*field).to_string(), value.clone()),
        None => parent.remove(*field),
    };
}

fn every_field() {
    let mut faults = Vec::new();
    let mut refused = 0;
    for (name, folder) in folders() {
        let folder = folder.path();
        let path = folder.join("config.json");
        let whole: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        used(folder).unwrap();
        let own = whole.as_object().unwrap().keys().map(String::as_str);
        let fields = own.chain(ABSENT).map(|field| vec![field]);
        let about = whole["losparse"].as_object().unwrap().keys();
        let fields = fields.chain(about.map(|field| vec!["losparse", field]));
        for field in fields {
            for value in values() {
                let mut config = whole.clone();
                set(&mut config, &field, &value);
                fs::write(&path, config.to_string()).unwrap();
                let shown = value.map_or("left out".into(), |v| v.to_string());
                let case = format!("{name}: {}: {shown:.60}", field.join("."));
                // The last line names the field for which memory did not suffice.
                println!("{case}");
                match catch_unwind(AssertUnwindSafe(|| used(folder))) {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => {
                        refused += 1;
                        let file = ["config.json", "model.safetensors", "layer "];
                        if !file.iter().any(|file| error.contains(file)) || error.len() > 4000 {
                            faults.push(format!("{case}: {error}"));
                        }
                    }
                    Err(_) => faults.push(format!("{case}: panics")),
                }
            }
        }
    }
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
    assert!(refused > 1000, "{refused}");
}

/// Runs in a process of its own, whose address space is limited to little more than tiny models
/// need.
#[cfg(unix)]
#[test]
fn every_field_of_a_configuration_may_be_anything() {
    const CHILD: &str = "LOSPARSE_TEST_CONFIGS_CHILD";
    if std::env::var_os(CHILD).is_some() {
        return every_field();
    }
    let name = "configs::every_field_of_a_configuration_may_be_anything";
    let limited = r#"ulimit -v 1572864; exec "$0" --exact "$1" --nocapture --test-threads 1"#;
    let output = Command::new("sh")
        .args(["-c", limited])
        .arg(std::env::current_exe().unwrap())
        .arg(name)
        .env(CHILD, "1")
        .env("RAYON_NUM_THREADS", "2")
        .env("MALLOC_ARENA_MAX", "2")
        .output()
        .unwrap();
    let (out, err) = (output.stdout, output.stderr);
    let (out, err) = (String::from_utf8_lossy(&out), String::from_utf8_lossy(&err));
    let last: Vec<&str> = out.lines().rev().take(3).collect();
    let faults = err.split_once(" faults:").map_or(&*err, |(_, faults)| faults);
    assert!(output.status.success(), "{last:?}\n{faults}");
    assert!(out.contains("1 passed"), "{last:?}");
}
