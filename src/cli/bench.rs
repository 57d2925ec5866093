//! `losparse bench`.

use std::path::PathBuf;

use losparse::inspect::latency::{Contestant, Repetitions, measure};
use losparse::models::FolderModel;
use losparse::train::contestant;
use losparse::{Error, Result};

use super::machine::MachineArgs;
use super::model::Opened;
use super::output;

#[derive(clap::Args)]
#[command(after_help = "\
Example:
  losparse bench bert-base-uncased small/model --batch 1 --length 64 --threads 1

Models take turns, and speed is compared within turns, so a busy machine disturbs all alike.")]
pub struct Args {
    /// Model folders; speed is relative to the first
    #[arg(value_name = "MODEL", required = true)]
    models: Vec<PathBuf>,
    /// Examples in a batch
    #[arg(long, value_name = "N", default_value_t = 8, help_heading = "Measurement")]
    batch: usize,
    /// Tokens of every example
    #[arg(long, value_name = "TOKENS", default_value_t = 128, help_heading = "Measurement")]
    length: usize,
    /// Measured runs of every model
    #[arg(long, value_name = "N", default_value_t = 20, help_heading = "Measurement")]
    repeat: usize,
    /// Runs of every model before measuring
    #[arg(long, value_name = "N", default_value_t = 2, help_heading = "Measurement")]
    warmup: usize,
}

impl Args {
    /// Runs the command.
    pub fn run(&self, machine: &MachineArgs) -> anyhow::Result<()> {
        for (name, value) in [("batch", self.batch), ("length", self.length)] {
            if value == 0 {
                return Err(Error::option(name, "must be at least 1").into());
            }
        }
        let device = machine.open()?;
        let load = |path: &PathBuf| {
            machine.note(&format!("· loading {}", path.display()));
            Opened::load(path, &device)
        };
        let models: Vec<Opened> = self.models.iter().map(load).collect::<Result<_>>()?;
        let mut contestants: Vec<Contestant> = Vec::new();
        for (path, opened) in self.models.iter().zip(&models) {
            let longest = opened.model.max_length();
            if self.length > longest {
                let message = format!(
                    "{} is beyond {longest}, the longest input of {}",
                    self.length,
                    path.display()
                );
                return Err(Error::option("length", message).into());
            }
            let (name, shape) = (path.display().to_string(), [self.batch, self.length]);
            contestants.push(contestant(&name, opened.model.clone(), shape, &device));
        }
        let repetitions = Repetitions { warmup: self.warmup, measured: self.repeat };
        let shape = [self.batch, self.length];
        let report = measure(&mut contestants, repetitions, shape, &device)?;
        if machine.json {
            return output::print_json(&report);
        }
        let rows: Vec<Vec<String>> = report
            .contestants
            .iter()
            .map(|row| {
                vec![
                    row.name.clone(),
                    format!("{:.2}", row.median_ms),
                    format!("{:.2}", row.min_ms),
                    format!("{:.2}", row.max_ms),
                    format!("{:.1}", row.examples_per_second),
                    format!("×{:.2}", row.speedup),
                ]
            })
            .collect();
        let header = ["model", "median ms", "min", "max", "examples/s", "speed"];
        let table = output::table(&header, &[1, 2, 3, 4, 5], &rows);
        let conditions = format!(
            "batch {}, {} tokens, {} runs each, {} threads, device {}",
            report.batch,
            report.length,
            report.repetitions,
            report.threads,
            machine.device_name()
        );
        Ok(output::print(&format!("{table}\n({conditions})"))?)
    }
}
