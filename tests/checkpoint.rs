//! Model folders: written, read back, and rejected if damaged.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use burn::module::Param;
use burn::tensor::{Device, Int, Tensor, TensorData};
use losparse::checkpoint::{
    LoadOptions, LoadReport, SaveOptions, StorageDtype, TensorSource, load_from, load_pretrained,
    read_config, save_pretrained,
};
use losparse::linear::{
    CompactLinear, Compressible, CompressibleLinear, InputCompactLinear, LayerState, LowRank,
    LowRankSparseLinear,
};
use losparse::models::bert::{BertForSequenceClassification, BertModel};
use losparse::models::{AnySequenceClassifier, EncoderInput, FolderModel, LabelConfig};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::parity::distance;

type Model = BertForSequenceClassification;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/bert").join(name)
}

fn try_load(folder: &Path) -> losparse::Result<(Model, LoadReport)> {
    load_pretrained(folder, &Device::default(), &LoadOptions::default())
}

fn load(folder: &Path) -> Model {
    try_load(folder).unwrap().0
}

fn message(folder: &Path) -> String {
    try_load(folder).map(|_| ()).unwrap_err().to_string()
}

fn logits(model: &Model) -> Vec<f32> {
    let source = TensorSource::open(fixture("base/expected.safetensors")).unwrap();
    let ids: Tensor<2, Int> = Tensor::from_data(
        TensorData::new(source.read_int("input_ids").unwrap(), [3, 7]),
        &Device::default(),
    );
    model.forward(EncoderInput::new(ids)).into_data().try_into_vec().unwrap()
}

/// A copy of the fixture `base` with its tensors changed by `change`.
fn changed(change: impl FnOnce(&mut BTreeMap<String, (Vec<usize>, Vec<f32>)>)) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::copy(fixture("base/config.json"), folder.path().join("config.json")).unwrap();
    let source = TensorSource::open(fixture("base")).unwrap();
    let mut tensors: BTreeMap<String, (Vec<usize>, Vec<f32>)> = source
        .names()
        .map(|n| (n.to_string(), (source.shape(n).unwrap().to_vec(), source.read(n).unwrap())))
        .collect();
    change(&mut tensors);
    let bytes: BTreeMap<String, (Vec<usize>, Vec<u8>)> = tensors
        .into_iter()
        .map(|(n, (shape, v))| (n, (shape, v.iter().flat_map(|x| x.to_le_bytes()).collect())))
        .collect();
    let views: Vec<(&str, TensorView)> = bytes
        .iter()
        .map(|(n, (s, b))| (n.as_str(), TensorView::new(Dtype::F32, s.clone(), b).unwrap()))
        .collect();
    let file = safetensors::serialize(views, None).unwrap();
    fs::write(folder.path().join("model.safetensors"), file).unwrap();
    folder
}

/// A copy of the fixture `base` with changed fields of its configuration.
fn configured(fields: &[(&str, Value)]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let text = fs::read_to_string(fixture("base/config.json")).unwrap();
    let mut config: Value = serde_json::from_str(&text).unwrap();
    for (field, value) in fields {
        config[field] = value.clone();
    }
    fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
    fs::copy(fixture("base/model.safetensors"), folder.path().join("model.safetensors")).unwrap();
    folder
}

fn matrix(rows: usize, columns: usize, seed: usize) -> Tensor<2> {
    let values: Vec<f32> =
        (0..rows * columns).map(|i| ((i * 37 + seed * 11) as f32 * 0.7).sin() * 0.4).collect();
    Tensor::from_data(TensorData::new(values, [rows, columns]), &Device::default())
}

/// The fixture `base` with layers in every state.
pub(super) fn mixed() -> Model {
    let mut model = load(&fixture("base"));
    let mut at = 0;
    model.for_each_linear_mut(&mut |_, linear| {
        let [input, output] = linear.dims();
        let bias = linear.bias();
        let low_rank = |rank| Some((matrix(input, rank, 3), matrix(rank, output - 4, 4)));
        let compact = |kept: &[usize], low_rank, bias| {
            CompactLinear::new(matrix(input, kept.len(), 5), low_rank, bias, kept, output)
        };
        *linear = match at {
            0 => CompressibleLinear::LowRankSparse(LowRankSparseLinear::new(
                Some(LowRank {
                    right: Param::from_tensor(matrix(input, 2, 1)),
                    left: Param::from_tensor(matrix(2, output, 2)),
                }),
                Some(Param::from_tensor(linear.effective_weight())),
                bias.map(Param::from_tensor),
            )),
            1 => CompressibleLinear::LowRankSparse(LowRankSparseLinear::new(
                None,
                Some(Param::from_tensor(linear.effective_weight())),
                bias.map(Param::from_tensor),
            )),
            2 => CompressibleLinear::LowRankSparse(LowRankSparseLinear::new(
                Some(LowRank {
                    right: Param::from_tensor(matrix(input, 2, 1)),
                    left: Param::from_tensor(matrix(2, output, 2)),
                }),
                None,
                bias.map(Param::from_tensor),
            )),
            3 => CompressibleLinear::Compact(compact(&[7, 1, 4, 9], low_rank(3), bias)),
            // Already in order, so no order is stored.
            4 => CompressibleLinear::Compact(compact(&[0, 1, 2, 3], low_rank(2), bias)),
            // No neuron kept.
            5 => {
                let low_rank = Some((matrix(input, 2, 6), matrix(2, output, 7)));
                CompressibleLinear::Compact(compact(&[], low_rank, bias))
            }
            // Rank 0.
            6 => CompressibleLinear::Compact(compact(&[2, 5], None, bias)),
            7 => CompressibleLinear::InputCompact(InputCompactLinear::new(
                matrix(3, output, 8),
                Some((matrix(input - 3, 2, 9), matrix(2, output, 10))),
                bias,
                &[8, 0, 3],
                input,
            )),
            8 => CompressibleLinear::InputCompact(InputCompactLinear::new(
                matrix(2, output, 8),
                None,
                bias,
                &[1, 6],
                input,
            )),
            _ => linear.clone(),
        };
        at += 1;
    });
    assert_eq!(at, 12);
    model
}

fn states(model: &Model) -> Vec<(String, LayerState, usize)> {
    let mut states = Vec::new();
    model.for_each_linear(&mut |name, linear| {
        states.push((name.to_string(), linear.state(), linear.weight_elements()));
    });
    states
}

#[test]
fn every_state_of_a_layer_survives_the_round_trip() {
    let (model, folder) = (mixed(), tempfile::tempdir().unwrap());
    let path = folder.path().join("model");
    save_pretrained(&model, &path, &SaveOptions::default()).unwrap();
    let (again, report) = try_load(&path).unwrap();
    assert_eq!(states(&again), states(&model));
    assert_eq!(logits(&again), logits(&model));
    assert_eq!(report.compressed_layers, 9);
    assert!(report.unused.is_empty() && report.newly_initialised.is_empty(), "{report}");

    let second = folder.path().join("second");
    save_pretrained(&again, &second, &SaveOptions::default()).unwrap();
    for file in ["model.safetensors", "config.json"] {
        assert!(fs::read(path.join(file)).unwrap() == fs::read(second.join(file)).unwrap());
    }
}

#[test]
fn a_dense_model_is_written_as_it_was_read() {
    let folder = configured(&[("unknown_field", json!({"kept": [1, 2]}))]);
    fs::write(folder.path().join("vocab.txt"), "[PAD]\r\n\u{fc}").unwrap();
    let path = folder.path().join("out");
    let options = SaveOptions {
        tokenizer_from: Some(folder.path().into()),
        losparse: Some(json!({"format": 1})),
        files: vec![("README.md".into(), b"card".to_vec())],
        ..SaveOptions::default()
    };
    save_pretrained(&load(folder.path()), &path, &options).unwrap();

    let (before, after) = (fixture("base/model.safetensors"), path.join("model.safetensors"));
    let (before, after) = (fs::read(before).unwrap(), fs::read(after).unwrap());
    let (before, after) =
        (SafeTensors::deserialize(&before).unwrap(), SafeTensors::deserialize(&after).unwrap());
    assert_eq!(before.len(), after.len());
    for (name, tensor) in before.tensors() {
        assert_eq!(tensor, after.tensor(&name).unwrap(), "{name}");
    }
    let read = |path: &Path| -> Value {
        serde_json::from_str(&fs::read_to_string(path.join("config.json")).unwrap()).unwrap()
    };
    let mut expected = read(folder.path());
    expected["losparse"] = json!({"format": 1, "format_version": 2});
    assert_eq!(read(&path), expected);
    assert_eq!(fs::read(path.join("vocab.txt")).unwrap(), "[PAD]\r\n\u{fc}".as_bytes());
    assert_eq!(fs::read(path.join("README.md")).unwrap(), b"card");
}

#[test]
fn smaller_storage_stays_close() {
    let model = mixed();
    let (folder, exact) = (tempfile::tempdir().unwrap(), logits(&model));
    let size = |path: &Path| fs::metadata(path.join("model.safetensors")).unwrap().len();
    // Half a unit in the last place of the largest weight (about 1.5), through two layers.
    let cases = [(StorageDtype::F16, 5e-3), (StorageDtype::Bf16, 5e-2), (StorageDtype::Int8, 5e-2)];
    for (dtype, tolerance) in cases {
        let path = folder.path().join(format!("{dtype:?}"));
        let options = SaveOptions { dtype, ..SaveOptions::default() };
        save_pretrained(&model, &path, &options).unwrap();
        let again = load(&path);
        let distance = distance(&logits(&again), &exact);
        assert!(distance > 0.0 && distance < tolerance, "{dtype:?}: {distance}");
        // Every value is within half a step of its row's scale.
        if dtype == StorageDtype::Int8 {
            let source = TensorSource::open(&path).unwrap();
            assert!(source.names().all(|name| !name.ends_with(".scale")));
            let name = "bert.embeddings.word_embeddings.weight";
            let scales = source.read(&format!("{name}.scale")).unwrap();
            let stored = source.read(name).unwrap();
            let original = TensorSource::open(fixture("base")).unwrap().read(name).unwrap();
            for (i, (stored, original)) in stored.iter().zip(&original).enumerate() {
                assert!((stored - original).abs() <= 0.501 * scales[i / 12]);
            }
        }
        assert!(size(&path) > 0);
    }
    let too_large = changed(|tensors| tensors.get_mut("classifier.bias").unwrap().1[0] = 7e4);
    let options = SaveOptions { dtype: StorageDtype::F16, ..SaveOptions::default() };
    let error = save_pretrained(&load(too_large.path()), folder.path().join("x"), &options);
    let error = error.unwrap_err().to_string();
    assert!(error.contains("classifier.bias") && error.contains("70000"), "{error}");
    assert!(!folder.path().join("x").exists());
}

#[test]
fn a_head_is_new_when_absent_or_of_another_size() {
    let headless = changed(|tensors| tensors.retain(|name, _| !name.starts_with("classifier")));
    let (_, report) = try_load(headless.path()).unwrap();
    assert_eq!(report.newly_initialised, ["classifier.bias", "classifier.weight"]);
    assert!(report.to_string().contains("newly initialised: classifier.bias, classifier.weight"));

    let options = LoadOptions { labels: Some(LabelConfig::numbered(5)), ..Default::default() };
    let (device, base) = (Device::default(), fixture("base"));
    let (model, report) = load_pretrained::<Model>(&base, &device, &options).unwrap();
    assert_eq!(report.newly_initialised, ["classifier.bias", "classifier.weight"]);
    assert_eq!(logits(&model).len(), 15);
    assert_eq!(model.config().labels.names()[4], "LABEL_4");
}

#[test]
fn the_base_models_prefix_may_be_there_or_not() {
    let bare = changed(|tensors| {
        let old = std::mem::take(tensors);
        let name = |name: String| name.strip_prefix("bert.").map_or(name.clone(), str::to_string);
        tensors.extend(old.into_iter().map(|(key, tensor)| (name(key), tensor)));
    });
    let (model, report) = try_load(bare.path()).unwrap();
    assert!(report.newly_initialised.is_empty() && report.unused.is_empty(), "{report}");
    assert_eq!(logits(&model), logits(&load(&fixture("base"))));
    // A headless model from a checkpoint with prefix and head.
    let base = fixture("base");
    let (_, report) = load_pretrained::<BertModel>(&base, &Device::default(), &Default::default())
        .expect("the head is left out");
    assert_eq!(report.unused, ["classifier.bias", "classifier.weight"]);
    assert!(report.newly_initialised.is_empty(), "{report}");
}

#[test]
fn damaged_tensors_are_named() {
    let name = "bert.encoder.layer.1.output.dense.weight";
    let missing = changed(|tensors| drop(tensors.remove(name)));
    let text = message(missing.path());
    assert!(text.contains(name) && text.contains("missing") && text.contains("[12, 20]"), "{text}");

    let norm = "bert.embeddings.LayerNorm.bias";
    let text = message(changed(|tensors| drop(tensors.remove(norm))).path());
    assert!(text.contains(norm) && text.contains("missing"), "{text}");

    // One error lists all problems.
    let several = changed(|tensors| {
        tensors.remove(name);
        tensors.remove(norm);
        tensors.get_mut("bert.encoder.layer.0.output.dense.bias").unwrap().0 = vec![2, 6];
        tensors.insert("first".into(), (vec![1], vec![0.0]));
        tensors.insert("second".into(), (vec![1], vec![0.0]));
    });
    let text = message(several.path());
    assert!(text.contains("5 tensors are wrong"), "{text}");
    for part in [name, norm, "found [2, 6]", "layer first: unexpected", "layer second: unexpected"]
    {
        assert!(text.contains(part), "no {part:?} in {text}");
    }

    let misshapen = changed(|tensors| tensors.get_mut(name).unwrap().0 = vec![20, 12]);
    let text = message(misshapen.path());
    assert!(text.contains(name) && text.contains("[12, 20], found [20, 12]"), "{text}");

    let extra = changed(|tensors| {
        tensors.insert("bert.encoder.layer.2.output.dense.bias".into(), (vec![1], vec![0.0]));
    });
    let text = message(extra.path());
    assert!(text.contains("bert.encoder.layer.2.output.dense.bias"), "{text}");
    assert!(text.contains("unexpected"), "{text}");
    let allowing = LoadOptions { allow_unexpected: true, ..LoadOptions::default() };
    let (_, report) =
        load_pretrained::<Model>(extra.path(), &Device::default(), &allowing).unwrap();
    assert_eq!(report.unused, ["bert.encoder.layer.2.output.dense.bias"]);

    for name in ["bert.encoder.layer.0.attention.self.key.bias", "classifier.weight", norm] {
        let text = message(changed(|t| t.get_mut(name).unwrap().1[1] = f32::NAN).path());
        assert!(text.contains(name) && text.contains("NaN"), "{text}");
    }
    let twice = changed(|tensors| {
        let norm = tensors[norm].clone();
        tensors.insert("embeddings.LayerNorm.beta".into(), norm);
    });
    let text = message(twice.path());
    assert!(text.contains("embeddings.LayerNorm.beta") && text.contains("same"), "{text}");
}

#[test]
fn an_order_that_is_no_permutation_is_refused() {
    let mut model = mixed();
    model.for_each_linear_mut(&mut |name, linear| {
        if let CompressibleLinear::Compact(layer) = linear
            && name.ends_with("0.attention.output.dense")
        {
            let order = Tensor::<1, Int>::zeros([12], &Device::default());
            layer.order = Some(Param::initialized(burn::module::ParamId::new(), order));
        }
    });
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model");
    save_pretrained(&model, &path, &SaveOptions::default()).unwrap();
    let text = message(&path);
    assert!(text.contains("0.attention.output.dense.order"), "{text}");
}

#[test]
fn damaged_files_are_named() {
    for (case, file) in [
        ("base", "model.safetensors"),
        ("bin", "pytorch_model.bin"),
        ("sharded", "model-00002-of-00002.safetensors"),
    ] {
        let bytes = fs::read(fixture(case).join(file)).unwrap();
        let half = &bytes[..bytes.len() / 2];
        for damaged in [half, b"".as_slice(), b"<html>not found</html>".as_slice()] {
            let folder = tempfile::tempdir().unwrap();
            for entry in fs::read_dir(fixture(case)).unwrap() {
                let path = entry.unwrap().path();
                fs::copy(&path, folder.path().join(path.file_name().unwrap())).unwrap();
            }
            fs::write(folder.path().join(file), damaged).unwrap();
            let text = message(folder.path());
            assert!(text.contains(file), "{text}");
        }
    }
    let empty = tempfile::tempdir().unwrap();
    assert!(message(empty.path()).contains("config.json"));
    fs::copy(fixture("base/config.json"), empty.path().join("config.json")).unwrap();
    assert!(message(empty.path()).contains("expected model.safetensors"));
    let shard = fixture("sharded/model.safetensors.index.json");
    let text = fs::read_to_string(shard).unwrap().replace("model-00002", "../model-00002");
    fs::write(empty.path().join("model.safetensors.index.json"), text).unwrap();
    assert!(message(empty.path()).contains("not a file name"));
}

#[test]
fn impossible_configurations_name_the_field() {
    let cases = [
        ("num_attention_heads", json!(5)),
        ("num_attention_heads", json!(0)),
        ("hidden_size", json!(0)),
        ("hidden_size", json!(-3)),
        ("vocab_size", json!("many")),
        ("hidden_act", json!("geglu")),
        ("hidden_dropout_prob", json!(1.0)),
        ("layer_norm_eps", json!(0.0)),
        ("pad_token_id", json!(99)),
        ("position_embedding_type", json!("relative_key")),
        ("is_decoder", json!(true)),
        ("add_cross_attention", json!(true)),
        ("num_labels", json!(0)),
        ("id2label", json!({"zero": "a"})),
        ("id2label", json!({"0": "a", "1": null})),
        ("problem_type", json!("ranking")),
        ("model_type", json!("roberta")),
    ];
    for (field, value) in cases {
        let text = message(configured(&[(field, value.clone())]).path());
        assert!(text.contains("config.json"), "{field} = {value}: {text}");
        assert!(text.contains(field), "{field} = {value}: {text}");
    }
}

#[test]
fn the_architecture_comes_from_the_configuration() {
    let device = Device::default();
    let load = |folder: &Path| AnySequenceClassifier::load(folder, &device, &Default::default());
    let (model, _) = load(&fixture("base")).unwrap();
    assert_eq!((model.vocab_size(), model.max_length(), model.labels().num_labels()), (37, 11, 2));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("again");
    model.save(&path, &SaveOptions::default()).unwrap();
    let (again, report) = load(&path).unwrap();
    assert!(report.newly_initialised.is_empty());
    assert_eq!(again.config_json().unwrap(), model.config_json().unwrap());

    let error = load(configured(&[("model_type", json!("gpt2"))]).path()).unwrap_err().to_string();
    assert!(error.contains("architecture not supported: gpt2; supported: bert"), "{error}");
    let error = load(configured(&[("model_type", Value::Null)]).path()).unwrap_err().to_string();
    assert!(error.contains("model_type"), "{error}");
}

#[test]
fn a_model_loads_from_memory() {
    let bytes = fs::read(fixture("base/model.safetensors")).unwrap();
    let source = TensorSource::from_bytes("embedded", bytes).unwrap();
    let config = read_config::<Model>(&fixture("base")).unwrap();
    let (model, _) =
        load_from::<Model>(config, &source, &Device::default(), &LoadOptions::default()).unwrap();
    assert_eq!(logits(&model), logits(&load(&fixture("base"))));
    let error = TensorSource::from_bytes("embedded", b"short".as_slice()).unwrap_err().to_string();
    assert!(error.contains("embedded"), "{error}");
}
