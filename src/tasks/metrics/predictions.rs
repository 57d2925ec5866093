//! Scores a model's logits against labels.

use std::fmt;

use burn::tensor::Tensor;

use super::classification::{accuracy, f1, macro_f1, majority_share, matthews};
use super::correlation::{pearson, spearman};
use super::{MetricKind, MetricReport, argmax};
use crate::models::Labels;
use crate::tasks::{Label, Task, TaskKind};
use crate::{Error, Result};

/// Gathers a classifier's answers over an evaluation, then scores them.
#[derive(Debug, Clone)]
pub struct Predictions {
    task: Task,
    answers: Answers,
}

/// Right answers, then as many of the model's.
#[derive(Debug, Clone)]
enum Answers {
    Classes(Vec<usize>, Vec<usize>),
    Scores(Vec<f64>, Vec<f64>),
}

impl Predictions {
    /// An evaluation of `task` without answers.
    ///
    /// # Errors
    /// If the task is inconsistent, see [`Task::validate`].
    pub fn new(task: &Task) -> Result<Self> {
        task.validate()?;
        let answers = match task.kind {
            TaskKind::Classification { .. } => Answers::Classes(vec![], vec![]),
            TaskKind::Regression => Answers::Scores(vec![], vec![]),
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
            Answers::Classes(known, _) => known.len(),
            Answers::Scores(known, _) => known.len(),
        }
    }

    /// Whether there are no answers yet.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds a batch: `logits` `[batch, num_labels]`, row-major, and `labels` `[batch]`. The largest
    /// logit predicts the class, the first of equal ones.
    ///
    /// # Errors
    /// If sizes or kinds do not fit the task, a class is out of range, or a logit is not finite.
    /// Then nothing is added.
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
            Answers::Classes(known, given) => {
                let classes = labels.iter().map(|label| match label {
                    Label::Class(class) if *class < width => Ok(*class),
                    _ => Err(misfit(label)),
                });
                known.extend(classes.collect::<Result<Vec<_>>>()?);
                given.extend(logits.chunks(width).map(argmax));
            }
            Answers::Scores(known, given) => {
                let scores = labels.iter().map(|label| match label {
                    Label::Score(score) if score.is_finite() => Ok(f64::from(*score)),
                    _ => Err(misfit(label)),
                });
                known.extend(scores.collect::<Result<Vec<_>>>()?);
                given.extend(logits.iter().copied().map(f64::from));
            }
        }
        Ok(())
    }

    /// Adds a batch on the device: `logits` `[batch, num_labels]` and its `labels`.
    ///
    /// # Errors
    /// Those of [`Predictions::push`], and if the transfer fails.
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
            Labels::Values(scores) => {
                let scores = scores.try_to_vec_as::<f32>().map_err(|error| failed(&error))?;
                scores.into_iter().map(Label::Score).collect()
            }
        };
        self.push(&logits, &labels)
    }

    /// Scores all answers.
    ///
    /// # Errors
    /// If there are none, since then no metric is defined.
    pub fn report(&self) -> Result<MetricReport> {
        use MetricKind::{Accuracy, F1, MacroF1, Matthews, Pearson, Spearman};
        if self.is_empty() {
            return Err(Error::Training(format!(
                "no example of task {} was evaluated; is the evaluation file empty?",
                self.task.name
            )));
        }
        let classes = self.task.num_labels();
        let values = self.task.metrics.iter().map(|&kind| {
            let value = match (&self.answers, kind) {
                (Answers::Classes(known, given), Accuracy) => accuracy(known, given),
                (Answers::Classes(known, given), F1) => f1(known, given),
                (Answers::Classes(known, given), MacroF1) => macro_f1(known, given, classes),
                (Answers::Classes(known, given), Matthews) => matthews(known, given, classes),
                (Answers::Scores(known, given), Pearson) => pearson(known, given),
                (Answers::Scores(known, given), Spearman) => spearman(known, given),
                _ => return kind.check(&self.task.kind).map(|()| (kind, 0.0)),
            };
            Ok((kind, value))
        });
        Ok(MetricReport {
            values: values.collect::<Result<_>>()?,
            primary: self.task.primary,
            examples: self.len(),
            majority_share: match &self.answers {
                Answers::Classes(known, _) => Some(majority_share(known)),
                Answers::Scores(..) => None,
            },
            // scikit-learn's and the Hub's: of the label with the number 1.
            f1_of: match self.task.metrics.contains(&F1) {
                true => self.task.labels().get(1).cloned(),
                false => None,
            },
        })
    }
}
