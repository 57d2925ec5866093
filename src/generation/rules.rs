//! Which tokens may come next: what Hugging Face calls logits processors.

use super::config::Resolved;

/// The tokens that may follow the hypotheses of one length.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// One of these, at no cost, whatever the model says.
    Forced(Vec<u32>),
    /// The model's choice, but none of these, for each hypothesis.
    Free(Vec<Vec<u32>>),
}

impl Resolved {
    /// The tokens that may follow `rows`, all of the same length.
    pub fn next<'a>(&self, rows: impl Iterator<Item = &'a [u32]>, length: usize) -> Next {
        if length + 1 == self.max_length && !self.forced_eos.is_empty() {
            return Next::Forced(self.forced_eos.clone());
        }
        if let Some(bos) = self.forced_bos.filter(|_| length == 1) {
            return Next::Forced(vec![bos]);
        }
        let banned = |row: &[u32]| {
            let mut banned = repeats(row, self.no_repeat_ngram_size);
            if length < self.min_length {
                banned.extend(&self.eos);
            }
            banned.sort_unstable();
            banned.dedup();
            banned
        };
        Next::Free(rows.map(banned).collect())
    }
}

/// The tokens that would repeat a sequence of `size` tokens of `row`.
fn repeats(row: &[u32], size: usize) -> Vec<u32> {
    if size == 0 || row.len() + 1 < size {
        return Vec::new();
    }
    let last = &row[row.len() + 1 - size..];
    row.windows(size).filter(|ngram| ngram.starts_with(last)).map(|ngram| ngram[size - 1]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generation::{GenerationConfig, TokenIds};

    fn rules() -> Resolved {
        let config = GenerationConfig {
            max_length: Some(6),
            min_length: Some(3),
            no_repeat_ngram_size: Some(2),
            forced_bos_token_id: Some(7),
            forced_eos_token_id: Some(TokenIds::One(2)),
            decoder_start_token_id: Some(0),
            eos_token_id: Some(TokenIds::Many(vec![2, 3])),
            ..GenerationConfig::default()
        };
        config.resolve(10, 8).unwrap()
    }

    fn next(row: &[u32]) -> Next {
        rules().next([row].into_iter(), row.len())
    }

    #[test]
    fn tokens_are_forced_at_either_end_and_banned_between() {
        assert_eq!(next(&[0]), Next::Forced(vec![7]));
        assert_eq!(next(&[0, 7]), Next::Free(vec![vec![2, 3]]), "too short to end");
        assert_eq!(next(&[0, 7, 7]), Next::Free(vec![vec![7]]), "7 7 is there");
        assert_eq!(next(&[0, 7, 0, 5]), Next::Free(vec![vec![]]));
        assert_eq!(next(&[7, 1, 7, 4]), Next::Free(vec![vec![]]));
        assert_eq!(next(&[7, 1, 4, 7]), Next::Free(vec![vec![1]]));
        assert_eq!(next(&[0, 7, 1, 4, 7]), Next::Forced(vec![2]));
    }

    #[test]
    fn repeats_of_every_size() {
        assert_eq!(repeats(&[4, 5], 1), [4, 5]);
        assert_eq!(repeats(&[4, 5, 6, 4, 5, 8, 4, 5], 3), [6, 8]);
        assert!(repeats(&[4, 5], 4).is_empty());
        assert!(repeats(&[4, 5, 4], 0).is_empty());
    }
}
