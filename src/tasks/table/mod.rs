//! Classification and regression on CSV, TSV or JSON-lines files with named columns.
//!
//! Begin with [`TableOptions::read_train`]. `records.rs` reads the columns; summarization shares
//! it.

pub(super) mod records;

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use self::records::{Columns, Field, Record, read_records};
use super::label_counts::listed;
use super::rows::{error_at, parse_score};
use super::{Example, Label, Task, TaskKind, TextDataset};
use crate::{Error, Result};

/// The format of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TableFormat {
    /// Columns separated by commas, quoted with `"`; the first row has their names.
    Csv,
    /// Columns separated by tabs, by default not quoted; the first row has their names.
    Tsv,
    /// One JSON object a line.
    Jsonl,
}

/// The column to predict.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TableTarget {
    /// Classification.
    Label {
        /// The column.
        column: String,
        /// The labels in order; by default those of the training file, sorted, as numbers if all
        /// are.
        #[serde(default)]
        labels: Option<Vec<String>>,
    },
    /// Regression.
    Score {
        /// The column, of finite numbers.
        column: String,
    },
}

/// How to read a task from tables.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TableOptions {
    /// Name of the task.
    pub name: String,
    /// Column of the text.
    pub text: String,
    /// Column of the second text, for tasks about pairs.
    #[serde(default)]
    pub pair: Option<String>,
    /// Column to predict.
    pub target: TableTarget,
    /// Format of the file; by default from its extension: `.csv`, `.tsv`, `.jsonl` or `.ndjson`.
    #[serde(default)]
    pub format: Option<TableFormat>,
    /// Whether `"` quotes fields; by default true for CSV and false for TSV. JSON lines ignore it.
    #[serde(default)]
    pub quoting: Option<bool>,
}

impl TableOptions {
    /// Reads a training file. The metrics of the task are accuracy (and F1, if there are two
    /// labels), or Pearson's and Spearman's correlation.
    ///
    /// # Errors
    /// If the file cannot be read, lacks a column, is broken, or has a label or score that cannot
    /// be used; the message names line, column and value.
    pub fn read_train(&self, path: impl AsRef<Path>) -> Result<TextDataset> {
        let path = path.as_ref();
        let records = self.records(path, true)?;
        let task = match &self.target {
            TableTarget::Score { .. } => Task::regression(&self.name),
            TableTarget::Label { labels: Some(labels), .. } => {
                Task::classification(&self.name, labels.clone())?
            }
            TableTarget::Label { column, labels: None } => {
                let values = records.iter().map(|record| record.label_name(path, column));
                let labels = sorted_labels(values.collect::<Result<_>>()?);
                if let [only] = labels.as_slice() {
                    let message = format!(
                        "column {column:?} is {only:?} in every row; classification needs two \
                         labels"
                    );
                    return Err(Error::format(path, message));
                }
                Task::classification(&self.name, labels)?
            }
        };
        self.dataset(path, records, task)
    }

    /// Reads a file with the labels of `task`, to evaluate on.
    ///
    /// # Errors
    /// Those of [`TableOptions::read_train`], and if a label is not one of the task's.
    pub fn read_eval(&self, path: impl AsRef<Path>, task: &Task) -> Result<TextDataset> {
        let path = path.as_ref();
        let regression = matches!(self.target, TableTarget::Score { .. });
        let fits = match task.kind {
            TaskKind::Regression => regression,
            TaskKind::Classification { .. } => !regression,
            TaskKind::QuestionAnswering { .. } | TaskKind::Summarization => false,
        };
        if !fits {
            let message = format!(
                "task {} and the {} column asked for do not go together",
                task.name,
                if regression { "score" } else { "label" }
            );
            return Err(Error::option("target", message));
        }
        self.dataset(path, self.records(path, true)?, task.clone())
    }

    /// Reads a file's texts without labels, for prediction. The file need not have the target
    /// column.
    ///
    /// # Errors
    /// If the file cannot be read, lacks a text column, or is broken.
    pub fn read_unlabeled(&self, path: impl AsRef<Path>, task: &Task) -> Result<TextDataset> {
        let path = path.as_ref();
        let records = self.records(path, false)?;
        let examples = records.into_iter().map(|record| record.example(None)).collect();
        Ok(TextDataset { examples, task: task.clone(), skipped: 0 })
    }

    fn target_column(&self) -> &str {
        match &self.target {
            TableTarget::Label { column, .. } | TableTarget::Score { column } => column,
        }
    }

    fn records(&self, path: &Path, with_target: bool) -> Result<Vec<Record>> {
        let columns = Columns {
            text: &self.text,
            pair: self.pair.as_deref(),
            target: with_target.then(|| self.target_column()),
            format: self.format,
            quoting: self.quoting,
        };
        read_records(path, columns)
    }

    fn dataset(&self, path: &Path, records: Vec<Record>, task: Task) -> Result<TextDataset> {
        let column = self.target_column();
        let found: Vec<String> = match task.kind {
            TaskKind::Classification { .. } => {
                records.iter().filter_map(|record| record.label_name(path, column).ok()).collect()
            }
            _ => Vec::new(),
        };
        let examples = records.into_iter().map(|record| {
            let label = match task.kind {
                TaskKind::Regression => Label::Score(record.score(path, column)?),
                TaskKind::QuestionAnswering { .. } | TaskKind::Summarization => {
                    let message = "answers and summaries are no labels; they have readers of \
                                   their own";
                    return Err(Error::option("target", message));
                }
                TaskKind::Classification { .. } => {
                    let name = record.label_name(path, column)?;
                    let class = task.label_index(&name);
                    Label::Class(class.ok_or_else(|| {
                        let other = other_labels(&task, found.clone());
                        let message = format!("column {column:?}: label {name:?} {other}");
                        error_at(path, record.line, message)
                    })?)
                }
            };
            Ok(record.example(Some(label)))
        });
        let examples = examples.collect::<Result<_>>()?;
        Ok(TextDataset { examples, task, skipped: 0 })
    }
}

impl TableFormat {
    /// The format that a file's extension names.
    ///
    /// # Errors
    /// If it names none.
    pub fn of(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let extension = path.extension().and_then(|extension| extension.to_str());
        match extension.map(str::to_ascii_lowercase).as_deref() {
            Some("csv") => Ok(Self::Csv),
            Some("tsv") => Ok(Self::Tsv),
            Some("jsonl" | "ndjson") => Ok(Self::Jsonl),
            _ => Err(Error::format(
                path,
                "not a .csv, .tsv or .jsonl file; say which format it has (csv, tsv, jsonl)",
            )),
        }
    }
}

impl Record {
    fn example(self, label: Option<Label>) -> Example {
        Example { text: self.text, pair: self.pair, label }
    }

    fn label_name(&self, path: &Path, column: &str) -> Result<String> {
        let name = match &self.target {
            Some(Field::Text(text)) if !text.trim().is_empty() => text.trim().to_owned(),
            Some(Field::Other(other)) => other.clone(),
            _ => return Err(error_at(path, self.line, format!("column {column:?}: no label"))),
        };
        Ok(name)
    }

    fn score(&self, path: &Path, column: &str) -> Result<f32> {
        let score = match &self.target {
            Some(Field::Text(text) | Field::Other(text)) => parse_score(text),
            None => Err("no score".into()),
        };
        score.map_err(|error| error_at(path, self.line, format!("column {column:?}: {error}")))
    }
}

/// The distinct values, sorted, as numbers if all are.
fn sorted_labels(mut values: Vec<String>) -> Vec<String> {
    values.sort_unstable();
    values.dedup();
    let number = |value: &String| value.parse::<f64>().ok().filter(|number| number.is_finite());
    if values.iter().all(|value| number(value).is_some()) {
        values.sort_by(|a, b| number(a).partial_cmp(&number(b)).unwrap_or(Ordering::Equal));
    }
    values
}

/// The message about a label that the task lacks, in a file with the labels `found`.
fn other_labels(task: &Task, found: Vec<String>) -> String {
    let mut counts = BTreeMap::new();
    found.iter().for_each(|name| *counts.entry(name).or_insert(0) += 1);
    let found: Vec<(String, usize)> = sorted_labels(found.clone())
        .into_iter()
        .map(|name| (name.clone(), counts[&name]))
        .collect();
    let names: Vec<&str> = found.iter().map(|(name, _)| name.as_str()).collect();
    let known = task.labels();
    let mut message =
        format!("is none of the task's: {}; the file's are {}", known.join(", "), listed(&found));
    let foreign = names.iter().all(|name| task.label_index(name).is_none());
    if foreign && names.len() == known.len() {
        let (order, names) = (known.join(", "), names.join(","));
        message += &format!(". If they are {order} in this order, say so: --labels {names}");
    } else if foreign {
        let order = known.join(", ");
        message +=
            &format!(". If the file calls {order} otherwise, say how in this order: --labels");
    }
    message
}

#[cfg(test)]
mod tests;
