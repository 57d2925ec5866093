//! The report of a run, `report.json`: what it did, and what came out.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{Agreement, Int8Comparison, LatencyReport, Machine, ModelAccount};
use crate::decompose::Approximate;
use crate::pruning::{Curve, Importance, PruningConfig};
use crate::tasks::{MetricReport, Task};
use crate::{Error, Result, files};

/// Report of a fine-tuning or compression. What was not measured is absent or empty.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunReport {
    /// The task.
    pub task: Task,
    /// Folder of the starting model.
    pub model: String,
    /// The compression; absent after plain fine-tuning.
    pub method: Option<MethodReport>,
    /// The training.
    pub training: TrainingReport,
    /// Metrics of the evaluations in training, with the updates done.
    #[serde(default)]
    pub history: Vec<(usize, MetricReport)>,
    /// Training loss on the labels, without the distance from a teacher: updates done, and the mean loss since
    /// the entry before.
    #[serde(default)]
    pub history_loss: Vec<(usize, f64)>,
    /// Metrics of the starting model; empty if its head was new.
    pub starting: Vec<SplitMetrics>,
    /// The dense baseline: a model fine-tuned for the same task.
    #[serde(default)]
    pub baseline: Option<Baseline>,
    /// Metrics of the trained model; after a compression in masked form, `L·R + S`.
    pub trained: Vec<SplitMetrics>,
    /// Metrics of the compacted model, as stored.
    pub compacted: Vec<SplitMetrics>,
    /// Differences between the masked and the compacted model, as stored.
    pub agreement: Option<Agreement>,
    /// The result in 8-bit integers beside floats; absent if they were not tried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub int8: Option<Int8Comparison>,
    /// Parameter count of the result.
    pub account: ModelAccount,
    /// Bytes of the starting model's weights on disk.
    pub starting_bytes: Option<u64>,
    /// Bytes of the result's `model.safetensors`.
    pub bytes: Option<u64>,
    /// Latency of the dense model and the result.
    pub latency: Option<LatencyReport>,
    /// Name of the device.
    pub device: String,
    /// The machine; absent in reports of earlier versions.
    #[serde(default)]
    pub machine: Option<Machine>,
    /// UTC time at which the run ended, as `2026-03-01T18:05:09Z`.
    #[serde(default)]
    pub date: String,
    /// The command of the run, with paths as the user gave them.
    #[serde(default)]
    pub command: String,
    /// Versions of `losparse` and `burn`.
    pub versions: Vec<(String, String)>,
    /// Sums of what the run read; absent in reports of earlier versions.
    #[serde(default)]
    pub inputs: Option<Inputs>,
    /// Defects of the result of a run that came to its end.
    #[serde(default)]
    pub warnings: Vec<Warning>,
}

/// How the model was compressed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MethodReport {
    /// The ratio asked for.
    pub ratio: f64,
    /// Share of the weights in the low-rank part, if no rank was set.
    pub low_rank_ratio: f64,
    /// The rank, if it was set.
    pub rank: Option<usize>,
    /// Target of the low-rank part at the start; absent in reports of earlier versions.
    #[serde(default)]
    pub approximate: Option<Approximate>,
    /// Patterns of the layers.
    pub layers: Vec<String>,
    /// Settings of the pruner as resolved; absent without a sparse part.
    pub pruning: Option<PruningConfig>,
}

impl MethodReport {
    /// Name of the method that the settings amount to.
    pub fn name(&self) -> &'static str {
        self.names()[0]
    }

    /// Short form of [`MethodReport::name`].
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
    /// Number of training examples.
    pub examples: usize,
    /// Number of updates.
    pub steps: usize,
    /// Passes over the data.
    pub epochs: f64,
    /// Examples per update: batch size times accumulated batches.
    pub examples_per_update: usize,
    /// Largest learning rate.
    pub learning_rate: f64,
    /// Longest input, tokens.
    pub max_length: usize,
    /// The seed.
    pub seed: u64,
    /// Updates skipped because a loss or gradient was not finite.
    pub skipped_updates: usize,
    /// Number of updates of the model that is the result.
    pub result_step: usize,
    /// Number of evaluations, all at the final ratio, of which the result is the best; absent without a
    /// choice.
    pub best_of: Option<usize>,
    /// Number of evaluation examples held out of the training data; absent if none were.
    #[serde(default)]
    pub held_out: Option<usize>,
    /// Seconds of training with its evaluations, over all resumptions.
    pub seconds: f64,
    /// Median seconds of an update; absent if the run was resumed after its last update.
    #[serde(default)]
    pub seconds_per_step: Option<f64>,
    /// Whether the run was resumed from a checkpoint.
    pub resumed: bool,
    /// Seconds of the fine-tuning of the dense model that came before; absent if there was none.
    #[serde(default)]
    pub dense_seconds: Option<f64>,
    /// The teacher; absent if there was none, and in reports of earlier versions.
    #[serde(default)]
    pub teacher: Option<TeacherReport>,
}

impl TrainingReport {
    /// Seconds of all training, with that of the dense model before.
    pub fn all_seconds(&self) -> f64 {
        self.seconds + self.dense_seconds.unwrap_or(0.0)
    }
}

/// The teacher of a training.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TeacherReport {
    /// Its folder; absent if it was the dense model itself, before it was compressed.
    pub folder: Option<String>,
    /// Whether that was fine-tuned first.
    pub fine_tuned_first: bool,
    /// Weight of the distance from its answers, beside the loss on the labels.
    pub weight: f64,
    /// Temperature of that distance.
    pub temperature: f64,
}

/// Metrics on one evaluation split.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SplitMetrics {
    /// `dev`, `dev_mismatched`, …
    pub split: String,
    /// The metrics.
    pub metrics: MetricReport,
}

/// Result of a `finetune` run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Baseline {
    /// Path of its report.
    pub report: String,
    /// Metrics of its result.
    pub metrics: Vec<SplitMetrics>,
    /// Whether it is known to have started from another model than the run that is compared with it.
    #[serde(default)]
    pub other_start: bool,
}

/// SHA-256 of what a run reads, as 64 hexadecimal digits each.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Inputs {
    /// SHA-256 of the training examples as tokens, in their order.
    pub train: String,
    /// SHA-256 of the evaluation examples.
    pub dev: String,
    /// SHA-256 of the starting model's `config.json`.
    pub config: String,
    /// SHA-256 of its weights.
    pub weights: String,
    /// SHA-256 of the configuration and weights of the teacher, unless it is the starting model.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub teacher: String,
}

impl Inputs {
    /// Says which input differs in `now`, if one does.
    pub(crate) fn changed(&self, now: &Self) -> Option<&'static str> {
        let changed = [
            (self.config != now.config, "the starting model's config.json has changed"),
            (self.weights != now.weights, "a file of the starting model's weights has changed"),
            (self.teacher != now.teacher, "the teacher has changed"),
            (self.train != now.train, "the training data, or its order, has changed"),
            (self.dev != now.dev, "the evaluation data, or its order, has changed"),
        ];
        changed.into_iter().find_map(|(changed, what)| changed.then_some(what))
    }
}

/// A defect of a run's result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Warning {
    /// Kind of defect.
    pub kind: WarningKind,
    /// Description for people, with what to do.
    pub message: String,
}

/// Kinds of defects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WarningKind {
    /// More weights are stored than were asked for.
    LargerThanAsked,
    /// Most updates were skipped because a loss or gradient was not finite.
    MostlySkipped,
    /// The training diverged: the model lost what it knew.
    Diverged,
    /// The model is no better than a constant answer.
    NoBetterThanConstant,
}

impl WarningKind {
    /// Whether the result is not what was asked for. A model that learnt nothing still is.
    pub fn spoils(self) -> bool {
        self != Self::NoBetterThanConstant
    }
}

impl RunReport {
    /// Name of its file in the folder of a run.
    pub const FILE: &'static str = "report.json";
    /// Name of the folder of the model beside it.
    pub const MODEL: &'static str = "model";

    /// The names and versions of this crate and Burn, for [`RunReport::versions`].
    pub(crate) fn current_versions() -> Vec<(String, String)> {
        vec![
            ("losparse".into(), env!("CARGO_PKG_VERSION").into()),
            // The manifest pins this version.
            ("burn".into(), "0.22.1".into()),
        ]
    }

    /// The report as indented JSON.
    ///
    /// # Errors
    /// If it cannot be written as JSON.
    pub fn to_json(&self) -> Result<String> {
        let json = serde_json::to_string_pretty(self);
        json.map(|text| text + "\n").map_err(|e| Error::format(Self::FILE, e.to_string()))
    }

    /// Reads a `report.json`.
    ///
    /// # Errors
    /// If it cannot be read or is not a report.
    pub fn read(path: impl AsRef<Path>) -> Result<Self> {
        files::read_json(path)
    }

    /// Whether a warning says that the result is not what was asked for.
    pub fn is_spoilt(&self) -> bool {
        self.warnings.iter().any(|warning| warning.kind.spoils())
    }

    /// Metrics of the saved result on the first split.
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
