//! The numbers of a run's result: 8-bit integers where the metric holds in them.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use burn::tensor::Device;
use losparse::checkpoint::{LoadOptions, SaveOptions, StorageDtype};
use losparse::models::{AnyModel, FolderModel};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde_json::{Value, json};

use super::cli::{json_lines, refs, stdout};
use super::place::Place;

const RATER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/models/movie-sentiment");

fn read(file: impl AsRef<Path>) -> Value {
    serde_json::from_slice(&fs::read(file).unwrap()).unwrap()
}

fn compute(folder: impl AsRef<Path>) -> Value {
    read(folder.as_ref().join("config.json"))["losparse"]["compute"].clone()
}

#[test]
fn without_a_recipe_the_result_is_in_integers_where_the_metric_holds() {
    let place = Place::new();
    let summary = stdout(&refs(&place.run("compress", "small", &[])));
    let report = read(place.path("small/report.json"));
    let int8 = &report["int8"];
    assert_eq!((&int8["split"], &int8["metric"]), (&json!("dev"), &json!("accuracy")));
    assert_eq!((&int8["layers"], &int8["of"]), (&json!(12), &json!(12)), "{int8}");
    assert!(
        summary.contains("The result computes in 8-bit integers (accuracy on 24 examples of dev "),
        "{summary}"
    );
    assert_eq!(compute(place.path("small/model")), "int8");
    // The saved model has the metric that the decision was based on.
    let saved = &report["compacted"][0];
    assert_eq!(saved["metrics"]["values"]["accuracy"], int8["int8"]);
    let (small, dev) = (place.arg("small"), place.arg("dev.csv"));
    let data = ["--dev", &dev, "--text", "review", "--label", "mood"];
    assert_eq!(json_lines(&[&["evaluate", &small][..], &data].concat())[0]["result"], *saved);
    // It is timed against the dense model in integers, too.
    let timed = report["latency"]["contestants"].as_array().unwrap();
    let names: Vec<&str> = timed.iter().map(|row| row["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["dense", "dense, int8", "compact, int8"]);
    let text = fs::read_to_string(place.path("small/report.md")).unwrap();
    assert!(text.contains("Compacting and 8-bit integers moved logits"), "{text}");
}

#[test]
fn numbers_that_are_asked_for_are_taken() {
    let place = Place::new();
    let asked =
        [("int8", json!("int8"), "I8"), ("f16", Value::Null, "F16"), ("f32", Value::Null, "F32")];
    for (storage, found, dtype) in asked {
        stdout(&refs(&place.run("compress", storage, &["--epochs", "1", "--storage", storage])));
        assert_eq!(compute(place.path(storage).join("model")), found);
        assert_eq!(read(place.path(storage).join("report.json"))["int8"], Value::Null);
        let weights = fs::read(place.path(storage).join("model/model.safetensors")).unwrap();
        let head = String::from_utf8_lossy(&weights);
        assert!(head.contains(&format!("{dtype:?}")), "{storage}");
    }
    // A fine-tuned model stays in floats unless asked.
    stdout(&refs(&place.run("finetune", "tuned", &["--epochs", "1"])));
    assert_eq!(compute(place.path("tuned/model")), Value::Null);
    stdout(&refs(&place.run("finetune", "tuned-int8", &["--epochs", "1", "--storage", "int8"])));
    assert_eq!(compute(place.path("tuned-int8/model")), "int8");
    // Figures are of what was saved, and count all parameters.
    let (tuned, dev) = (place.arg("tuned-int8"), place.arg("dev.csv"));
    let data = ["--dev", &dev, "--text", "review", "--label", "mood"];
    let report = |name| read(place.path(name).join("report.json"));
    let evaluated = &json_lines(&[&["evaluate", &tuned][..], &data].concat())[0]["result"];
    assert_eq!(*evaluated, report("tuned-int8")["trained"][0]);
    let others = |name| report(name)["account"]["other_elements"].as_u64().unwrap();
    assert!(others("int8") == others("f32") && others("f32") > 0);
}

/// Changes the tensors of a folder, all in f32: `change` gets name, shape and values.
fn change(folder: &Path, change: impl Fn(&str, &[usize], &mut [f32])) {
    let file = folder.join("model.safetensors");
    let bytes = fs::read(&file).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let mut all = HashMap::new();
    for (name, view) in tensors.tensors() {
        let values = view.data().chunks_exact(4);
        let mut values: Vec<f32> =
            values.map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap())).collect();
        change(&name, view.shape(), &mut values);
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        all.insert(name.to_string(), (view.shape().to_vec(), bytes));
    }
    let views = all.iter().map(|(name, (shape, bytes))| {
        (name, TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap())
    });
    let about = HashMap::from([("format".to_string(), "pt".to_string())]);
    let bytes = safetensors::serialize(views.collect::<HashMap<_, _>>(), Some(about)).unwrap();
    fs::write(file, bytes).unwrap();
}

/// Fine-tunes the rater, changed so that 8 bits are too few for some weights, by next to nothing.
fn tuned(place: &Place, name: &str, damage: impl Fn(&str, &[usize], &mut [f32])) -> Value {
    let start = place.path(&format!("start-{name}"));
    let (model, _) = AnyModel::load(RATER, &Device::default(), &LoadOptions::default()).unwrap();
    let tokenizer_from = Some(RATER.into());
    let options =
        SaveOptions { tokenizer_from, dtype: StorageDtype::F32, ..SaveOptions::default() };
    model.save(&start, &options).unwrap();
    change(&start, damage);
    let [train, dev] = ["train", "dev"].map(|split| format!("{RATER}/data/{split}.tsv"));
    let (start, output) = (start.display().to_string(), place.arg(name));
    let given = ["finetune", &start, "-o", &output, "--train", &train, "--dev", &dev];
    let settings = "--text sentence --label label --lr 1e-8 --epochs 1 --max-train-examples 16 \
                    --batch-size 16 --weight-decay 0 --max-eval-examples 300 --storage auto";
    let settings: Vec<&str> = settings.split_whitespace().collect();
    stdout(&[&given[..], &settings].concat());
    read(place.path(name).join("report.json"))
}

#[test]
fn layers_that_lose_too_much_stay_in_floats() {
    let place = Place::new();
    let intermediate = [0, 1].map(|at| format!("bert.encoder.layer.{at}.intermediate.dense"));
    let norms = [0, 1].map(|at| format!("bert.encoder.layer.{at}.attention.output.LayerNorm."));
    let is_one = |names: &[String], name: &str| names.iter().any(|one| name.starts_with(one));
    let report = tuned(&place, "some", |name, shape, values| {
        // Beside the weight of an input that is always 0, nothing is left of the others.
        if is_one(&norms, name) {
            values[0] = 0.0;
        } else if is_one(&intermediate, name) && shape.len() == 2 {
            values.iter_mut().step_by(shape[1]).for_each(|value| *value = 1e4);
        }
    });
    let int8 = &report["int8"];
    assert_eq!((&int8["layers"], &int8["of"]), (&json!(10), &json!(12)), "{int8}");
    let [f32, found] = ["f32", "int8"].map(|name| int8[name].as_f64().unwrap());
    assert!(f32 > 0.75 && found >= f32 - 0.0034, "{int8}");
    let (model, _) =
        AnyModel::load(place.path("some/model"), &Device::default(), &LoadOptions::default())
            .unwrap();
    let mut floats = Vec::new();
    losparse::linear::Compressible::for_each_linear(&model, &mut |name, linear| {
        if linear.state() == losparse::linear::LayerState::Dense {
            floats.push(name.to_string());
        }
    });
    assert_eq!(floats, intermediate);
}

#[test]
fn a_model_that_integers_spoil_stays_in_floats() {
    let place = Place::new();
    let report = tuned(&place, "all", |name, shape, values| match name {
        // Two values of each word are a thousand times the others, and are normalised away.
        "bert.embeddings.word_embeddings.weight" => {
            let square = values.iter().map(|value| value * value).sum::<f32>();
            let large = 1000.0 * (square / values.len() as f32).sqrt();
            for word in values.chunks_exact_mut(shape[1]) {
                (word[0], word[1]) = (large, -large);
            }
        }
        "bert.embeddings.LayerNorm.weight" => {
            let larger = (1.0 + 2e6 / values.len() as f32).sqrt();
            values.iter_mut().for_each(|value| *value *= larger);
            values[..2].fill(0.0);
        }
        _ => {}
    });
    let int8 = &report["int8"];
    assert_eq!((&int8["layers"], &int8["of"]), (&json!(0), &json!(12)), "{int8}");
    assert!(int8["int8"].as_f64().unwrap() < int8["f32"].as_f64().unwrap() - 0.1, "{int8}");
    assert_eq!(compute(place.path("all/model")), Value::Null);
    let text = fs::read_to_string(place.path("all/report.md")).unwrap();
    assert!(text.contains("The result is in f32: 8-bit integers would lose too much"), "{text}");
}
