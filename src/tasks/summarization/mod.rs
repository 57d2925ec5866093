//! Text generation: documents and their summaries from files, and settings of the generation.
//!
//! Begin with [`SummarizationOptions`], which reads data, and [`SummarizationSettings`]. Words and
//! their pronunciations are read and generated in the same way. Scores are in
//! [`crate::tasks::rouge`] and [`crate::tasks::pronunciation`].

mod data;
mod settings;

pub use data::SummarizationOptions;
pub use settings::{SummarizationPreset, SummarizationSettings, TextMetrics};

use super::{MetricKind, Task, TaskKind, dataset_methods};

/// A summarization task called `name`: scored by ROUGE, with ROUGE-2 as primary metric, or by
/// phonemes, with word accuracy as primary metric.
pub fn task(name: &str, metrics: TextMetrics) -> Task {
    let (metrics, primary) = match metrics {
        TextMetrics::Rouge => (MetricKind::ROUGE.to_vec(), MetricKind::Rouge2),
        TextMetrics::Phonemes => (MetricKind::PHONEMES.to_vec(), MetricKind::WordAccuracy),
    };
    Task { name: name.into(), kind: TaskKind::Summarization, metrics, primary }
}

/// A document with its summary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SummarizationExample {
    /// The text to summarize.
    pub document: String,
    /// The reference summary; `None` if only documents were read.
    pub summary: Option<String>,
}

/// Examples of one split, in the order of the file.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SummarizationDataset {
    /// The examples.
    pub examples: Vec<SummarizationExample>,
    /// Number of rows left out because document or summary is empty (XSum has some).
    pub skipped: usize,
}

dataset_methods!(SummarizationDataset);
