//! A study's tables for other programs: a row a cell, and a row a run.

use std::borrow::Cow;
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
        let row = row.iter().map(|cell| no_formula(cell));
        writer.write_record(row.map(|cell| cell.into_owned())).map_err(|e| failed(&e))?;
    }
    let bytes = writer.into_inner().map_err(|e| failed(&e))?;
    String::from_utf8(bytes).map_err(|e| failed(&e))
}

/// A cell that programs for tables show: an apostrophe before what they would take for a formula.
/// Numbers stay numbers.
fn no_formula(cell: &str) -> Cow<'_, str> {
    let begins = cell.starts_with(['=', '+', '-', '@', '\t', '\r']);
    match begins && cell.parse::<f64>().is_err() {
        true => Cow::Owned(format!("'{cell}")),
        false => Cow::Borrowed(cell),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_cell_is_a_formula_and_numbers_stay_numbers() {
        for formula in ["=1+1", "+A1", "-A1", "@SUM(A1)", "\t=1", "\r=1", "-1-cmd|' /C calc'!A0"] {
            assert_eq!(no_formula(formula), format!("'{formula}"));
        }
        for plain in ["-0.5", "+3", "-1e-5", "0.2", "losparse", "a=b", "", "1-2"] {
            assert_eq!(no_formula(plain), plain);
        }
        let rows = [vec!["=HYPERLINK(\"x\")".to_string(), "-0.25".into()]];
        let text = csv("study.csv", vec!["a".into(), "b".into()], rows.into_iter()).unwrap();
        assert_eq!(text, "a,b\n\"'=HYPERLINK(\"\"x\"\")\",-0.25\n");
    }
}
