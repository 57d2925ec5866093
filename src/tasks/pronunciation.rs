//! Scores pronunciations: how many words are right, and how many phonemes are wrong.
//!
//! A pronunciation is a text of phonemes separated by blanks, such as `HH AH0 L OW1`.

use super::{MetricKind, MetricReport};
use crate::{Error, Result};

/// Gathers pronunciations and their references, then scores them.
///
/// ```text
/// word accuracy       words with exactly the phonemes of their reference / words
/// phoneme error rate  insertions, deletions and substitutions / phonemes of the references
/// ```
///
/// The error rate is over all phonemes, not a mean over words. It may exceed 1.
#[derive(Debug, Clone)]
pub struct PhonemeScores {
    primary: MetricKind,
    words: usize,
    right: usize,
    edits: usize,
    phonemes: usize,
}

impl PhonemeScores {
    /// Scores without words. `primary` is the metric that picks the best model.
    ///
    /// # Errors
    /// If `primary` is not among [`MetricKind::PHONEMES`].
    pub fn new(primary: MetricKind) -> Result<Self> {
        if !MetricKind::PHONEMES.contains(&primary) {
            let names = MetricKind::PHONEMES.map(MetricKind::name).join(", ");
            let message = format!("{primary} does not score pronunciations; choose one of {names}");
            return Err(Error::option("metrics", message));
        }
        Ok(Self { primary, words: 0, right: 0, edits: 0, phonemes: 0 })
    }

    /// Adds a word; returns its number of edits.
    pub fn push(&mut self, prediction: &str, reference: &str) -> usize {
        let prediction: Vec<&str> = prediction.split_whitespace().collect();
        let reference: Vec<&str> = reference.split_whitespace().collect();
        let edits = edit_distance(&prediction, &reference);
        self.words += 1;
        self.right += usize::from(edits == 0);
        self.edits += edits;
        self.phonemes += reference.len();
        edits
    }

    /// Both metrics, as fractions.
    ///
    /// # Errors
    /// If no reference has a phoneme, since then there is no rate.
    pub fn report(&self) -> Result<MetricReport> {
        if self.phonemes == 0 {
            let message = "no pronunciation was evaluated; is the evaluation file empty?";
            return Err(Error::Training(message.into()));
        }
        let share = |part: usize, whole: usize| part as f64 / whole as f64;
        let values = [
            (MetricKind::WordAccuracy, share(self.right, self.words)),
            (MetricKind::PhonemeErrorRate, share(self.edits, self.phonemes)),
        ];
        Ok(MetricReport {
            values: values.into(),
            primary: self.primary,
            examples: self.words,
            majority_share: None,
            f1_of: None,
        })
    }
}

/// Levenshtein distance: the fewest insertions, deletions and substitutions that turn `from` into
/// `to`.
fn edit_distance(from: &[&str], to: &[&str]) -> usize {
    // Distances of the part of `from` read so far to every prefix of `to`.
    let mut distances: Vec<usize> = (0..=to.len()).collect();
    for (read, ours) in from.iter().enumerate() {
        let mut diagonal = read;
        distances[0] = read + 1;
        for (at, theirs) in to.iter().enumerate() {
            let substituted = diagonal + usize::from(ours != theirs);
            diagonal = distances[at + 1];
            distances[at + 1] = substituted.min(diagonal + 1).min(distances[at] + 1);
        }
    }
    distances[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edits(from: &str, to: &str) -> usize {
        PhonemeScores::new(MetricKind::WordAccuracy).unwrap().push(from, to)
    }

    #[test]
    fn edits_are_counted_by_phoneme() {
        assert_eq!(edits("HH AH0 L OW1", "HH AH0 L OW1"), 0);
        assert_eq!(edits(" HH  AH0 L OW1\n", "HH AH0 L OW1"), 0);
        // Another stress is another phoneme.
        assert_eq!(edits("HH AH1 L OW1", "HH AH0 L OW1"), 1);
        assert_eq!(edits("HH AH0 L", "HH AH0 L OW1"), 1);
        assert_eq!(edits("HH AH0 L OW1 D", "HH AH0 L OW1"), 1);
        // One deletion and one insertion.
        assert_eq!(edits("K AE1 T S", "AE1 T S IH0"), 2);
        assert_eq!(edits("K IH1 T AH0 N", "S IH1 T IH0 NG"), 3);
        assert_eq!(edits("", "K AE1 T"), 3);
        assert_eq!(edits("K AE1 T", ""), 3);
    }

    #[test]
    fn edits_are_the_same_both_ways() {
        for (a, b) in [("A B C D", "B C"), ("A B A B", "B A B A A"), ("A", "B C D"), ("", "A")] {
            assert_eq!(edits(a, b), edits(b, a), "{a} and {b}");
        }
    }

    #[test]
    fn rates_are_over_all_words_and_phonemes() {
        let mut scores = PhonemeScores::new(MetricKind::WordAccuracy).unwrap();
        scores.push("HH AH0 L OW1", "HH AH0 L OW1");
        scores.push("K AE1 T", "K AE1 T");
        scores.push("D AO1", "D AO1 G");
        scores.push("B ER1 D S", "B ER1 D");
        let report = scores.report().unwrap();
        assert_eq!(report.values[&MetricKind::WordAccuracy], 0.5);
        // 2 edits to 4 + 3 + 3 + 3 phonemes; a mean over words would be 1/6.
        assert_eq!(report.values[&MetricKind::PhonemeErrorRate], 2.0 / 13.0);
        assert_eq!((report.examples, report.primary_value()), (4, 0.5));
        assert_eq!(report.to_string(), "word_accuracy 0.5000, phoneme_error_rate 0.1538");
    }

    #[test]
    fn more_errors_than_phonemes_exceed_one() {
        let mut scores = PhonemeScores::new(MetricKind::PhonemeErrorRate).unwrap();
        scores.push("K AE1 T S", "AA1");
        let worse = scores.report().unwrap();
        assert_eq!(worse.primary_value(), 4.0);
        scores.push("AA1", "AA1");
        assert!(scores.report().unwrap().is_better_than(&worse));
    }

    #[test]
    fn mistakes_are_named() {
        let error = PhonemeScores::new(MetricKind::Rouge2).unwrap_err().to_string();
        assert!(
            error.contains("rouge2 does not score pronunciations; choose one of word_acc"),
            "{error}"
        );
        let error = PhonemeScores::new(MetricKind::WordAccuracy).unwrap().report().unwrap_err();
        assert!(error.to_string().contains("no pronunciation was evaluated"), "{error}");
    }
}
