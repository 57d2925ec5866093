//! Picks the best answer from the logits of a question's windows.

use serde::Serialize;

use super::{QaExample, QaSettings, QaWindow};
use crate::tasks::metrics::softmax;

/// A model's logits for one window, each `[length]` of the window.
#[derive(Debug, Clone, PartialEq)]
pub struct WindowLogits {
    /// Logits of being the answer's first token.
    pub start: Vec<f32>,
    /// Logits of being the answer's last token.
    pub end: Vec<f32>,
}

/// A candidate for an answer.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Candidate {
    /// The answer; empty for no answer.
    pub text: String,
    /// Its first character in the context.
    pub start: usize,
    /// The character after its last one.
    pub end: usize,
    /// Its share of the softmax over the candidates' scores.
    pub probability: f64,
    /// Logit of the first token.
    pub start_logit: f32,
    /// Logit of the last token.
    pub end_logit: f32,
}

/// A model's answer to a question.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct QaPrediction {
    /// The answer; empty if the context holds none.
    pub text: String,
    /// The best answer that is not empty, regardless of the threshold.
    pub best_non_null: String,
    /// The score of no answer minus that of `best_non_null`, if no answer is allowed. The threshold
    /// is on this difference.
    pub score_diff: Option<f64>,
    /// The best candidates, best first.
    pub candidates: Vec<Candidate>,
}

/// The answer of `utils_qa.py` if no span at all is allowed.
const NOTHING: &str = "empty";

/// The best answer to `example` from all of its windows, as Hugging Face's
/// `postprocess_qa_predictions` picks it.
///
/// <https://github.com/huggingface/transformers/blob/v4.57.0/examples/pytorch/question-answering/utils_qa.py>
pub fn best_answer(
    example: &QaExample,
    windows: &[(&QaWindow, &WindowLogits)],
    settings: &QaSettings,
) -> QaPrediction {
    let mut candidates = Vec::new();
    let mut null: Option<Candidate> = None;
    for (window, logits) in windows {
        if let (Some(&start), Some(&end)) = (logits.start.first(), logits.end.first())
            && null.as_ref().is_none_or(|null| score(null) > start + end)
        {
            null = Some(candidate(0, 0, start, end));
        }
        let ends = best_indices(&logits.end, settings.n_best);
        for start in best_indices(&logits.start, settings.n_best) {
            for &end in &ends {
                let inside = window.context.contains(&start) && window.context.contains(&end);
                if !inside || end < start || end - start + 1 > settings.max_answer_length {
                    continue;
                }
                let first = window.offsets[start - window.context.start].0;
                let last = window.offsets[end - window.context.start].1;
                candidates.push(candidate(first, last, logits.start[start], logits.end[end]));
            }
        }
    }
    let null = null.filter(|_| settings.version_2_with_negative);
    candidates.extend(null.clone());
    // A stable sort: of equal candidates the first found stays first.
    candidates.sort_by(|a, b| score(b).total_cmp(&score(a)));
    candidates.truncate(settings.n_best);
    if let Some(null) = &null
        && !candidates.iter().any(|c| (c.start, c.end) == (0, 0))
    {
        candidates.push(null.clone());
    }
    let context: Vec<char> = example.context.chars().collect();
    for candidate in &mut candidates {
        let range = candidate.start..candidate.end.max(candidate.start);
        candidate.text = context.get(range).unwrap_or_default().iter().collect();
    }
    let only = candidates.len() <= 1 && candidates.iter().all(|c| c.text.is_empty());
    if only {
        candidates.insert(0, Candidate { text: NOTHING.into(), ..candidate(0, 0, 0.0, 0.0) });
    }
    let scores: Vec<f64> = candidates.iter().map(|c| f64::from(score(c))).collect();
    for (candidate, probability) in candidates.iter_mut().zip(softmax(&scores)) {
        candidate.probability = probability;
    }
    choose(candidates, null.as_ref(), settings)
}

fn choose(
    candidates: Vec<Candidate>,
    null: Option<&Candidate>,
    settings: &QaSettings,
) -> QaPrediction {
    let best = candidates.iter().find(|candidate| !candidate.text.is_empty());
    let best_non_null = best.map(|best| best.text.clone()).unwrap_or_default();
    let score_diff = null
        .zip(best)
        .map(|(null, best)| f64::from(score(null) - best.start_logit - best.end_logit));
    let text = match score_diff {
        Some(difference) if difference > settings.null_score_diff_threshold => String::new(),
        Some(_) => best_non_null.clone(),
        None => candidates.first().map(|first| first.text.clone()).unwrap_or_default(),
    };
    QaPrediction { text, best_non_null, score_diff, candidates }
}

fn candidate(start: usize, end: usize, start_logit: f32, end_logit: f32) -> Candidate {
    Candidate { text: String::new(), start, end, probability: 0.0, start_logit, end_logit }
}

fn score(candidate: &Candidate) -> f32 {
    candidate.start_logit + candidate.end_logit
}

/// Indices of the `most` largest values, largest first; of equal values the last comes first.
fn best_indices(values: &[f32], most: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..values.len()).rev().collect();
    order.sort_by(|&a, &b| values[b].total_cmp(&values[a]));
    order.truncate(most);
    order
}

#[cfg(test)]
#[path = "answers_tests.rs"]
mod tests;
