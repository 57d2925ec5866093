//! Beam search over one batch, on the host, in the arithmetic of Hugging Face's `_beam_search`.

use super::EarlyStopping;
use super::config::Resolved;

/// Added to scores that must not win; 32-bit sums with it swallow the score itself.
const NEVER: f32 = -1.0e9;

/// Tokens of a hypothesis and the sum of their log-probabilities, or its score when complete.
#[derive(Debug, Clone)]
pub(crate) struct Hypothesis {
    pub tokens: Vec<u32>,
    pub score: f32,
}

/// A continuation: which hypothesis of the example, by which token, at which total score.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Continuation {
    pub beam: usize,
    pub token: u32,
    pub score: f32,
}

/// The search for one example.
#[derive(Debug)]
struct Beams {
    running: Vec<Hypothesis>,
    /// The best so far, best first; `false`: not complete, a placeholder.
    complete: Vec<(Hypothesis, bool)>,
    /// Whether a running hypothesis may still become better than the complete ones.
    improvable: bool,
}

/// The search for all examples of a batch.
#[derive(Debug)]
pub(crate) struct BeamSearch<'a> {
    settings: &'a Resolved,
    examples: Vec<Beams>,
    /// Tokens of every running hypothesis.
    length: usize,
}

impl<'a> BeamSearch<'a> {
    pub fn new(settings: &'a Resolved, batch: usize) -> Self {
        let start = |score| Hypothesis { tokens: vec![settings.start], score };
        let beams = settings.num_beams;
        let example = || Beams {
            // All start alike, so only the first counts at first.
            running: (0..beams).map(|beam| start(if beam == 0 { 0.0 } else { NEVER })).collect(),
            complete: (0..beams).map(|_| (start(NEVER), false)).collect(),
            improvable: true,
        };
        Self { settings, examples: (0..batch).map(|_| example()).collect(), length: 1 }
    }

    /// Continuations to look at for each example: enough that `num_beams` go on running even if
    /// all the best ones end.
    pub fn continuations(settings: &Resolved) -> usize {
        2.max(1 + settings.eos.len()) * settings.num_beams
    }

    /// The running hypotheses, example after example.
    pub fn running(&self) -> impl Iterator<Item = &Hypothesis> {
        self.examples.iter().flat_map(|example| &example.running)
    }

    /// Takes each example's best continuations, best first, of which there are
    /// [`Self::continuations`], and gives the row that each running hypothesis now continues;
    /// `None` when the search has ended.
    pub fn advance(&mut self, best: &[Vec<Continuation>]) -> Option<Vec<usize>> {
        let settings = self.settings;
        let at_end = self.length + 1 >= settings.max_length;
        let ends = |c: &Continuation| at_end || settings.eos.contains(&c.token);
        let mut parents = Vec::new();
        for (i, (example, best)) in self.examples.iter_mut().zip(best).enumerate() {
            let hypotheses: Vec<Hypothesis> =
                best.iter().map(|c| example.running[c.beam].continued(c)).collect();
            example.finish(&hypotheses, best.iter().map(ends), self.length, settings);
            let first_row = i * settings.num_beams;
            let going_on = example.go_on(hypotheses, best.iter().map(ends), settings.num_beams);
            parents.extend(going_on.into_iter().map(|at| first_row + best[at].beam));
        }
        self.length += 1;
        let length = self.length;
        self.examples.iter_mut().for_each(|example| example.judge(length, settings));

        let improvable = self.examples.iter().any(|example| example.improvable);
        let all_full = self.examples.iter().all(Beams::is_full);
        let enough = all_full && settings.early_stopping == EarlyStopping::FirstComplete;
        let all_ended = best.iter().flatten().all(ends);
        (improvable && !enough && !all_ended).then_some(parents)
    }

    /// The best hypotheses of every example, best first.
    pub fn into_best(self) -> Vec<Vec<Hypothesis>> {
        let best = |example: Beams| {
            let best = example.complete.into_iter().map(|(hypothesis, _)| hypothesis);
            best.take(self.settings.num_return_sequences).collect()
        };
        self.examples.into_iter().map(best).collect()
    }
}

impl Hypothesis {
    fn continued(&self, by: &Continuation) -> Self {
        let mut tokens = Vec::with_capacity(self.tokens.len() + 1);
        tokens.extend(&self.tokens);
        tokens.push(by.token);
        Self { tokens, score: by.score }
    }
}

impl Beams {
    fn is_full(&self) -> bool {
        self.complete.iter().all(|(_, complete)| *complete)
    }

    /// Merges the hypotheses that ended, if among the `num_beams` best, into the complete ones.
    fn finish(
        &mut self,
        hypotheses: &[Hypothesis],
        ends: impl Iterator<Item = bool>,
        length: usize,
        settings: &Resolved,
    ) {
        let full = self.is_full() && settings.early_stopping == EarlyStopping::FirstComplete;
        // The start token does not count.
        let penalty = (length as f64).powf(settings.length_penalty) as f32;
        for (at, (hypothesis, ends)) in hypotheses.iter().zip(ends).enumerate() {
            let complete = ends && at < settings.num_beams;
            let mut score = hypothesis.score / penalty;
            for excluded in [full, !self.improvable, !complete] {
                score += if excluded { NEVER } else { 0.0 };
            }
            let tokens = hypothesis.tokens.clone();
            self.complete.push((Hypothesis { tokens, score }, complete));
        }
        self.complete.sort_by(|(a, _), (b, _)| b.score.total_cmp(&a.score));
        self.complete.truncate(settings.num_beams);
    }

    /// Keeps the best hypotheses that did not end; gives their places in `hypotheses`.
    fn go_on(
        &mut self,
        mut hypotheses: Vec<Hypothesis>,
        ends: impl Iterator<Item = bool>,
        num_beams: usize,
    ) -> Vec<usize> {
        for (hypothesis, ends) in hypotheses.iter_mut().zip(ends) {
            hypothesis.score += if ends { NEVER } else { 0.0 };
        }
        let mut places: Vec<usize> = (0..hypotheses.len()).collect();
        places.sort_by(|&a, &b| hypotheses[b].score.total_cmp(&hypotheses[a].score));
        places.truncate(num_beams);
        self.running = places.iter().map(|&at| hypotheses[at].clone()).collect();
        places
    }

    /// Whether the best running hypothesis may still beat a complete one, at `length` tokens.
    fn judge(&mut self, length: usize, settings: &Resolved) {
        let longest =
            settings.early_stopping == EarlyStopping::Never && settings.length_penalty > 0.0;
        let reached = if longest { settings.max_length } else { length } - 1;
        let possible =
            self.running[0].score / (reached as f64).powf(settings.length_penalty) as f32;
        let worst = self.complete.iter().map(|(h, _)| h.score).fold(f32::INFINITY, f32::min);
        let beatable = |complete: bool| possible > if complete { worst } else { NEVER };
        self.improvable &= self.complete.iter().any(|&(_, complete)| beatable(complete));
    }
}
