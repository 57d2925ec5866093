//! A cell of a study's table: runs that differ only in their seed.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{PlannedRun, RunState};
use crate::inspect::{Machine, RunReport};
use crate::tasks::MetricKind;

/// Runs that differ only in their seed, with their means.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Cell {
    /// Settings by axis; those that have no meaning for the cell's method are absent.
    pub settings: BTreeMap<String, String>,
    /// Folder of the starting model.
    pub model: String,
    /// The task, with the settings that distinguish it from others of the same name.
    pub task: String,
    /// The ratio asked for; absent for the dense baseline.
    pub ratio: Option<f64>,
    /// The primary metric; absent until a run is done.
    pub primary: Option<MetricKind>,
    /// Mean of each metric of the saved models on the first evaluation split.
    pub mean: BTreeMap<MetricKind, f64>,
    /// Sample standard deviation (`n − 1`) over seeds; empty with fewer than two runs.
    pub spread: BTreeMap<MetricKind, f64>,
    /// Mean linear ratio: stored share of the compressed layers' weights.
    pub linear_ratio: Option<f64>,
    /// Mean whole-model ratio.
    pub whole_ratio: Option<f64>,
    /// Mean of the runs' median latencies, milliseconds.
    pub latency_ms: Option<f64>,
    /// Mean latency of the dense model, measured in alternation.
    pub dense_latency_ms: Option<f64>,
    /// Mean speed relative to the dense model.
    pub speedup: Option<f64>,
    /// Mean seconds of training.
    pub seconds: Option<f64>,
    /// Whether its learning rate is the best by `primary`, all else equal, among rates with all runs
    /// done and over the seeds they share; the first of equals. Absent without a choice, or until all
    /// runs have ended.
    pub best_learning_rate: Option<bool>,
    /// The runs.
    pub runs: Vec<CellRun>,
}

/// One run of a cell. Results are absent until it is done.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct CellRun {
    /// The folder.
    pub folder: String,
    /// The seed.
    pub seed: u64,
    /// Metrics on the first evaluation split; empty unless done.
    pub metrics: BTreeMap<MetricKind, f64>,
    /// Number of evaluations on this data of which the result is the best, if there were several.
    pub best_of: Option<usize>,
    /// Seconds of training.
    pub seconds: Option<f64>,
    /// Linear ratio: stored share of the compressed layers' weights.
    pub linear_ratio: Option<f64>,
    /// Whole-model ratio.
    pub whole_ratio: Option<f64>,
    /// Bytes of the model file.
    pub bytes: Option<u64>,
    /// Median latency, milliseconds.
    pub latency_ms: Option<f64>,
    /// Median latency of the dense model, measured in alternation.
    pub dense_latency_ms: Option<f64>,
    /// Speed relative to the dense model.
    pub speedup: Option<f64>,
    /// UTC time at which it ended.
    pub date: Option<String>,
    /// The command.
    pub command: Option<String>,
    /// The machine.
    pub machine: Option<Machine>,
    /// Warnings about its result.
    #[serde(default)]
    pub warnings: Vec<String>,
    /// Share of the most frequent label on that split.
    #[serde(default)]
    pub majority_share: Option<f64>,
    /// The error that ended it.
    pub error: Option<String>,
}

impl CellRun {
    pub(super) fn new(run: &PlannedRun, state: &RunState) -> Self {
        let planned =
            Self { folder: run.folder.clone(), seed: run.recipe.training.seed, ..Self::default() };
        let report = match state {
            RunState::Waiting => return planned,
            RunState::Failed(error) => return Self { error: Some(error.clone()), ..planned },
            RunState::Finished(report) => report,
        };
        let contestants = report.latency.as_ref().map(|latency| latency.contestants.as_slice());
        let (dense, result) =
            (contestants.and_then(|c| c.first()), contestants.and_then(|c| c.last()));
        let compressed = report.method.is_some();
        let told = |text: &str| (!text.is_empty()).then(|| text.to_string());
        Self {
            metrics: metrics(report),
            best_of: report.training.best_of,
            seconds: Some(report.training.seconds),
            linear_ratio: compressed.then(|| report.account.linear_ratio()),
            whole_ratio: Some(report.account.whole_ratio()),
            bytes: report.bytes,
            latency_ms: result.map(|row| row.median_ms),
            dense_latency_ms: dense.map(|row| row.median_ms),
            speedup: result.filter(|_| compressed).map(|row| row.speedup),
            date: told(&report.date),
            command: told(&report.command),
            machine: report.machine.clone(),
            warnings: report.warnings.iter().map(|warning| warning.message.clone()).collect(),
            majority_share: report.result().and_then(|metrics| metrics.majority_share),
            ..planned
        }
    }

    /// Whether it is done.
    pub(super) fn is_done(&self) -> bool {
        !self.metrics.is_empty()
    }

    /// Whether it is still to do.
    pub(super) fn is_waiting(&self) -> bool {
        !self.is_done() && self.error.is_none()
    }
}

impl Cell {
    /// Makes the cell of `runs`, which share `settings`.
    pub(super) fn new(
        settings: BTreeMap<String, String>,
        runs: &[(&PlannedRun, &RunState)],
    ) -> Self {
        let recipe = &runs[0].0.recipe;
        let primary = runs.iter().find_map(|(_, state)| match state {
            RunState::Finished(report) => Some(report.task.primary),
            _ => None,
        });
        let runs: Vec<CellRun> = runs.iter().map(|(run, state)| CellRun::new(run, state)).collect();
        let over = |value: fn(&CellRun) -> Option<f64>| {
            mean(&runs.iter().filter_map(value).collect::<Vec<_>>())
        };
        let mut values: BTreeMap<MetricKind, Vec<f64>> = BTreeMap::new();
        for (kind, value) in runs.iter().flat_map(|run| &run.metrics) {
            values.entry(*kind).or_default().push(*value);
        }
        Self {
            model: recipe.model.as_ref().map(|m| m.display().to_string()).unwrap_or_default(),
            task: settings.get("task").unwrap_or(&recipe.task.name).clone(),
            settings,
            ratio: recipe.method.as_ref().map(|method| method.ratio),
            primary,
            mean: values.iter().filter_map(|(kind, all)| Some((*kind, mean(all)?))).collect(),
            spread: values.iter().filter_map(|(kind, all)| Some((*kind, spread(all)?))).collect(),
            linear_ratio: over(|run| run.linear_ratio),
            whole_ratio: over(|run| run.whole_ratio),
            latency_ms: over(|run| run.latency_ms),
            dense_latency_ms: over(|run| run.dense_latency_ms),
            speedup: over(|run| run.speedup),
            seconds: over(|run| run.seconds),
            best_learning_rate: None,
            runs,
        }
    }

    /// Number of runs done.
    pub(super) fn done(&self) -> usize {
        self.runs.iter().filter(|run| run.is_done()).count()
    }

    /// Mean and spread of the primary metric.
    pub(super) fn score(&self) -> Option<(f64, Option<f64>)> {
        let primary = self.primary?;
        Some((*self.mean.get(&primary)?, self.spread.get(&primary).copied()))
    }

    /// Mean of the primary metric over the runs with one of these seeds.
    fn score_over(&self, seeds: &BTreeSet<u64>) -> Option<f64> {
        let primary = self.primary?;
        let runs = self.runs.iter().filter(|run| seeds.contains(&run.seed));
        mean(&runs.filter_map(|run| run.metrics.get(&primary).copied()).collect::<Vec<_>>())
    }

    /// Whether `other` differs only in the learning rate.
    pub(super) fn is_rival_of(&self, other: &Self) -> bool {
        let rest = |cell: &Self| {
            let mut settings = cell.settings.clone();
            settings.retain(|axis, _| !is_rate(axis));
            settings
        };
        self.settings != other.settings && rest(self) == rest(other)
    }
}

pub(super) fn is_rate(axis: &str) -> bool {
    axis.rsplit('.').next() == Some("learning_rate")
}

/// Metrics of the saved model on the first split.
fn metrics(report: &RunReport) -> BTreeMap<MetricKind, f64> {
    let splits = if report.compacted.is_empty() { &report.trained } else { &report.compacted };
    splits.first().map(|split| split.metrics.values.clone()).unwrap_or_default()
}

pub(super) fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

/// Sample standard deviation.
pub(super) fn spread(values: &[f64]) -> Option<f64> {
    let mean = mean(values)?;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    (values.len() > 1).then(|| (squares / (values.len() - 1) as f64).sqrt())
}

/// Marks the best learning rate among cells that differ only in it, once all their runs have ended.
/// Cells with failed runs do not take part; the first of equals wins.
pub(super) fn mark_best(cells: &mut [Cell]) {
    for at in 0..cells.len() {
        let alike = |other: &usize| *other == at || cells[*other].is_rival_of(&cells[at]);
        let alike: Vec<usize> = (0..cells.len()).filter(alike).collect();
        let open = alike.iter().any(|&one| cells[one].runs.iter().any(CellRun::is_waiting));
        if alike.len() < 2 || open {
            continue;
        }
        let whole = alike.iter().filter(|&&one| cells[one].done() == cells[one].runs.len());
        let seeds = |one: &&usize| -> BTreeSet<u64> {
            cells[**one].runs.iter().map(|run| run.seed).collect()
        };
        // A rate must not win by a seed that the others lack.
        let shared = whole.clone().map(|one| seeds(&one)).reduce(|all, own| &all & &own);
        let shared = shared.unwrap_or_default();
        let scores = whole.filter_map(|&one| Some((one, cells[one].score_over(&shared)?)));
        let best = scores.reduce(|best, next| if next.1 > best.1 { next } else { best });
        cells[at].best_learning_rate = best.map(|(best, _)| best == at);
    }
}
