//! `losparse bench`: times models against each other.

use std::path::PathBuf;

use burn::tensor::Device;
use losparse::generation::GenerationConfig;
use losparse::inspect::latency::{Contestant, LatencyReport, Repetitions, measure};
use losparse::inspect::many;
use losparse::models::{AnyModel, EncoderInput, FolderModel};
use losparse::train::{check_memory, contestant, token_ids};
use losparse::{Error, Result};

use super::global::GlobalArgs;
use super::opened::Opened;
use super::options::values::{MOST, check_count};
use super::output;

/// Most tokens in a batch.
const MOST_TOKENS: usize = 1 << 22;

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  losparse bench bert-base-uncased small/model --batch 1 --length 64 --threads 1
  losparse bench bart-base summaries/model --length 256 --new-tokens 60 --num-beams 4

Models alternate, and speed is compared within a turn, so a busy machine disturbs all of them alike.")]
pub struct Args {
    /// Model folders; speed is relative to the first
    #[arg(value_name = "MODEL", required = true)]
    models: Vec<PathBuf>,
    /// Examples in a batch
    #[arg(long, value_name = "N", default_value_t = 8, help_heading = "Measurement")]
    batch: usize,
    /// Tokens in every example
    #[arg(long, value_name = "TOKENS", default_value_t = 128, help_heading = "Measurement")]
    length: usize,
    /// Measured runs of every model
    #[arg(long, value_name = "N", default_value_t = 20, help_heading = "Measurement")]
    repeat: usize,
    /// Runs of every model before measuring
    #[arg(long, value_name = "N", default_value_t = 2, help_heading = "Measurement")]
    warmup: usize,
    /// Time the generation of N tokens, in place of one pass (text-to-text models)
    #[arg(long, value_name = "N", help_heading = "Measurement")]
    new_tokens: Option<usize>,
    /// Beams of the generation
    #[arg(
        long,
        value_name = "N",
        default_value_t = 1,
        requires = "new_tokens",
        help_heading = "Measurement"
    )]
    num_beams: usize,
}

impl Args {
    /// Runs the command.
    pub fn run(&self, global: &GlobalArgs) -> anyhow::Result<()> {
        self.check()?;
        let device = global.open()?;
        let load = |path: &PathBuf| {
            global.note(&format!("· loading {}", path.display()));
            Opened::load_for_inference(path, &device)
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
            let (name, shape) = (path.display().to_string(), self.shape());
            contestants.push(match self.new_tokens {
                None => contestant(&name, opened.model.clone(), shape, &device),
                Some(tokens) => self.writer(name, opened, tokens, &device)?,
            });
        }
        let repetitions = Repetitions { warmup: self.warmup, measured: self.repeat };
        let report = measure(&mut contestants, repetitions, self.shape(), &device)?;
        self.print(&report, global)
    }

    /// Checks every count.
    fn check(&self) -> Result<()> {
        check_count("batch", self.batch)?;
        check_count("length", self.length)?;
        check_count("new_tokens", self.new_tokens.unwrap_or(1))?;
        check_count("num_beams", self.num_beams)?;
        if self.repeat > MOST || self.warmup > MOST {
            let name = if self.repeat > MOST { "repeat" } else { "warmup" };
            return Err(Error::option(name, format!("more than {MOST} runs")));
        }
        if self.batch.saturating_mul(self.length) > MOST_TOKENS {
            let message =
                format!("more than {MOST_TOKENS} tokens in all; lower --batch or --length");
            return Err(Error::option("batch", message));
        }
        Ok(())
    }

    fn print(&self, report: &LatencyReport, global: &GlobalArgs) -> anyhow::Result<()> {
        if global.json {
            let mut json = serde_json::to_value(report)?;
            if let Some(tokens) = self.new_tokens {
                json["new_tokens"] = tokens.into();
                json["num_beams"] = self.num_beams.into();
            }
            return output::print_json(&json);
        }
        let rows = report.contestants.iter().map(|row| {
            let rate = row.examples_per_second * self.new_tokens.unwrap_or(1) as f64;
            vec![
                row.name.clone(),
                format!("{:.2}", row.median_ms),
                format!("{:.2}", row.min_ms),
                format!("{:.2}", row.max_ms),
                format!("{rate:.1}"),
                format!("×{:.2}", row.speedup),
            ]
        });
        let rate = if self.new_tokens.is_some() { "tokens/s" } else { "examples/s" };
        let header = ["model", "median ms", "min", "max", rate, "speed"];
        let table = output::table(&header, &[1, 2, 3, 4, 5], &rows.collect::<Vec<_>>());
        let writing = self
            .new_tokens
            .map(|tokens| format!(" read, {tokens} written by {} beams", self.num_beams));
        let conditions = format!(
            "batch {}, {} tokens{}, {} runs each, {}, device {}",
            report.batch,
            report.length,
            writing.unwrap_or_default(),
            report.repetitions,
            many(report.threads, "thread"),
            global.device_name()
        );
        Ok(output::print(&format!("{table}\n({conditions})"))?)
    }

    /// A contestant that generates texts of `tokens` tokens for texts of `--length` tokens.
    fn writer(
        &self,
        name: String,
        opened: &Opened,
        tokens: usize,
        device: &Device,
    ) -> Result<Contestant<'static>> {
        let AnyModel::Seq2Seq(model) = &opened.model else {
            let message = format!("{name} writes no texts; leave this out");
            return Err(Error::option("new_tokens", message));
        };
        let longest = opened.model.max_length();
        if tokens > longest {
            let message = format!("{tokens} tokens are more than the {longest} that {name} writes");
            return Err(Error::option("new_tokens", message));
        }
        let config = GenerationConfig {
            max_new_tokens: Some(tokens),
            min_new_tokens: Some(tokens),
            num_beams: Some(self.num_beams),
            ..GenerationConfig::from_folder(&opened.folder)?
        };
        model.check_generation(&config)?;
        check_memory(model, &config, self.batch)?;
        let (model, ids) = (model.clone(), token_ids(model, self.shape(), device));
        Ok((
            name,
            Box::new(move || model.generate(&EncoderInput::new(ids.clone()), &config).map(|_| ())),
        ))
    }

    fn shape(&self) -> [usize; 2] {
        [self.batch, self.length]
    }
}
