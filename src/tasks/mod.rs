//! Text tasks: reads data, tokenizes it, forms batches, and scores answers.
//!
//! ```text
//! glue / table ──► TextDataset ──► TextTokenizer ──► EncodedExample ──► BatchPlan ──► TextBatch
//!                   (Example)        (tokenize)                              (batch)
//! logits + labels ──► Predictions ──► MetricReport        (metrics)
//! ```
//!
//! Begin with [`Task`] and [`TextDataset`] below, for sequence classification and regression.
//! Question answering is in [`squad`]; summarization and other text generation in
//! [`summarization`], with its scores in [`rouge`] and [`pronunciation`]. All tasks share
//! [`tokenize`], which knows nothing of labels, and [`batch::BatchPlan`], which knows nothing of
//! tasks.
//!
//! This folder uses `models` (labels), `generation` (settings) and `checkpoint` (guarded reading);
//! it runs no model and knows nothing of training.

pub mod batch;
pub mod glue;
mod label_counts;
pub mod metrics;
pub mod pronunciation;
pub mod rouge;
mod rows;
pub mod squad;
pub mod summarization;
pub mod table;
pub mod tokenize;
mod unclosed_quotes;

use serde::{Deserialize, Serialize};

pub use batch::{BatchOrder, BatchPlan, EncodedExample, TextBatch};
pub use glue::{GlueTask, Split};
pub use metrics::{MetricKind, MetricReport, Predictions};
pub use pronunciation::PhonemeScores;
pub use rouge::{Rouge, RougeScorer, RougeScores};
pub use summarization::{
    SummarizationDataset, SummarizationOptions, SummarizationSettings, TextMetrics,
};
pub use table::{TableFormat, TableOptions, TableTarget};
pub use tokenize::TextTokenizer;

use crate::{Error, Result};

/// The right answer for one example.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Label {
    /// Index into [`TaskKind::Classification`]'s `labels`.
    Class(usize),
    /// A finite number to predict, in the data's own unit (STS-B: 0 to 5).
    Score(f32),
}

/// One text, or pair of texts, as read from a file.
#[derive(Debug, Clone, PartialEq)]
pub struct Example {
    /// First text.
    pub text: String,
    /// Second text, for tasks about pairs.
    pub pair: Option<String>,
    /// The right answer; `None` if the file has none (test sets, prediction).
    pub label: Option<Label>,
}

/// Kind of answer that a task asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "type")]
pub enum TaskKind {
    /// One of several classes.
    Classification {
        /// Names of the classes, in the order of their logits.
        labels: Vec<String>,
    },
    /// One number.
    Regression,
    /// The span of a text that answers a question about it.
    QuestionAnswering {
        /// Whether a question may have no answer.
        version_2_with_negative: bool,
    },
    /// A generated text: a summary, or the pronunciation of a word.
    Summarization,
}

impl TaskKind {
    /// Number of logits of a model for this task: one for each class, 1 for regression, 2 for each
    /// token in question answering. 0 for generated texts, whose logits are the vocabulary's.
    pub fn num_labels(&self) -> usize {
        match self {
            Self::Classification { labels } => labels.len(),
            Self::Regression => 1,
            Self::QuestionAnswering { .. } => 2,
            Self::Summarization => 0,
        }
    }
}

/// A task: what is predicted and how it is scored. A compressed model stores it in `config.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Task {
    /// `rte`, `sst2`, or the user's own name for it.
    pub name: String,
    /// Kind of answer that a task asks for.
    pub kind: TaskKind,
    /// Metrics to report.
    pub metrics: Vec<MetricKind>,
    /// The metric that picks the best checkpoint; one of `metrics`.
    pub primary: MetricKind,
}

impl Task {
    /// A task with its metrics; the first metric is the primary one.
    ///
    /// # Errors
    /// See [`Task::validate`]; also if `metrics` is empty.
    pub fn new(name: impl Into<String>, kind: TaskKind, metrics: Vec<MetricKind>) -> Result<Self> {
        let Some(&primary) = metrics.first() else {
            return Err(Error::option("metrics", "none given; name at least one"));
        };
        let task = Self { name: name.into(), kind, metrics, primary };
        task.validate()?;
        Ok(task)
    }

    /// A classification task scored by accuracy, and by F1 too if there are two classes.
    ///
    /// # Errors
    /// If there are fewer than two labels or a label occurs twice.
    pub fn classification(name: impl Into<String>, labels: Vec<String>) -> Result<Self> {
        let mut metrics = vec![MetricKind::Accuracy];
        if labels.len() == 2 {
            metrics.push(MetricKind::F1);
        }
        Self::new(name, TaskKind::Classification { labels }, metrics)
    }

    /// A regression task scored by Pearson's and Spearman's correlation.
    pub fn regression(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            kind: TaskKind::Regression,
            metrics: vec![MetricKind::Pearson, MetricKind::Spearman],
            primary: MetricKind::Pearson,
        }
    }

    /// Checks that labels and metrics fit together. Call it on a task read from a file.
    ///
    /// # Errors
    /// If there are fewer than two labels, a label occurs twice or has no name, a metric does not
    /// fit the kind of task, F1 has other than two labels, or the primary metric is not among the
    /// metrics.
    pub fn validate(&self) -> Result<()> {
        if let TaskKind::Classification { labels } = &self.kind {
            if labels.len() < 2 {
                let message = format!(
                    "classification needs at least two different labels, found {labels:?}; \
                     for numbers to predict, name a score column instead"
                );
                return Err(Error::option("labels", message));
            }
            for (index, label) in labels.iter().enumerate() {
                if label.trim().is_empty() {
                    return Err(Error::option(
                        "labels",
                        format!("label {} has no name", index + 1),
                    ));
                }
                if labels[..index].contains(label) {
                    return Err(Error::option("labels", format!("{label:?} is there twice")));
                }
            }
        }
        for metric in &self.metrics {
            metric.check(&self.kind)?;
        }
        if !self.metrics.contains(&self.primary) {
            let message = format!("the primary metric {} is not among the metrics", self.primary);
            return Err(Error::option("metrics", message));
        }
        Ok(())
    }

    /// Number of logits of a model for this task; see [`TaskKind::num_labels`].
    pub fn num_labels(&self) -> usize {
        self.kind.num_labels()
    }

    /// Names of the classes; empty for other kinds of task.
    pub fn labels(&self) -> &[String] {
        match &self.kind {
            TaskKind::Classification { labels } => labels,
            _ => &[],
        }
    }

    /// Index of the class called `label`. Without an exact match, the only class whose name differs
    /// in case, the way a number is written, or a usual short form (`models/alignment.rs`).
    pub fn label_index(&self, label: &str) -> Option<usize> {
        crate::models::label_index(self.labels(), label)
    }
}

/// Examples of one split of a task, in the order of the file.
#[derive(Debug, Clone, PartialEq)]
pub struct TextDataset {
    /// The examples.
    pub examples: Vec<Example>,
    /// Their task.
    pub task: Task,
    /// Number of rows left out because they are broken or unlabelled in the official file (QQP,
    /// MNLI); 0 for other data.
    pub skipped: usize,
}

/// Sets the fields of `$target` that `$given` has a value for.
macro_rules! take_given {
    ($given:expr => $target:expr; $($field:ident),+ $(,)?) => {
        $(if let Some(value) = &$given.$field { $target.$field = value.clone(); })+
    };
}
pub(crate) use take_given;

/// Gives a data set with the field `examples` the methods that all of them have.
macro_rules! dataset_methods {
    ($dataset:ty) => {
        impl $dataset {
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
    };
}
use dataset_methods;

dataset_methods!(TextDataset);

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| name.to_string()).collect()
    }

    #[test]
    fn a_task_survives_json() {
        let task = Task::classification("polarity", labels(&["neg", "pos"])).unwrap();
        let json = serde_json::to_string(&task).unwrap();
        assert_eq!(
            json,
            r#"{"name":"polarity","kind":{"type":"classification","labels":["neg","pos"]},"metrics":["accuracy","f1"],"primary":"accuracy"}"#
        );
        assert_eq!(serde_json::from_str::<Task>(&json).unwrap(), task);
        let task = Task::regression("similarity");
        let json = serde_json::to_string(&task).unwrap();
        assert_eq!(serde_json::from_str::<Task>(&json).unwrap(), task);
        assert_eq!(task.num_labels(), 1);
    }

    #[test]
    fn impossible_tasks_are_refused() {
        let one = Task::classification("t", labels(&["only"])).unwrap_err().to_string();
        assert!(one.contains("at least two") && one.contains("only"), "{one}");
        let twice = Task::classification("t", labels(&["a", "b", "a"])).unwrap_err().to_string();
        assert!(twice.contains("\"a\" is there twice"), "{twice}");
        let empty = Task::classification("t", labels(&["a", " "])).unwrap_err().to_string();
        assert!(empty.contains("label 2 has no name"), "{empty}");
        let three = TaskKind::Classification { labels: labels(&["a", "b", "c"]) };
        let f1 = Task::new("t", three.clone(), vec![MetricKind::F1]).unwrap_err().to_string();
        assert!(f1.contains("f1") && f1.contains('3'), "{f1}");
        let pearson = Task::new("t", three, vec![MetricKind::Pearson]).unwrap_err().to_string();
        assert!(pearson.contains("pearson"), "{pearson}");
        let none = Task::new("t", TaskKind::Regression, vec![]).unwrap_err().to_string();
        assert!(none.contains("metrics"), "{none}");
        let mut task = Task::regression("t");
        task.primary = MetricKind::Accuracy;
        assert!(task.validate().unwrap_err().to_string().contains("not among"));
    }
}
