//! A study's tables for other programs: a row a cell, and a row a run.

use std::collections::BTreeSet;
use std::fmt::Display;

use super::{Cell, StudyReport};
use crate::tasks::MetricKind;
use crate::{Error, Result};

impl StudyReport {
    /// The results as CSV, a row a cell: mean and spread of every metric over seeds.
    ///
    /// # Errors
    /// If they cannot be written as CSV.
    pub fn to_csv(&self) -> Result<String> {
        let kinds = self.metric_kinds();
        let metrics =
            kinds.iter().flat_map(|kind| [format!("{kind}_mean"), format!("{kind}_spread")]);
        let columns = [
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
        let header = self.axes.iter().cloned().chain(["metric", "seeds"].map(String::from));
        let header = header.chain(metrics).chain(columns.map(String::from)).collect();
        let rows = self.cells.iter().map(|cell| {
            let seeds =
                cell.runs.iter().filter(|run| run.is_done()).map(|run| run.seed.to_string());
            let mut row = self.places(cell);
            row.extend([text(cell.primary), seeds.collect::<Vec<_>>().join(" ")]);
            for kind in &kinds {
                row.extend([text(cell.mean.get(kind)), text(cell.spread.get(kind))]);
            }
            row.extend([
                cell.done().to_string(),
                cell.runs.iter().filter(|run| run.error.is_some()).count().to_string(),
                text(cell.linear_ratio),
                text(cell.whole_ratio),
                text(cell.latency_ms),
                text(cell.dense_latency_ms),
                text(cell.speedup),
                text(cell.seconds),
                text(cell.best_learning_rate),
            ]);
            row
        });
        csv("study.csv", header, rows)
    }

    /// The results as CSV, a row a run.
    ///
    /// # Errors
    /// If they cannot be written as CSV.
    pub fn runs_to_csv(&self) -> Result<String> {
        let kinds = self.metric_kinds();
        let columns = [
            "best_of",
            "seconds",
            "linear_ratio",
            "whole_ratio",
            "bytes",
            "latency_ms",
            "dense_latency_ms",
            "speedup",
            "date",
            "machine",
            "folder",
            "error",
        ];
        let header = self.axes.iter().cloned().chain(["seed".to_string()]);
        let metrics = kinds.iter().map(ToString::to_string);
        let header = header.chain(metrics).chain(columns.map(String::from)).collect();
        let rows = self.cells.iter().flat_map(|cell| cell.runs.iter().map(move |run| (cell, run)));
        let rows = rows.map(|(cell, run)| {
            let mut row = self.places(cell);
            row.push(run.seed.to_string());
            row.extend(kinds.iter().map(|kind| text(run.metrics.get(kind))));
            row.extend([
                text(run.best_of),
                text(run.seconds),
                text(run.linear_ratio),
                text(run.whole_ratio),
                text(run.bytes),
                text(run.latency_ms),
                text(run.dense_latency_ms),
                text(run.speedup),
                text(run.date.as_ref()),
                text(run.machine.as_ref()),
                run.folder.clone(),
                text(run.error.as_ref()),
            ]);
            row
        });
        csv("runs.csv", header, rows)
    }

    /// Every metric that any run has.
    fn metric_kinds(&self) -> BTreeSet<MetricKind> {
        self.cells.iter().flat_map(|cell| cell.mean.keys().copied()).collect()
    }

    /// A cell's place on each axis.
    fn places(&self, cell: &Cell) -> Vec<String> {
        self.axes.iter().map(|axis| text(cell.settings.get(axis))).collect()
    }
}

fn text(value: Option<impl Display>) -> String {
    value.map(|value| value.to_string()).unwrap_or_default()
}

fn csv(name: &str, header: Vec<String>, rows: impl Iterator<Item = Vec<String>>) -> Result<String> {
    let failed = |e: &dyn Display| Error::format(name, e.to_string());
    let mut writer = csv::Writer::from_writer(Vec::new());
    for row in std::iter::once(header).chain(rows) {
        writer.write_record(&row).map_err(|e| failed(&e))?;
    }
    let bytes = writer.into_inner().map_err(|e| failed(&e))?;
    String::from_utf8(bytes).map_err(|e| failed(&e))
}
