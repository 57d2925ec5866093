//! Data as batches: what a job hands to training and evaluation.

use std::sync::Arc;

use burn::tensor::Device;

use crate::Result;
use crate::checkpoint::checksum::Sum;
use crate::tasks::{EncodedExample, Label, TextBatch};

/// Makes a batch of the examples at the given indices.
pub type Collate<B> = Arc<dyn Fn(&[usize], &Device) -> Result<B> + Send + Sync>;

/// A data set and how to make batches of it.
#[derive(Clone)]
pub struct BatchSource<B> {
    /// Tokens of each example.
    pub lengths: Vec<usize>,
    /// SHA-256 of the examples in their order; equal for equal data.
    pub digest: String,
    /// Makes the batches.
    pub collate: Collate<B>,
}

impl BatchSource<TextBatch> {
    /// Batches of tokenized text, padded to the longest of each batch.
    pub fn text(examples: Vec<EncodedExample>, pad_id: u32) -> Self {
        let lengths = examples.iter().map(|example| example.input_ids.len()).collect();
        let digest = digest(&examples);
        let make = move |indices: &[usize], device: &Device| {
            let chosen: Vec<&EncodedExample> = indices.iter().map(|&at| &examples[at]).collect();
            TextBatch::new(&chosen, pad_id, device)
        };
        Self { lengths, digest, collate: Arc::new(make) }
    }
}

/// SHA-256 of tokenized examples with their labels, in their order.
pub(super) fn digest(examples: &[EncodedExample]) -> String {
    let mut sum = Sum::default();
    for example in examples {
        sum.add_numbers(&example.input_ids);
        sum.add_numbers(&example.token_type_ids);
        sum.add_numbers(&match example.label {
            None => vec![],
            Some(Label::Class(class)) => vec![class as u32],
            Some(Label::Score(score)) => vec![u32::MAX, score.to_bits()],
        });
    }
    sum.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_examples_labels_and_orders_are_told_apart() {
        let example = |ids: &[u32], label| EncodedExample {
            input_ids: ids.to_vec(),
            token_type_ids: vec![0; ids.len()],
            label,
        };
        let (a, b) = (example(&[1, 2], Some(Label::Class(0))), example(&[3], None));
        let sums = [
            digest(&[a.clone(), b.clone()]),
            digest(&[b.clone(), a.clone()]),
            digest(std::slice::from_ref(&a)),
            digest(&[example(&[1, 2], Some(Label::Class(1))), b.clone()]),
            digest(&[example(&[1, 2], Some(Label::Score(0.0))), b.clone()]),
            digest(&[example(&[1], Some(Label::Class(0))), b.clone()]),
        ];
        assert_eq!(sums[0], digest(&[a, b]));
        let apart: std::collections::BTreeSet<&String> = sums.iter().collect();
        assert_eq!(apart.len(), sums.len());
    }
}
