//! What a run did and achieved: `report.json`, and as Markdown `report.md`.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{Baseline, LatencyReport, Machine, ModelAccount, Warning, markdown};
use crate::checkpoint::atomic;
use crate::pruning::{Curve, Importance, PruningConfig};
use crate::tasks::{MetricReport, Task};
use crate::{Error, Result, files};

/// A run of fine-tuning or compression. What was not measured is absent or empty.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunReport {
    /// The task.
    pub task: Task,
    /// The model folder started from.
    pub model: String,
    /// The compression; absent after plain fine-tuning.
    pub method: Option<MethodReport>,
    /// The training.
    pub training: TrainingReport,
    /// Metrics after some updates, in training.
    #[serde(default)]
    pub history: Vec<(usize, MetricReport)>,
    /// Training loss: updates done, and the mean of those since the entry before.
    #[serde(default)]
    pub history_loss: Vec<(usize, f64)>,
    /// Metrics of the model started from, before any training; empty where its head was new.
    pub starting: Vec<SplitMetrics>,
    /// A dense model, fine-tuned for the same task, to compare with.
    #[serde(default)]
    pub baseline: Option<Baseline>,
    /// Metrics of the trained model; of a compression in masked form, `L·R + S`.
    pub trained: Vec<SplitMetrics>,
    /// Metrics of the compacted model, as stored.
    pub compacted: Vec<SplitMetrics>,
    /// Masked and compacted model side by side.
    pub agreement: Option<Agreement>,
    /// Parameters of the result.
    pub account: ModelAccount,
    /// Bytes of the weights of the model started from, as it lies on disk.
    pub starting_bytes: Option<u64>,
    /// Bytes of the result's `model.safetensors`.
    pub bytes: Option<u64>,
    /// Forward passes of the dense model and the result.
    pub latency: Option<LatencyReport>,
    /// The device trained and measured on.
    pub device: String,
    /// The machine; absent in reports of earlier versions.
    #[serde(default)]
    pub machine: Option<Machine>,
    /// When the run was done, UTC, as `2026-03-01T18:05:09Z`.
    #[serde(default)]
    pub date: String,
    /// The command that did it, with paths as the user gave them.
    #[serde(default)]
    pub command: String,
    /// Versions of what computed: `losparse`, `burn`.
    pub versions: Vec<(String, String)>,
    /// What is wrong with the result, though the run came to its end.
    #[serde(default)]
    pub warnings: Vec<Warning>,
}

/// How the model was compressed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MethodReport {
    /// The ratio asked for.
    pub ratio: f64,
    /// The share of the weights in the low-rank part, where no rank was given outright.
    pub low_rank_ratio: f64,
    /// The rank, if it was given outright.
    pub rank: Option<usize>,
    /// Patterns of the layers.
    pub layers: Vec<String>,
    /// Pruning and its schedule as resolved; absent where there is no sparse part.
    pub pruning: Option<PruningConfig>,
}

impl MethodReport {
    /// What the settings amount to.
    pub fn name(&self) -> &'static str {
        self.names()[0]
    }

    /// The same in a word.
    pub fn short_name(&self) -> &'static str {
        self.names()[1]
    }

    fn names(&self) -> [&'static str; 2] {
        let Some(pruning) = &self.pruning else { return ["low-rank only", "low-rank"] };
        if self.rank.map_or(self.low_rank_ratio > 0.0, |rank| rank > 0) {
            return ["LoSparse (low-rank + sparse)", "LoSparse"];
        }
        match (pruning.importance, pruning.schedule.curve) {
            (Importance::Magnitude, Curve::OneShot) => ["one-shot magnitude pruning", "one-shot"],
            (Importance::Magnitude, _) => ["iterative magnitude pruning", "magnitude"],
            (Importance::Movement, _) => ["structured movement pruning", "movement"],
            (Importance::SnipMomentum, _) => ["pruning by SNIP-momentum", "SNIP-momentum"],
            (Importance::Random, _) => ["random pruning", "random"],
            (Importance::Sensitivity, Curve::OneShot) => {
                ["one-shot pruning by sensitivity", "one-shot by sensitivity"]
            }
            (Importance::Sensitivity, _) => ["iterative structured pruning (ITP)", "ITP"],
        }
    }
}

/// How the model was trained.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrainingReport {
    /// Training examples.
    pub examples: usize,
    /// Updates done.
    pub steps: usize,
    /// Passes over the data.
    pub epochs: f64,
    /// Examples an update: batch size times accumulated batches.
    pub examples_per_update: usize,
    /// Largest learning rate.
    pub learning_rate: f64,
    /// Longest input, tokens.
    pub max_length: usize,
    /// The seed.
    pub seed: u64,
    /// Updates skipped since a loss or gradient was not finite.
    pub skipped_updates: usize,
    /// Update whose model is the result.
    pub result_step: usize,
    /// Evaluations that the result was chosen from, as the best: those at the final ratio; absent:
    /// there was no choice.
    pub best_of: Option<usize>,
    /// Examples evaluated on that were held out of the training data; absent: they are others.
    #[serde(default)]
    pub held_out: Option<usize>,
    /// Seconds of training, evaluations included, over all resumptions.
    pub seconds: f64,
    /// Seconds an update, median; absent where a run was resumed after its last update.
    #[serde(default)]
    pub seconds_per_step: Option<f64>,
    /// Whether the run was resumed from a checkpoint.
    pub resumed: bool,
}

/// Metrics on one evaluation split.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SplitMetrics {
    /// `dev`, `dev_mismatched`, …
    pub split: String,
    /// The metrics.
    pub metrics: MetricReport,
}

/// The masked and the compacted model on the same examples.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Agreement {
    /// Largest absolute difference between their logits.
    pub largest_logit_difference: f64,
    /// Examples whose predicted class differs; 0 in regression.
    pub changed_predictions: usize,
    /// Examples compared.
    pub examples: usize,
}

/// What a model answered to a data set, to be compared with another's.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Answers {
    /// Logits of each piece of input.
    pub logits: Vec<Vec<f32>>,
    /// The answer to each example, in words; empty where only numbers count.
    pub predictions: Vec<String>,
}

impl Agreement {
    /// Compares answers; a logit that is not finite counts as infinitely far.
    ///
    /// # Errors
    /// If there are not as many of each.
    pub fn between_answers(masked: &Answers, compacted: &Answers) -> Result<Self> {
        let logits = Self::between(&masked.logits, &compacted.logits)?;
        let pairs = masked.predictions.iter().zip(&compacted.predictions);
        Ok(Self {
            changed_predictions: pairs.filter(|(a, b)| a != b).count(),
            examples: masked.predictions.len(),
            ..logits
        })
    }

    /// Compares logits `[example][label]`; a value that is not finite counts as infinitely far.
    ///
    /// # Errors
    /// If there are not as many of each.
    pub fn between(masked: &[Vec<f32>], compacted: &[Vec<f32>]) -> Result<Self> {
        let widths = |rows: &[Vec<f32>]| rows.iter().map(Vec::len).collect::<Vec<_>>();
        if widths(masked) != widths(compacted) {
            let message =
                "the masked and the compacted model answered different numbers of examples";
            return Err(Error::Training(message.into()));
        }
        let argmax = crate::tasks::metrics::argmax;
        let rows = masked.iter().zip(compacted);
        let mut largest = 0.0f64;
        for (a, b) in rows.clone().flat_map(|(a, b)| a.iter().zip(b)) {
            let difference = (f64::from(*a) - f64::from(*b)).abs();
            largest = largest.max(if difference.is_nan() { f64::INFINITY } else { difference });
        }
        Ok(Self {
            largest_logit_difference: largest,
            changed_predictions: rows.filter(|(a, b)| argmax(a) != argmax(b)).count(),
            examples: masked.len(),
        })
    }
}

impl RunReport {
    /// The names and versions of this crate and Burn, for [`RunReport::versions`].
    pub fn current_versions() -> Vec<(String, String)> {
        vec![
            ("losparse".into(), env!("CARGO_PKG_VERSION").into()),
            // The manifest pins it exactly.
            ("burn".into(), "0.22.1".into()),
        ]
    }

    /// The report as indented JSON.
    ///
    /// # Errors
    /// If it cannot be written as JSON.
    pub fn to_json(&self) -> Result<String> {
        let json = serde_json::to_string_pretty(self);
        json.map(|text| text + "\n").map_err(|e| Error::format("report.json", e.to_string()))
    }

    /// Reads a `report.json`.
    ///
    /// # Errors
    /// If it cannot be read or is no report.
    pub fn read(path: impl AsRef<Path>) -> Result<Self> {
        files::read_json(path)
    }

    /// Whether a warning marks the result as one not to be used as it is.
    pub fn is_spoilt(&self) -> bool {
        self.warnings.iter().any(|warning| warning.kind.spoils())
    }

    /// Metrics of the result, as it was saved, on the first split.
    pub fn result(&self) -> Option<&MetricReport> {
        let splits = if self.compacted.is_empty() { &self.trained } else { &self.compacted };
        splits.first().map(|split| &split.metrics)
    }

    /// The report for people.
    pub fn to_markdown(&self) -> String {
        markdown::render(self, &[])
    }

    /// Writes `report.md`, with `pictures` by title and path from there, and `report.json` to a
    /// folder.
    ///
    /// # Errors
    /// If one cannot be written.
    pub fn write(&self, folder: impl AsRef<Path>, pictures: &[(String, String)]) -> Result<()> {
        let folder = folder.as_ref();
        let text = markdown::render(self, pictures);
        atomic::write_file(folder.join("report.md"), text.as_bytes())?;
        atomic::write_file(folder.join("report.json"), self.to_json()?.as_bytes())
    }
}

#[cfg(test)]
#[path = "report_tests.rs"]
mod tests;
#[cfg(test)]
pub(crate) use tests::report as report_for_tests;
