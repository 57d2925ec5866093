//! ROUGE (C.-Y. Lin, "ROUGE: A Package for Automatic Evaluation of Summaries", 2004), as Python's
//! `rouge_score` package computes it with its default tokenizer. Begin with [`RougeScores`].
//!
//! ```text
//! text ──► lower case, runs of a-z and 0-9 ──► (stems) ──► tokens ──► overlaps of n-grams   rouge1, rouge2
//!                                               (porter)          ├─► common subsequence    rougeL
//!                                                                 └─► union of them, a line rougeLsum
//! ```
//!
//! Lines end at `\n` only, and texts are not split into sentences: for `rougeLsum`, put each
//! sentence on its own line. For texts of one line it equals `rougeL`.

mod lcs;
mod mean;
mod porter;

use std::collections::HashMap;
use std::ops::Range;

pub use mean::RougeScores;

use self::lcs::{UnionLcs, lcs_length};

/// Precision, recall and their harmonic mean, from 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Score {
    /// Share of the prediction that is in the reference.
    pub precision: f64,
    /// Share of the reference that is in the prediction.
    pub recall: f64,
    /// `2·p·r / (p + r)`; 0 if both are 0.
    pub fmeasure: f64,
}

/// The four scores of one pair of texts, or their means over many.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Rouge {
    /// Overlap of unigrams.
    pub rouge1: Score,
    /// Overlap of bigrams.
    pub rouge2: Score,
    /// Longest common subsequence of the whole texts.
    pub rouge_l: Score,
    /// Union of the longest common subsequences of each line of the reference with all lines of the
    /// prediction.
    pub rouge_lsum: Score,
}

/// Scores predictions against references.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RougeScorer {
    /// Whether tokens of more than three letters are stemmed.
    stemming: bool,
}

impl RougeScorer {
    /// A scorer; `stemming` is `rouge_score`'s `use_stemmer`, which published results use.
    pub fn new(stemming: bool) -> Self {
        Self { stemming }
    }

    /// The scores of a pair. A text without tokens scores 0, even against another one without.
    pub fn score(&self, prediction: &str, reference: &str) -> Rouge {
        let mut ids = HashMap::new();
        let reference = Tokens::new(reference, self.stemming, &mut ids);
        let prediction = Tokens::new(prediction, self.stemming, &mut ids);
        let common = lcs_length(&reference.ids, &prediction.ids);
        let rouge_l = Score::new(common, &prediction.ids, &reference.ids);
        // For texts of one line, the union is of one subsequence: that of the whole texts.
        let single = reference.lines.len() <= 1 && prediction.lines.len() <= 1;
        let rouge_lsum =
            if single { rouge_l } else { summary_level(&prediction, &reference, ids.len()) };
        Rouge {
            rouge1: overlap(prediction.ngrams::<1>(), reference.ngrams::<1>()),
            rouge2: overlap(prediction.ngrams::<2>(), reference.ngrams::<2>()),
            rouge_l,
            rouge_lsum,
        }
    }
}

impl Score {
    /// The score of `hits` tokens or n-grams out of those of prediction and reference; 0 without
    /// any.
    fn new<T>(hits: usize, prediction: &[T], reference: &[T]) -> Self {
        let share = |of: usize| hits as f64 / of.max(1) as f64;
        let (precision, recall) = (share(prediction.len()), share(reference.len()));
        let sum = precision + recall;
        let fmeasure = if sum > 0.0 { 2.0 * precision * recall / sum } else { 0.0 };
        Self { precision, recall, fmeasure }
    }
}

/// A text's tokens as numbers; equal tokens have equal numbers.
struct Tokens {
    ids: Vec<u32>,
    /// Ranges of the lines that have tokens.
    lines: Vec<Range<usize>>,
}

impl Tokens {
    fn new(text: &str, stemming: bool, known: &mut HashMap<String, u32>) -> Self {
        let text = text.to_lowercase();
        let (mut ids, mut lines) = (Vec::new(), Vec::new());
        for line in text.split('\n') {
            let start = ids.len();
            let words = line.split(|letter: char| !letter.is_ascii_alphanumeric());
            ids.extend(words.filter(|word| !word.is_empty()).map(|word| {
                let mut token = word.to_owned();
                if stemming && word.len() > 3 {
                    porter::stem(&mut token);
                }
                let next = known.len() as u32;
                *known.entry(token).or_insert(next)
            }));
            if ids.len() > start {
                lines.push(start..ids.len());
            }
        }
        Self { ids, lines }
    }

    /// The `N`-grams, sorted.
    fn ngrams<const N: usize>(&self) -> Vec<[u32; N]> {
        let mut ngrams: Vec<[u32; N]> =
            self.ids.windows(N).filter_map(|window| window.try_into().ok()).collect();
        ngrams.sort_unstable();
        ngrams
    }
}

/// The score of the overlap of two sorted lists; each entry counts as often as both have it.
fn overlap<T: Ord>(prediction: Vec<T>, reference: Vec<T>) -> Score {
    let (mut hits, mut rest) = (0, reference.as_slice());
    for entry in &prediction {
        while let [first, tail @ ..] = rest
            && first < entry
        {
            rest = tail;
        }
        if let [first, tail @ ..] = rest
            && first == entry
        {
            hits += 1;
            rest = tail;
        }
    }
    Score::new(hits, &prediction, &reference)
}

/// `rougeLsum`. A token counts at most as often as the prediction has it; the reference needs no
/// such bound, since each of its tokens is marked once.
fn summary_level(prediction: &Tokens, reference: &Tokens, vocabulary: usize) -> Score {
    let mut left = vec![0_u32; vocabulary];
    prediction.ids.iter().for_each(|&id| left[id as usize] += 1);
    let mut union = UnionLcs::default();
    let mut hits = 0;
    for line in &reference.lines {
        let line = &reference.ids[line.clone()];
        let mut marks = vec![false; line.len()];
        for other in &prediction.lines {
            union.mark(line, &prediction.ids[other.clone()], &mut marks);
        }
        for (&id, _) in line.iter().zip(&marks).filter(|(_, marked)| **marked) {
            if left[id as usize] > 0 {
                left[id as usize] -= 1;
                hits += 1;
            }
        }
    }
    Score::new(hits, &prediction.ids, &reference.ids)
}

#[cfg(test)]
mod tests;
