//! Does a training step for each line `run`, so that `training.py` can alternate it with other programs.
//!
//! `training_server FOLDER BATCH LENGTH RATIO allowed|frozen|dense` decomposes the classifier in FOLDER
//! (low-rank share 5%), trains it with a selection every ten steps, and prints `ready`. `allowed` is at the
//! beginning of its schedule, `frozen` has already pruned to RATIO, `dense` only fine-tunes. It answers `run`
//! with milliseconds: wall clock and CPU time of the step, wall clock of forward and backward pass, and of
//! optimizer and pruning; `loss` with the loss of the first step; `memory` with the peak resident size in MB.

mod server;

use std::cell::Cell;
use std::error::Error;

use burn::module::Module;
use burn::optim::GradientsParams;
use burn::tensor::{Int, Tensor, TensorData};
use losparse::checkpoint::LoadOptions;
use losparse::decompose::{DecomposeConfig, Rank, decompose};
use losparse::linear::LayerSelection;
use losparse::models::{AnySequenceClassifier, EncoderInput, FolderModel, Labels};
use losparse::optim::AdamWConfig;
use losparse::pruning::{Curve, Pruner, PruningConfig, Regrowth, Schedule};
use server::Clock;

const LOW_RANK: f64 = 0.05;
const RATE: f64 = 1e-6;

fn main() -> Result<(), Box<dyn Error>> {
    losparse::kernels::keep_freed_memory();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [folder, batch, length, ratio, form] = &arguments[..] else {
        return Err("give FOLDER BATCH LENGTH RATIO allowed|frozen|dense".into());
    };
    let shape: [usize; 2] = [batch.parse()?, length.parse()?];
    let ratio: f64 = ratio.parse()?;
    let name = std::env::var("LOSPARSE_DEVICE").unwrap_or_else(|_| "flex".to_string());
    let device = losparse::device::open(&name)?;
    let (mut model, _) = AnySequenceClassifier::load(folder, &device, &LoadOptions::default())?;
    if form != "dense" {
        let config = DecomposeConfig::new(Rank::Budget(LOW_RANK));
        (model, _) = decompose(model, &LayerSelection::all(), config)?;
    }
    let frozen = form == "frozen";
    let (curve, regrowth) =
        if frozen { (Curve::OneShot, Regrowth::Frozen) } else { (Curve::Cubic, Regrowth::Allowed) };
    let schedule = Schedule::new(ratio - LOW_RANK, 1_000_000)
        .with_initial_warmup_steps(0)
        .with_final_warmup_steps(2)
        .with_interval(10)
        .with_curve(curve);
    let config = PruningConfig::new(schedule).with_regrowth(regrowth);
    let pruning = (form != "dense").then_some(config);
    let mut pruner = Pruner::new_or_idle(&model, pruning, schedule.total_steps, &device)?;
    let device = device.autodiff();
    let mut model = Some(model.train());
    let mut optimizer = AdamWConfig::new().init();
    let ids: Vec<i64> =
        (0..shape[0] * shape[1]).map(|i| 1000 + (7919 * i as i64) % 20000).collect();
    let ids = Tensor::<2, Int>::from_data(TensorData::new(ids, shape), &device);
    let labels: Vec<i64> = (0..shape[0]).map(|i| (i % 2) as i64).collect();
    let labels = Tensor::<1, Int>::from_data(TensorData::new(labels, [shape[0]]), &device);
    let first_loss = Cell::new(None);
    let mut step = || -> Result<String, Box<dyn Error>> {
        let clock = Clock::start()?;
        let current = model.take().ok_or("the last step failed")?;
        let logits = current.forward(EncoderInput::new(ids.clone()));
        let loss = current.loss(logits, Labels::Classes(labels.clone()));
        let value: f32 = loss.clone().inner().into_scalar();
        first_loss.set(first_loss.get().or(Some(value)));
        let gradients = GradientsParams::from_grads(loss.backward(), &current);
        let [passes, _] = clock.stop()?;
        let (next, _) = pruner.optimize(current, &mut optimizer, RATE, gradients)?;
        device.sync().map_err(|e| format!("{e:?}"))?;
        model = Some(next);
        let [wall, cpu] = clock.stop()?;
        Ok(format!("{wall} {cpu} {passes} {}", wall - passes))
    };
    if frozen {
        // The first window of importance ends at step 10: it prunes then.
        for _ in 0..11 {
            step()?;
        }
    }
    server::serve(|word, _| match word {
        "run" => step(),
        "loss" => {
            if first_loss.get().is_none() {
                step()?;
            }
            Ok(first_loss.get().ok_or("no step was made")?.to_string())
        }
        other => Err(format!("`{other}` is not run, loss or memory").into()),
    })
}
