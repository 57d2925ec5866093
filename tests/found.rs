//! Checkpoints as users find them: with a wrapper's names, nested, with untied copies of tied
//! matrices, with other names, and with something else in place of a file.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use burn::tensor::{Device, Int, Tensor};
use losparse::checkpoint::{LoadOptions, LoadReport, PretrainedModel, load_pretrained};
use losparse::models::EncoderInput;
use losparse::models::bart::{BartForConditionalGeneration, BartModel};
use losparse::models::bert::BertForSequenceClassification;
use losparse::models::roberta::RobertaForSequenceClassification;
use safetensors::tensor::{SafeTensors, TensorView};
use serde_json::{Value, json};
use tempfile::TempDir;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

/// A copy of a fixture with changed weights: tensors by name, as little-endian f32.
fn changed(
    name: &str,
    change: impl FnOnce(&mut BTreeMap<String, (Vec<usize>, Vec<u8>)>),
) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::copy(fixture(name).join("config.json"), folder.path().join("config.json")).unwrap();
    let bytes = fs::read(fixture(name).join("model.safetensors")).unwrap();
    let read = SafeTensors::deserialize(&bytes).unwrap();
    let mut tensors: BTreeMap<String, (Vec<usize>, Vec<u8>)> = read
        .tensors()
        .into_iter()
        .map(|(name, view)| (name, (view.shape().to_vec(), view.data().to_vec())))
        .collect();
    change(&mut tensors);
    let f32 = safetensors::Dtype::F32;
    let views: Vec<(&str, TensorView)> = tensors
        .iter()
        .map(|(n, (s, b))| (n.as_str(), TensorView::new(f32, s.clone(), b).unwrap()))
        .collect();
    let file = safetensors::serialize(views, None).unwrap();
    fs::write(folder.path().join("model.safetensors"), file).unwrap();
    folder
}

fn renamed(name: &str, rename: impl Fn(&str) -> String) -> TempDir {
    changed(name, |tensors| {
        let old = std::mem::take(tensors);
        tensors.extend(old.into_iter().map(|(name, tensor)| (rename(&name), tensor)));
    })
}

fn load<M: PretrainedModel>(folder: &Path) -> Result<(M, LoadReport), String> {
    let loaded = load_pretrained(folder, &Device::default(), &LoadOptions::default());
    loaded.map_err(|e| e.to_string())
}

fn logits(folder: &Path) -> (Vec<f32>, LoadReport) {
    let (model, report) = load::<BertForSequenceClassification>(folder).unwrap();
    let ids = Tensor::<1, Int>::arange(1..6, &Device::default()).reshape([1, 5]);
    (model.forward(EncoderInput::new(ids)).into_data().try_into_vec().unwrap(), report)
}

fn message(folder: &Path) -> String {
    load::<BertForSequenceClassification>(folder).map(|_| ()).unwrap_err()
}

#[test]
fn a_prefix_of_all_names_is_left_out_and_said() {
    let (expected, report) = logits(&fixture("bert/base"));
    assert_eq!(report.left_out_prefix, "");
    let wrappers = ["module.", "_orig_mod.", "model.", "module._orig_mod.", "bert.", "net.inner."];
    for wrapper in wrappers {
        let folder = renamed("bert/base", |name| format!("{wrapper}{name}"));
        let (found, report) = logits(folder.path());
        assert_eq!(found, expected, "{wrapper}");
        assert_eq!(report.left_out_prefix, wrapper);
        assert!(report.newly_initialised.is_empty() && report.unused.is_empty(), "{report}");
        let said = format!("names without their prefix `{wrapper}`");
        assert!(report.to_string().contains(&said), "{report}");
    }
    // The prefix of a base model may also occur twice.
    let folder = renamed("bert/base", |name| match name.strip_prefix("bert.") {
        Some(name) => format!("module.bert.{name}"),
        None => format!("module.{name}"),
    });
    assert_eq!(logits(folder.path()).0, expected);
    // If one name lacks the prefix, it is unclear which tensors are the model.
    let folder = renamed("bert/base", |name| match name {
        "classifier.bias" => name.to_string(),
        _ => format!("module.{name}"),
    });
    let error = message(folder.path());
    assert!(error.contains("other names"), "{error}");
}

#[test]
fn a_state_dict_inside_of_a_checkpoint_is_found() {
    let (found, report) = logits(&fixture("bert/nested"));
    assert_eq!(found, logits(&fixture("bert/base")).0);
    assert!(report.left_out_prefix.ends_with("module."), "{report}");
}

#[test]
fn other_names_are_shown_beside_those_expected() {
    let folder = renamed("bert/base", |name| {
        name.replace("bert.encoder.layer", "transformer.h").replace("bert.embeddings", "wte")
    });
    let error = message(folder.path());
    let pairs = [
        "expected bert.embeddings.word_embeddings.weight [37, 12]",
        "found wte.word_embeddings.weight [37, 12]",
        "BertForSequenceClassification",
        "and ",
    ];
    for part in pairs {
        assert!(error.contains(part), "no {part:?} in {error}");
    }
}

#[test]
fn an_embedding_that_is_tied_is_not_another_one() {
    type Writes = BartForConditionalGeneration;
    let tied = |name: &str, change: bool| {
        changed("bart/base", |tensors| {
            let shared = tensors.keys().find(|name| name.ends_with("shared.weight")).unwrap();
            let mut copy = tensors[shared].clone();
            if change {
                copy.1[..4].copy_from_slice(&0.25f32.to_le_bytes());
            }
            tensors.insert(name.into(), copy);
        })
    };
    let places = [
        "lm_head.weight",
        "model.encoder.embed_tokens.weight",
        "model.decoder.embed_tokens.weight",
    ];
    for name in places {
        let same = tied(name, false);
        load::<Writes>(same.path()).unwrap();
        let other = tied(name, true);
        let error = load::<Writes>(other.path()).unwrap_err();
        assert!(error.contains(name) && error.contains("is not the same as"), "{error}");
        // A model without the head does not use it.
        let bare = load::<BartModel>(other.path());
        assert_eq!(bare.is_ok(), name == "lm_head.weight", "{name}");
    }
    // Without `shared`, the other copies are compared with each other.
    let apart = changed("bart/base", |tensors| {
        let shared = tensors.keys().find(|name| name.ends_with("shared.weight")).unwrap().clone();
        let matrix = tensors.remove(&shared).unwrap();
        let mut other = matrix.clone();
        other.1[..4].copy_from_slice(&0.25f32.to_le_bytes());
        tensors.insert("model.encoder.embed_tokens.weight".into(), matrix);
        tensors.insert("model.decoder.embed_tokens.weight".into(), other);
    });
    let error = load::<Writes>(apart.path()).unwrap_err();
    assert!(error.contains("decoder.embed_tokens.weight"), "{error}");
    // A matrix that the configuration unties is not compared either.
    let folder = tied("lm_head.weight", false);
    let path = folder.path().join("config.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    config["tie_word_embeddings"] = json!(false);
    fs::write(&path, config.to_string()).unwrap();
    assert!(load::<Writes>(folder.path()).unwrap_err().contains("tie_word_embeddings: false"));
}

/// A RoBERTa that labels tokens has one layer, `classifier`, where one that labels texts has two.
#[test]
fn a_head_for_tokens_is_left_behind() {
    let folder = changed("roberta/base", |tensors| {
        let of_head: Vec<String> =
            tensors.keys().filter(|name| name.starts_with("classifier.")).cloned().collect();
        let dense = tensors["classifier.dense.bias"].clone();
        of_head.iter().for_each(|name| drop(tensors.remove(name)));
        tensors.insert("classifier.bias".into(), dense);
    });
    let (_, report) = load::<RobertaForSequenceClassification>(folder.path()).unwrap();
    assert_eq!(report.unused, ["classifier.bias"]);
    assert!(report.newly_initialised.iter().any(|name| name == "classifier.out_proj.weight"));
}

#[test]
fn what_stands_in_a_files_place_is_named() {
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:aa\nsize 437971872\n";
    let page = "<!DOCTYPE html><html><body>Access to model is restricted</body></html>";
    for (form, file) in [
        ("base", "config.json"),
        ("base", "model.safetensors"),
        ("bin", "pytorch_model.bin"),
        ("sharded", "model.safetensors.index.json"),
        ("sharded", "model-00002-of-00002.safetensors"),
        ("sharded_bin", "pytorch_model-00001-of-00002.bin"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        for entry in fs::read_dir(fixture("bert").join(form)).unwrap() {
            let entry = entry.unwrap();
            fs::copy(entry.path(), folder.path().join(entry.file_name())).unwrap();
        }
        let path = folder.path().join(file);
        for (text, part) in [(pointer, "git lfs pull"), (page, "web page")] {
            fs::write(&path, text).unwrap();
            let error = message(folder.path());
            assert!(error.contains(file) && error.contains(part), "{form}: {error}");
        }
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        let error = message(folder.path());
        assert!(error.contains(file) && error.contains("is a folder"), "{form}: {error}");
        #[cfg(unix)]
        {
            fs::remove_dir(&path).unwrap();
            let made = std::process::Command::new("mkfifo").arg(&path).status().unwrap();
            assert!(made.success());
            let error = message(folder.path());
            assert!(error.contains(file) && error.contains("is a pipe"), "{form}: {error}");
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let text = fs::read_to_string(fixture("bert/base/config.json")).unwrap();
    let text = text.replace("\"layer_norm_eps\": 1e-12", "\"layer_norm_eps\": NaN");
    assert!(text.contains("NaN"));
    fs::write(folder.path().join("config.json"), text).unwrap();
    let error = message(folder.path());
    assert!(error.contains("config.json: layer_norm_eps: NaN is no number"), "{error}");
}

/// A pickle has no checksum, so damage may go unnoticed, but it never panics.
#[test]
fn no_byte_of_a_pytorch_file_makes_a_panic() {
    let folder = tempfile::tempdir().unwrap();
    fs::copy(fixture("bert/bin/config.json"), folder.path().join("config.json")).unwrap();
    let path = folder.path().join("pytorch_model.bin");
    let whole = fs::read(fixture("bert/bin/pytorch_model.bin")).unwrap();
    let mut refused = 0;
    for (at, bit) in (0..whole.len()).step_by(5).zip((0..8).cycle()) {
        let mut bytes = whole.clone();
        bytes[at] ^= 1 << bit;
        fs::write(&path, bytes).unwrap();
        if let Err(error) = load::<BertForSequenceClassification>(folder.path()) {
            assert!(error.contains("pytorch_model.bin") || error.contains("layer "), "{error}");
            refused += 1;
        }
    }
    assert!(refused > 300, "{refused}");
}
