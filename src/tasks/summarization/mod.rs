//! Summarization: documents and their summaries from files, and how summaries are generated.
//!
//! Scores are in [`crate::tasks::rouge`]; pronunciations of words, which are read and written in the
//! same way, have theirs in [`crate::tasks::pronunciation`].

mod read;
mod settings;

pub use read::SummarizationOptions;
pub use settings::{SummarizationPreset, SummarizationSettings, TextMetrics};

use super::{MetricKind, Task, TaskKind};

/// The task of summarizing, under a name of its own: all of ROUGE, by ROUGE-2; or of pronouncing, by
/// word accuracy.
pub fn task(name: &str, metrics: TextMetrics) -> Task {
    let (metrics, primary) = match metrics {
        TextMetrics::Rouge => (MetricKind::ROUGE.to_vec(), MetricKind::Rouge2),
        TextMetrics::Phonemes => (MetricKind::PHONEMES.to_vec(), MetricKind::WordAccuracy),
    };
    Task { name: name.into(), kind: TaskKind::Summarization, metrics, primary }
}

/// One document, with its summary where the file has one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SummarizationExample {
    /// The text to summarize, as the file has it.
    pub document: String,
    /// The reference summary; `None` where it was not asked for.
    pub summary: Option<String>,
}

/// Examples of one split, in the file's order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SummarizationDataset {
    /// The examples.
    pub examples: Vec<SummarizationExample>,
    /// Rows that were left out because document or summary is empty (XSum has some).
    pub skipped: usize,
}

impl SummarizationDataset {
    /// Number of examples.
    pub fn len(&self) -> usize {
        self.examples.len()
    }

    /// Whether there are no examples.
    pub fn is_empty(&self) -> bool {
        self.examples.is_empty()
    }

    /// Keeps the first `count` examples, for quick trials.
    pub fn truncate(&mut self, count: usize) {
        self.examples.truncate(count);
    }
}
