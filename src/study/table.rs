//! The table of a study: a row a cell, over its seeds.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde::Serialize;

use super::grid::is_seed;
use super::{RunState, Study};
use crate::inspect::{RunReport, percent};
use crate::tasks::MetricKind;
use crate::{Error, Result};

/// A study's results so far.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StudyReport {
    /// The grid's settings, in order; without seeds.
    pub axes: Vec<String>,
    /// One a combination of settings, over seeds.
    pub cells: Vec<Cell>,
    /// Runs done.
    pub finished: usize,
    /// Runs that ended by an error.
    pub failed: usize,
    /// Runs still to do.
    pub waiting: usize,
    /// The device, as the user named it.
    pub device: String,
}

/// Runs that differ in their seed only.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Cell {
    /// Settings by axis; those that have no meaning for the cell's method are absent.
    pub settings: BTreeMap<String, String>,
    /// The model folder started from.
    pub model: String,
    /// The task.
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
    /// Whether its learning rate is the best of the grid's by `primary`, all else equal; absent where
    /// there is no choice.
    pub best_learning_rate: Option<bool>,
    /// Its runs.
    pub runs: Vec<CellRun>,
}

/// One run of a cell.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CellRun {
    /// Its folder.
    pub folder: String,
    /// The seed.
    pub seed: u64,
    /// Metrics on the first evaluation split; empty unless done.
    pub metrics: BTreeMap<MetricKind, f64>,
    /// Evaluations, on this same data, that the result is the best of, if it is of several.
    pub best_of: Option<usize>,
    /// The error it ended by.
    pub error: Option<String>,
}

impl StudyReport {
    /// The results of `study` with its runs in `states`.
    pub fn new(study: &Study, states: &[RunState], device: &str) -> Self {
        let mut groups: Vec<(BTreeMap<String, String>, Vec<usize>)> = Vec::new();
        for (at, run) in study.runs.iter().enumerate() {
            let settings = run.settings.iter().filter(|(axis, _)| !is_seed(axis)).cloned();
            let settings: BTreeMap<String, String> = settings.collect();
            match groups.iter_mut().find(|(known, _)| *known == settings) {
                Some((_, members)) => members.push(at),
                None => groups.push((settings, vec![at])),
            }
        }
        let cells = groups.into_iter().map(|(settings, members)| {
            let runs: Vec<_> = members.iter().map(|&at| (&study.runs[at], &states[at])).collect();
            cell(settings, &runs)
        });
        let mut cells: Vec<Cell> = cells.collect();
        mark_best(&mut cells);
        let count = |wanted: fn(&RunState) -> bool| states.iter().filter(|s| wanted(s)).count();
        Self {
            axes: study.axes.iter().filter(|axis| !is_seed(axis)).cloned().collect(),
            cells,
            finished: count(|state| matches!(state, RunState::Finished(_))),
            failed: count(|state| matches!(state, RunState::Failed(_))),
            waiting: count(|state| matches!(state, RunState::Waiting)),
            device: device.to_string(),
        }
    }

    /// The results as indented JSON.
    ///
    /// # Errors
    /// If they cannot be written as JSON.
    pub fn to_json(&self) -> Result<String> {
        let json = serde_json::to_string_pretty(self);
        json.map(|text| text + "\n").map_err(|e| Error::format("study.json", e.to_string()))
    }

    /// The results as CSV, a row a cell; of the metrics the primary one.
    ///
    /// # Errors
    /// If they cannot be written as CSV.
    pub fn to_csv(&self) -> Result<String> {
        let failed = |e: &dyn std::fmt::Display| Error::format("study.csv", e.to_string());
        let mut writer = csv::Writer::from_writer(Vec::new());
        let columns = [
            "metric",
            "mean",
            "spread",
            "runs",
            "failed",
            "linear_ratio",
            "whole_ratio",
            "latency_ms",
            "dense_latency_ms",
            "speedup",
            "seconds",
            "best_learning_rate",
        ];
        let header = self.axes.iter().map(String::as_str).chain(columns);
        writer.write_record(header).map_err(|e| failed(&e))?;
        let number = |value: Option<f64>| value.map(|value| value.to_string()).unwrap_or_default();
        for cell in &self.cells {
            let of = |values: &BTreeMap<MetricKind, f64>| {
                number(cell.primary.and_then(|primary| values.get(&primary).copied()))
            };
            let mut row: Vec<String> = self
                .axes
                .iter()
                .map(|axis| cell.settings.get(axis).cloned().unwrap_or_default())
                .collect();
            row.extend([
                cell.primary.map(|primary| primary.to_string()).unwrap_or_default(),
                of(&cell.mean),
                of(&cell.spread),
                cell.done().to_string(),
                cell.runs.iter().filter(|run| run.error.is_some()).count().to_string(),
                number(cell.linear_ratio),
                number(cell.whole_ratio),
                number(cell.latency_ms),
                number(cell.dense_latency_ms),
                number(cell.speedup),
                number(cell.seconds),
                cell.best_learning_rate.map(|best| best.to_string()).unwrap_or_default(),
            ]);
            writer.write_record(&row).map_err(|e| failed(&e))?;
        }
        let bytes = writer.into_inner().map_err(|e| failed(&e))?;
        String::from_utf8(bytes).map_err(|e| failed(&e))
    }

    /// The header and rows of the table for people.
    pub fn rows(&self) -> (Vec<String>, Vec<Vec<String>>) {
        let mut header: Vec<String> = self.axes.iter().map(|axis| axis.replace('_', " ")).collect();
        header.extend(
            ["metrics", "runs", "weights", "whole", "ms", "speed", "training"].map(String::from),
        );
        let dash = || "–".to_string();
        let rows = self.cells.iter().map(|cell| {
            let setting = |axis: &String| {
                let text = cell.settings.get(axis).cloned().unwrap_or_else(dash);
                let best = axis.ends_with("learning_rate") && cell.best_learning_rate == Some(true);
                if best { format!("{text} (best)") } else { text }
            };
            let mut row: Vec<String> = self.axes.iter().map(setting).collect();
            row.extend([
                cell.metrics_text(),
                format!("{} of {}", cell.done(), cell.runs.len()),
                cell.linear_ratio.map_or_else(dash, percent),
                cell.whole_ratio.map_or_else(dash, percent),
                cell.latency_ms.map_or_else(dash, |ms| format!("{ms:.2}")),
                cell.speedup.map_or_else(dash, |times| format!("×{times:.2}")),
                cell.seconds.map_or_else(dash, |seconds| format!("{seconds:.0} s")),
            ]);
            row
        });
        (header, rows.collect())
    }

    /// The results for people; `pictures` are names of files in `plots`.
    pub fn to_markdown(&self, pictures: &[&str]) -> String {
        let Self { finished, failed, waiting, device, .. } = self;
        let mut text = format!(
            "# Study\n\n{finished} runs done, {failed} failed, {waiting} to do; device {device}.\n\n"
        );
        let (header, rows) = self.rows();
        let line = |cells: &[String]| {
            let cells = cells.iter().map(|cell| cell.replace('|', "\\|"));
            format!("| {} |\n", cells.collect::<Vec<_>>().join(" | "))
        };
        text += &line(&header);
        text += &format!("|{}\n", "---|".repeat(header.len()));
        rows.iter().for_each(|row| text += &line(row));
        text += "\nMetrics: mean ± standard deviation over seeds, of the models as saved. `weights`: \
            stored share of the compressed layers' weights; `whole`: of the model. `ms`: a forward \
            pass of one example at the task's length; `speed`: against the dense model, in turns.\n";
        if let Some(most) = self.runs().filter_map(|run| run.best_of).max() {
            let _ = writeln!(
                text,
                "\nResults are the best of up to {most} evaluations on this same data, so their \
                 metrics are optimistic, for all cells alike."
            );
        }
        let mut errors = self.runs().filter_map(|run| Some((run, run.error.as_ref()?))).peekable();
        if errors.peek().is_some() {
            text += "\n## Failed\n\n";
            for (run, error) in errors {
                let _ = writeln!(text, "- `{}`: {}", run.folder, error.replace('\n', " "));
            }
        }
        if !pictures.is_empty() {
            text += "\n## Pictures\n\n";
            for name in pictures {
                let _ = writeln!(text, "![{name}](plots/{name}.svg)\n");
            }
        }
        text
    }

    fn runs(&self) -> impl Iterator<Item = &CellRun> {
        self.cells.iter().flat_map(|cell| &cell.runs)
    }
}

impl Cell {
    /// Runs done.
    pub fn done(&self) -> usize {
        self.runs.iter().filter(|run| !run.metrics.is_empty()).count()
    }

    /// Mean and spread of the primary metric.
    pub fn score(&self) -> Option<(f64, Option<f64>)> {
        let primary = self.primary?;
        Some((*self.mean.get(&primary)?, self.spread.get(&primary).copied()))
    }

    fn metrics_text(&self) -> String {
        let all = self.mean.iter().map(|(kind, mean)| match self.spread.get(kind) {
            Some(spread) => format!("{kind} {mean:.4} ± {spread:.4}"),
            None => format!("{kind} {mean:.4}"),
        });
        let text = all.collect::<Vec<_>>().join(", ");
        if text.is_empty() { "–".into() } else { text }
    }
}

fn cell(settings: BTreeMap<String, String>, runs: &[(&super::PlannedRun, &RunState)]) -> Cell {
    let recipe = &runs[0].0.recipe;
    let reports: Vec<&RunReport> = runs
        .iter()
        .filter_map(|(_, state)| match state {
            RunState::Finished(report) => Some(&**report),
            _ => None,
        })
        .collect();
    let over = |value: fn(&RunReport) -> Option<f64>| {
        mean(&reports.iter().filter_map(|report| value(report)).collect::<Vec<_>>())
    };
    let mut values: BTreeMap<MetricKind, Vec<f64>> = BTreeMap::new();
    for (kind, value) in reports.iter().flat_map(|report| metrics(report)) {
        values.entry(kind).or_default().push(value);
    }
    let compressed = recipe.method.is_some();
    let run = |(planned, state): &(&super::PlannedRun, &RunState)| CellRun {
        folder: planned.folder.clone(),
        seed: planned.recipe.training.seed,
        metrics: match state {
            RunState::Finished(report) => metrics(report),
            _ => BTreeMap::new(),
        },
        best_of: match state {
            RunState::Finished(report) => report.training.best_of,
            _ => None,
        },
        error: match state {
            RunState::Failed(error) => Some(error.clone()),
            _ => None,
        },
    };
    Cell {
        settings,
        model: recipe.model.as_ref().map(|m| m.display().to_string()).unwrap_or_default(),
        task: recipe.task.name.clone(),
        ratio: recipe.method.as_ref().map(|method| method.ratio),
        primary: reports.first().map(|report| report.task.primary),
        mean: values.iter().filter_map(|(kind, all)| Some((*kind, mean(all)?))).collect(),
        spread: values.iter().filter_map(|(kind, all)| Some((*kind, spread(all)?))).collect(),
        linear_ratio: over(|r| r.method.as_ref().map(|_| r.account.linear_ratio())),
        whole_ratio: over(|report| Some(report.account.whole_ratio())),
        latency_ms: over(|r| r.latency.as_ref()?.contestants.last().map(|row| row.median_ms)),
        dense_latency_ms: over(|r| r.latency.as_ref()?.contestants.first().map(|c| c.median_ms)),
        speedup: match compressed {
            true => over(|r| r.latency.as_ref()?.contestants.last().map(|row| row.speedup)),
            false => None,
        },
        seconds: over(|report| Some(report.training.seconds)),
        best_learning_rate: None,
        runs: runs.iter().map(run).collect(),
    }
}

/// Metrics on the first split of the model as saved.
fn metrics(report: &RunReport) -> BTreeMap<MetricKind, f64> {
    let splits = if report.compacted.is_empty() { &report.trained } else { &report.compacted };
    splits.first().map(|split| split.metrics.values.clone()).unwrap_or_default()
}

fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

/// Standard deviation of a sample.
fn spread(values: &[f64]) -> Option<f64> {
    let mean = mean(values)?;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    (values.len() > 1).then(|| (squares / (values.len() - 1) as f64).sqrt())
}

/// Marks the best learning rate among cells that are alike in all else.
fn mark_best(cells: &mut [Cell]) {
    let is_rate = |axis: &str| axis.ends_with("learning_rate");
    let rest = |cell: &Cell| -> BTreeMap<String, String> {
        cell.settings
            .iter()
            .filter(|(axis, _)| !is_rate(axis))
            .map(|(a, v)| (a.clone(), v.clone()))
            .collect()
    };
    let scores: Vec<_> = cells.iter().map(|cell| (rest(cell), cell.score().map(|s| s.0))).collect();
    for (at, cell) in cells.iter_mut().enumerate() {
        let (own, score) = &scores[at];
        let rivals: Vec<f64> = scores
            .iter()
            .enumerate()
            .filter(|(other, (settings, _))| *other != at && settings == own)
            .filter_map(|(_, (_, score))| *score)
            .collect();
        if let (Some(score), false) = (score, rivals.is_empty()) {
            cell.best_learning_rate = Some(rivals.iter().all(|rival| score >= rival));
        }
    }
}

#[cfg(test)]
#[path = "table_tests.rs"]
pub(super) mod tests;
