//! Compresses a module that is no transformer: a small classifier of noisy seven-segment digits.
//!
//! It takes [`CompressibleLinear`] in place of `Linear`, and [`compressible!`] to name the layers.
//! `cargo run --release --example compress_mlp`

use burn::module::Module;
use burn::optim::GradientsParams;
use burn::tensor::{Device, Int, Tensor, TensorData, activation::relu};
use losparse::models::{ProblemType, sequence_classification_loss};
use losparse::prelude::*;

const SIDE: usize = 12;
const PIXELS: usize = SIDE * SIDE;
const BATCH: usize = 64;
const DENSE_STEPS: usize = 1500;
const STEPS: usize = 1000;

/// `[batch, 144]` → `[batch, 10]`.
#[derive(Module, Debug)]
struct Mlp {
    up: CompressibleLinear,
    middle: CompressibleLinear,
    head: burn::nn::Linear,
}

compressible!(Mlp { up, middle });

impl Mlp {
    fn new(device: &Device) -> Self {
        Self {
            up: CompressibleLinearConfig::new(PIXELS, 256).init(device),
            middle: CompressibleLinearConfig::new(256, 256).init(device),
            head: burn::nn::LinearConfig::new(256, 10).init(device),
        }
    }

    fn forward(&self, images: Tensor<2>) -> Tensor<2> {
        self.head.forward(relu(self.middle.forward(relu(self.up.forward(images)))))
    }
}

fn main() -> losparse::Result<()> {
    let device = losparse::device::open("auto")?;
    device.seed(7);
    let training = device.clone().autodiff();
    let mut model = Mlp::new(&training);
    let mut optimizer = AdamWConfig::new().init();

    // 1. Train the dense model.
    for step in 0..DENSE_STEPS {
        let gradients = gradients(&model, step, &training);
        model = optimizer.step(1e-3, model, gradients);
    }
    let dense = model.clone().valid();

    // 2. Decompose, then go on training while S loses all but 10% of its neurons.
    let config = DecomposeConfig::new(Rank::Budget(0.10));
    let (mut model, decomposed) = decompose(model, &LayerSelection::all(), config)?;
    let mut pruner = PruningConfig::new(Schedule::new(0.10, STEPS)).init(&model)?;
    for step in 0..STEPS {
        let gradients = gradients(&model, DENSE_STEPS + step, &training);
        (model, _) = pruner.optimize(model, &mut optimizer, 1e-3, gradients)?;
    }

    // 3. Fold what is left into smaller dense matrices.
    let (small, report) = compact(model);

    // 4. Load it as another program would: a new model takes the states of the layers, then the record.
    let (specs, record) = (layer_specs(&small), small.clone().into_record());
    let small = restore_layers(Mlp::new(&device), &specs)?.load_record(record);

    println!(
        "{:<8}{:>11}{:>6}{:>14}{:>7}{:>14}{:>10}",
        "layer", "in × out", "rank", "W not in L·R", "kept", "state", "weights"
    );
    for (before, after) in decomposed.iter().zip(&report) {
        println!(
            "{:<8}{:>11}{:>6}{:>13.0}%{:>7}{:>14}{:>9.1}%",
            after.name,
            format!("{} × {}", after.d_input, after.d_output),
            after.state.rank(),
            100.0 * before.residual,
            after.state.kept(),
            after.state.name(),
            100.0 * after.elements as f64 / (after.d_input * after.d_output) as f64,
        );
    }
    println!("parameters: {} dense, {} compact", dense.num_params(), small.num_params());
    println!(
        "accuracy on 2048 new images: {:.1}% dense, {:.1}% compact",
        100.0 * accuracy(&dense, &device),
        100.0 * accuracy(&small, &device)
    );
    Ok(())
}

fn gradients(model: &Mlp, step: usize, device: &Device) -> GradientsParams {
    let (images, labels) = digits(step as u64, BATCH, device);
    let loss = sequence_classification_loss(
        ProblemType::SingleLabelClassification,
        model.forward(images),
        losparse::models::Labels::Classes(labels),
    );
    GradientsParams::from_grads(loss.backward(), model)
}

fn accuracy(model: &Mlp, device: &Device) -> f32 {
    let (images, labels) = digits(u64::MAX / 2, 2048, device);
    let right = model.forward(images).argmax(1).reshape([2048]).equal(labels);
    right.float().mean().into_scalar()
}

/// Draws seven-segment digits of random size and place under heavy noise: images `[count, 144]` and
/// labels `[count]`. The same `seed` gives the same digits.
fn digits(seed: u64, count: usize, device: &Device) -> (Tensor<2>, Tensor<1, Int>) {
    // Segments a to g of each digit: top, right upper, right lower, bottom, left lower, left
    // upper, middle.
    const SEGMENTS: [u8; 10] = [0x3f, 0x06, 0x5b, 0x4f, 0x66, 0x6d, 0x7d, 0x07, 0x7f, 0x6f];
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(1);
    let mut uniform = move || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 40) as f32 / (1u64 << 24) as f32
    };
    let mut pixels = vec![0f32; count * PIXELS];
    let mut labels = Vec::with_capacity(count);
    for image in pixels.chunks_mut(PIXELS) {
        let digit = (uniform() * 10.0) as usize;
        let half = 2 + (uniform() * 3.0) as usize; // half the digit's height, and its width
        let left = (uniform() * (SIDE - half - 1) as f32) as usize;
        let top = (uniform() * (SIDE - 2 * half) as f32) as usize;
        let mut on = |x: usize, y: usize| image[(top + y) * SIDE + left + x] = 1.0;
        for at in 0..=half {
            let ends = [
                (at, 0),
                (half, at),
                (half, half + at),
                (at, 2 * half),
                (0, half + at),
                (0, at),
                (at, half),
            ];
            for (segment, (x, y)) in ends.into_iter().enumerate() {
                if SEGMENTS[digit] >> segment & 1 == 1 {
                    on(x, y.min(2 * half));
                }
            }
        }
        image.iter_mut().for_each(|pixel| *pixel += uniform() - 0.5);
        labels.push(digit as i64);
    }
    (
        Tensor::from_data(TensorData::new(pixels, [count, PIXELS]), device),
        Tensor::from_data(TensorData::new(labels, [count]), device),
    )
}
