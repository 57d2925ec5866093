//! What a run did and achieved: `report.json`, and as Markdown `report.md`.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{Agreement, LatencyReport, Machine, ModelAccount};
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

/// What a run of `finetune` achieved.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Baseline {
    /// Where its report lies.
    pub report: String,
    /// Metrics of its result.
    pub metrics: Vec<SplitMetrics>,
}

/// Something that is wrong with a run's result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Warning {
    /// What it is.
    pub kind: WarningKind,
    /// The same for people, with what to do.
    pub message: String,
}

/// What is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WarningKind {
    /// More weights are stored than were asked for.
    LargerThanAsked,
    /// Most updates were skipped, because a loss or gradient was not finite.
    MostlySkipped,
    /// The training diverged: it lost what the model knew.
    Diverged,
    /// The model is no better than one that gives every example the same answer.
    NoBetterThanConstant,
}

impl WarningKind {
    /// Whether the result is not what was asked for. That a model has learnt nothing is a result.
    pub fn spoils(self) -> bool {
        self != Self::NoBetterThanConstant
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
}

#[cfg(test)]
#[path = "report_tests.rs"]
mod tests;
#[cfg(test)]
pub(crate) use tests::report as report_for_tests;
