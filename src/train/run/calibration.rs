//! Inputs of the layers, measured on some of the training examples.

use super::Run;
use crate::Result;
use crate::decompose::Calibration;
use crate::random::split_mix_64;
use crate::train::job::{Job, TrainableModel};
use crate::train::{Approximate, Event, MethodRecipe};

/// Tokens of a calibration, more than layers have inputs, and bounds on its examples.
const CALIBRATION_TOKENS: usize = 16384;
const CALIBRATION_EXAMPLES: [usize; 2] = [32, 512];

/// Examples between two progress events.
const TELL_EVERY: usize = 32;

/// The training examples that a calibration takes, drawn at random but always the same, by the number of
/// tokens of all.
pub(in crate::train) fn calibration_examples(lengths: &[usize]) -> Vec<usize> {
    let total = lengths.len();
    let mean = (lengths.iter().sum::<usize>() / total.max(1)).max(1);
    let [least, most] = CALIBRATION_EXAMPLES;
    let count = (CALIBRATION_TOKENS / mean).clamp(least, most).min(total);
    let mut drawn: Vec<usize> = (0..total).collect();
    drawn.sort_by_key(|&at| split_mix_64(0, at as u64));
    drawn.truncate(count);
    drawn
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
                if done % TELL_EVERY == 0 {
                    self.options.observer.event(&Event::Progress { done, total: chosen.len() });
                }
            }
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn examples_are_different_ones_and_have_enough_tokens() {
        let chosen = |length, total| {
            let mut chosen = calibration_examples(&vec![length; total]);
            chosen.sort_unstable();
            chosen.dedup();
            chosen
        };
        assert_eq!(chosen(10, 4), [0, 1, 2, 3]);
        assert_eq!((chosen(20, 10_000).len(), chosen(384, 1000).len()), (512, 42));
        assert_eq!((chosen(4096, 1000).len(), chosen(1, 0).len()), (32, 0));
        // Labels that alternate are both drawn.
        let odd = chosen(20, 1024).iter().filter(|at| **at % 2 == 1).count();
        assert!((192..320).contains(&odd), "{odd}");
    }
}
