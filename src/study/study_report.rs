//! The report of a study: a table with a row for each cell, over its seeds.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::cell::{is_rate, mark_best};
use super::gain::gains;
use super::planned_run::is_seed;
use super::{Cell, CellRun, Gain, RunState, Study};
use crate::inspect::{code, markdown_text, percent, visible};
use crate::tasks::MetricKind;
use crate::{Error, Result, files};

/// A study's results so far.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StudyReport {
    /// The grid's settings in order, without seeds.
    pub axes: Vec<String>,
    /// A cell for each combination of settings, over seeds.
    pub cells: Vec<Cell>,
    /// LoSparse minus ITP, wherever the study has both.
    pub gains: Vec<Gain>,
    /// Number of runs done.
    pub finished: usize,
    /// Number of runs that ended by an error.
    pub failed: usize,
    /// Number of runs to do.
    pub waiting: usize,
}

impl StudyReport {
    /// Makes the report of `study` with its runs in `states`.
    pub fn new(study: &Study, states: &[RunState]) -> Self {
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
            Cell::new(settings, &runs)
        });
        let mut cells: Vec<Cell> = cells.collect();
        mark_best(&mut cells);
        let count = |wanted: fn(&RunState) -> bool| states.iter().filter(|s| wanted(s)).count();
        let mut report = Self {
            axes: study.axes.iter().filter(|axis| !is_seed(axis)).cloned().collect(),
            cells,
            gains: Vec::new(),
            finished: count(|state| matches!(state, RunState::Finished(_))),
            failed: count(|state| matches!(state, RunState::Failed(_))),
            waiting: count(|state| matches!(state, RunState::Waiting)),
        };
        report.gains = gains(&report.chosen());
        report
    }

    /// The cells at their best learning rate, and those without a choice of rates. A choice that is
    /// still open has none.
    pub(super) fn chosen(&self) -> Vec<&Cell> {
        let alone = |cell: &Cell| !self.cells.iter().any(|other| other.is_rival_of(cell));
        let chosen = |cell: &&Cell| cell.best_learning_rate.unwrap_or_else(|| alone(cell));
        self.cells.iter().filter(chosen).collect()
    }

    /// File of the report in a study's folder.
    pub const FILE: &'static str = "study.json";

    /// Reads the results in a study's folder.
    ///
    /// # Errors
    /// If they cannot be read or are not a study's results.
    pub fn read(folder: &Path) -> Result<Self> {
        files::read_json(folder.join(Self::FILE))
    }

    /// The results as indented JSON.
    ///
    /// # Errors
    /// If they cannot be written as JSON.
    pub fn to_json(&self) -> Result<String> {
        let json = serde_json::to_string_pretty(self);
        json.map(|text| text + "\n").map_err(|e| Error::format(Self::FILE, e.to_string()))
    }

    /// Header and rows of the table for people.
    pub fn rows(&self) -> (Vec<String>, Vec<Vec<String>>) {
        let mut header: Vec<String> = self.axes.iter().map(|axis| axis.replace('_', " ")).collect();
        let columns =
            ["metrics", "runs", "seeds", "best of", "weights", "whole", "ms", "speed", "training"];
        header.extend(columns.map(String::from));
        let dash = || "–".to_string();
        let rows = self.cells.iter().map(|cell| {
            let setting = |axis: &String| {
                let text = cell.settings.get(axis).cloned().unwrap_or_else(dash);
                let best = is_rate(axis) && cell.best_learning_rate == Some(true);
                if best { format!("{text} (best)") } else { text }
            };
            let mut row: Vec<String> = self.axes.iter().map(setting).collect();
            let done = cell.runs.iter().filter(|run| run.is_done());
            row.extend([
                cell.metrics_text(),
                format!("{} of {}", cell.done(), cell.runs.len()),
                list(done.clone().map(|run| run.seed)),
                list(done.filter_map(|run| run.best_of).collect::<BTreeSet<_>>()),
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

    /// The results as Markdown; `pictures` are names of files in `plots`.
    pub fn to_markdown(&self, pictures: &[&str]) -> String {
        let Self { finished, failed, waiting, .. } = self;
        let mut text =
            format!("# Study\n\n{finished} runs done, {failed} failed, {waiting} to do.\n\n");
        text += &self.origin();
        let (header, rows) = self.rows();
        text += &table(&header, &rows);
        text += "\nMetrics: mean ± standard deviation over seeds, of the models as saved. `weights`: \
            stored share of the compressed layers' weights; `whole`: of the model. `ms`: a forward \
            pass of one example at the task's length; `speed`: against the dense model, in turns; \
            `training`: mean time of a run's.\n";
        if self.runs().any(|run| run.best_of.is_some()) {
            text += "\n`best of`: so many evaluations on this same data the result is the best of, \
                where of more than one. Only those at the final ratio count, so a method that is there \
                earlier chooses among more, and its metrics are the more optimistic; `keep = \"last\"` \
                compares without a choice.\n";
        }
        if self.cells.iter().any(|cell| cell.best_learning_rate.is_some()) {
            text += "\n`(best)`: the learning rate with the best mean on this same data, over the seeds \
                that all rates have. Pictures and differences are of the best; the table has all.\n";
        }
        // Cells of one choice have the same text.
        let without: BTreeSet<String> = self
            .cells
            .iter()
            .filter(|cell| self.has_no_best(cell))
            .map(Cell::but_for_rate)
            .collect();
        for settings in without {
            let _ = writeln!(
                text,
                "\nIn no picture, because no learning rate has all its runs done: {}.",
                markdown_text(&settings)
            );
        }
        text += &self.gains_text();
        if self.runs().any(|run| !run.warnings.is_empty()) {
            text += "\n## Marked\n\nThese runs count in the table all the same.\n\n";
            for run in self.runs() {
                for warning in &run.warnings {
                    let _ = writeln!(text, "- `{}`: {}", run.folder, warning.replace('\n', " "));
                }
            }
        }
        let mut errors = self.runs().filter_map(|run| Some((run, run.error.as_ref()?))).peekable();
        if errors.peek().is_some() {
            text += "\n## Failed\n\n";
            for (run, error) in errors {
                let _ = writeln!(text, "- {}: {}", code(&run.folder), markdown_text(error));
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

    /// Whether all rates of a choice have ended, none of them with all runs done.
    fn has_no_best(&self, cell: &Cell) -> bool {
        let rivals = || self.cells.iter().filter(|other| other.is_rival_of(cell));
        let ended = |cell: &Cell| !cell.runs.iter().any(CellRun::is_waiting);
        rivals().next().is_some()
            && cell.best_learning_rate.is_none()
            && ended(cell)
            && rivals().all(ended)
    }

    /// Machines, dates and commands of the runs.
    fn origin(&self) -> String {
        let machines: BTreeSet<String> =
            self.runs().filter_map(|run| run.machine.as_ref()).map(ToString::to_string).collect();
        let days: BTreeSet<&str> =
            self.runs().filter_map(|run| run.date.as_deref()?.split('T').next()).collect();
        let commands: BTreeSet<&str> =
            self.runs().filter_map(|run| run.command.as_deref()).collect();
        let mut text = String::new();
        if !machines.is_empty() {
            let _ = write!(
                text,
                "Machine: {}",
                markdown_text(&machines.into_iter().collect::<Vec<_>>().join("; or "))
            );
            match (days.first(), days.last()) {
                (Some(first), Some(last)) if first != last => {
                    let _ = write!(text, "; {first} to {last} (UTC)");
                }
                (Some(day), _) => {
                    let _ = write!(text, "; {day} (UTC)");
                }
                _ => {}
            }
            text += ".\n\n";
        }
        for command in commands {
            let _ = writeln!(text, "    {}\n", visible(command));
        }
        text
    }

    fn gains_text(&self) -> String {
        if self.gains.is_empty() {
            return String::new();
        }
        let axes: Vec<&String> = self.axes.iter().filter(|axis| *axis != "method").collect();
        let mut header: Vec<String> = axes.iter().map(|axis| axis.replace('_', " ")).collect();
        header.extend(["metric", "LoSparse − ITP", "seeds"].map(String::from));
        let row = |gain: &Gain| {
            let place = |axis: &&String| gain.settings.get(*axis).cloned();
            let mut row: Vec<String> =
                axes.iter().map(|axis| place(axis).unwrap_or_else(|| "–".into())).collect();
            let spread = gain.spread.map(|spread| format!(" ± {spread:.4}")).unwrap_or_default();
            row.extend([gain.metric.to_string(), format!("{:+.4}{spread}", gain.mean)]);
            row.push(list(gain.seeds.iter().copied()));
            row
        };
        let rows: Vec<Vec<String>> = self.gains.iter().map(row).collect();
        format!(
            "\n## LoSparse minus ITP\n\n{}\nMean ± standard deviation over seeds of the difference of \
             a seed's two runs, each method at its best learning rate.\n",
            table(&header, &rows)
        )
    }

    fn runs(&self) -> impl Iterator<Item = &CellRun> {
        self.cells.iter().flat_map(|cell| &cell.runs)
    }
}

impl Cell {
    /// Its settings without the learning rate: `method itp, ratio 0.2`.
    fn but_for_rate(&self) -> String {
        let settings = self.settings.iter().filter(|(axis, _)| !is_rate(axis));
        let settings = settings.map(|(axis, value)| format!("{axis} {value}"));
        settings.collect::<Vec<_>>().join(", ")
    }

    fn metrics_text(&self) -> String {
        let majority = self.runs.iter().find_map(|run| run.majority_share);
        let all = self.mean.iter().map(|(kind, mean)| {
            let spread = self.spread.get(kind).map(|spread| format!(" ± {spread:.4}"));
            let share = majority.filter(|_| *kind == MetricKind::Accuracy);
            let share = share.map(|share| format!(" (majority {share:.4})"));
            format!("{kind} {mean:.4}{}{}", spread.unwrap_or_default(), share.unwrap_or_default())
        });
        let text = all.collect::<Vec<_>>().join(", ");
        if text.is_empty() { "–".into() } else { text }
    }
}

fn list(items: impl IntoIterator<Item = impl ToString>) -> String {
    let items: Vec<String> = items.into_iter().map(|item| item.to_string()).collect();
    if items.is_empty() { "–".into() } else { items.join(", ") }
}

/// A table in Markdown.
fn table(header: &[String], rows: &[Vec<String>]) -> String {
    let line = |cells: &[String]| {
        let cells = cells.iter().map(|cell| markdown_text(cell));
        format!("| {} |\n", cells.collect::<Vec<_>>().join(" | "))
    };
    let rule = format!("|{}\n", "---|".repeat(header.len()));
    line(header) + &rule + &rows.iter().map(|row| line(row)).collect::<String>()
}

#[cfg(test)]
#[path = "study_report_tests.rs"]
pub(super) mod tests;
