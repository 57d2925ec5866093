//! A study's CSV tables for other programs: a row for each cell, and a row for each run.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt::Display;

use super::{Cell, CellRun, StudyReport};
use crate::tasks::MetricKind;
use crate::{Error, Result};

impl StudyReport {
    /// The results as CSV with a row for each cell: mean and spread of every metric over seeds.
    ///
    /// # Errors
    /// If they cannot be written as CSV.
    pub(super) fn to_csv(&self) -> Result<String> {
        let kinds = self.metric_kinds();
        let metrics =
            kinds.iter().flat_map(|kind| [format!("{kind}_mean"), format!("{kind}_spread")]);
        type Column = (&'static str, fn(&Cell) -> String);
        let columns: [Column; 9] = [
            ("runs", |cell| cell.done().to_string()),
            ("failed", |cell| {
                cell.runs.iter().filter(|run| run.error.is_some()).count().to_string()
            }),
            ("linear_ratio", |cell| text(cell.linear_ratio)),
            ("whole_ratio", |cell| text(cell.whole_ratio)),
            ("latency_ms", |cell| text(cell.latency_ms)),
            ("dense_latency_ms", |cell| text(cell.dense_latency_ms)),
            ("speedup", |cell| text(cell.speedup)),
            ("seconds", |cell| text(cell.seconds)),
            ("best_learning_rate", |cell| text(cell.best_learning_rate)),
        ];
        let header = self.axes.iter().cloned().chain(["metric", "seeds"].map(String::from));
        let header = header.chain(metrics).chain(columns.map(|(name, _)| name.into())).collect();
        let rows = self.cells.iter().map(|cell| {
            let seeds =
                cell.runs.iter().filter(|run| run.is_done()).map(|run| run.seed.to_string());
            let mut row = self.places(cell);
            row.extend([text(cell.primary), seeds.collect::<Vec<_>>().join(" ")]);
            for kind in &kinds {
                row.extend([text(cell.mean.get(kind)), text(cell.spread.get(kind))]);
            }
            row.extend(columns.iter().map(|(_, value)| value(cell)));
            row
        });
        csv("study.csv", header, rows)
    }

    /// The results as CSV with a row for each run.
    ///
    /// # Errors
    /// If they cannot be written as CSV.
    pub(super) fn runs_to_csv(&self) -> Result<String> {
        let kinds = self.metric_kinds();
        type Column = (&'static str, fn(&CellRun) -> String);
        let columns: [Column; 12] = [
            ("best_of", |run| text(run.best_of)),
            ("seconds", |run| text(run.seconds)),
            ("linear_ratio", |run| text(run.linear_ratio)),
            ("whole_ratio", |run| text(run.whole_ratio)),
            ("bytes", |run| text(run.bytes)),
            ("latency_ms", |run| text(run.latency_ms)),
            ("dense_latency_ms", |run| text(run.dense_latency_ms)),
            ("speedup", |run| text(run.speedup)),
            ("date", |run| text(run.date.as_ref())),
            ("machine", |run| text(run.machine.as_ref())),
            ("folder", |run| run.folder.clone()),
            ("error", |run| text(run.error.as_ref())),
        ];
        let header = self.axes.iter().cloned().chain(["seed".to_string()]);
        let metrics = kinds.iter().map(ToString::to_string);
        let header = header.chain(metrics).chain(columns.map(|(name, _)| name.into())).collect();
        let rows = self.cells.iter().flat_map(|cell| cell.runs.iter().map(move |run| (cell, run)));
        let rows = rows.map(|(cell, run)| {
            let mut row = self.places(cell);
            row.push(run.seed.to_string());
            row.extend(kinds.iter().map(|kind| text(run.metrics.get(kind))));
            row.extend(columns.iter().map(|(_, value)| value(run)));
            row
        });
        csv("runs.csv", header, rows)
    }

    /// Every metric that any run has.
    fn metric_kinds(&self) -> BTreeSet<MetricKind> {
        self.cells.iter().flat_map(|cell| cell.mean.keys().copied()).collect()
    }

    /// The cell's settings, by axis.
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

/// Puts an apostrophe before text that spreadsheets would take for a formula. Numbers stay numbers.
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
