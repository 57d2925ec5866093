//! Exact match and F1 as SQuAD's official evaluation scripts compute them, as fractions.
//!
//! <https://rajpurkar.github.io/SQuAD-explorer/> (`evaluate-v1.1.py`, `evaluate-v2.0.py`)

use std::collections::{BTreeMap, HashMap};
use std::sync::LazyLock;

use regex::Regex;

use super::{QaExample, QaPrediction};
use crate::tasks::{MetricKind, MetricReport, Task};
use crate::{Error, Result};

/// Words as Python's `\w` sees them.
static WORD: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"[\p{L}\p{N}_]+").ok());

/// Lower case, without ASCII punctuation, articles and extra white space.
pub fn normalize_answer(text: &str) -> String {
    let lower = text.to_lowercase();
    let bare: String = lower.chars().filter(|c| !c.is_ascii_punctuation()).collect();
    let articles = |found: &regex::Captures| match &found[0] {
        "a" | "an" | "the" => " ".to_string(),
        word => word.to_string(),
    };
    let without = match WORD.as_ref() {
        Some(word) => word.replace_all(&bare, articles).into_owned(),
        None => bare,
    };
    // Python's `split` knows four separators that Unicode does not call white space.
    let space = |c: char| c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c);
    without.split(space).filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
}

/// Whether two answers are the same but for case, punctuation, articles and white space.
pub fn exact_match(prediction: &str, answer: &str) -> bool {
    normalize_answer(prediction) == normalize_answer(answer)
}

/// F1 of the two answers' words. An answer without words matches another one fully where
/// `version_2`, and nothing otherwise.
pub fn f1(prediction: &str, answer: &str, version_2: bool) -> f64 {
    let (prediction, answer) = (normalize_answer(prediction), normalize_answer(answer));
    let words = |text: &str| -> Vec<String> { text.split(' ').map(str::to_string).collect() };
    if prediction.is_empty() || answer.is_empty() {
        return if version_2 && prediction == answer { 1.0 } else { 0.0 };
    }
    let (prediction, answer) = (words(&prediction), words(&answer));
    let mut left: HashMap<&str, usize> = HashMap::new();
    answer.iter().for_each(|word| *left.entry(word).or_default() += 1);
    let mut same = 0;
    for word in &prediction {
        if let Some(count) = left.get_mut(word.as_str()).filter(|count| **count > 0) {
            *count -= 1;
            same += 1;
        }
    }
    if same == 0 {
        return 0.0;
    }
    let precision = f64::from(same) / prediction.len() as f64;
    let recall = f64::from(same) / answer.len() as f64;
    2.0 * precision * recall / (precision + recall)
}

/// The answers that count: in version 2 those with words, or the empty one.
fn gold(example: &QaExample, version_2: bool) -> Vec<&str> {
    let mut gold: Vec<&str> = example.answers.iter().map(|answer| answer.text.as_str()).collect();
    if version_2 {
        gold.retain(|text| !normalize_answer(text).is_empty());
        if gold.is_empty() {
            gold.push("");
        }
    }
    gold
}

/// Exact match and F1 of one answer, the best over all right ones.
fn best(prediction: &str, example: &QaExample, version_2: bool) -> (f64, f64) {
    let gold = gold(example, version_2);
    let exact = gold.iter().any(|answer| exact_match(prediction, answer));
    let f1 = gold.iter().map(|answer| f1(prediction, answer, version_2)).fold(0.0, f64::max);
    (f64::from(u8::from(exact)), f1)
}

/// The threshold on the score of no answer that would have been best.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BestThreshold {
    /// The mean score it would have given.
    pub score: f64,
    /// The threshold.
    pub threshold: f64,
}

/// One answer, as the search for a threshold sees it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scored {
    /// The answer's score if it is given.
    pub score: f64,
    /// How much speaks for giving none.
    pub no_answer: f64,
    /// Whether the question has an answer.
    pub has_answer: bool,
    /// Whether there is an answer to give.
    pub given: bool,
}

/// The threshold that gives the best mean score: `find_best_thresh` of the official script.
pub fn best_threshold(answers: &[Scored]) -> BestThreshold {
    let mut order: Vec<&Scored> = answers.iter().collect();
    order.sort_by(|a, b| a.no_answer.total_cmp(&b.no_answer));
    let mut current = answers.iter().filter(|answer| !answer.has_answer).count() as f64;
    let (mut score, mut threshold) = (current, 0.0);
    for answer in order {
        current += match (answer.has_answer, answer.given) {
            (true, _) => answer.score,
            (false, true) => -1.0,
            (false, false) => 0.0,
        };
        if current > score {
            (score, threshold) = (current, answer.no_answer);
        }
    }
    BestThreshold { score: score / answers.len().max(1) as f64, threshold }
}

/// The metrics of `task` (see [`super::task`]): the official ones, as fractions. The best
/// thresholds are those on [`QaPrediction::score_diff`], for the answers that are not empty.
///
/// # Errors
/// If there is nothing to score, or a question of SQuAD 1.1 has no answer.
pub fn score(
    task: &Task,
    examples: &[QaExample],
    predictions: &[QaPrediction],
    version_2: bool,
) -> Result<MetricReport> {
    if examples.is_empty() || examples.len() != predictions.len() {
        let message = format!("{} answers for {} questions", predictions.len(), examples.len());
        return Err(Error::Training(message));
    }
    if let Some(example) = examples.iter().find(|e| !version_2 && e.answers.is_empty()) {
        let message = format!(
            "question {} has no answer to be scored by; data with such questions need the \
             task squad_v2",
            example.id
        );
        return Err(Error::option("dev", message));
    }
    let pairs = || examples.iter().zip(predictions);
    let scores: Vec<(f64, f64)> =
        pairs().map(|(example, answer)| best(&answer.text, example, version_2)).collect();
    let has_answer: Vec<bool> =
        examples.iter().map(|example| !example.answers.is_empty()).collect();
    let mean = |pick: fn(&(f64, f64)) -> f64, keep: &dyn Fn(bool) -> bool| {
        let kept = scores.iter().zip(&has_answer).filter(|(_, has)| keep(**has));
        let (sum, count) =
            kept.fold((0.0, 0), |(sum, count), (score, _)| (sum + pick(score), count + 1));
        (count > 0).then(|| sum / f64::from(count))
    };
    let mut values = BTreeMap::new();
    let mut put = |kind, value: Option<f64>| value.map(|value| values.insert(kind, value));
    put(MetricKind::ExactMatch, mean(|s| s.0, &|_| true));
    put(MetricKind::F1, mean(|s| s.1, &|_| true));
    if version_2 {
        put(MetricKind::HasAnsExact, mean(|s| s.0, &|has| has));
        put(MetricKind::HasAnsF1, mean(|s| s.1, &|has| has));
        put(MetricKind::NoAnsExact, mean(|s| s.0, &|has| !has));
        put(MetricKind::NoAnsF1, mean(|s| s.1, &|has| !has));
        let search = |pick: fn((f64, f64)) -> f64| {
            let scored = pairs().zip(&has_answer).map(|((example, answer), &has_answer)| Scored {
                score: pick(best(&answer.best_non_null, example, version_2)),
                no_answer: answer.score_diff.unwrap_or(0.0),
                has_answer,
                given: !answer.best_non_null.is_empty(),
            });
            best_threshold(&scored.collect::<Vec<_>>())
        };
        let (exact, f1) = (search(|s| s.0), search(|s| s.1));
        put(MetricKind::BestExact, Some(exact.score));
        put(MetricKind::BestExactThreshold, Some(exact.threshold));
        put(MetricKind::BestF1, Some(f1.score));
        put(MetricKind::BestF1Threshold, Some(f1.threshold));
    }
    Ok(MetricReport {
        values,
        primary: task.primary,
        examples: examples.len(),
        majority_share: None,
    })
}

#[cfg(test)]
#[path = "metrics_tests.rs"]
mod tests;
