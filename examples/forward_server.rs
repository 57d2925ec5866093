//! Runs the model of a folder whenever a line `run` comes in, so that a benchmark in another language
//! can let it take turns with others (`benches/peers/`).
//!
//! `forward_server FOLDER BATCH LENGTH`: answers `ready`, and then to every `run` with the wall-clock
//! and CPU milliseconds of a forward pass, to `logits` with its logits, to `memory` with the greatest
//! resident size so far in MB. Tokens are `1000 + 7919 i mod 20000`, without padding.

use std::error::Error;
use std::io::{BufRead, Write};
use std::time::Instant;

use burn::tensor::{Int, Tensor, TensorData};
use losparse::checkpoint::LoadOptions;
use losparse::models::{AnySequenceClassifier, EncoderInput};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [folder, batch, length] = &arguments[..] else {
        return Err("give FOLDER BATCH LENGTH".into());
    };
    let shape: [usize; 2] = [batch.parse()?, length.parse()?];
    let name = std::env::var("LOSPARSE_DEVICE").unwrap_or_else(|_| "flex".to_string());
    let device = losparse::device::open(&name)?;
    let (model, _) = AnySequenceClassifier::load(folder, &device, &LoadOptions::default())?;
    let ids: Vec<i64> =
        (0..shape[0] * shape[1]).map(|i| 1000 + (7919 * i as i64) % 20000).collect();
    let ids = Tensor::<2, Int>::from_data(TensorData::new(ids, shape), &device);
    let forward = || model.forward(EncoderInput::new(ids.clone()));
    answer("ready")?;
    for line in std::io::stdin().lock().lines() {
        match line?.as_str() {
            "run" => {
                let (start, cpu) = (Instant::now(), cpu_milliseconds()?);
                let logits = forward();
                device.sync().map_err(|e| format!("{e:?}"))?;
                let wall = start.elapsed().as_secs_f64() * 1e3;
                let cpu = cpu_milliseconds()? - cpu;
                drop(logits);
                answer(&format!("{wall} {cpu}"))?;
            }
            "logits" => {
                let logits: Vec<f32> = forward().try_into_vec_as()?;
                answer(&serde_json::to_string(&logits)?)?;
            }
            "memory" => answer(&memory()?)?,
            other => return Err(format!("`{other}` is not run, logits or memory").into()),
        }
    }
    Ok(())
}

fn answer(text: &str) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{text}")?;
    out.flush()
}

/// CPU time of all threads, from Linux's `/proc`; 0 elsewhere.
fn cpu_milliseconds() -> Result<f64, Box<dyn Error>> {
    let Ok(tasks) = std::fs::read_dir("/proc/self/task") else { return Ok(0.0) };
    let mut nanoseconds = 0.0;
    for task in tasks {
        let text = std::fs::read_to_string(task?.path().join("schedstat")).unwrap_or_default();
        nanoseconds += text.split(' ').next().and_then(|t| t.parse().ok()).unwrap_or(0.0);
    }
    Ok(nanoseconds / 1e6)
}

fn memory() -> std::io::Result<String> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = peak.and_then(|kib| kib.trim().trim_end_matches(" kB").parse::<f64>().ok());
    Ok(format!("{:.1}", kib.unwrap_or(0.0) / 1024.0))
}
