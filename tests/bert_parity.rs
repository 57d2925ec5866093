//! BERT against Hugging Face's own implementation.

use std::path::{Path, PathBuf};

use burn::tensor::{Device, Int, Tensor, TensorData};
use losparse::checkpoint::{LoadOptions, TensorSource, load_from, read_config};
use losparse::models::EncoderInput;
use losparse::models::bert::BertForSequenceClassification;

/// A `[rows, columns]` integer tensor of a source.
fn ints(source: &TensorSource, name: &str, device: &Device) -> Tensor<2, Int> {
    let shape: [usize; 2] = source.shape(name).unwrap().try_into().unwrap();
    Tensor::from_data(TensorData::new(source.read_int(name).unwrap(), shape), device)
}

fn shared() -> Option<PathBuf> {
    let folder = std::env::var_os("LOSPARSE_SHARED").map(PathBuf::from);
    if folder.is_none() {
        eprintln!("skipped: LOSPARSE_SHARED is not set");
    }
    folder
}

/// Largest absolute difference.
fn distance(found: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(found.len(), expected.len());
    let distances = found.iter().zip(expected).map(|(a, b)| (a - b).abs());
    distances.fold(0.0, |a, b| if b.is_nan() { f32::INFINITY } else { a.max(b) })
}

#[test]
fn logits_of_the_recorded_run() {
    let Some(folder) = shared().map(|shared| shared.join("traces/bert")) else { return };
    let device = Device::default();
    let config = read_config::<BertForSequenceClassification>(Path::new(&folder)).unwrap();
    let source = TensorSource::open(folder.join("initial.safetensors")).unwrap();
    let options = LoadOptions::default();
    let (model, report) =
        load_from::<BertForSequenceClassification>(config, &source, &device, &options).unwrap();
    assert!(report.newly_initialised.is_empty() && report.unused.is_empty(), "{report}");

    let batches = TensorSource::open(folder.join("batches.safetensors")).unwrap();
    let observed = TensorSource::open(folder.join("observed.safetensors")).unwrap();
    let input = EncoderInput::new(ints(&batches, "0.input_ids", &device))
        .with_attention_mask(ints(&batches, "0.attention_mask", &device));
    let logits = model.forward(input).into_data().try_into_vec::<f32>().unwrap();
    let distance = distance(&logits, &observed.read("logits.step0").unwrap());
    assert!(distance <= 1e-5, "logits differ by {distance}");
}
