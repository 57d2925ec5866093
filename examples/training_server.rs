//! Makes a training step whenever a line `run` comes in, so that a benchmark in another language can
//! let it take turns with others (`benches/peers/training.py`).
//!
//! `training_server FOLDER BATCH LENGTH RATIO allowed|frozen|dense`: decomposes the classifier in
//! FOLDER (low-rank share 5%) and trains it with a selection every ten steps: `allowed` is at the
//! beginning of its schedule, `frozen` has pruned to RATIO already, and `dense` fine-tunes. Answers `ready`, then to every `run` with the wall-clock milliseconds of
//! the step, of its forward and backward pass, and of optimizer and pruning, and with the loss; to
//! `memory` with the greatest resident size so far in MB.

use std::error::Error;
use std::io::{BufRead, Write};
use std::time::Instant;

use burn::module::Module;
use burn::optim::{GradientsParams, ModuleOptimizer};
use burn::tensor::{Int, Tensor, TensorData};
use losparse::checkpoint::LoadOptions;
use losparse::decompose::{DecomposeConfig, Rank, decompose};
use losparse::linear::LayerSelection;
use losparse::models::{AnySequenceClassifier, EncoderInput, Labels};
use losparse::optim::{AdamW, AdamWSettings};
use losparse::pruning::{Curve, Pruner, PruningConfig, Regrowth, Schedule};

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
        let layers = LayerSelection::all();
        decompose(
            &mut model,
            &layers,
            DecomposeConfig { rank: Rank::Budget(LOW_RANK), sparse: true },
        )?;
    }
    let frozen = form == "frozen";
    let schedule = Schedule {
        initial_keep_ratio: 1.0,
        final_keep_ratio: ratio - LOW_RANK,
        initial_warmup_steps: 0,
        final_warmup_steps: 0,
        total_steps: 1_000_000,
        interval: 10,
        curve: if frozen { Curve::OneShot } else { Curve::Cubic },
    };
    let regrowth = if frozen { Regrowth::Frozen } else { Regrowth::Allowed };
    let config = PruningConfig { regrowth, ..PruningConfig::new(schedule) };
    let pruning = (form != "dense").then_some(config);
    let pruner = Pruner::new_or_idle(&model, pruning, schedule.total_steps, &device)?;
    let mut pruner = pruner.with_adamw();
    let device = device.autodiff();
    let mut model = Some(model.train());
    let mut optimizer: ModuleOptimizer = AdamW::new(AdamWSettings::default()).into();
    let ids: Vec<i64> =
        (0..shape[0] * shape[1]).map(|i| 1000 + (7919 * i as i64) % 20000).collect();
    let ids = Tensor::<2, Int>::from_data(TensorData::new(ids, shape), &device);
    let labels: Vec<i64> = (0..shape[0]).map(|i| (i % 2) as i64).collect();
    let labels = Tensor::<1, Int>::from_data(TensorData::new(labels, [shape[0]]), &device);
    let mut step = || -> Result<String, Box<dyn Error>> {
        let start = Instant::now();
        let current = model.take().ok_or("the last step failed")?;
        let logits = current.forward(EncoderInput::new(ids.clone()));
        let loss = current.loss(logits, Labels::Classes(labels.clone()));
        let value: f32 = loss.clone().inner().into_scalar();
        let gradients = GradientsParams::from_grads(loss.backward(), &current);
        let passes = start.elapsed();
        let (next, _) = pruner.optimize(current, &mut optimizer, RATE, gradients)?;
        device.sync().map_err(|e| format!("{e:?}"))?;
        model = Some(next);
        let all = start.elapsed();
        let ms = |time: std::time::Duration| time.as_secs_f64() * 1e3;
        Ok(format!("{} {} {} {value}", ms(all), ms(passes), ms(all - passes)))
    };
    if frozen {
        // The first window of importance ends at step 10: it prunes then.
        for _ in 0..11 {
            step()?;
        }
    }
    answer("ready")?;
    for line in std::io::stdin().lock().lines() {
        match line?.as_str() {
            "run" => answer(&step()?)?,
            "memory" => answer(&memory()?)?,
            other => return Err(format!("`{other}` is not run or memory").into()),
        }
    }
    Ok(())
}

fn answer(text: &str) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{text}")?;
    out.flush()
}

fn memory() -> std::io::Result<String> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = peak.and_then(|kib| kib.trim().trim_end_matches(" kB").parse::<f64>().ok());
    Ok(format!("{:.1}", kib.unwrap_or(0.0) / 1024.0))
}
