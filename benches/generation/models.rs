//! The models that are measured.
//!
//! Which neurons are kept is uneven as after a global selection on a trained model: importance is
//! log-normal from layer to layer (sigma 0.8) and from neuron to neuron (sigma 1), and one threshold
//! over all layers, weighted by row length, keeps the share asked for.

use burn::tensor::{Device, Distribution, Tensor};
use losparse::linear::{CompactLinear, Compressible, CompressibleLinear};
use losparse::models::bart::{BartConfig, BartForConditionalGeneration};

/// Shares of the weights in neurons and in the low-rank part: 30% together.
const KEPT: f64 = 0.25;
const LOW_RANK: f64 = 0.05;

/// `bart-base`'s shape with random weights.
pub fn dense(device: &Device) -> BartForConditionalGeneration {
    device.seed(1);
    let config = BartConfig {
        d_model: 768,
        encoder_layers: 6,
        decoder_layers: 6,
        encoder_ffn_dim: 3072,
        decoder_ffn_dim: 3072,
        encoder_attention_heads: 12,
        decoder_attention_heads: 12,
        ..BartConfig::default()
    };
    BartForConditionalGeneration::new(&config, device)
}

/// The same with compact layers of random weights.
pub fn compact(dense: &BartForConditionalGeneration) -> BartForConditionalGeneration {
    let mut model = dense.clone();
    let mut dims = Vec::new();
    model.for_each_linear_mut(&mut |_, linear| dims.push(linear.dims()));
    let mut kept = select(&dims).into_iter();
    let (mut stored, mut whole) = (0, 0);
    model.for_each_linear_mut(&mut |_, linear| {
        let kept = kept.next().expect("one for every layer");
        let [d_input, d_output] = linear.dims();
        let rank =
            (LOW_RANK * (d_input * d_output) as f64 / (d_input + d_output) as f64).ceil() as usize;
        let others = d_output - kept.len();
        whole += d_input * d_output;
        // Otherwise dense is cheaper.
        if d_input * (kept.len() + rank) + rank * others < d_input * d_output {
            *linear = compact_layer([d_input, d_output], rank, &kept);
        }
        stored += linear.weight_elements();
    });
    eprintln!("compact: {:.2}% of the linear weights", 100.0 * stored as f64 / whole as f64);
    model
}

fn compact_layer(
    [d_input, d_output]: [usize; 2],
    rank: usize,
    kept: &[usize],
) -> CompressibleLinear {
    let device = Device::default();
    let random = |shape: [usize; 2], std: f64| {
        Tensor::<2>::random(shape, Distribution::Normal(0.0, std), &device)
    };
    let std = (0.02 / (rank as f64).sqrt()).sqrt();
    let low_rank = (random([d_input, rank], std), random([rank, d_output - kept.len()], std));
    let folded = random([d_input, kept.len()], 0.02);
    let bias = Tensor::<1>::random([d_output], Distribution::Normal(0.0, 0.02), &device);
    let layer = CompactLinear::new(folded, Some(low_rank), Some(bias), kept, d_output);
    CompressibleLinear::Compact(layer)
}

/// The kept neurons of every layer.
fn select(dims: &[[usize; 2]]) -> Vec<Vec<usize>> {
    let mut normal = Normal(7);
    let scores: Vec<Vec<f64>> = dims
        .iter()
        .map(|[_, neurons]| {
            let scale = 0.8 * normal.next();
            (0..*neurons).map(|_| (scale + normal.next()).exp()).collect()
        })
        .collect();
    let mut all: Vec<(f64, usize)> = scores
        .iter()
        .zip(dims)
        .flat_map(|(scores, [d_input, _])| scores.iter().map(|score| (*score, *d_input)))
        .collect();
    all.sort_by(|a, b| b.0.total_cmp(&a.0));
    let total: usize = all.iter().map(|(_, length)| length).sum();
    let mut left = KEPT * total as f64;
    let within = all.iter().take_while(|(_, length)| {
        left -= *length as f64;
        left >= 0.0
    });
    let threshold = within.last().map_or(f64::INFINITY, |(score, _)| *score);
    let kept = |scores: &Vec<f64>| {
        (0..scores.len()).filter(|&neuron| scores[neuron] >= threshold).collect()
    };
    scores.iter().map(kept).collect()
}

/// Normally distributed numbers, the same in every run (Box and Muller 1958).
struct Normal(u64);

impl Normal {
    fn next(&mut self) -> f64 {
        let (radius, angle) = (self.uniform(), self.uniform());
        (-2.0 * radius.ln()).sqrt() * (std::f64::consts::TAU * angle).cos()
    }

    /// In (0, 1].
    fn uniform(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        ((self.0 >> 11) + 1) as f64 / (1u64 << 53) as f64
    }
}
