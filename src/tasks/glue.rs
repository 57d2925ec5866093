//! The nine GLUE tasks (Wang et al., 2018), read from their official TSV files. Begin with
//! [`GlueTask::load`].

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::metrics::MetricKind;
use super::rows::{Row, Rows, TSV, parse_score};
use super::{Example, Label, Task, TaskKind, TextDataset};
use crate::{Error, Result};

/// A GLUE task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum GlueTask {
    /// Corpus of Linguistic Acceptability.
    Cola,
    /// Stanford Sentiment Treebank, two classes.
    Sst2,
    /// Microsoft Research Paraphrase Corpus.
    Mrpc,
    /// Semantic Textual Similarity Benchmark, scores 0 to 5.
    Stsb,
    /// Quora Question Pairs.
    Qqp,
    /// Multi-Genre Natural Language Inference.
    Mnli,
    /// Question-answering Natural Language Inference.
    Qnli,
    /// Recognizing Textual Entailment.
    Rte,
    /// Winograd Natural Language Inference.
    Wnli,
}

/// A part of a task's data, by its official file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Split {
    /// `train.tsv`.
    Train,
    /// `dev.tsv`; MNLI's `dev_matched.tsv`.
    Dev,
    /// MNLI's `dev_mismatched.tsv`.
    DevMismatched,
    /// `test.tsv`, without labels; MNLI's `test_matched.tsv`.
    Test,
    /// MNLI's `test_mismatched.tsv`, without labels.
    TestMismatched,
}

/// The names in a task's official files.
struct Layout {
    /// Hugging Face's name of the task.
    name: &'static str,
    /// The official folder's name.
    folder: &'static str,
    /// Column of the text.
    text: &'static str,
    /// Column of the second text, for tasks about pairs.
    pair: Option<&'static str>,
    /// Column of the label.
    label: &'static str,
    labels: LabelNames,
    metrics: &'static [MetricKind],
}

/// Labels as in the file and as Hugging Face calls them, in its order; empty for regression.
type LabelNames = &'static [(&'static str, &'static str)];

const ACCEPTABILITY: LabelNames = &[("0", "unacceptable"), ("1", "acceptable")];
const SENTIMENT: LabelNames = &[("0", "negative"), ("1", "positive")];
const EQUIVALENCE: LabelNames = &[("0", "not_equivalent"), ("1", "equivalent")];
const DUPLICATE: LabelNames = &[("0", "not_duplicate"), ("1", "duplicate")];
const THREE_WAY: LabelNames =
    &[("entailment", "entailment"), ("neutral", "neutral"), ("contradiction", "contradiction")];
const ENTAILMENT: LabelNames =
    &[("entailment", "entailment"), ("not_entailment", "not_entailment")];
const WINOGRAD: LabelNames = &[("0", "not_entailment"), ("1", "entailment")];

const ACCURACY: &[MetricKind] = &[MetricKind::Accuracy];
const ACCURACY_F1: &[MetricKind] = &[MetricKind::Accuracy, MetricKind::F1];
const MATTHEWS: &[MetricKind] = &[MetricKind::Matthews];
const CORRELATIONS: &[MetricKind] = &[MetricKind::Pearson, MetricKind::Spearman];

impl Layout {
    /// The layout of a task about single texts.
    fn new(
        [name, folder]: [&'static str; 2],
        [text, label]: [&'static str; 2],
        labels: LabelNames,
        metrics: &'static [MetricKind],
    ) -> Self {
        Self { name, folder, text, pair: None, label, labels, metrics }
    }

    /// The same for pairs, whose second text is in the column `pair`.
    fn pairs(self, pair: &'static str) -> Self {
        Self { pair: Some(pair), ..self }
    }
}

impl GlueTask {
    /// All nine tasks.
    pub const ALL: [Self; 9] = [
        Self::Cola,
        Self::Sst2,
        Self::Mrpc,
        Self::Stsb,
        Self::Qqp,
        Self::Mnli,
        Self::Qnli,
        Self::Rte,
        Self::Wnli,
    ];

    fn layout(self) -> Layout {
        let (single, pair) = (["sentence", "label"], ["sentence1", "label"]);
        match self {
            Self::Cola => Layout::new(["cola", "CoLA"], single, ACCEPTABILITY, MATTHEWS),
            Self::Sst2 => Layout::new(["sst2", "SST-2"], single, SENTIMENT, ACCURACY),
            Self::Mrpc => {
                Layout::new(["mrpc", "MRPC"], ["#1 String", "Quality"], EQUIVALENCE, ACCURACY_F1)
                    .pairs("#2 String")
            }
            Self::Stsb => Layout::new(["stsb", "STS-B"], ["sentence1", "score"], &[], CORRELATIONS)
                .pairs("sentence2"),
            Self::Qqp => {
                Layout::new(["qqp", "QQP"], ["question1", "is_duplicate"], DUPLICATE, ACCURACY_F1)
                    .pairs("question2")
            }
            Self::Mnli => {
                Layout::new(["mnli", "MNLI"], ["sentence1", "gold_label"], THREE_WAY, ACCURACY)
                    .pairs("sentence2")
            }
            Self::Qnli => {
                Layout::new(["qnli", "QNLI"], ["question", "label"], ENTAILMENT, ACCURACY)
                    .pairs("sentence")
            }
            Self::Rte => Layout::new(["rte", "RTE"], pair, ENTAILMENT, ACCURACY).pairs("sentence2"),
            Self::Wnli => {
                Layout::new(["wnli", "WNLI"], pair, WINOGRAD, ACCURACY).pairs("sentence2")
            }
        }
    }

    /// Hugging Face's name of the task: `sst2`, `stsb`, …
    pub fn name(self) -> &'static str {
        self.layout().name
    }

    /// The task with its labels in Hugging Face's order and GLUE's metrics.
    pub fn task(self) -> Task {
        let layout = self.layout();
        let labels: Vec<String> = layout.labels.iter().map(|(_, name)| name.to_string()).collect();
        let kind = if labels.is_empty() {
            TaskKind::Regression
        } else {
            TaskKind::Classification { labels }
        };
        Task {
            name: layout.name.into(),
            kind,
            metrics: layout.metrics.to_vec(),
            primary: layout.metrics[0],
        }
    }

    /// Whether the task is about pairs of texts.
    pub fn has_pairs(self) -> bool {
        self.layout().pair.is_some()
    }

    /// Name of a split's official file; `None` if the task lacks the split.
    pub fn file_name(self, split: Split) -> Option<&'static str> {
        Some(match (self, split) {
            (_, Split::Train) => "train.tsv",
            (Self::Mnli, Split::Dev) => "dev_matched.tsv",
            (Self::Mnli, Split::DevMismatched) => "dev_mismatched.tsv",
            (Self::Mnli, Split::Test) => "test_matched.tsv",
            (Self::Mnli, Split::TestMismatched) => "test_mismatched.tsv",
            (_, Split::Dev) => "dev.tsv",
            (_, Split::Test) => "test.tsv",
            (_, Split::DevMismatched | Split::TestMismatched) => return None,
        })
    }

    /// Splits to evaluate the task on: two for MNLI, one for the others.
    pub fn dev_splits(self) -> &'static [Split] {
        if self == Self::Mnli { &[Split::Dev, Split::DevMismatched] } else { &[Split::Dev] }
    }

    /// Finds a split's file in `folder`: the task's own folder, or the one above it. The task's
    /// folder may be spelled `SST-2`, `SST2`, `sst-2`, `sst2` and so on.
    ///
    /// # Errors
    /// If there is no such split or file.
    pub fn find(self, folder: impl AsRef<Path>, split: Split) -> Result<PathBuf> {
        let folder = folder.as_ref();
        let Some(file) = self.file_name(split) else {
            let message = format!("task {self} has no {split:?}; only mnli has");
            return Err(Error::option("split", message));
        };
        let entries = std::fs::read_dir(folder).map_err(|error| Error::io(folder, error))?;
        // Subfolders come first: a file of this name beside them may be of another task.
        let mut below: Vec<PathBuf> = entries
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| {
                let name = path.file_name().and_then(|name| name.to_str());
                name.and_then(|name| name.parse().ok()) == Some(self) && path.join(file).is_file()
            })
            .collect();
        below.sort();
        if let Some(path) = below.first() {
            return Ok(path.join(file));
        }
        let own = folder.join(file);
        if own.is_file() {
            return Ok(own);
        }
        let name = self.layout().folder;
        let message = format!("neither {file} nor {name}/{file}, task {self}'s file, is here");
        Err(Error::format(folder, message))
    }

    /// Reads a split from the task's official files in `folder`; see [`GlueTask::find`].
    ///
    /// Skips and counts rows of QQP with a wrong number of columns (the official file has some) and
    /// rows of MNLI with the label `-` (no majority).
    ///
    /// # Errors
    /// If the file is missing or differs from the official format; the message names the line.
    pub fn load(self, folder: impl AsRef<Path>, split: Split) -> Result<TextDataset> {
        let path = self.find(folder, split)?;
        let layout = self.layout();
        let test = matches!(split, Split::Test | Split::TestMismatched);
        // CoLA's files have no header, except for its test file.
        let header: Option<&[&str]> = if self == Self::Cola && !test {
            Some(&["source", "label", "mark", "sentence"])
        } else {
            None
        };
        let rows = if self == Self::Qqp {
            Rows::read_ragged(&path, TSV, header)?
        } else {
            Rows::read(&path, TSV, header)?
        };
        let text = rows.column(layout.text)?;
        let pair = layout.pair.map(|name| rows.column(name)).transpose()?;
        let label = if test { None } else { Some(rows.column(layout.label)?) };

        let mut dataset = TextDataset { examples: vec![], task: self.task(), skipped: 0 };
        for row in &rows.rows {
            let ragged = row.fields.len() != rows.columns.len();
            let unlabelled =
                self == Self::Mnli && label.is_some_and(|label| row.fields[label] == "-");
            if ragged || unlabelled {
                dataset.skipped += 1;
                continue;
            }
            dataset.examples.push(Example {
                text: row.fields[text].clone(),
                pair: pair.map(|pair| row.fields[pair].clone()),
                label: label.map(|label| self.parse_label(&rows, row, label)).transpose()?,
            });
        }
        if dataset.is_empty() {
            let message = format!("none of {} rows is usable", dataset.skipped);
            return Err(Error::format(&path, message));
        }
        if dataset.skipped > 0 {
            let (path, skipped) = (path.display(), dataset.skipped);
            log::warn!("{path}: skipped {skipped} rows without a label or with missing columns");
        }
        Ok(dataset)
    }

    fn parse_label(self, rows: &Rows, row: &Row, column: usize) -> Result<Label> {
        let value = row.fields[column].trim();
        let labels = self.layout().labels;
        let name = &rows.columns[column];
        if labels.is_empty() {
            let score = parse_score(value);
            let score = score
                .map_err(|error| rows.error_at(row.line, format!("column {name:?}: {error}")))?;
            return Ok(Label::Score(score));
        }
        let class = labels.iter().position(|(written, _)| *written == value);
        class.map(Label::Class).ok_or_else(|| {
            let known: Vec<&str> = labels.iter().map(|(written, _)| *written).collect();
            let message = format!("column {name:?}: {value:?} is none of {}", known.join(", "));
            rows.error_at(row.line, message)
        })
    }
}

impl fmt::Display for GlueTask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for GlueTask {
    type Err = Error;

    /// Parses a name in any case, with or without dashes or underscores: `SST-2`, `sst2`, `STS_B`.
    fn from_str(text: &str) -> Result<Self> {
        let plain = text.to_ascii_lowercase().replace(['-', '_'], "");
        Self::ALL.into_iter().find(|task| task.name() == plain).ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            Error::option("task", format!("{text:?} is not a GLUE task; they are {names}"))
        })
    }
}

#[cfg(test)]
#[path = "glue_tests.rs"]
mod tests;
