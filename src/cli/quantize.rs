//! `losparse quantize`: a model folder whose layers compute in 8-bit integers.

use std::path::PathBuf;

use burn::tensor::Device;
use losparse::checkpoint::{LoadOptions, SaveOptions, StorageDtype};
use losparse::inspect::{bytes_on_disk, percent};
use losparse::models::{AnyModel, EncoderInput, FolderModel};
use losparse::quantize::{Quantization, QuantizedLayer, quantize};
use losparse::tasks::{EncodedExample, Example, TextBatch};
use losparse::{Error, Result, files};
use serde_json::{Value, json};

use super::global::GlobalArgs;
use super::opened::{Opened, find};
use super::output;

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  losparse quantize small/model -o small-int8
  losparse quantize tuned/model -o tuned-int8 --texts sentences.txt

Layers whose rounding alone moves the model's answers too far stay in 32-bit floats. Then see what
is left of the quality with `losparse evaluate`, and the speed with `losparse bench`.")]
pub struct Args {
    /// Model folder: Hugging Face's, a compressed one, or a run's output folder
    #[arg(value_name = "MODEL")]
    model: PathBuf,
    /// Folder for the result, a model folder
    #[arg(long, short, value_name = "FOLDER")]
    output: PathBuf,
    /// Texts to measure on, one a line, some dozen of what the model is for [default: film reviews]
    #[arg(long, value_name = "FILE")]
    texts: Option<PathBuf>,
    /// Replace a model that is in the output folder
    #[arg(long)]
    overwrite: bool,
}

/// How far a layer alone may move the answers, as a share of their length.
const MOST: f64 = 0.05;

/// Number of texts that are measured on, and their longest in tokens.
const TEXTS: usize = 16;
const TOKENS: usize = 128;

/// Layers to name.
const NAMED: usize = 3;

/// Texts to measure on by default.
const REVIEWS: &str = include_str!("../../models/movie-sentiment/data/dev.tsv");

impl Args {
    /// Runs the command.
    pub fn run(&self, global: &GlobalArgs) -> anyhow::Result<()> {
        if self.output.exists() && !self.overwrite {
            let message = "is there already; choose another folder, or replace it with --overwrite";
            return Err(Error::format(&self.output, message).into());
        }
        let device = global.open()?;
        let same = |found: PathBuf| found.canonicalize().ok() == self.output.canonicalize().ok();
        if self.output.exists() && find(&self.model).is_ok_and(same) {
            let message = "is the model itself; give another folder for the result";
            return Err(Error::format(&self.output, message).into());
        }
        let floats = LoadOptions { floats: true, ..LoadOptions::default() };
        let opened = Opened::load_with(&self.model, &device, &floats)?;
        // Saved, a new head would pass for a trained one.
        opened.check_head()?;
        let batches = self.batches(&opened, &device)?;
        let answers = |model: &AnyModel| {
            let each = batches.iter().map(|batch| model.answers(batch.clone()));
            Ok(each.collect::<Result<Vec<_>>>()?.concat())
        };
        let Opened { folder, model, about, .. } = opened;
        let (model, quantization) = quantize(model, MOST, answers)?;
        let options = SaveOptions {
            dtype: StorageDtype::Int8,
            losparse: Some(Value::Object(about)),
            tokenizer_from: Some(folder.clone()),
            ..SaveOptions::default()
        };
        model.save(&self.output, &options)?;
        let bytes = [bytes_on_disk(&folder)?, bytes_on_disk(&self.output)?];
        match global.json {
            true => output::print_json(&json!({
                "model": self.model.display().to_string(),
                "output": self.output.display().to_string(),
                "bytes": bytes,
                "quantization": quantization,
            })),
            false => Ok(output::print(&self.summary(&quantization, bytes))?),
        }
    }
}

impl Args {
    /// The texts in batches, tokenized: in pairs if the model was trained on pairs.
    fn batches(&self, opened: &Opened, device: &Device) -> Result<Vec<EncoderInput>> {
        let given = self.texts.as_ref().map(files::read_text).transpose()?;
        let lines: Vec<&str> = match &given {
            Some(text) => text.lines().filter(|line| !line.trim().is_empty()).collect(),
            None => REVIEWS.lines().skip(1).filter_map(|line| line.split('\t').next()).collect(),
        };
        let pairs = opened.takes_pairs()?.unwrap_or(false);
        let texts: Vec<Example> = lines
            .chunks(if pairs { 2 } else { 1 })
            .take(TEXTS)
            .map(|lines| Example {
                text: lines[0].to_string(),
                pair: pairs.then(|| lines[lines.len() - 1].to_string()),
                label: None,
            })
            .collect();
        if texts.is_empty() {
            let file = self.texts.clone().unwrap_or_default();
            return Err(Error::format(file, "no text in it; give one a line"));
        }
        let tokenizer = opened.tokenizer(opened.max_length(None, TOKENS)?.min(TOKENS))?;
        let mut examples = tokenizer.encode_examples(&texts)?;
        examples.sort_by_key(|example| example.input_ids.len());
        let batch = |examples: &[EncodedExample]| {
            let examples: Vec<_> = examples.iter().collect();
            let batch = TextBatch::new(&examples, tokenizer.pad_id(), device)?;
            Ok(EncoderInput::new(batch.input_ids)
                .with_attention_mask(batch.attention_mask)
                .with_token_type_ids(batch.token_type_ids))
        };
        examples.chunks(8).map(batch).collect()
    }

    fn summary(&self, quantization: &Quantization, [before, after]: [u64; 2]) -> String {
        let Quantization { layers, moved } = quantization;
        let (int8, floats): (Vec<_>, Vec<_>) = layers.iter().partition(|layer| layer.int8);
        let name = |layer: &&QuantizedLayer| format!("{} ({})", layer.name, percent(layer.moved));
        let names = |layers: &[&QuantizedLayer]| {
            let mut layers = layers.to_vec();
            layers.sort_by(|a, b| b.moved.total_cmp(&a.moved));
            let named: Vec<String> = layers.iter().take(NAMED).map(name).collect();
            let more = layers.len().saturating_sub(NAMED);
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            named.join(", ") + &more
        };
        let mut lines = vec![
            format!(
                "{} of {} layers in int8; answers move by {} of their length",
                int8.len(),
                layers.len(),
                percent(*moved)
            ),
            format!("moved most by: {}", names(&int8)),
        ];
        if !floats.is_empty() {
            lines.push(format!("left in f32: {}", names(&floats)));
        }
        let [size, result] = [before, after].map(|bytes| output::size(bytes as f64));
        lines.push(format!("size {size} -> {result}: {}", self.output.display()));
        lines.join("\n")
    }
}
