//! The end of a quick start: the model before and after side by side, and the compressed one tried
//! out.

use std::path::Path;

use burn::tensor::Device;
use losparse::Result;
use losparse::inspect::latency::{Contestant, Repetitions, measure};
use losparse::inspect::{Int8Comparison, RunReport, SplitMetrics, percent, thousands};
use losparse::models::{AnyModel, AnySeq2Seq, AnySequenceClassifier, EncoderInput, FolderModel};
use losparse::tasks::summarization::SummarizationExample;
use losparse::tasks::{Example, MetricKind, Split, TextBatch};
use losparse::train::{Interrupt, Recipe, Silent, TextGenerator, contestant, predict_logits};

use super::built_in::{BuiltIn, Timed};
use crate::cli::opened::Opened;
use crate::cli::output;

/// Number of timed runs.
const REPETITIONS: Repetitions = Repetitions { warmup: 2, measured: 15 };

/// A run's report, with the dense model before and the compressed one after.
pub struct Outcome<'a> {
    built_in: &'a BuiltIn,
    recipe: &'a Recipe,
    report: &'a RunReport,
    dense: Opened,
    small: Opened,
    device: &'a Device,
}

impl<'a> Outcome<'a> {
    /// Opens the folders of the model before, `start`, and after, `small`.
    pub fn new(
        built_in: &'a BuiltIn,
        recipe: &'a Recipe,
        report: &'a RunReport,
        [start, small]: [&Path; 2],
        device: &'a Device,
    ) -> Result<Self> {
        let (dense, small) = (Opened::load(start, device)?, Opened::load(small, device)?);
        Ok(Self { built_in, recipe, report, dense, small, device })
    }

    /// A table of the model before and after.
    pub fn table(&self) -> Result<String> {
        let account = &self.report.account;
        let millions = |count: usize| format!("{:.2} M", count as f64 / 1e6);
        let megabytes = |bytes: u64| format!("{:.1} MB", bytes as f64 / 1e6);
        let linear: usize = account.selected().map(|layer| layer.dense_elements).sum();
        let stored: usize = account.selected().map(|layer| layer.stored_elements).sum();
        let dense_bytes = 4 * account.dense_elements() as u64;
        let small_bytes = self.report.bytes.unwrap_or_default();
        let mut rows: Vec<Vec<String>> = Vec::new();
        let mut row = |name: &str, before: String, after: String, change: String| {
            rows.push(vec![name.to_string(), before, after, change]);
        };
        for &(metric, name) in self.built_in.metrics {
            let of = |splits: &[SplitMetrics]| value(splits, metric);
            let majority = self.report.result().and_then(|metrics| metrics.majority_share);
            let beside = match majority.filter(|_| metric == MetricKind::Accuracy) {
                Some(share) => format!("majority {}", percent(share)),
                None => String::new(),
            };
            row(name, of(&self.report.starting), of(&self.report.compacted), beside);
        }
        let share = percent(account.linear_ratio());
        row("weights of the linear layers", millions(linear), millions(stored), share);
        row(
            "parameters of the whole model",
            millions(account.dense_elements()),
            millions(account.stored_elements()),
            percent(account.whole_ratio()),
        );
        let share = percent(small_bytes as f64 / dense_bytes as f64);
        let is_int8 = self.report.int8.as_ref().is_some_and(Int8Comparison::is_kept);
        let numbers = if is_int8 { "int8" } else { "f32" };
        let [before, after] = [(dense_bytes, "f32"), (small_bytes, numbers)]
            .map(|(bytes, numbers)| format!("{} ({numbers})", megabytes(bytes)));
        row("file", before, after, share);
        let (name, [before, after], speedup) = self.speed()?;
        row(&name, before, after, format!("×{speedup:.2} faster"));
        Ok(output::table(&["", "dense", "compressed", ""], &[1, 2, 3], &rows))
    }

    /// Name of the timed work, the results of both models, and how many times as fast the small one is.
    fn speed(&self) -> Result<(String, [String; 2], f64)> {
        let shape = match self.built_in.timed {
            Timed::Pass(shape) => shape,
            Timed::Write(texts) => [texts, 1],
        };
        let contestant = |name: &str, opened: &Opened| match (self.built_in.timed, &opened.model) {
            (Timed::Write(texts), AnyModel::Seq2Seq(_)) => self.writer(name, opened, texts),
            _ => Ok(contestant(name, opened.model.clone(), shape, self.device)),
        };
        let mut both = [contestant("dense", &self.dense)?, contestant("compact", &self.small)?];
        let latency = measure(&mut both, REPETITIONS, shape, self.device)?;
        let (before, after) = (&latency.contestants[0], &latency.contestants[1]);
        let (name, shown) = match self.built_in.timed {
            Timed::Pass([batch, length]) => (
                format!("{batch} sentences of {length} tokens"),
                [before, after].map(|one| format!("{:.1} ms", one.median_ms)),
            ),
            Timed::Write(texts) => (
                format!("words a second, {texts} at a time"),
                [before, after].map(|one| thousands(one.examples_per_second.round() as u64)),
            ),
        };
        Ok((name, shown, after.speedup))
    }

    /// A contestant that generates answers to the first `texts` of the evaluation data.
    fn writer(&self, name: &str, opened: &Opened, texts: usize) -> Result<Contestant<'static>> {
        let AnyModel::Seq2Seq(model) = opened.model.clone() else {
            let message = format!("{} writes no texts", opened.folder.display());
            return Err(losparse::Error::option("model", message));
        };
        let (settings, own) = opened.summarization(&self.recipe.task, &|_| ())?;
        let tokenizer = opened.tokenizer(settings.max_source_length)?;
        let mut data = self.recipe.task.read_summaries(Split::Dev)?;
        data.truncate(texts);
        let examples: Vec<Example> = data.examples.into_iter().map(|e| text(&e.document)).collect();
        let encoded = tokenizer.encode_examples(&examples)?;
        let encoded: Vec<_> = encoded.iter().collect();
        let batch = TextBatch::new(&encoded, tokenizer.pad_id(), self.device)?;
        let input = EncoderInput::new(batch.input_ids).with_attention_mask(batch.attention_mask);
        let generation = settings.generation(&own);
        Ok((name.to_string(), Box::new(move || model.generate(&input, &generation).map(|_| ()))))
    }

    /// The small model's answers to the built-in texts.
    pub fn try_out(&self, interrupt: &Interrupt) -> Result<String> {
        match &self.small.model {
            AnyModel::Seq2Seq(model) => self.written(model, interrupt),
            AnyModel::SequenceClassifier(model) => self.classified(model, interrupt),
            AnyModel::QuestionAnswerer(_) => Ok(String::new()),
        }
    }

    /// Generated answers, beside those of the evaluation data for the same text.
    fn written(&self, model: &AnySeq2Seq, interrupt: &Interrupt) -> Result<String> {
        let (settings, own) = self.small.summarization(&self.recipe.task, &|_| ())?;
        let tokenizer = self.small.tokenizer(settings.max_source_length)?;
        let summarizer = TextGenerator {
            model,
            tokenizer: &tokenizer,
            settings: &settings,
            own: &own,
            batch_size: self.built_in.texts.len(),
            device: self.device,
        };
        let example =
            |text: &&str| SummarizationExample { document: (*text).into(), summary: None };
        let examples: Vec<_> = self.built_in.texts.iter().map(example).collect();
        let written = summarizer.generate(&examples, &Silent, interrupt)?;
        let known = self.recipe.task.read_summaries(Split::Dev)?.examples;
        let reference = |text: &str| {
            let found = known.iter().find(|example| example.document == text);
            found.and_then(|example| example.summary.clone()).unwrap_or_else(|| "–".into())
        };
        let pairs = self.built_in.texts.iter().zip(written.texts()?);
        let rows: Vec<Vec<String>> =
            pairs.map(|(text, said)| vec![(*text).into(), said.into(), reference(text)]).collect();
        Ok(output::table(&["", "the small model says", "the dictionary"], &[], &rows))
    }

    fn classified(&self, model: &AnySequenceClassifier, interrupt: &Interrupt) -> Result<String> {
        let texts = self.built_in.texts;
        let tokenizer = self.small.tokenizer(self.recipe.task.max_length())?;
        let examples: Vec<Example> = texts.iter().map(|one| text(one)).collect();
        let encoded = tokenizer.encode_examples(&examples)?;
        let pad_id = tokenizer.pad_id();
        let logits = predict_logits(model, &encoded, pad_id, texts.len(), self.device, interrupt)?;
        let names = model.labels().names();
        let rows = texts.iter().zip(logits).map(|(text, row)| {
            let highest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let total: f32 = row.iter().map(|logit| (logit - highest).exp()).sum();
            let best = losparse::tasks::metrics::argmax(&row);
            let label = names.get(best).cloned().unwrap_or_default();
            vec![label, format!("{:.0}%", 100.0 / total), (*text).to_string()]
        });
        let rows: Vec<Vec<String>> = rows.collect();
        Ok(output::table(&["the small model says", "", ""], &[1], &rows))
    }
}

fn text(text: &str) -> Example {
    Example { text: text.to_string(), pair: None, label: None }
}

/// The value of a metric on the first split, in percent.
fn value(splits: &[SplitMetrics], metric: MetricKind) -> String {
    let found = splits.first().and_then(|split| split.metrics.values.get(&metric));
    found.map_or("–".to_string(), |&value| percent(value))
}
