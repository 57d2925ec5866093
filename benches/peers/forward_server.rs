//! Runs a classifier once for each line `run`, so that `peers.py` can alternate it with other programs.
//!
//! `forward_server FOLDER BATCH LENGTH` prints `ready`. It answers `run` with the wall-clock and CPU
//! milliseconds of a forward pass, `logits` with the logits, `memory` with the peak resident size in MB.
//! Tokens are `1000 + 7919 i mod 20000`, without padding.

mod server;

use std::error::Error;

use burn::tensor::{Int, Tensor, TensorData};
use losparse::checkpoint::LoadOptions;
use losparse::models::{AnySequenceClassifier, EncoderInput, FolderModel};
use server::Clock;

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
    server::serve(|word, _| match word {
        "run" => {
            let clock = Clock::start()?;
            let logits = forward();
            device.sync().map_err(|e| format!("{e:?}"))?;
            let [wall, cpu] = clock.stop()?;
            drop(logits);
            Ok(format!("{wall} {cpu}"))
        }
        "logits" => {
            let logits: Vec<f32> = forward().try_into_vec_as()?;
            Ok(serde_json::to_string(&logits)?)
        }
        other => Err(format!("`{other}` is not run, logits or memory").into()),
    })
}
