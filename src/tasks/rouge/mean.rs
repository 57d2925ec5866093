//! Mean ROUGE over a data set.

use super::{Rouge, RougeScorer, Score};
use crate::tasks::{MetricKind, MetricReport};
use crate::{Error, Result};

/// Gathers the scores of pairs of texts, then reports their arithmetic means.
///
/// `rouge_score`'s aggregator instead gives an interval by random resampling; its middle differs
/// from the mean by chance in the third or fourth digit.
#[derive(Debug, Clone)]
pub struct RougeScores {
    scorer: RougeScorer,
    primary: MetricKind,
    sum: Rouge,
    pairs: usize,
}

impl RougeScores {
    /// Scores without pairs; `stemming` is `rouge_score`'s `use_stemmer`. ROUGE-2 is the primary
    /// metric.
    pub fn new(stemming: bool) -> Self {
        Self {
            scorer: RougeScorer::new(stemming),
            primary: MetricKind::Rouge2,
            sum: Rouge::default(),
            pairs: 0,
        }
    }

    /// The same with another primary metric.
    ///
    /// # Errors
    /// If `primary` is not among [`MetricKind::ROUGE`].
    pub fn with_primary(mut self, primary: MetricKind) -> Result<Self> {
        if !MetricKind::ROUGE.contains(&primary) {
            let names = MetricKind::ROUGE.map(MetricKind::name).join(", ");
            let message =
                format!("{primary} does not score generated texts; choose one of {names}");
            return Err(Error::option("metrics", message));
        }
        self.primary = primary;
        Ok(self)
    }

    /// Number of pairs so far.
    pub fn len(&self) -> usize {
        self.pairs
    }

    /// Whether there are no pairs yet.
    pub fn is_empty(&self) -> bool {
        self.pairs == 0
    }

    /// Scores a pair, adds its scores, and returns them. For `rougeLsum`, put each sentence on its
    /// own line.
    pub fn push(&mut self, prediction: &str, reference: &str) -> Rouge {
        let rouge = self.scorer.score(prediction, reference);
        self.sum = self.sum.zip_with(&rouge, |sum, value| sum + value);
        self.pairs += 1;
        rouge
    }

    /// The mean scores over all pairs.
    ///
    /// # Errors
    /// If there are no pairs, since then there is no mean.
    pub fn mean(&self) -> Result<Rouge> {
        if self.is_empty() {
            let message = "no summary was evaluated; is the evaluation file empty?";
            return Err(Error::Training(message.into()));
        }
        Ok(self.sum.zip_with(&self.sum, |sum, _| sum / self.pairs as f64))
    }

    /// The mean F-measure of each kind, as fractions.
    ///
    /// # Errors
    /// If there are no pairs.
    pub fn report(&self) -> Result<MetricReport> {
        let mean = self.mean()?;
        let values = [
            (MetricKind::Rouge1, mean.rouge1.fmeasure),
            (MetricKind::Rouge2, mean.rouge2.fmeasure),
            (MetricKind::RougeL, mean.rouge_l.fmeasure),
            (MetricKind::RougeLsum, mean.rouge_lsum.fmeasure),
        ];
        Ok(MetricReport {
            values: values.into(),
            primary: self.primary,
            examples: self.pairs,
            majority_share: None,
            f1_of: None,
        })
    }
}

impl Rouge {
    fn zip_with(&self, other: &Self, f: impl Fn(f64, f64) -> f64) -> Self {
        let score = |a: &Score, b: &Score| Score {
            precision: f(a.precision, b.precision),
            recall: f(a.recall, b.recall),
            fmeasure: f(a.fmeasure, b.fmeasure),
        };
        Self {
            rouge1: score(&self.rouge1, &other.rouge1),
            rouge2: score(&self.rouge2, &other.rouge2),
            rouge_l: score(&self.rouge_l, &other.rouge_l),
            rouge_lsum: score(&self.rouge_lsum, &other.rouge_lsum),
        }
    }
}
