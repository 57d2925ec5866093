//! The metrics by name, and which kinds of task each can score.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::tasks::TaskKind;
use crate::{Error, Result};

/// Defines [`MetricKind`] by the metrics' names in files.
macro_rules! metrics {
    ($($(#[$doc:meta])* $kind:ident = $name:literal,)*) => {
        /// A metric, named as in Hugging Face's `evaluate`.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum MetricKind {
            $($(#[$doc])* #[serde(rename = $name)] $kind,)*
        }

        impl MetricKind {
            /// All metrics.
            pub const ALL: [Self; [$($name),*].len()] = [$(Self::$kind),*];

            /// The metric's name in files.
            pub fn name(self) -> &'static str {
                match self { $(Self::$kind => $name),* }
            }
        }
    };
}

metrics! {
    /// Share of right answers.
    Accuracy = "accuracy",
    /// F1 of class 1 (two classes only), or of the words of answers to questions (SQuAD).
    F1 = "f1",
    /// Unweighted mean of the F1 of every class.
    MacroF1 = "macro_f1",
    /// Matthews correlation coefficient.
    Matthews = "matthews_correlation",
    /// Pearson's correlation of predictions and scores.
    Pearson = "pearson",
    /// Spearman's rank correlation of predictions and scores.
    Spearman = "spearmanr",
    /// ROUGE-1 of generated texts, see [`crate::tasks::rouge`].
    Rouge1 = "rouge1",
    /// ROUGE-2 of generated texts.
    Rouge2 = "rouge2",
    /// ROUGE-L of whole generated texts.
    RougeL = "rougeL",
    /// ROUGE-L of generated texts, line by line.
    RougeLsum = "rougeLsum",
    /// Share of answers that equal one of the right ones (SQuAD).
    ExactMatch = "exact_match",
    /// Exact match over the questions that have an answer (SQuAD 2.0, as those below).
    HasAnsExact = "HasAns_exact",
    /// F1 over the questions that have an answer.
    HasAnsF1 = "HasAns_f1",
    /// Share of the questions without an answer that get none.
    NoAnsExact = "NoAns_exact",
    /// The same as `NoAns_exact`; the official script lists both.
    NoAnsF1 = "NoAns_f1",
    /// Exact match with the best threshold for it.
    BestExact = "best_exact",
    /// The threshold that gives the best exact match.
    BestExactThreshold = "best_exact_thresh",
    /// F1 with the best threshold for it.
    BestF1 = "best_f1",
    /// The threshold that gives the best F1.
    BestF1Threshold = "best_f1_thresh",
    /// Share of words whose phonemes are all right, see [`crate::tasks::pronunciation`].
    WordAccuracy = "word_accuracy",
    /// Edits per phoneme of the references.
    PhonemeErrorRate = "phoneme_error_rate",
}

impl MetricKind {
    /// The metrics of generated texts.
    pub const ROUGE: [Self; 4] = [Self::Rouge1, Self::Rouge2, Self::RougeL, Self::RougeLsum];

    /// The metrics of generated pronunciations.
    pub const PHONEMES: [Self; 2] = [Self::WordAccuracy, Self::PhonemeErrorRate];

    /// Whether a larger value means a better model. False for thresholds, which tell nothing.
    pub fn higher_is_better(self) -> bool {
        !matches!(self, Self::BestExactThreshold | Self::BestF1Threshold | Self::PhonemeErrorRate)
    }

    /// Whether the metric scores generated texts only.
    fn of_texts(self) -> bool {
        Self::ROUGE.contains(&self) || Self::PHONEMES.contains(&self)
    }

    /// Whether the metric scores answers to questions only.
    fn of_answers(self) -> bool {
        self >= Self::ExactMatch && self <= Self::BestF1Threshold
    }

    /// Checks that the metric can score tasks of this kind.
    ///
    /// # Errors
    /// The error says why it cannot.
    pub(crate) fn check(self, kind: &TaskKind) -> Result<()> {
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

    /// Parses a name in any case, and the usual short forms `acc`, `matthews`, `mcc`, `spearman`,
    /// `em`.
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
