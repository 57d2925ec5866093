//! What the layers are given: measured on some of the training examples.

use super::Run;
use crate::Result;
use crate::decompose::Calibration;
use crate::train::job::{Job, TrainableModel};
use crate::train::{Approximate, Event, MethodRecipe};

/// Tokens of a calibration, more than layers have inputs, and bounds on its examples.
const CALIBRATION_TOKENS: usize = 16384;
const CALIBRATION_EXAMPLES: [usize; 2] = [32, 512];

/// The training examples that a calibration takes, spread evenly, by the number of tokens of all.
fn calibration_examples(lengths: &[usize]) -> Vec<usize> {
    let total = lengths.len();
    let mean = (lengths.iter().sum::<usize>() / total.max(1)).max(1);
    let [least, most] = CALIBRATION_EXAMPLES;
    let count = (CALIBRATION_TOKENS / mean).clamp(least, most).min(total);
    (0..count).map(|at| at * total / count).collect()
}

impl<J: Job> Run<'_, J> {
    /// Measures what the layers are given on some of the training examples, if their low-rank parts are to
    /// keep their outputs.
    pub(super) fn calibrate(&self, model: &J::Model, method: &MethodRecipe) -> Result<Calibration> {
        if method.approximate == Approximate::Weights || !method.has_low_rank() {
            return Ok(Calibration::default());
        }
        let source = &self.prepared.train;
        let chosen = calibration_examples(&source.lengths);
        Calibration::measure(model, &method.selection(), |model| {
            for (done, &example) in chosen.iter().enumerate() {
                self.options.interrupt.check()?;
                // One example a batch: padding would count as input.
                let batch = (source.collate)(&[example], &self.options.device)?;
                model.forward_loss(batch);
                let (done, total) = (done + 1, chosen.len());
                self.options.observer.event(&Event::Progress { done, total });
            }
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn examples_are_spread_and_have_enough_tokens() {
        assert_eq!(calibration_examples(&[10; 4]), [0, 1, 2, 3]);
        let short = calibration_examples(&[20; 10_000]);
        assert_eq!((short.len(), short[1]), (512, 19));
        let long = calibration_examples(&[384; 1000]);
        assert_eq!((long.len(), long.last()), (42, Some(&976)));
        assert_eq!(calibration_examples(&[4096; 1000]).len(), 32);
        assert!(calibration_examples(&[]).is_empty());
    }
}
