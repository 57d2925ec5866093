//! Reads which neurons a trained model kept, from the files that `kept.py` writes.

use std::path::Path;

/// A layer of BERT-base.
#[derive(Debug, Clone)]
pub struct Layer {
    /// `[d_input, d_output]`.
    pub dims: [usize; 2],
    /// Indices of the kept neurons.
    pub kept: Vec<usize>,
}

#[derive(serde::Deserialize)]
struct File {
    keep: f64,
    layers: Vec<Stored>,
}

#[derive(serde::Deserialize)]
struct Stored {
    d_input: usize,
    d_output: usize,
    /// A bitmap in hexadecimal, bit `i mod 8` of byte `i / 8`.
    kept: String,
}

/// The 72 layers at a ratio in percent (20 or 10), in the order of computation.
///
/// # Panics
/// If the file is missing or damaged, or the share of kept weights is more than 1% off.
pub fn bert_base(percent: u32) -> Vec<Layer> {
    let name = format!("benches/peers/kept-{percent}.json");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    let text = std::fs::read_to_string(&path).expect("kept neurons, see kept.py");
    let file: File = serde_json::from_str(&text).expect("kept neurons, see kept.py");
    let layers: Vec<Layer> = file.layers.iter().map(layer).collect();
    let weights = |count: fn(&Layer) -> usize| -> f64 {
        layers.iter().map(|layer| (layer.dims[0] * count(layer)) as f64).sum()
    };
    let share = weights(|layer| layer.kept.len()) / weights(|layer| layer.dims[1]);
    let target = f64::from(percent) / 100.0 - 0.05;
    assert!((file.keep / target - 1.0).abs() < 1e-9, "{} is of {}", path.display(), file.keep);
    assert!((share / target - 1.0).abs() <= 0.01, "{} keeps {share}", path.display());
    layers
}

fn layer(stored: &Stored) -> Layer {
    let bit = |at: usize| {
        let byte = u8::from_str_radix(&stored.kept[at / 8 * 2..][..2], 16).expect("hexadecimal");
        byte >> (at % 8) & 1 == 1
    };
    let kept = (0..stored.d_output).filter(|&at| bit(at)).collect();
    Layer { dims: [stored.d_input, stored.d_output], kept }
}

/// The layer of these sizes that keeps the median share among them.
pub fn typical(layers: &[Layer], dims: [usize; 2]) -> Layer {
    let mut like: Vec<&Layer> = layers.iter().filter(|layer| layer.dims == dims).collect();
    like.sort_by_key(|layer| layer.kept.len());
    like[like.len() / 2].clone()
}
