//! Compression of a model on texts without training: [`decompose_in_order`] for the models of folders.

use std::fmt::Write;
use std::path::Path;

use burn::module::Module;
use burn::tensor::{Device, Int, Tensor, TensorData};
use serde::{Deserialize, Serialize};

use super::run::calibration_examples;
use super::{Event, Interrupt, Observer};
use crate::checkpoint::atomic;
use crate::compact::compact;
use crate::decompose::{FittedLayer, SequentialConfig, decompose_in_order};
use crate::generation::GenerationConfig;
use crate::inspect::latency::{Contestant, Repetitions, measure};
use crate::inspect::{
    LatencyReport, Machine, ModelAccount, RunReport, SplitMetrics, contestant, many, now, percent,
    thousands,
};
use crate::linear::{Compressible, LayerSelection, LayerState};
use crate::models::{AnyModel, AnySeq2Seq, EncoderInput, Seq2SeqInput};
use crate::tasks::{EncodedExample, Example, TextBatch, TextTokenizer};
use crate::{Error, Result};

/// Settings of a compression without training.
pub struct Untrained<'a> {
    /// How much of the layers is kept, and as what.
    pub config: SequentialConfig,
    /// The layers to compress.
    pub selection: LayerSelection,
    /// The model's tokenizer; longer texts are cut.
    pub tokenizer: &'a TextTokenizer,
    /// Settings of a model that writes texts: its decoder is shown what the model itself writes. Otherwise
    /// not looked at.
    pub generation: GenerationConfig,
    /// The device that the model is on.
    pub device: &'a Device,
    /// Receives progress, in layers.
    pub observer: &'a dyn Observer,
    /// Stops the work on request.
    pub interrupt: &'a Interrupt,
}

/// Result of a compression without training, with its conditions: `report.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UntrainedReport {
    /// Folder of the starting model.
    pub model: String,
    /// The ratio asked for.
    pub ratio: f64,
    /// Texts that the layers were fitted to.
    pub texts: usize,
    /// Every compressed layer, with its error.
    pub layers: Vec<FittedLayer>,
    /// Metrics of the result as saved; empty if no data was given.
    pub metrics: Vec<SplitMetrics>,
    /// Parameter count of the result.
    pub account: ModelAccount,
    /// Bytes of the starting model's weights on disk.
    pub starting_bytes: Option<u64>,
    /// Bytes of the result's weights on disk.
    pub bytes: Option<u64>,
    /// Latency of the dense model and the result.
    pub latency: Option<LatencyReport>,
    /// Seconds that the compression took, without loading, saving and measuring.
    pub seconds: f64,
    /// The machine.
    pub machine: Machine,
    /// UTC time at which the report was made.
    pub date: String,
    /// The command, with paths as the user gave them.
    pub command: String,
    /// Versions of `losparse` and `burn`.
    pub versions: Vec<(String, String)>,
}

/// Fewer texts are remarked on.
const FEW: usize = 64;

/// Number of times that progress is told.
const TOLD: usize = 6;

/// Tokens that an encoder is given at a time, at most.
const TOKENS_AT_A_TIME: usize = 2048;

/// Input of a model.
struct Input {
    source: EncoderInput,
    /// Tokens that a model that writes texts wrote, without the start token: `[1, length]`.
    written: Option<Tensor<2, Int>>,
}

impl Untrained<'_> {
    /// Compresses `model` on some of `texts`, at most 512, and brings it to its smallest form. Returns the
    /// model, its layers, and the number of texts.
    ///
    /// # Errors
    /// As [`decompose_in_order`], if a text cannot be tokenized or there is none, and if the work was stopped.
    pub fn compress(
        &self,
        model: AnyModel,
        texts: &[Example],
    ) -> Result<(AnyModel, Vec<FittedLayer>, usize)> {
        let encoded = self.tokenizer.encode_examples(texts)?;
        let lengths: Vec<usize> = encoded.iter().map(|text| text.input_ids.len()).collect();
        let chosen = calibration_examples(&lengths);
        if chosen.is_empty() {
            return Err(Error::option("unlabelled", "holds no text"));
        }
        if chosen.len() < FEW {
            let message = format!(
                "only {}: layers are fitted to these alone; give some hundred texts of the kind that \
                 the model is for",
                many(chosen.len(), "text")
            );
            self.observer.event(&Event::Note { message });
        }
        let model = model.valid();
        let chosen: Vec<&EncodedExample> = chosen.iter().map(|&at| &encoded[at]).collect();
        let texts = chosen.len();
        let inputs = batches(&model, chosen).into_iter().map(|batch| self.input(&model, &batch));
        let inputs: Vec<Input> = inputs.collect::<Result<_>>()?;
        let total = self.selection.resolve(&model)?.len();
        let mut next = 0;
        let (model, layers) = decompose_in_order(model, &self.selection, self.config, |model| {
            let done = decomposed(model).min(total);
            if done >= next {
                next = done + total.div_ceil(TOLD);
                let name = format!("Compressing layers: {done} of {total}");
                self.observer.event(&Event::Stage { name });
            }
            inputs.iter().try_for_each(|input| {
                self.interrupt.check()?;
                apply(model, input);
                Ok(())
            })
        })?;
        Ok((compact(model).0, layers, texts))
    }

    fn input(&self, model: &AnyModel, texts: &[&EncodedExample]) -> Result<Input> {
        self.interrupt.check()?;
        let batch = TextBatch::new(texts, self.tokenizer.pad_id(), self.device)?;
        let source = EncoderInput::new(batch.input_ids).with_token_type_ids(batch.token_type_ids);
        let written = match model {
            AnyModel::Seq2Seq(model) => Some(self.written(model, &source)?),
            AnyModel::SequenceClassifier(_) | AnyModel::QuestionAnswerer(_) => None,
        };
        Ok(Input { source, written })
    }

    fn written(&self, model: &AnySeq2Seq, source: &EncoderInput) -> Result<Tensor<2, Int>> {
        let greedy = GenerationConfig {
            num_beams: Some(1),
            num_return_sequences: Some(1),
            ..self.generation.clone()
        };
        let tokens: Vec<u32> = model
            .generate(source, &greedy)?
            .into_iter()
            .flatten()
            .next()
            .map_or_else(Vec::new, |written| written.tokens);
        // The start token alone is at least read once.
        let tokens = if tokens.len() > 1 { &tokens[1..] } else { &tokens };
        let tokens: Vec<i64> = tokens.iter().map(|&token| i64::from(token)).collect();
        let shape = [1, tokens.len()];
        Ok(Tensor::from_data(TensorData::new(tokens, shape), self.device))
    }
}

/// Texts of the same length together: padding would count as input. A model that writes texts gets one at a
/// time, since what it writes has lengths of its own.
fn batches<'a>(
    model: &AnyModel,
    mut texts: Vec<&'a EncodedExample>,
) -> Vec<Vec<&'a EncodedExample>> {
    if let AnyModel::Seq2Seq(_) = model {
        return texts.into_iter().map(|text| vec![text]).collect();
    }
    let length = |text: &EncodedExample| text.input_ids.len();
    texts.sort_by_key(|text| length(text));
    let same = texts.chunk_by(|a, b| length(a) == length(b));
    same.flat_map(|same| same.chunks((TOKENS_AT_A_TIME / length(same[0]).max(1)).max(1)))
        .map(<[_]>::to_vec)
        .collect()
}

/// Applies all layers of a model.
fn apply(model: &AnyModel, Input { source, written }: &Input) {
    let source = source.clone();
    match (model, written) {
        (AnyModel::SequenceClassifier(model), _) => drop(model.forward(source)),
        (AnyModel::QuestionAnswerer(model), _) => drop(model.forward(source)),
        (AnyModel::Seq2Seq(model), Some(written)) => {
            let input = model.teacher_forced(Seq2SeqInput::new(source), written.clone());
            drop(model.forward(input));
        }
        (AnyModel::Seq2Seq(model), None) => drop(model.forward(Seq2SeqInput::new(source))),
    }
}

/// Layers that are done: those that are measured have all of their weight in `S`.
fn decomposed(model: &AnyModel) -> usize {
    let mut done = 0;
    model.for_each_linear(&mut |_, linear| {
        let measured =
            matches!(linear.state(), LayerState::LowRankSparse { rank: 0, sparse: true });
        done += usize::from(linear.state() != LayerState::Dense && !measured);
    });
    done
}

impl UntrainedReport {
    /// Name of the file.
    pub const FILE: &'static str = RunReport::FILE;

    /// The report on `result`, the model made from `dense`: measures both in turns at inputs of `length`
    /// tokens.
    ///
    /// # Errors
    /// If the device fails.
    pub fn of(
        dense: &AnyModel,
        result: &AnyModel,
        layers: Vec<FittedLayer>,
        length: usize,
        device: &Device,
        device_name: &str,
    ) -> Result<Self> {
        let shape = [1, length];
        let mut contestants: Vec<Contestant<'_>> = vec![
            contestant("dense", dense.clone().valid(), shape, device),
            contestant("compact", result.clone().valid(), shape, device),
        ];
        let latency = measure(&mut contestants, Repetitions::default(), shape, device)?;
        let names: Vec<&str> = layers.iter().map(|layer| layer.name.as_str()).collect();
        Ok(Self {
            account: ModelAccount::of(result).over(&names),
            latency: Some(latency),
            machine: Machine::here(device_name),
            date: now(),
            versions: RunReport::current_versions(),
            layers,
            model: String::new(),
            ratio: 1.0,
            texts: 0,
            metrics: Vec::new(),
            starting_bytes: None,
            bytes: None,
            seconds: 0.0,
            command: String::new(),
        })
    }

    /// Writes `report.md` and `report.json` to a folder.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn write(&self, folder: impl AsRef<Path>) -> Result<()> {
        let folder = folder.as_ref();
        let file = folder.join(Self::FILE);
        let json = serde_json::to_string_pretty(self);
        let json = json.map_err(|e| Error::format(&file, e.to_string()))?;
        atomic::write_file(folder.join("report.md"), self.to_markdown().as_bytes())?;
        atomic::write_file(file, (json + "\n").as_bytes())
    }

    /// The report as Markdown.
    pub fn to_markdown(&self) -> String {
        let mut out = String::new();
        // Writing to a string cannot fail.
        let _ = self.markdown(&mut out);
        out
    }

    fn markdown(&self, out: &mut String) -> std::fmt::Result {
        let Self { account, layers, .. } = self;
        writeln!(out, "# Compression without training\n\nStarted from `{}`.\n", self.model)?;
        writeln!(
            out,
            "{} layers to {} of their weights, one after another on {} texts, in {:.0} s.\n",
            layers.len(),
            percent(self.ratio),
            self.texts,
            self.seconds
        )?;
        if !self.metrics.is_empty() {
            writeln!(out, "| split | examples | metrics |\n|---|---:|---|")?;
            for SplitMetrics { split, metrics } in &self.metrics {
                writeln!(out, "| {split} | {} | {metrics} |", metrics.examples)?;
            }
            writeln!(out)?;
        }
        let [linear, whole] = [account.linear_ratio(), account.whole_ratio()].map(percent);
        writeln!(
            out,
            "- compressed layers' weights: {linear} of the dense ones\n- whole model: {whole}"
        )?;
        if let (Some(before), Some(after)) = (self.starting_bytes, self.bytes) {
            writeln!(out, "- on disk: {} bytes (before: {})", thousands(after), thousands(before))?;
        }
        if let Some(latency) = &self.latency {
            let times = latency.contestants.iter();
            let times = times.map(|row| format!("{} {:.2} ms", row.name, row.median_ms));
            let times = times.collect::<Vec<_>>().join(", ");
            let (length, threads) = (latency.length, latency.threads);
            writeln!(out, "- 1 × {length} tokens, {threads} threads: {times}")?;
        }
        writeln!(
            out,
            "\n## Layers\n\n| layer | size | rank | kept neurons | relative output error |"
        )?;
        writeln!(out, "|---|---:|---:|---:|---:|")?;
        for layer in layers {
            let FittedLayer { name, d_input, d_output, rank, kept, error, measured } = layer;
            let note = if *measured { "" } else { " (of its weights: no text reached it)" };
            writeln!(
                out,
                "| `{name}` | {d_input} → {d_output} | {rank} | {kept} | {error:.3}{note} |"
            )?;
        }
        writeln!(out, "\n{}, {}\n\n```sh\n{}\n```", self.date, self.machine, self.command)
    }
}
