//! Metrics of classification and regression tasks, in `f64`, as scikit-learn and SciPy compute
//! them.
//!
//! Where a metric is not defined (F1 without positives, a correlation with a constant) it counts
//! as 0: scikit-learn's rule for F1 and Matthews, extended here to the correlations, for which
//! SciPy gives NaN, so that a model that has collapsed compares as worse than one that has not.

mod classification;
mod correlation;

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

pub use classification::{accuracy, f1, macro_f1, majority_share, matthews};
pub use correlation::{pearson, spearman};

use super::batch::Labels;
use super::{Label, Task, TaskKind};
use crate::{Error, Result};

/// A metric, named as in Hugging Face's `evaluate`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum MetricKind {
    /// Share of right answers.
    #[serde(rename = "accuracy")]
    Accuracy,
    /// F1 of class 1; two classes only.
    #[serde(rename = "f1")]
    F1,
    /// Unweighted mean of every class's F1.
    #[serde(rename = "macro_f1")]
    MacroF1,
    /// Matthews correlation coefficient.
    #[serde(rename = "matthews_correlation")]
    Matthews,
    /// Pearson's correlation of prediction and score.
    #[serde(rename = "pearson")]
    Pearson,
    /// Spearman's rank correlation of prediction and score.
    #[serde(rename = "spearmanr")]
    Spearman,
    /// ROUGE-1 of generated texts, see [`crate::tasks::rouge`].
    #[serde(rename = "rouge1")]
    Rouge1,
    /// ROUGE-2.
    #[serde(rename = "rouge2")]
    Rouge2,
    /// ROUGE-L of whole texts.
    #[serde(rename = "rougeL")]
    RougeL,
    /// ROUGE-L of texts line by line.
    #[serde(rename = "rougeLsum")]
    RougeLsum,
    /// Share of questions answered as one of the right answers has it (SQuAD).
    #[serde(rename = "exact_match")]
    ExactMatch,
    /// Exact match over the questions that have an answer (SQuAD 2.0, as those below).
    #[serde(rename = "HasAns_exact")]
    HasAnsExact,
    /// F1 over the questions that have an answer.
    #[serde(rename = "HasAns_f1")]
    HasAnsF1,
    /// Share of the questions without an answer to which none is given.
    #[serde(rename = "NoAns_exact")]
    NoAnsExact,
    /// The same again, as the official script lists it.
    #[serde(rename = "NoAns_f1")]
    NoAnsF1,
    /// Exact match with the threshold that is best for it.
    #[serde(rename = "best_exact")]
    BestExact,
    /// That threshold.
    #[serde(rename = "best_exact_thresh")]
    BestExactThreshold,
    /// F1 with the threshold that is best for it.
    #[serde(rename = "best_f1")]
    BestF1,
    /// That threshold.
    #[serde(rename = "best_f1_thresh")]
    BestF1Threshold,
    /// Share of words whose phonemes are all right, see [`crate::tasks::pronunciation`].
    #[serde(rename = "word_accuracy")]
    WordAccuracy,
    /// Phonemes to change for each phoneme of the references.
    #[serde(rename = "phoneme_error_rate")]
    PhonemeErrorRate,
}

impl MetricKind {
    /// Every metric there is.
    pub const ALL: [Self; 21] = [
        Self::Accuracy,
        Self::F1,
        Self::MacroF1,
        Self::Matthews,
        Self::Pearson,
        Self::Spearman,
        Self::Rouge1,
        Self::Rouge2,
        Self::RougeL,
        Self::RougeLsum,
        Self::ExactMatch,
        Self::HasAnsExact,
        Self::HasAnsF1,
        Self::NoAnsExact,
        Self::NoAnsF1,
        Self::BestExact,
        Self::BestExactThreshold,
        Self::BestF1,
        Self::BestF1Threshold,
        Self::WordAccuracy,
        Self::PhonemeErrorRate,
    ];

    /// The metrics of generated texts.
    pub const ROUGE: [Self; 4] = [Self::Rouge1, Self::Rouge2, Self::RougeL, Self::RougeLsum];

    /// The metrics of generated pronunciations.
    pub const PHONEMES: [Self; 2] = [Self::WordAccuracy, Self::PhonemeErrorRate];

    /// The metric's name, as in files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Accuracy => "accuracy",
            Self::F1 => "f1",
            Self::MacroF1 => "macro_f1",
            Self::Matthews => "matthews_correlation",
            Self::Pearson => "pearson",
            Self::Spearman => "spearmanr",
            Self::Rouge1 => "rouge1",
            Self::Rouge2 => "rouge2",
            Self::RougeL => "rougeL",
            Self::RougeLsum => "rougeLsum",
            Self::ExactMatch => "exact_match",
            Self::HasAnsExact => "HasAns_exact",
            Self::HasAnsF1 => "HasAns_f1",
            Self::NoAnsExact => "NoAns_exact",
            Self::NoAnsF1 => "NoAns_f1",
            Self::BestExact => "best_exact",
            Self::BestExactThreshold => "best_exact_thresh",
            Self::BestF1 => "best_f1",
            Self::BestF1Threshold => "best_f1_thresh",
            Self::WordAccuracy => "word_accuracy",
            Self::PhonemeErrorRate => "phoneme_error_rate",
        }
    }

    /// Whether a larger value is a better model; thresholds say nothing about that.
    pub fn higher_is_better(self) -> bool {
        !matches!(self, Self::BestExactThreshold | Self::BestF1Threshold | Self::PhonemeErrorRate)
    }

    /// Whether the metric is one of generated texts alone.
    fn of_texts(self) -> bool {
        Self::ROUGE.contains(&self) || Self::PHONEMES.contains(&self)
    }

    /// Whether the metric is one of question answering's alone.
    fn of_answers(self) -> bool {
        self >= Self::ExactMatch && self <= Self::BestF1Threshold
    }

    /// Whether the metric can score tasks of this kind.
    ///
    /// # Errors
    /// An error that says why not.
    pub fn check(self, kind: &TaskKind) -> Result<()> {
        let regression = matches!(self, Self::Pearson | Self::Spearman);
        let answering = matches!(kind, TaskKind::QuestionAnswering { .. });
        let message = match kind {
            TaskKind::Summarization if self.of_texts() => return Ok(()),
            TaskKind::Summarization => format!("{self} does not score summaries; ROUGE does"),
            _ if self.of_texts() => {
                format!("{self} scores generated texts, not classes, numbers or answers")
            }
            TaskKind::QuestionAnswering { .. } if !self.of_answers() && self != Self::F1 => {
                format!("{self} does not score answers to questions")
            }
            _ if self.of_answers() && !answering => {
                format!("{self} needs questions, but the task is another one")
            }
            TaskKind::Classification { .. } if regression => {
                format!("{self} needs scores, but the task is a classification")
            }
            TaskKind::Classification { labels } if self == Self::F1 && labels.len() != 2 => {
                format!("{self} needs two labels, the task has {}; use macro_f1", labels.len())
            }
            TaskKind::Regression if !regression => {
                format!("{self} needs classes, but the task is a regression")
            }
            _ => return Ok(()),
        };
        Err(Error::option("metrics", message))
    }
}

impl fmt::Display for MetricKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for MetricKind {
    type Err = Error;

    /// Reads a name, case-insensitively; `acc`, `matthews`, `mcc` and `spearman` will do.
    fn from_str(text: &str) -> Result<Self> {
        Ok(match text.trim().to_ascii_lowercase().replace('-', "_").as_str() {
            "accuracy" | "acc" => Self::Accuracy,
            "f1" => Self::F1,
            "macro_f1" => Self::MacroF1,
            "matthews_correlation" | "matthews" | "mcc" => Self::Matthews,
            "pearson" | "pearsonr" => Self::Pearson,
            "spearmanr" | "spearman" => Self::Spearman,
            "rouge_1" => Self::Rouge1,
            "rouge_2" => Self::Rouge2,
            "rouge_l" => Self::RougeL,
            "rouge_lsum" => Self::RougeLsum,
            "em" => Self::ExactMatch,
            other => {
                let named =
                    Self::ALL.into_iter().find(|kind| kind.name().eq_ignore_ascii_case(other));
                if let Some(kind) = named {
                    return Ok(kind);
                }
                let names = Self::ALL.map(Self::name).join(", ");
                let message = format!("there is no metric {text:?}; there are {names}");
                return Err(Error::option("metrics", message));
            }
        })
    }
}

/// A task's metrics on one data set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MetricReport {
    /// Value of each metric; rates as fractions, not percent.
    pub values: BTreeMap<MetricKind, f64>,
    /// The metric that decides; one of `values`.
    pub primary: MetricKind,
    /// Number of examples scored.
    pub examples: usize,
    /// Classification: share of the most frequent label, which a model that always answers it has as
    /// its accuracy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub majority_share: Option<f64>,
}

impl MetricReport {
    /// Value of the primary metric; NaN in a report that lacks it, which [`Predictions`] never
    /// makes.
    pub fn primary_value(&self) -> f64 {
        self.values.get(&self.primary).copied().unwrap_or(f64::NAN)
    }

    /// Whether this is the better of the two by the primary metric.
    pub fn is_better_than(&self, other: &Self) -> bool {
        let (this, other) = (self.primary_value(), other.primary_value());
        if self.primary.higher_is_better() { this > other } else { this < other }
    }

    /// How far the model is above one that gives every example the same answer, and what chance alone
    /// may do there (the standard deviation of a sample of as many examples): of the accuracy, or of
    /// the primary metric if that is a correlation. `None`: neither is there, or all examples are of
    /// one class, which tells nothing.
    fn above_constant(&self) -> Option<(f64, f64)> {
        use MetricKind::{Matthews, Pearson, Spearman};
        let examples = self.examples.max(1) as f64;
        if matches!(self.primary, Matthews | Pearson | Spearman) {
            return Some((self.primary_value(), examples.sqrt().recip()));
        }
        let accuracy = self.values.get(&MetricKind::Accuracy)?;
        let share = self.majority_share.filter(|share| *share < 1.0)?;
        Some((accuracy - share, (share * (1.0 - share) / examples).sqrt()))
    }

    /// Whether the model is no better than one that gives every example the same answer.
    pub fn is_no_better_than_constant(&self) -> bool {
        self.above_constant().is_some_and(|(above, _)| above < 1e-12)
    }

    /// Whether the model is better than that by more than chance may do (three standard deviations).
    pub fn is_clearly_better_than_constant(&self) -> bool {
        self.above_constant().is_some_and(|(above, chance)| above > 3.0 * chance)
    }
}

impl fmt::Display for MetricReport {
    /// `accuracy 0.8627 (majority 0.6838), f1 0.9041`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (kind, value)) in self.values.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            write!(f, "{comma}{kind} {value:.4}")?;
            if let (MetricKind::Accuracy, Some(share)) = (kind, self.majority_share) {
                write!(f, " (majority {share:.4})")?;
            }
        }
        Ok(())
    }
}

/// Gathers a model's answers over an evaluation, then scores them.
#[derive(Debug, Clone)]
pub struct Predictions {
    task: Task,
    answers: Answers,
}

#[derive(Debug, Clone)]
enum Answers {
    Classes { labels: Vec<usize>, predictions: Vec<usize> },
    Scores { labels: Vec<f64>, predictions: Vec<f64> },
}

impl Predictions {
    /// No answers yet.
    ///
    /// # Errors
    /// If the task is inconsistent, see [`Task::validate`].
    pub fn new(task: &Task) -> Result<Self> {
        task.validate()?;
        let answers = match task.kind {
            TaskKind::Classification { .. } => {
                Answers::Classes { labels: vec![], predictions: vec![] }
            }
            TaskKind::Regression => Answers::Scores { labels: vec![], predictions: vec![] },
            TaskKind::QuestionAnswering { .. } => {
                let message = "question answering is scored by squad::score";
                return Err(Error::option("task", message));
            }
            TaskKind::Summarization => {
                let message = "summaries are scored by rouge::RougeScores";
                return Err(Error::option("task", message));
            }
        };
        Ok(Self { task: task.clone(), answers })
    }

    /// Number of answers so far.
    pub fn len(&self) -> usize {
        match &self.answers {
            Answers::Classes { labels, .. } => labels.len(),
            Answers::Scores { labels, .. } => labels.len(),
        }
    }

    /// Whether there are no answers yet.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds a batch: `logits` row-major `[batch, num_labels]`, `labels` `[batch]`. A class is
    /// predicted by the largest logit, the first of equals.
    ///
    /// # Errors
    /// If sizes or kinds do not fit the task, a class is out of range, or a logit is not finite.
    /// Nothing is added then.
    pub fn push(&mut self, logits: &[f32], labels: &[Label]) -> Result<()> {
        let width = self.task.num_labels();
        if logits.len() != labels.len() * width {
            return Err(Error::Training(format!(
                "{} logits for {} examples of task {}, which has {width} an example",
                logits.len(),
                labels.len(),
                self.task.name
            )));
        }
        if let Some(index) = logits.iter().position(|logit| !logit.is_finite()) {
            return Err(Error::Training(format!(
                "the model's answer to example {} is {}, not a finite number; a lower learning \
                 rate may help",
                self.len() + index / width,
                logits[index]
            )));
        }
        let misfit = |label: &Label| {
            Error::Training(format!("label {label:?} does not fit task {}", self.task.name))
        };
        match &mut self.answers {
            Answers::Classes { labels: known, predictions } => {
                let classes = labels.iter().map(|label| match label {
                    Label::Class(class) if *class < width => Ok(*class),
                    _ => Err(misfit(label)),
                });
                known.extend(classes.collect::<Result<Vec<_>>>()?);
                predictions.extend(logits.chunks(width).map(argmax));
            }
            Answers::Scores { labels: known, predictions } => {
                let scores = labels.iter().map(|label| match label {
                    Label::Score(score) if score.is_finite() => Ok(f64::from(*score)),
                    _ => Err(misfit(label)),
                });
                known.extend(scores.collect::<Result<Vec<_>>>()?);
                predictions.extend(logits.iter().copied().map(f64::from));
            }
        }
        Ok(())
    }

    /// Adds a batch from the device: `logits` `[batch, num_labels]` and its `labels` `[batch]`.
    ///
    /// # Errors
    /// Those of [`Predictions::push`], and a failing transfer.
    pub fn push_batch(&mut self, logits: Tensor<2>, labels: &Labels) -> Result<()> {
        let failed = |error: &dyn fmt::Debug| {
            Error::Training(format!("reading the model's answers from the device: {error:?}"))
        };
        let logits = logits.try_to_vec_as::<f32>().map_err(|error| failed(&error))?;
        let labels: Vec<Label> = match labels {
            Labels::Classes(classes) => {
                let classes = classes.try_to_vec_as::<i64>().map_err(|error| failed(&error))?;
                classes.into_iter().map(|class| Label::Class(class as usize)).collect()
            }
            Labels::Scores(scores) => {
                let scores = scores.try_to_vec_as::<f32>().map_err(|error| failed(&error))?;
                scores.into_iter().map(Label::Score).collect()
            }
        };
        self.push(&logits, &labels)
    }

    /// Scores all answers.
    ///
    /// # Errors
    /// If there are no answers, since then no metric is defined.
    pub fn report(&self) -> Result<MetricReport> {
        if self.is_empty() {
            return Err(Error::Training(format!(
                "no example of task {} was evaluated; is the evaluation file empty?",
                self.task.name
            )));
        }
        let classes = self.task.num_labels();
        let values = self.task.metrics.iter().map(|&kind| {
            let value = match (&self.answers, kind) {
                (Answers::Classes { labels, predictions }, MetricKind::Accuracy) => {
                    accuracy(labels, predictions)
                }
                (Answers::Classes { labels, predictions }, MetricKind::F1) => {
                    f1(labels, predictions)
                }
                (Answers::Classes { labels, predictions }, MetricKind::MacroF1) => {
                    macro_f1(labels, predictions, classes)
                }
                (Answers::Classes { labels, predictions }, MetricKind::Matthews) => {
                    matthews(labels, predictions, classes)
                }
                (Answers::Scores { labels, predictions }, MetricKind::Pearson) => {
                    pearson(labels, predictions)
                }
                (Answers::Scores { labels, predictions }, MetricKind::Spearman) => {
                    spearman(labels, predictions)
                }
                _ => return kind.check(&self.task.kind).map(|()| (kind, 0.0)),
            };
            Ok((kind, value))
        });
        Ok(MetricReport {
            values: values.collect::<Result<_>>()?,
            primary: self.task.primary,
            examples: self.len(),
            majority_share: match &self.answers {
                Answers::Classes { labels, .. } => Some(majority_share(labels)),
                Answers::Scores { .. } => None,
            },
        })
    }
}

/// Index of the largest value, the first of equals; 0 for an empty row.
pub fn argmax(row: &[f32]) -> usize {
    let mut best = 0;
    for (index, value) in row.iter().enumerate() {
        if *value > row[best] {
            best = index;
        }
    }
    best
}

#[cfg(test)]
mod tests;
