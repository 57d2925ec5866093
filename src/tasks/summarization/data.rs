//! Reads documents and summaries from CSV, TSV or JSON lines with named columns.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{SummarizationDataset, SummarizationExample};
use crate::tasks::table::records::{Columns, Record, read_records};
use crate::tasks::{Split, TableFormat};
use crate::{Error, Result};

/// Extensions of data files in a folder.
const EXTENSIONS: [&str; 4] = ["jsonl", "ndjson", "csv", "tsv"];

/// How to read summarization data from tables.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SummarizationOptions {
    /// Column of the text to summarize; XSum's is `document`.
    pub document: String,
    /// Column of the summary; XSum's is `summary`.
    pub summary: String,
    /// Format of the file; by default from its extension: `.csv`, `.tsv`, `.jsonl` or `.ndjson`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub format: Option<TableFormat>,
    /// Whether `"` quotes fields; by default true for CSV and false for TSV. JSON lines ignore it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quoting: Option<bool>,
}

impl Default for SummarizationOptions {
    fn default() -> Self {
        Self { document: "document".into(), summary: "summary".into(), format: None, quoting: None }
    }
}

impl SummarizationOptions {
    /// Columns of CNN/DailyMail: `article` and `highlights`.
    pub fn cnn_dailymail() -> Self {
        let (document, summary) = ("article".into(), "highlights".into());
        Self { document, summary, ..Self::default() }
    }

    /// Columns of words and their pronunciations: `word` and `phonemes`.
    pub fn g2p() -> Self {
        let (document, summary) = ("word".into(), "phonemes".into());
        Self { document, summary, ..Self::default() }
    }

    /// Reads a file's documents and summaries. Rows that lack one of them are skipped and counted.
    ///
    /// # Errors
    /// If the file cannot be read, lacks a column, is broken, or has no usable row; the message
    /// names the line and column.
    pub fn read(&self, path: impl AsRef<Path>) -> Result<SummarizationDataset> {
        let path = path.as_ref();
        let records = self.records(path, Some(&self.summary))?;
        let rows = records.len();
        let filled = |record: &Record| {
            let summary = record.pair.as_deref().unwrap_or_default();
            !record.text.trim().is_empty() && !summary.trim().is_empty()
        };
        let examples: Vec<_> = records.into_iter().filter(filled).map(example).collect();
        let skipped = rows - examples.len();
        if examples.is_empty() {
            let message = format!(
                "none of {rows} rows has both a {:?} and a {:?}",
                self.document, self.summary
            );
            return Err(Error::format(path, message));
        }
        if skipped > 0 {
            let path = path.display();
            log::warn!("{path}: skipped {skipped} rows without a document or a summary");
        }
        Ok(SummarizationDataset { examples, skipped })
    }

    /// Reads a file's documents without their summaries. Keeps empty ones, so that there is a
    /// document for every row. The file need not have the column of the summary.
    ///
    /// # Errors
    /// If the file cannot be read, lacks the column, or is broken.
    pub fn read_documents(&self, path: impl AsRef<Path>) -> Result<SummarizationDataset> {
        let records = self.records(path.as_ref(), None)?;
        Ok(SummarizationDataset {
            examples: records.into_iter().map(example).collect(),
            skipped: 0,
        })
    }

    /// Finds a split's file in `folder`: `train`, `dev` (or `validation`, `valid`, `val`) or `test`
    /// with the extension `.jsonl`, `.ndjson`, `.csv` or `.tsv`.
    ///
    /// # Errors
    /// If there is no such split or file, or several files fit.
    pub fn find(&self, folder: impl AsRef<Path>, split: Split) -> Result<PathBuf> {
        let folder = folder.as_ref();
        let stems: &[&str] = match split {
            Split::Train => &["train"],
            Split::Dev => &["dev", "validation", "valid", "val"],
            Split::Test => &["test"],
            Split::DevMismatched | Split::TestMismatched => {
                let message = format!("summarization has no {split:?}; only mnli has");
                return Err(Error::option("split", message));
            }
        };
        if let Err(error) = std::fs::read_dir(folder) {
            return Err(Error::io(folder, error));
        }
        let names = stems.iter().flat_map(|stem| EXTENSIONS.map(|end| format!("{stem}.{end}")));
        let found: Vec<String> = names.filter(|name| folder.join(name).is_file()).collect();
        match found.as_slice() {
            [only] => Ok(folder.join(only)),
            [] => {
                let files = stems.join(".*, ");
                let message = format!("no {files}.* ({}) is here", EXTENSIONS.join(", "));
                Err(Error::format(folder, message))
            }
            several => {
                let message = format!(
                    "{} could each be the {split:?} split; name the file outright",
                    several.join(" and ")
                );
                Err(Error::format(folder, message))
            }
        }
    }

    /// Reads a split from `folder`, see [`SummarizationOptions::find`].
    ///
    /// # Errors
    /// Those of [`SummarizationOptions::find`] and [`SummarizationOptions::read`].
    pub fn load(&self, folder: impl AsRef<Path>, split: Split) -> Result<SummarizationDataset> {
        self.read(self.find(folder, split)?)
    }

    fn records(&self, path: &Path, summary: Option<&str>) -> Result<Vec<Record>> {
        let columns = Columns {
            text: &self.document,
            pair: summary,
            target: None,
            format: self.format,
            quoting: self.quoting,
        };
        read_records(path, columns)
    }
}

fn example(record: Record) -> SummarizationExample {
    SummarizationExample { document: record.text, summary: record.pair }
}

#[cfg(test)]
#[path = "data_tests.rs"]
mod tests;
