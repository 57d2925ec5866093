//! Agreement of the masked and the compacted model.

use serde::{Deserialize, Serialize};

use crate::tasks::metrics::argmax;
use crate::{Error, Result};

/// The masked and the compacted model on the same examples.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Agreement {
    /// Largest absolute difference between their logits.
    pub largest_logit_difference: f64,
    /// Examples whose predicted class differs; 0 in regression.
    pub changed_predictions: usize,
    /// Examples compared.
    pub examples: usize,
}

/// What a model answered to a data set, to be compared with another's.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Answers {
    /// Logits of each piece of input.
    pub logits: Vec<Vec<f32>>,
    /// The answer to each example, in words; empty where only numbers count.
    pub predictions: Vec<String>,
}

impl Agreement {
    /// Compares answers; a logit that is not finite counts as infinitely far.
    ///
    /// # Errors
    /// If there are not as many of each.
    pub fn between_answers(masked: &Answers, compacted: &Answers) -> Result<Self> {
        let logits = Self::between(&masked.logits, &compacted.logits)?;
        let pairs = masked.predictions.iter().zip(&compacted.predictions);
        Ok(Self {
            changed_predictions: pairs.filter(|(a, b)| a != b).count(),
            examples: masked.predictions.len(),
            ..logits
        })
    }

    /// Compares logits `[example][label]`; a value that is not finite counts as infinitely far.
    ///
    /// # Errors
    /// If there are not as many of each.
    pub fn between(masked: &[Vec<f32>], compacted: &[Vec<f32>]) -> Result<Self> {
        let widths = |rows: &[Vec<f32>]| rows.iter().map(Vec::len).collect::<Vec<_>>();
        if widths(masked) != widths(compacted) {
            let message =
                "the masked and the compacted model answered different numbers of examples";
            return Err(Error::Training(message.into()));
        }
        let rows = masked.iter().zip(compacted);
        let mut largest = 0.0f64;
        for (a, b) in rows.clone().flat_map(|(a, b)| a.iter().zip(b)) {
            let difference = (f64::from(*a) - f64::from(*b)).abs();
            largest = largest.max(if difference.is_nan() { f64::INFINITY } else { difference });
        }
        Ok(Self {
            largest_logit_difference: largest,
            changed_predictions: rows.filter(|(a, b)| argmax(a) != argmax(b)).count(),
            examples: masked.len(),
        })
    }
}
