//! The loop of a generation.

use super::beam::{BeamSearch, Continuation};
use super::candidates::{Candidate, candidates};
use super::config::Resolved;
use super::rules::Next;
use super::{CachedDecoder, GenerationConfig};
use crate::Result;

/// One output.
#[derive(Debug, Clone, PartialEq)]
pub struct Generated {
    /// The tokens from the start token up to the end token or the greatest length, without padding.
    pub tokens: Vec<u32>,
    /// A beam search's score: the sum of log-probabilities over the penalised length.
    pub score: Option<f32>,
}

/// Generates `num_return_sequences` outputs for every example, best first.
///
/// Greedy with one beam, beam search with more. `config` should have been completed with the
/// model's own settings ([`GenerationConfig::or`]).
///
/// # Errors
/// If a setting is impossible or not supported, the input is too long, or the model's logits are
/// not finite.
///
/// # Panics
/// If shapes of the input differ.
pub fn generate<M: CachedDecoder>(
    model: &M,
    input: &M::Input,
    config: &GenerationConfig,
) -> Result<Vec<Vec<Generated>>> {
    let settings = config.resolve(model.vocab_size(), model.max_length())?;
    let batch = M::examples(input);
    let mut cache = model.start(input, settings.num_beams, settings.max_length)?;
    match settings.num_beams {
        1 => greedy(model, &settings, batch, &mut cache),
        _ => beam_search(model, &settings, batch, &mut cache),
    }
}

fn greedy<M: CachedDecoder>(
    model: &M,
    settings: &Resolved,
    batch: usize,
    cache: &mut M::Cache,
) -> Result<Vec<Vec<Generated>>> {
    let mut rows = vec![vec![settings.start]; batch];
    let mut done = vec![false; batch];
    let mut next = vec![settings.start; batch];
    for length in 1..settings.max_length {
        let found = best(model, settings, &next, rows.iter().map(Vec::as_slice), 1, cache)?;
        for (i, found) in found.into_iter().enumerate() {
            if done[i] {
                next[i] = settings.pad;
                continue;
            }
            // Where every token is banned, the first of the vocabulary stands as in an `argmax`.
            let (token, score) = found.first().copied().unwrap_or((0, f32::NEG_INFINITY));
            next[i] = if score == f32::NEG_INFINITY { 0 } else { token };
            rows[i].push(next[i]);
            done[i] = settings.eos.contains(&next[i]);
        }
        // Finished rows go along as padding.
        if done.iter().all(|&done| done) || length + 1 == settings.max_length {
            break;
        }
    }
    Ok(rows.into_iter().map(|tokens| vec![Generated { tokens, score: None }]).collect())
}

fn beam_search<M: CachedDecoder>(
    model: &M,
    settings: &Resolved,
    batch: usize,
    cache: &mut M::Cache,
) -> Result<Vec<Vec<Generated>>> {
    let mut search = BeamSearch::new(settings, batch);
    let count = BeamSearch::continuations(settings);
    loop {
        let next: Vec<u32> = search.running().filter_map(|h| h.tokens.last().copied()).collect();
        let rows = search.running().map(|hypothesis| hypothesis.tokens.as_slice());
        let found = best(model, settings, &next, rows, count, cache)?;
        let scores: Vec<f32> = search.running().map(|hypothesis| hypothesis.score).collect();
        let examples = found.chunks(settings.num_beams).zip(scores.chunks(settings.num_beams));
        let best: Vec<Vec<Continuation>> =
            examples.map(|(rows, scores)| merge(rows, scores, count)).collect();
        match search.advance(&best) {
            Some(parents) => model.reorder(&parents, cache),
            None => break,
        }
    }
    let output = |hypothesis: super::beam::Hypothesis| Generated {
        tokens: hypothesis.tokens,
        score: Some(hypothesis.score),
    };
    let best = search.into_best().into_iter();
    Ok(best.map(|example| example.into_iter().map(output).collect()).collect())
}

/// The `count` best next tokens of every row after one more step of the model.
fn best<'a, M: CachedDecoder>(
    model: &M,
    settings: &Resolved,
    next: &[u32],
    rows: impl Iterator<Item = &'a [u32]>,
    count: usize,
    cache: &mut M::Cache,
) -> Result<Vec<Vec<Candidate>>> {
    let rows: Vec<&[u32]> = rows.collect();
    let length = rows.iter().map(|row| row.len()).max().unwrap_or(0);
    let logits = model.step(next, cache);
    match settings.next(rows.iter().copied(), length) {
        Next::Free(banned) => candidates(logits, &banned, count),
        Next::Forced(tokens) => {
            let forced = tokens.iter().map(|&token| (token, 0.0));
            let others = (0..model.vocab_size() as u32)
                .filter(|token| !tokens.contains(token))
                .map(|token| (token, f32::NEG_INFINITY));
            let row: Vec<Candidate> = forced.chain(others).take(count).collect();
            Ok(vec![row; next.len()])
        }
    }
}

/// The `count` best continuations of an example from those of its hypotheses.
fn merge(rows: &[Vec<Candidate>], scores: &[f32], count: usize) -> Vec<Continuation> {
    let continued = rows.iter().zip(scores).enumerate().flat_map(|(beam, (row, score))| {
        row.iter().map(move |&(token, own)| Continuation { beam, token, score: own + score })
    });
    let mut all: Vec<Continuation> = continued.collect();
    all.sort_by(|a, b| b.score.total_cmp(&a.score));
    all.truncate(count);
    all
}
