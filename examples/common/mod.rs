//! The body of every `backend_*` example: takes a small BERT through the whole pipeline on one device.

use std::error::Error;
use std::time::{Duration, Instant};

use burn::module::Module;
use burn::optim::GradientsParams;
use burn::tensor::{Device, Int, Tensor, TensorData};
use losparse::models::bert::{BertConfig, BertForSequenceClassification};
use losparse::models::{EncoderInput, Labels};
use losparse::prelude::*;

const STEPS: usize = 40;
const BATCH: usize = 8;
const LENGTH: usize = 32;

/// Decomposes, trains with pruning, compacts and times a model on the device called `name`.
pub fn run(name: &str) -> Result<(), Box<dyn Error>> {
    let device = losparse::device::open(name)?;
    println!("device: {name}");
    device.seed(7);

    let config = BertConfig {
        vocab_size: 200,
        hidden_size: 256,
        num_hidden_layers: 2,
        num_attention_heads: 4,
        intermediate_size: 1024,
        max_position_embeddings: LENGTH,
        ..BertConfig::default()
    };
    // Training happens on the autodiff device, everything else on the plain one.
    let training = device.clone().autodiff();
    let model = BertForSequenceClassification::new(&config, &training);
    let dense = model.clone().valid();

    // 1. W → L·R + S with 5% of the parameters in L and R.
    let low_rank = DecomposeConfig::new(Rank::Budget(0.05));
    let (mut model, report) = decompose(model, &LayerSelection::all(), low_rank)?;
    println!("decomposed {} layers", report.len());

    // 2. Train; S loses neurons on the way, down to 10%.
    let mut pruner = PruningConfig::new(Schedule::new(0.10, STEPS)).init(&model)?;
    let mut optimizer = AdamWConfig::new().init();
    let start = Instant::now();
    let mut last_loss = f32::NAN;
    for step in 0..STEPS {
        let (ids, labels) = batch(step, config.vocab_size, &training);
        let logits = model.forward(EncoderInput::new(ids));
        let loss = model.loss(logits, Labels::Classes(labels));
        if step % 10 == 0 || step + 1 == STEPS {
            last_loss = loss.clone().into_scalar();
            println!("step {step}: loss {last_loss:.3}");
        }
        let gradients = GradientsParams::from_grads(loss.backward(), &model);
        (model, _) = pruner.optimize(model, &mut optimizer, 5e-4, gradients)?;
    }
    println!("trained {STEPS} steps in {:.1} s", start.elapsed().as_secs_f64());
    if !last_loss.is_finite() {
        return Err("the loss is not finite".into());
    }

    // 3. Fold what is left into smaller dense matrices.
    let pruned = model.clone().valid();
    let (small, _) = compact(model);
    let (before, after) = (elements(&dense), elements(&small));
    let share = 100.0 * after as f64 / before as f64;
    println!("linear weights: {before} dense, {after} compact ({share:.1}%)");
    println!("all parameters: {} dense, {} compact", dense.num_params(), small.num_params());

    let (ids, _) = batch(STEPS, config.vocab_size, &device);
    let forward = |model: &BertForSequenceClassification| -> Result<Tensor<2>, Box<dyn Error>> {
        let logits = model.forward(EncoderInput::new(ids.clone()));
        device.sync()?;
        Ok(logits)
    };
    println!(
        "forward of a {BATCH}×{LENGTH} batch: {:.2?} dense, {:.2?} compact",
        median(|| forward(&dense).map(|_| ()))?,
        median(|| forward(&small).map(|_| ()))?
    );
    let difference = (forward(&pruned)? - forward(&small)?).abs().max().into_scalar::<f32>();
    println!("largest difference between pruned and compact logits: {difference:.1e}");
    // Compaction adds in another order; logits are about 1.
    if difference < 1e-4 { Ok(()) } else { Err("pruned and compact outputs differ".into()) }
}

/// Counts the stored weights of the compressible layers.
fn elements<M: Compressible>(model: &M) -> usize {
    let mut sum = 0;
    model.for_each_linear(&mut |_, linear| sum += linear.weight_elements());
    sum
}

/// Draws random tokens. The label tells whether the first is in the upper half of the vocabulary.
fn batch(step: usize, vocab_size: usize, device: &Device) -> (Tensor<2, Int>, Tensor<1, Int>) {
    let mut state = step as u64 * 7919 + 1;
    let ids: Vec<i64> = (0..BATCH * LENGTH)
        .map(|_| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            ((state >> 33) % vocab_size as u64) as i64
        })
        .collect();
    let upper = |row: &[i64]| i64::from(row[0] >= vocab_size as i64 / 2);
    let labels: Vec<i64> = ids.chunks(LENGTH).map(upper).collect();
    (
        Tensor::from_data(TensorData::new(ids, [BATCH, LENGTH]), device),
        Tensor::from_data(TensorData::new(labels, [BATCH]), device),
    )
}

/// Median of nine runs after two of warmup, in which GPU kernels are compiled and tuned.
fn median(mut run: impl FnMut() -> Result<(), Box<dyn Error>>) -> Result<Duration, Box<dyn Error>> {
    let mut times = Vec::new();
    for at in 0..11 {
        let start = Instant::now();
        run()?;
        if at >= 2 {
            times.push(start.elapsed());
        }
    }
    times.sort();
    Ok(times[times.len() / 2])
}
