//! `losparse quickstart`: the main job on a small model and real data that come with the program.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use burn::tensor::Device;
use losparse::checkpoint::{LoadOptions, atomic};
use losparse::inspect::latency::{Repetitions, measure};
use losparse::inspect::{RunReport, percent};
use losparse::models::AnySequenceClassifier;
use losparse::tasks::{Example, TextTokenizer};
use losparse::train::{Interrupt, Recipe, RunOptions, compress, contestant};
use losparse::train::{model_tokenizer, predict_logits};
use serde_json::json;

use super::machine::MachineArgs;
use super::output;
use super::progress::Progress;
use super::run::stop_on_ctrl_c;

/// The model folder's files and the data, as they are in `models/movie-sentiment`.
const MODEL: [(&str, &[u8]); 3] = [
    ("config.json", include_bytes!("../../models/movie-sentiment/config.json")),
    ("model.safetensors", include_bytes!("../../models/movie-sentiment/model.safetensors")),
    ("tokenizer.json", include_bytes!("../../models/movie-sentiment/tokenizer.json")),
];
const DATA: [(&str, &[u8]); 2] = [
    ("train.tsv", include_bytes!("../../models/movie-sentiment/data/train.tsv")),
    ("dev.tsv", include_bytes!("../../models/movie-sentiment/data/dev.tsv")),
];
const RECIPE: &str = include_str!("../../models/movie-sentiment/recipe.toml");

/// Sentences to try the result on.
const SENTENCES: [&str; 4] = [
    "A quiet, funny and deeply moving film.",
    "Two hours that feel like five, and not one laugh.",
    "The plot is thin, but the two leads carry it with charm.",
    "It wants to be profound and ends up merely loud.",
];
/// Batch and length that latency is shown for, besides the report's.
const BATCH: [usize; 2] = [32, 32];

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  losparse quickstart
  losparse quickstart --ratio 0.1 --seed 7 --output tenth

Nothing is downloaded and nothing is precomputed: a small BERT that tells good film reviews from
bad is decomposed, pruned to 20% of its linear layers' weights while it trains, evaluated on
sentences it has not seen, compacted, saved, timed and tried out. Another --seed prunes others.")]
pub struct Args {
    /// Folder for the result
    #[arg(long, short, value_name = "FOLDER", default_value = "losparse-quickstart")]
    output: PathBuf,
    /// Share of the linear layers' weights to keep
    #[arg(long, value_name = "RATIO")]
    ratio: Option<f64>,
    /// Seed of batch order and dropout
    #[arg(long, value_name = "SEED")]
    seed: Option<u64>,
}

impl Args {
    /// Runs the command.
    pub fn run(&self, machine: &MachineArgs) -> anyhow::Result<()> {
        let device = machine.open()?;
        let interrupt = Interrupt::default();
        stop_on_ctrl_c(interrupt.clone())?;
        let parts = tempfile::tempdir()?;
        let start = parts.path().join("movie-sentiment");
        unpack(&start)?;
        let recipe = self.recipe(&start)?;
        machine.note(&format!(
            "A small BERT (2 layers, width 384) rates film reviews; its linear layers shrink to {}.",
            percent(recipe.method.as_ref().map_or(1.0, |method| method.ratio))
        ));
        let options = RunOptions {
            output: self.output.clone(),
            resume: false,
            overwrite: true,
            tui: false,
            device: device.clone(),
            device_name: machine.device_name(),
            observer: Arc::new(Progress::new(machine.quiet, machine.json)),
            interrupt: interrupt.clone(),
        };
        let report = compress(&recipe, &options)?;
        if machine.json {
            return output::print_json(&json!({"event": "done", "report": report}));
        }
        let small = self.output.join("model");
        let model = load(&small, &device)?;
        let table = table(&report, &load(&start, &device)?, &model, &device)?;
        let tokenizer = model_tokenizer(&small, &model, recipe.task.max_length())?;
        let tried = try_out(&model, &tokenizer, &device, &interrupt)?;
        Ok(output::print(&format!("\n{table}\n\n{tried}\n\n{}", self.next()))?)
    }

    fn recipe(&self, start: &Path) -> losparse::Result<Recipe> {
        let parsed = Recipe::parse(RECIPE);
        let mut recipe =
            parsed.map_err(|message| losparse::Error::format("built-in recipe.toml", message))?;
        recipe.model = Some(start.to_path_buf());
        recipe.task.train = Some(start.join("train.tsv"));
        recipe.task.dev = Some(start.join("dev.tsv"));
        if let (Some(ratio), Some(method)) = (self.ratio, &mut recipe.method) {
            method.ratio = ratio;
        }
        if let Some(seed) = self.seed {
            recipe.training.seed = seed;
        }
        Ok(recipe)
    }

    fn next(&self) -> String {
        let folder = self.output.display();
        format!(
            "The small model is in {folder}/model, the whole report in {folder}/report.md. Next:\n  \
             losparse predict {folder}/model \"your own sentence\"\n  \
             losparse inspect {folder}/model\n  \
             losparse compress YOUR-MODEL -o small --train train.csv --dev dev.csv --text COLUMN \
             --label COLUMN"
        )
    }
}

/// Writes the built-in model and data to `folder`.
fn unpack(folder: &Path) -> losparse::Result<()> {
    std::fs::create_dir_all(folder).map_err(|e| losparse::Error::io(folder, e))?;
    MODEL
        .iter()
        .chain(&DATA)
        .try_for_each(|(name, bytes)| atomic::write_file(folder.join(name), bytes))
}

fn load(folder: &Path, device: &Device) -> losparse::Result<AnySequenceClassifier> {
    AnySequenceClassifier::load(folder, device, &LoadOptions::default()).map(|(model, _)| model)
}

/// Before and after, for people.
fn table(
    report: &RunReport,
    dense: &AnySequenceClassifier,
    small: &AnySequenceClassifier,
    device: &Device,
) -> losparse::Result<String> {
    let mut contestants = vec![
        contestant("dense", dense.clone(), BATCH, device),
        contestant("compact", small.clone(), BATCH, device),
    ];
    let repetitions = Repetitions { warmup: 2, measured: 15 };
    let latency = measure(&mut contestants, repetitions, BATCH, device)?;
    let metric = |splits: &[losparse::inspect::SplitMetrics]| {
        let first = splits.first().map(|split| split.metrics.primary_value());
        first.map_or("–".to_string(), percent)
    };
    let account = &report.account;
    let millions = |count: usize| format!("{:.2} M", count as f64 / 1e6);
    let megabytes = |bytes: u64| format!("{:.1} MB", bytes as f64 / 1e6);
    let linear: usize = account.selected().map(|layer| layer.dense_elements).sum();
    let stored: usize = account.selected().map(|layer| layer.stored_elements).sum();
    let (before, after) = (&latency.contestants[0], &latency.contestants[1]);
    let row = |name: &str, before: String, after: String, change: String| {
        vec![name.to_string(), before, after, change]
    };
    let dense_bytes = 4 * account.dense_elements() as u64;
    let small_bytes = report.bytes.unwrap_or_default();
    let rows = vec![
        row(
            "accuracy on held-out sentences",
            metric(&report.starting),
            metric(&report.compacted),
            String::new(),
        ),
        row(
            "weights of the linear layers",
            millions(linear),
            millions(stored),
            percent(account.linear_ratio()),
        ),
        row(
            "parameters of the whole model",
            millions(account.dense_elements()),
            millions(account.stored_elements()),
            percent(account.whole_ratio()),
        ),
        row(
            "file (f32)",
            megabytes(dense_bytes),
            megabytes(small_bytes),
            percent(small_bytes as f64 / dense_bytes as f64),
        ),
        row(
            &format!("{} sentences of {} tokens", BATCH[0], BATCH[1]),
            format!("{:.1} ms", before.median_ms),
            format!("{:.1} ms", after.median_ms),
            format!("×{:.2} faster", after.speedup),
        ),
    ];
    Ok(output::table(&["", "dense", "compressed", ""], &[1, 2, 3], &rows))
}

/// What the small model says to some sentences.
fn try_out(
    model: &AnySequenceClassifier,
    tokenizer: &TextTokenizer,
    device: &Device,
    interrupt: &Interrupt,
) -> losparse::Result<String> {
    let examples: Vec<Example> = SENTENCES
        .iter()
        .map(|text| Example { text: (*text).to_string(), pair: None, label: None })
        .collect();
    let encoded = tokenizer.encode_examples(&examples)?;
    let pad_id = tokenizer.pad_id();
    let logits = predict_logits(model, &encoded, pad_id, SENTENCES.len(), device, interrupt)?;
    let names = model.labels().names();
    let rows: Vec<Vec<String>> = SENTENCES
        .iter()
        .zip(logits)
        .map(|(text, row)| {
            let highest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let total: f32 = row.iter().map(|logit| (logit - highest).exp()).sum();
            let best = losparse::tasks::metrics::argmax(&row);
            let label = names.get(best).cloned().unwrap_or_default();
            vec![label, format!("{:.0}%", 100.0 / total), (*text).to_string()]
        })
        .collect();
    Ok(output::table(&["the small model says", "", ""], &[1], &rows))
}
