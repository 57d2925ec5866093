//! Exact match and F1 of answers, as fractions, as SQuAD's official scripts compute them.
//!
//! <https://rajpurkar.github.io/SQuAD-explorer/> (`evaluate-v1.1.py`, `evaluate-v2.0.py`)

use std::collections::{BTreeMap, HashMap};
use std::sync::LazyLock;

use regex::Regex;

use super::{QaExample, QaPrediction};
use crate::tasks::{MetricKind, MetricReport, Task};
use crate::{Error, Result};

/// Words, as Python's `\w+` matches them.
static WORD: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"[\p{L}\p{N}_]+").ok());

/// The answer in lower case, without ASCII punctuation, articles and extra white space.
fn normalize_answer(text: &str) -> String {
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
    // Python's `split` also splits at four separators that are no white space in Unicode.
    let space = |c: char| c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c);
    without.split(space).filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
}

/// Whether two answers differ at most in case, punctuation, articles and white space.
fn exact_match(prediction: &str, answer: &str) -> bool {
    normalize_answer(prediction) == normalize_answer(answer)
}

/// F1 of the words of two answers. Two answers without words score 1 if `version_2`, else 0.
fn word_f1(prediction: &str, answer: &str, version_2: bool) -> f64 {
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

/// The right answers: all of version 1.1; in version 2.0 those with words, or else the empty
/// answer.
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

/// Exact match and F1 of an answer: the best over all right answers.
fn best(prediction: &str, example: &QaExample, version_2: bool) -> (f64, f64) {
    let gold = gold(example, version_2);
    let exact = gold.iter().any(|answer| exact_match(prediction, answer));
    let f1 = gold.iter().map(|answer| word_f1(prediction, answer, version_2)).fold(0.0, f64::max);
    (f64::from(u8::from(exact)), f1)
}

/// An answer in the search for a threshold.
struct Scored {
    /// The answer's score if it is given.
    score: f64,
    /// The score of giving none.
    no_answer: f64,
    /// Whether the question has an answer.
    has_answer: bool,
    /// Whether there is an answer to give.
    given: bool,
}

/// The best mean score that a threshold on the score of no answer can give, and that threshold:
/// `find_best_thresh` of the official script.
fn best_threshold(answers: &[Scored]) -> (f64, f64) {
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
    (score / answers.len().max(1) as f64, threshold)
}

/// The official metrics, as fractions, with the primary one of `task` (see [`super::task`]). The
/// best thresholds are on [`QaPrediction::score_diff`], for the answers that are not empty.
///
/// # Errors
/// If there is nothing to score, or a question has no answer without `version_2`.
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
        put(MetricKind::BestExact, Some(exact.0));
        put(MetricKind::BestExactThreshold, Some(exact.1));
        put(MetricKind::BestF1, Some(f1.0));
        put(MetricKind::BestF1Threshold, Some(f1.1));
    }
    Ok(MetricReport {
        values,
        primary: task.primary,
        examples: examples.len(),
        majority_share: None,
        f1_of: None,
    })
}

#[cfg(test)]
#[path = "metrics_tests.rs"]
mod tests;
