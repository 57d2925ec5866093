//! A cell of a study's table: runs that differ in their seed only.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{PlannedRun, RunState};
use crate::inspect::{Machine, RunReport};
use crate::tasks::MetricKind;

/// Runs that differ in their seed only.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Cell {
    /// Settings by axis; those that have no meaning for the cell's method are absent.
    pub settings: BTreeMap<String, String>,
    /// The model folder started from.
    pub model: String,
    /// The task, with what sets it apart from others of the same name.
    pub task: String,
    /// The ratio asked for; absent for the dense baseline.
    pub ratio: Option<f64>,
    /// The metric that decides; absent until a run is done.
    pub primary: Option<MetricKind>,
    /// Mean of each metric on the first evaluation split, of the model as saved.
    pub mean: BTreeMap<MetricKind, f64>,
    /// Standard deviation over seeds (of a sample, `n − 1`); empty with fewer than two runs.
    pub spread: BTreeMap<MetricKind, f64>,
    /// Mean share of the compressed layers' weights that is stored.
    pub linear_ratio: Option<f64>,
    /// Mean share of the whole model that is stored.
    pub whole_ratio: Option<f64>,
    /// Mean of the runs' median times of a forward pass, milliseconds.
    pub latency_ms: Option<f64>,
    /// The same of the dense model, measured in turns with it.
    pub dense_latency_ms: Option<f64>,
    /// Mean of how many times as fast as the dense model.
    pub speedup: Option<f64>,
    /// Mean seconds of training.
    pub seconds: Option<f64>,
    /// Whether its learning rate is the best of the grid's by `primary`, all else equal, of those
    /// with all runs done (the first of equals), over the seeds that all of those have; absent where
    /// there is no choice, or not yet.
    pub best_learning_rate: Option<bool>,
    /// Its runs.
    pub runs: Vec<CellRun>,
}

/// One run of a cell. What is not known before it is done is absent until then.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct CellRun {
    /// Its folder.
    pub folder: String,
    /// The seed.
    pub seed: u64,
    /// Metrics on the first evaluation split; empty unless done.
    pub metrics: BTreeMap<MetricKind, f64>,
    /// Evaluations, on this same data, that the result is the best of, if it is of several.
    pub best_of: Option<usize>,
    /// Seconds of training.
    pub seconds: Option<f64>,
    /// Share of the compressed layers' weights that is stored.
    pub linear_ratio: Option<f64>,
    /// Share of the whole model that is stored.
    pub whole_ratio: Option<f64>,
    /// Bytes of the model file.
    pub bytes: Option<u64>,
    /// Median time of a forward pass, milliseconds.
    pub latency_ms: Option<f64>,
    /// The same of the dense model, measured in turns with it.
    pub dense_latency_ms: Option<f64>,
    /// How many times as fast as the dense model.
    pub speedup: Option<f64>,
    /// When it was done, UTC.
    pub date: Option<String>,
    /// The command that did it.
    pub command: Option<String>,
    /// What it ran on.
    pub machine: Option<Machine>,
    /// What is wrong with its result.
    #[serde(default)]
    pub warnings: Vec<String>,
    /// Share of the most frequent label on that split.
    #[serde(default)]
    pub majority_share: Option<f64>,
    /// The error it ended by.
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
    pub fn is_done(&self) -> bool {
        !self.metrics.is_empty()
    }

    /// Whether it is still to do.
    pub fn is_waiting(&self) -> bool {
        !self.is_done() && self.error.is_none()
    }
}

impl Cell {
    /// The cell of `runs`, which are alike in `settings`.
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

    /// Runs done.
    pub fn done(&self) -> usize {
        self.runs.iter().filter(|run| run.is_done()).count()
    }

    /// Mean and spread of the primary metric.
    pub fn score(&self) -> Option<(f64, Option<f64>)> {
        let primary = self.primary?;
        Some((*self.mean.get(&primary)?, self.spread.get(&primary).copied()))
    }

    /// Mean of the primary metric over the runs with one of these seeds.
    fn score_over(&self, seeds: &BTreeSet<u64>) -> Option<f64> {
        let primary = self.primary?;
        let runs = self.runs.iter().filter(|run| seeds.contains(&run.seed));
        mean(&runs.filter_map(|run| run.metrics.get(&primary).copied()).collect::<Vec<_>>())
    }

    /// Whether `other` is the same at another learning rate.
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

/// Metrics on the first split of the model as saved.
fn metrics(report: &RunReport) -> BTreeMap<MetricKind, f64> {
    let splits = if report.compacted.is_empty() { &report.trained } else { &report.compacted };
    splits.first().map(|split| split.metrics.values.clone()).unwrap_or_default()
}

pub(super) fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

/// Standard deviation of a sample.
pub(super) fn spread(values: &[f64]) -> Option<f64> {
    let mean = mean(values)?;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    (values.len() > 1).then(|| (squares / (values.len() - 1) as f64).sqrt())
}

/// Marks the best learning rate among cells that are alike in all else, once none of their runs is
/// still to do. Only cells with all their runs done are in it; of equals the first wins.
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
        // A rate must not win by a seed that the others have not.
        let shared = whole.clone().map(|one| seeds(&one)).reduce(|all, own| &all & &own);
        let shared = shared.unwrap_or_default();
        let scores = whole.filter_map(|&one| Some((one, cells[one].score_over(&shared)?)));
        let best = scores.reduce(|best, next| if next.1 > best.1 { next } else { best });
        cells[at].best_learning_rate = best.map(|(best, _)| best == at);
    }
}
