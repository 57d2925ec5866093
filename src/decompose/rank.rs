//! Rank from a parameter budget, or given outright.

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// Choice of the rank of the low-rank part.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rank {
    /// A share `ρ` of the layer's parameters: `r = ⌈ρ·out·in / (out + in)⌉`; 0 is rank 0.
    Budget(f64),
    /// The largest rank whose parameters are within a share `ρ` of the layer's, but at least 1; 0 is rank 0.
    Within(f64),
    /// The rank itself, at most `min(out, in)`.
    Fixed(usize),
}

impl Rank {
    /// The rank for an `[out, in]` matrix.
    ///
    /// # Errors
    /// If the share is not within `0..=1`, or the rank is beyond full.
    pub fn resolve(self, d_output: usize, d_input: usize) -> Result<usize> {
        let full = d_output.min(d_input);
        match self {
            Rank::Budget(share) | Rank::Within(share) if !(0.0..=1.0).contains(&share) => {
                let message = format!("{share} is not a share of the parameters; give 0 to 1");
                Err(Error::option("low-rank ratio", message))
            }
            Rank::Budget(share) | Rank::Within(share) => {
                let budget = share * (d_output * d_input) as f64 / (d_output + d_input) as f64;
                let least = usize::from(share > 0.0);
                let rank = match self {
                    Rank::Within(_) => (budget.floor() as usize).max(least),
                    _ => budget.ceil() as usize,
                };
                Ok(rank.min(full))
            }
            Rank::Fixed(rank) if rank > full => Err(Error::option(
                "rank",
                format!("{rank} is beyond the full rank {full} of a {d_output}×{d_input} matrix"),
            )),
            Rank::Fixed(rank) => Ok(rank),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn budget_counts_parameters_of_both_factors() {
        // BERT-base: 5% of 768×768 and of 768×3072.
        assert_eq!(Rank::Budget(0.05).resolve(768, 768).unwrap(), 20);
        assert_eq!(Rank::Budget(0.05).resolve(3072, 768).unwrap(), 31);
        assert_eq!(Rank::Budget(0.0).resolve(768, 768).unwrap(), 0);
        // A budget of 1 on a square matrix is half rank.
        assert_eq!(Rank::Budget(1.0).resolve(64, 64).unwrap(), 32);
        assert_eq!(Rank::Fixed(64).resolve(64, 64).unwrap(), 64);
    }

    #[test]
    fn a_rank_within_a_budget_is_rounded_down_to_1_at_least() {
        assert_eq!(Rank::Within(0.05).resolve(768, 768).unwrap(), 19);
        assert_eq!(Rank::Within(0.05).resolve(3072, 768).unwrap(), 30);
        assert_eq!(Rank::Within(0.15).resolve(16, 16).unwrap(), 1);
        assert_eq!(Rank::Within(0.01).resolve(16, 16).unwrap(), 1);
        assert_eq!(Rank::Within(0.0).resolve(16, 16).unwrap(), 0);
    }

    #[test]
    fn impossible_ranks_are_errors() {
        for share in [1.7, -0.1, f64::NAN] {
            for rank in [Rank::Budget(share), Rank::Within(share)] {
                let message = rank.resolve(8, 8).unwrap_err().to_string();
                assert!(message.contains("low-rank ratio"), "{message}");
            }
        }
        assert!(Rank::Fixed(9).resolve(8, 16).unwrap_err().to_string().contains("full rank 8"));
    }
}
