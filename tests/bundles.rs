//! Compressed folders: as other programs read them, and damaged.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use burn::tensor::{Device, Int, Tensor};
use losparse::checkpoint::{
    LoadOptions, SaveOptions, StorageDtype, load_pretrained, save_pretrained,
};
use losparse::compact::compact;
use losparse::decompose::{DecomposeConfig, Rank, decompose};
use losparse::linear::{
    Compressible, CompressibleLinear, LayerSelection, WordEmbedding, round_weights,
};
use losparse::models::bert::{BertConfig, BertForSequenceClassification};
use losparse::models::{EncoderInput, LabelConfig};
use losparse::precision::Precision;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde_json::{Value, json};
use tempfile::TempDir;

type Model = BertForSequenceClassification;
type Tensors = BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)>;

fn model() -> Model {
    let config = BertConfig {
        vocab_size: 13,
        hidden_size: 8,
        num_hidden_layers: 1,
        num_attention_heads: 2,
        intermediate_size: 16,
        max_position_embeddings: 6,
        labels: LabelConfig::named(["down", "up"]),
        ..BertConfig::default()
    };
    BertForSequenceClassification::new(&config, &Device::default())
}

/// A compacted model whose layers keep some of their neurons.
fn compacted() -> Model {
    let config = DecomposeConfig::new(Rank::Fixed(1));
    let (mut model, _) = decompose(model(), &LayerSelection::all(), config).unwrap();
    model.for_each_linear_mut(&mut |_, linear| {
        let CompressibleLinear::LowRankSparse(layer) = linear else { panic!("not decomposed") };
        let sparse = layer.sparse.take().unwrap();
        layer.sparse = Some(sparse.map(|values| {
            let [rows, columns] = values.dims();
            let kept: Vec<f32> =
                (0..rows * columns).map(|at| f32::from(at % columns % 4 == 1)).collect();
            let kept = Tensor::<1>::from_floats(&kept[..], &values.device());
            values * kept.reshape([rows, columns])
        }));
    });
    compact(model).0
}

fn saved(model: &Model, dtype: StorageDtype) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let options =
        SaveOptions { dtype, losparse: Some(json!({"max_length": 5})), ..SaveOptions::default() };
    save_pretrained(model, folder.path(), &options).unwrap();
    folder
}

fn load(folder: &Path) -> Result<Vec<f32>, String> {
    let device = Device::default();
    let (model, report) = load_pretrained::<Model>(folder, &device, &LoadOptions::default())
        .map_err(|e| e.to_string())?;
    if !report.newly_initialised.is_empty() {
        return Err(report.to_string());
    }
    let ids = Tensor::<1, Int>::arange(1..6, &device).reshape([1, 5]);
    Ok(model.forward(EncoderInput::new(ids)).into_data().try_into_vec().unwrap())
}

fn config(folder: &Path) -> Value {
    serde_json::from_slice(&fs::read(folder.join("config.json")).unwrap()).unwrap()
}

fn set_config(folder: &Path, config: &Value) {
    fs::write(folder.join("config.json"), config.to_string()).unwrap();
}

fn tensors(folder: &Path) -> Tensors {
    let bytes = fs::read(folder.join("model.safetensors")).unwrap();
    let read = SafeTensors::deserialize(&bytes).unwrap();
    let entry = |(name, view): (String, TensorView)| {
        (name, (view.dtype(), view.shape().to_vec(), view.data().to_vec()))
    };
    read.tensors().into_iter().map(entry).collect()
}

/// Writes tensors without the checksum, as a tool that edits them would.
fn set_tensors(folder: &Path, tensors: &Tensors) {
    let view = |(name, (dtype, shape, bytes)): (&String, &(Dtype, Vec<usize>, Vec<u8>))| {
        (name.clone(), TensorView::new(*dtype, shape.clone(), leaked(bytes)).unwrap())
    };
    let file = safetensors::serialize(tensors.iter().map(view), None).unwrap();
    fs::write(folder.join("model.safetensors"), file).unwrap();
    let mut config = config(folder);
    config["losparse"].as_object_mut().unwrap().remove("sha256");
    set_config(folder, &config);
}

fn leaked(bytes: &[u8]) -> &'static [u8] {
    Box::leak(bytes.to_vec().into_boxed_slice())
}

#[test]
fn only_folders_that_others_cannot_read_have_a_type_of_their_own() {
    let dense = model();
    for (model, dtype, own) in [
        (&dense, StorageDtype::F32, false),
        (&dense, StorageDtype::F16, false),
        (&dense, StorageDtype::Bf16, false),
        (&dense, StorageDtype::Int8, true),
        (&compacted(), StorageDtype::F32, true),
    ] {
        let folder = saved(model, dtype);
        let written = config(folder.path());
        let kind = if own { "losparse_bert" } else { "bert" };
        assert_eq!(written["model_type"], kind, "{dtype:?}");
        assert_eq!(written["losparse"]["format_version"], 2);
        assert_eq!(written["losparse"]["max_length"], 5);
        assert_eq!(written["losparse"].get("sha256").is_some(), own);
        assert_eq!(written.get("quantization_config").is_some(), own);
        let logits = load(folder.path()).unwrap();

        // Write each kind of folder as the other.
        let again = tempfile::tempdir().unwrap();
        let device = Device::default();
        let (model, _) =
            load_pretrained::<Model>(folder.path(), &device, &Default::default()).unwrap();
        save_pretrained(&model, again.path(), &SaveOptions::default()).unwrap();
        let written = config(again.path());
        let kind = if own && dtype == StorageDtype::F32 { "losparse_bert" } else { "bert" };
        assert_eq!(written["model_type"], kind, "{dtype:?} again");
        assert_eq!(written.get("quantization_config").is_some(), kind != "bert");
        assert_eq!(load(again.path()).unwrap(), logits);
    }
}

#[test]
fn a_narrowed_network_is_nobody_elses() {
    let mut model = model();
    model.for_each_feed_forward_mut(&mut |pair| {
        for (linear, axis) in [(pair.inner, 1), (pair.outer, 0)] {
            let CompressibleLinear::Dense(dense) = linear else { panic!("not dense") };
            dense.weight = dense.weight.clone().map(|weight| weight.narrow(axis, 0, 12));
            if axis == 1 {
                dense.bias = dense.bias.take().map(|bias| bias.map(|bias| bias.narrow(0, 0, 12)));
            }
        }
    });
    let folder = saved(&model, StorageDtype::F32);
    let mut written = config(folder.path());
    assert_eq!(written["model_type"], "losparse_bert");
    load(folder.path()).unwrap();
    // The widths of a plain folder are those of its configuration.
    written["model_type"] = json!("bert");
    let about = written.as_object_mut().unwrap().remove("losparse");
    assert!(about.is_some());
    set_config(folder.path(), &written);
    let error = load(folder.path()).unwrap_err();
    assert!(error.contains("intermediate.dense") && error.contains("[16, 8]"), "{error}");
}

#[test]
fn no_changed_byte_of_the_weights_is_read() {
    for (model, dtype) in [(compacted(), StorageDtype::F32), (model(), StorageDtype::Int8)] {
        let folder = saved(&model, dtype);
        let path = folder.path().join("model.safetensors");
        let whole = fs::read(&path).unwrap();
        let header = 8 + u64::from_le_bytes(whole[..8].try_into().unwrap()) as usize;
        // Every byte of the header, and some of every tensor.
        let places = (0..header).chain((header..whole.len()).step_by(29));
        for at in places {
            let mut bytes = whole.clone();
            bytes[at] ^= 1 << (at % 8);
            fs::write(&path, bytes).unwrap();
            let error = load(folder.path()).unwrap_err();
            assert!(error.contains("model.safetensors"), "byte {at}: {error}");
        }
        for length in [0, 7, header - 1, header, whole.len() - 1] {
            fs::write(&path, &whole[..length]).unwrap();
            assert!(load(folder.path()).unwrap_err().contains("model.safetensors"), "{length}");
        }
        fs::write(&path, &whole).unwrap();
        load(folder.path()).unwrap();
    }
}

/// Every change of a tensor's name, type, shape or presence is an error even without a checksum.
#[test]
fn a_layer_is_exactly_one_states_tensors() {
    let folder = saved(&compacted(), StorageDtype::F32);
    let logits = load(folder.path()).unwrap();
    let whole = tensors(folder.path());
    set_tensors(folder.path(), &whole);
    assert_eq!(load(folder.path()).unwrap(), logits);
    let refused = |tensors: &Tensors, name: &str| {
        set_tensors(folder.path(), tensors);
        let error = load(folder.path()).expect_err(name);
        let layer = name.rsplit_once('.').unwrap().0;
        assert!(error.contains(layer), "{name}: {error}");
    };
    let mut layers: Vec<&str> = whole
        .keys()
        .filter_map(|name| name.strip_suffix(".kept_weight").or(name.strip_suffix(".kept_columns")))
        .collect();
    layers.dedup();
    assert_eq!(layers.len(), 6);
    for layer in &layers {
        assert!(whole.contains_key(&format!("{layer}.order")), "{layer} keeps all or nothing");
    }
    // A tensor is missing.
    for name in whole.keys() {
        let mut less = whole.clone();
        less.remove(name);
        refused(&less, name);
    }
    // A tensor is left over.
    let states = ["weight", "left", "right", "sparse", "kept_weight", "kept_columns", "order"];
    for layer in &layers {
        for suffix in states {
            let name = format!("{layer}.{suffix}");
            if whole.contains_key(&name) {
                continue;
            }
            let mut more = whole.clone();
            more.insert(name.clone(), (Dtype::F32, vec![8, 8], vec![0; 256]));
            refused(&more, &name);
        }
        let mut scaled = whole.clone();
        scaled.insert(format!("{layer}.bias.scale"), (Dtype::F32, vec![8], vec![0; 32]));
        refused(&scaled, &format!("{layer}.bias.scale"));
    }
    // Another type of the same size.
    for (name, (dtype, shape, bytes)) in &whole {
        let other = if *dtype == Dtype::I32 { Dtype::F32 } else { Dtype::I32 };
        let mut changed = whole.clone();
        changed.insert(name.clone(), (other, shape.clone(), bytes.clone()));
        refused(&changed, name);
    }
    // Values that are not numbers, and orders that are not permutations.
    for (name, (dtype, shape, bytes)) in &whole {
        let values: Vec<u8> = match dtype {
            Dtype::I32 => [&bytes[4..8], &bytes[4..]].concat(),
            _ => [&f32::INFINITY.to_le_bytes(), &bytes[4..]].concat(),
        };
        let mut changed = whole.clone();
        changed.insert(name.clone(), (*dtype, shape.clone(), values));
        refused(&changed, name);
        if *dtype == Dtype::I32 {
            for wrong in [-1i32, 1 << 20] {
                let values = [&wrong.to_le_bytes(), &bytes[4..]].concat();
                changed.insert(name.clone(), (*dtype, shape.clone(), values));
                refused(&changed, name);
            }
        }
    }
}

#[test]
fn scales_belong_to_integers() {
    let folder = saved(&model(), StorageDtype::Int8);
    let whole = tensors(folder.path());
    let scales: Vec<&String> = whole.keys().filter(|name| name.ends_with(".scale")).collect();
    assert!(scales.len() > 8);
    for name in scales {
        let (dtype, shape, bytes) = &whole[name];
        let f32s = |value: f32| [&value.to_le_bytes()[..], &bytes[4..]].concat();
        for changed in [
            None,
            Some((*dtype, vec![shape[0] / 2, 2], bytes.clone())),
            Some((*dtype, vec![1], bytes[..4].to_vec())),
            Some((Dtype::I32, shape.clone(), bytes.clone())),
            Some((*dtype, shape.clone(), f32s(f32::NAN))),
            Some((*dtype, shape.clone(), f32s(-0.5))),
            Some((*dtype, shape.clone(), f32s(0.0))),
        ] {
            let mut tensors = whole.clone();
            let first_is_zero = tensors[name.strip_suffix(".scale").unwrap()].2[..8] == [0; 8];
            match changed.clone() {
                None => drop(tensors.remove(name)),
                Some((dtype, shape, bytes)) => {
                    if shape.iter().product::<usize>() * 4 != bytes.len() || first_is_zero {
                        continue;
                    }
                    drop(tensors.insert(name.clone(), (dtype, shape, bytes)));
                }
            }
            set_tensors(folder.path(), &tensors);
            let error = load(folder.path()).expect_err(&format!("{name}: {changed:?}"));
            assert!(error.contains(name.as_str()), "{name}: {error}");
        }
    }
}

#[test]
fn compressed_weights_need_a_configuration_that_says_so() {
    for (model, dtype) in [(compacted(), StorageDtype::F32), (model(), StorageDtype::Int8)] {
        let folder = saved(&model, dtype);
        let written = config(folder.path());
        let mut plain = written.clone();
        plain["model_type"] = json!("bert");
        plain.as_object_mut().unwrap().remove("losparse");
        let mut dense = plain.clone();
        dense["losparse"] = json!({"format_version": 2});
        for config in [plain, dense] {
            set_config(folder.path(), &config);
            let error = load(folder.path()).unwrap_err();
            assert!(error.contains("does not say that losparse wrote it"), "{error}");
        }
        let mut newer = written.clone();
        newer["losparse"]["format_version"] = json!(3);
        set_config(folder.path(), &newer);
        let error = load(folder.path()).unwrap_err();
        assert!(error.contains("config.json: losparse.format_version: 3 is newer"), "{error}");
        // Files that people edit are not damage.
        let mut edited = written.clone();
        edited["id2label"] = json!({"0": "bad", "1": "good"});
        edited["label2id"] = json!({"bad": 0, "good": 1});
        edited["losparse"]["task"] = json!({"name": "films"});
        set_config(folder.path(), &edited);
        load(folder.path()).unwrap();
    }
}

/// Folders of format version 1, which have no checksums.
#[test]
fn the_first_version_is_read() {
    let folder = saved(&compacted(), StorageDtype::F32);
    let logits = load(folder.path()).unwrap();
    let first = of_the_first_version(config(folder.path()));
    set_config(folder.path(), &first);
    assert_eq!(load(folder.path()).unwrap(), logits);
}

/// Even without a checksum, a damaged header never changes an answer, and numbers that no bundle holds
/// are refused.
#[test]
fn damage_to_the_first_version_is_refused_where_it_shows() {
    let folder = saved(&compacted(), StorageDtype::F32);
    set_config(folder.path(), &of_the_first_version(config(folder.path())));
    let logits = load(folder.path()).unwrap();
    let path = folder.path().join("model.safetensors");
    let whole = fs::read(&path).unwrap();
    let header = 8 + u64::from_le_bytes(whole[..8].try_into().unwrap()) as usize;
    for (at, bit) in (0..header).flat_map(|at| [(at, at % 8), (at, (at + 3) % 8)]) {
        let mut bytes = whole.clone();
        bytes[at] ^= 1 << bit;
        fs::write(&path, bytes).unwrap();
        if let Ok(found) = load(folder.path()) {
            assert_eq!(found, logits, "byte {at}, bit {bit}");
        }
    }
    for length in [0, 7, header - 1, header, whole.len() - 1] {
        fs::write(&path, &whole[..length]).unwrap();
        assert!(load(folder.path()).unwrap_err().contains("model.safetensors"), "{length}");
    }
    fs::write(&path, &whole).unwrap();
    let names: Vec<String> = tensors(folder.path()).into_keys().collect();
    for name in names {
        let mut damaged = tensors(folder.path());
        let (dtype, _, bytes) = damaged.get_mut(&name).unwrap();
        let is_float = *dtype == Dtype::F32;
        // All bits set: not a number, or a neuron that is none.
        let end = bytes.len();
        bytes[end - if is_float { 4 } else { end }..].fill(0xff);
        set_tensors(folder.path(), &damaged);
        let error = load(folder.path()).unwrap_err();
        assert!(error.contains(&name), "{name}: {error}");
        fs::write(&path, &whole).unwrap();
    }
}

fn fixture(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

/// The committed folders, on which `transformers` was tried, equal those written now, and load.
/// `LOSPARSE_WRITE_FIXTURES` writes them again.
#[test]
fn committed_folders_are_as_they_are_written() {
    let device = Device::default();
    let base = load_pretrained::<Model>(fixture("bert/base"), &device, &LoadOptions::default());
    let cases = [
        ("own/compact", super::checkpoint::mixed(), StorageDtype::F32),
        ("own/int8", base.unwrap().0, StorageDtype::Int8),
    ];
    for (name, model, dtype) in cases {
        let fresh = saved(&model, dtype);
        if std::env::var_os("LOSPARSE_WRITE_FIXTURES").is_some() {
            fs::create_dir_all(fixture(name)).unwrap();
            fs::create_dir_all(fixture("own/first")).unwrap();
            for file in ["config.json", "model.safetensors"] {
                fs::copy(fresh.path().join(file), fixture(name).join(file)).unwrap();
                if name == "own/compact" {
                    fs::copy(fresh.path().join(file), fixture("own/first").join(file)).unwrap();
                }
            }
            let first = fixture("own/first");
            set_config(&first, &of_the_first_version(config(&first)));
        }
        let (mut written, mut committed) = (config(fresh.path()), config(&fixture(name)));
        // Machines round sines differently.
        for config in [&mut written, &mut committed] {
            config["losparse"]["sha256"].take();
        }
        assert_eq!(written, committed, "{name}");
        let (expected, found) = (load(fresh.path()).unwrap(), load(&fixture(name)).unwrap());
        assert!(super::parity::distance(&expected, &found) < 1e-4, "{name}");
        if name == "own/compact" {
            assert_eq!(load(&fixture("own/first")).unwrap(), found);
        }
    }
}

fn of_the_first_version(mut config: Value) -> Value {
    config["model_type"] = json!("bert");
    config.as_object_mut().unwrap().remove("quantization_config");
    config["losparse"] = json!({"format_version": 1, "max_length": 5});
    config
}

/// Results of `tests/fixtures/own.py`: errors if such a folder is loaded as a BERT, and the tokens
/// of a plain folder's tokenizer.
#[test]
fn transformers_does_not_answer_from_noise() {
    let seen = fs::read(fixture("own.json")).unwrap();
    let seen: Value = serde_json::from_slice(&seen).unwrap();
    for folder in ["own/compact", "own/int8"] {
        let results = seen[folder].as_object().unwrap();
        assert_eq!(results.len(), 6);
        for (class, result) in results {
            let message = result["message"].as_str().unwrap_or_default();
            match class.as_str() {
                "tokens" => assert_eq!(result, &seen["bert/base"]["tokens"]),
                _ if class.starts_with("Auto") => {
                    assert!(
                        message.contains("has model type `losparse_bert`"),
                        "{class}: {result}"
                    );
                }
                _ => assert!(message.contains("no `quant_method`"), "{class}: {result}"),
            }
        }
    }
    assert_eq!(seen["bert/base"]["BertModel"]["opens"], "BertModel");
}

fn ids(device: &Device) -> Tensor<2, Int> {
    Tensor::<1, Int>::arange(1..6, device).reshape([1, 5])
}

fn states(model: &Model) -> Vec<&'static str> {
    let mut states = Vec::new();
    model.for_each_linear(&mut |_, linear| states.push(linear.state().name()));
    states
}

/// The folder says that its layers compute in 8-bit integers, and a layer that was left in floats stays so.
#[test]
fn a_model_in_8_bit_integers_is_loaded_as_it_was_saved() {
    let device = Device::default();
    let mut model = round_weights(compacted(), Precision::Int8);
    let left = "bert.encoder.layer.0.output.dense";
    model.for_each_linear_mut(&mut |name, linear| {
        if name == left {
            *linear = linear.clone().dequantize();
        }
    });
    let folder = saved(&model, StorageDtype::Int8);
    assert_eq!(config(folder.path())["losparse"]["compute"], "int8");
    let (loaded, _) =
        load_pretrained::<Model>(folder.path(), &device, &LoadOptions::default()).unwrap();
    assert_eq!(states(&loaded), ["int8", "int8", "int8", "int8", "int8", "compact"]);
    assert!(matches!(loaded.bert.embeddings.word_embeddings, WordEmbedding::Int8(_)));
    let logits = |model: &Model| -> Vec<f32> {
        model.forward(EncoderInput::new(ids(&device))).into_data().try_into_vec().unwrap()
    };
    let far =
        |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(far(&logits(&loaded), &logits(&model)) < 1e-6);
    // Saved again it is the same file.
    let again = saved(&loaded, StorageDtype::Int8);
    let weights = |folder: &TempDir| fs::read(folder.path().join("model.safetensors")).unwrap();
    assert_eq!(weights(&again), weights(&folder));

    // In floats, as for training: the same but for the rounding of activations.
    let options = LoadOptions { floats: true, ..LoadOptions::default() };
    let (floats, _) = load_pretrained::<Model>(folder.path(), &device, &options).unwrap();
    assert_eq!(states(&floats), ["compact"; 6]);
    let off = far(&logits(&loaded), &logits(&floats));
    assert!(off > 0.0 && off < 0.05, "{off}");
    // A folder that is only stored in 8 bits computes in floats.
    let stored = saved(&compacted(), StorageDtype::Int8);
    assert_eq!(config(stored.path())["losparse"].get("compute"), None);
    let (stored, _) =
        load_pretrained::<Model>(stored.path(), &device, &LoadOptions::default()).unwrap();
    assert_eq!(states(&stored), ["compact"; 6]);

    let mut wrong = config(folder.path());
    wrong["losparse"]["compute"] = "int4".into();
    set_config(folder.path(), &wrong);
    let error = load(folder.path()).unwrap_err();
    assert!(error.contains("losparse.compute: expected int8 or f32, found `int4`"), "{error}");
}
