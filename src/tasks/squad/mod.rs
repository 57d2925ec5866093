//! Extractive question answering on SQuAD: reads questions, cuts contexts into windows, picks
//! answers, scores them.
//!
//! ```text
//! train.json ──► QaDataset ──► QaWindows (a long context in overlapping pieces) ──► model
//! start and end logits of all windows ──► best_answer ──► QaPrediction ──► score
//! ```
//!
//! Begin with [`QaDataset::read`]. Windows and answers follow Hugging Face's `run_qa.py` and
//! `utils_qa.py`, metrics the official evaluation scripts of SQuAD 1.1 and 2.0.

mod answers;
mod data;
mod json;
mod metrics;
mod windows;

use serde::{Deserialize, Serialize};

pub use answers::{Candidate, QaPrediction, WindowLogits, best_answer};
pub use data::{QaDataset, find_file};
pub use json::{QaAnswer, QaExample};
pub use metrics::score;
pub use windows::{QaWindow, encode_training_windows, encode_windows};

use super::{MetricKind, Task, TaskKind};
use crate::{Error, Result};

/// Settings of windows and answers; a trained model stores them in `config.json`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct QaSettings {
    /// Tokens that neighbouring windows share.
    pub doc_stride: usize,
    /// Number of candidates to keep, and of starts and ends to pair in each window.
    pub n_best: usize,
    /// Longest answer, in tokens.
    pub max_answer_length: usize,
    /// Whether a question may have no answer (SQuAD 2.0).
    pub version_2_with_negative: bool,
    /// No answer is given if its score exceeds the best answer's by more than this.
    pub null_score_diff_threshold: f64,
}

impl Default for QaSettings {
    fn default() -> Self {
        Self {
            doc_stride: 128,
            n_best: 20,
            max_answer_length: 30,
            version_2_with_negative: false,
            null_score_diff_threshold: 0.0,
        }
    }
}

impl QaSettings {
    /// Checks every setting.
    ///
    /// # Errors
    /// The error names the first impossible setting.
    pub fn validate(&self) -> Result<()> {
        for (name, value) in
            [("n_best", self.n_best), ("max_answer_length", self.max_answer_length)]
        {
            if value == 0 {
                return Err(Error::option(name, "must be at least 1"));
            }
        }
        if !self.null_score_diff_threshold.is_finite() {
            return Err(Error::option("null_score_diff_threshold", "must be a number"));
        }
        Ok(())
    }
}

/// A question-answering task called `name`, with the metrics of SQuAD 1.1 or 2.0.
pub fn task(name: &str, version_2_with_negative: bool) -> Task {
    use MetricKind::*;
    let mut metrics = vec![F1, ExactMatch];
    if version_2_with_negative {
        metrics.extend([HasAnsExact, HasAnsF1, NoAnsExact, NoAnsF1]);
        metrics.extend([BestExact, BestExactThreshold, BestF1, BestF1Threshold]);
    }
    let kind = TaskKind::QuestionAnswering { version_2_with_negative };
    Task { name: name.into(), kind, metrics, primary: F1 }
}
