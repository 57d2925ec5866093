//! Encoded examples as batches on a device.
//!
//! A [`BatchPlan`] decides which examples form a batch; [`TextBatch::new`] pads a batch and uploads
//! it.

use std::sync::Arc;

use burn::tensor::{Device, Int, Tensor, TensorData};
use rand::{SeedableRng, rngs::ChaCha8Rng, seq::SliceRandom};

use super::Label;
use crate::kernels::Sequences;
use crate::models::Labels;
use crate::{Error, Result};

/// How training examples are grouped into batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchOrder {
    /// Examples in a batch.
    pub batch_size: usize,
    /// Number of batches whose examples are sorted by length together, to pad less; 1: fully random
    /// batches.
    pub bucket_batches: usize,
    /// Seed of the order.
    pub seed: u64,
}

/// One example as token ids: with special tokens, truncated, not padded.
#[derive(Debug, Clone, PartialEq)]
pub struct EncodedExample {
    /// Token ids, `[length]`.
    pub input_ids: Vec<u32>,
    /// 0 for the first text, 1 for the second, `[length]`.
    pub token_type_ids: Vec<u32>,
    /// The label, if the file has one.
    pub label: Option<Label>,
}

/// Which examples form which batch: a pure function of its arguments, the same on every platform.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchPlan {
    /// Indices of each batch's examples; every example is in exactly one batch.
    pub batches: Vec<Vec<usize>>,
}

impl BatchPlan {
    /// Batches for one epoch of training. Examples are shuffled, cut into buckets of
    /// `bucket_batches` batches and sorted by length within each bucket; then the batches are
    /// shuffled. One batch is smaller if the batch size does not divide the number of examples.
    ///
    /// # Errors
    /// If the batch size is 0.
    pub fn shuffled(lengths: &[usize], order: BatchOrder, epoch: u64) -> Result<Self> {
        let BatchOrder { batch_size, bucket_batches, seed } = order;
        check_batch_size(batch_size)?;
        let mut key = [0; 32];
        key[..8].copy_from_slice(&seed.to_le_bytes());
        key[8..16].copy_from_slice(&epoch.to_le_bytes());
        let mut rng = ChaCha8Rng::from_seed(key);

        let mut order: Vec<usize> = (0..lengths.len()).collect();
        order.shuffle(&mut rng);
        if bucket_batches > 1 {
            for bucket in order.chunks_mut(batch_size.saturating_mul(bucket_batches)) {
                // Stable: equal lengths keep their random order.
                bucket.sort_by_key(|&index| lengths[index]);
            }
        }
        let mut batches: Vec<_> = order.chunks(batch_size).map(<[usize]>::to_vec).collect();
        batches.shuffle(&mut rng);
        Ok(Self { batches })
    }

    /// Batches for evaluation: examples from longest to shortest, so that a batch too large for the
    /// device's memory fails at once. [`BatchPlan::restore`] undoes the order.
    ///
    /// # Errors
    /// If `batch_size` is 0.
    pub fn sequential_by_length(lengths: &[usize], batch_size: usize) -> Result<Self> {
        check_batch_size(batch_size)?;
        let mut order: Vec<usize> = (0..lengths.len()).collect();
        order.sort_by_key(|&index| std::cmp::Reverse(lengths[index]));
        Ok(Self { batches: order.chunks(batch_size).map(<[usize]>::to_vec).collect() })
    }

    /// Number of batches.
    pub fn len(&self) -> usize {
        self.batches.len()
    }

    /// Whether there are no batches.
    pub fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    /// Reorders results, one for each example in the order of the batches, to the original order of
    /// the examples.
    ///
    /// # Panics
    /// If there are not as many results as examples.
    pub fn restore<T>(&self, results: Vec<T>) -> Vec<T> {
        let order: Vec<usize> = self.batches.concat();
        assert_eq!(order.len(), results.len(), "one result an example");
        let mut pairs: Vec<_> = order.into_iter().zip(results).collect();
        pairs.sort_by_key(|(index, _)| *index);
        pairs.into_iter().map(|(_, result)| result).collect()
    }
}

fn check_batch_size(batch_size: usize) -> Result<()> {
    if batch_size == 0 {
        return Err(Error::option("batch_size", "0 examples a batch; at least 1 is needed"));
    }
    Ok(())
}

/// A batch of tokenized texts on a device.
#[derive(Debug, Clone)]
pub struct TextBatch {
    /// Token ids, `[batch, seq]`.
    pub input_ids: Tensor<2, Int>,
    /// 1 for a token, 0 for padding, `[batch, seq]`.
    pub attention_mask: Tensor<2, Int>,
    /// 0 for the first text and for padding, 1 for the second, `[batch, seq]`.
    pub token_type_ids: Tensor<2, Int>,
    /// Where each row's tokens end; `None` if no row is padded, or padding is not at the end.
    pub sequences: Option<Arc<Sequences>>,
    /// The labels, if the examples have any; scores are `[batch, 1]`.
    pub labels: Option<Labels>,
}

impl TextBatch {
    /// Pads `examples` on the right to the length of the longest, and uploads them.
    ///
    /// # Errors
    /// If there are no examples, only some have a label, or some have classes and others scores.
    pub fn new(examples: &[&EncodedExample], pad_id: u32, device: &Device) -> Result<Self> {
        let longest = examples.iter().map(|example| example.input_ids.len()).max();
        let Some(longest) = longest else {
            return Err(Error::Training("a batch without examples".into()));
        };
        let labels = batch_labels(examples, device)?;
        let [batch, length] = [examples.len(), longest.max(1)];
        let mut input_ids = vec![pad_id as i32; batch * length];
        let mut attention_mask = vec![0; batch * length];
        let mut token_type_ids = vec![0; batch * length];
        for (row, example) in examples.iter().enumerate() {
            let start = row * length;
            for (column, &id) in example.input_ids.iter().enumerate() {
                input_ids[start + column] = id as i32;
                attention_mask[start + column] = 1;
            }
            let types = example.token_type_ids.iter().take(example.input_ids.len());
            for (column, &id) in types.enumerate() {
                token_type_ids[start + column] = id as i32;
            }
        }
        let sequences = Sequences::of_mask(&attention_mask, length).map(Arc::new);
        let upload = |ids| Tensor::from_data(TensorData::new(ids, [batch, length]), device);
        let [input_ids, attention_mask, token_type_ids] =
            [input_ids, attention_mask, token_type_ids].map(upload);
        Ok(Self { input_ids, attention_mask, token_type_ids, sequences, labels })
    }
}

/// The labels of `examples`, if they have any.
fn batch_labels(examples: &[&EncodedExample], device: &Device) -> Result<Option<Labels>> {
    let (mut classes, mut scores) = (Vec::new(), Vec::new());
    for example in examples {
        match example.label {
            Some(Label::Class(class)) => classes.push(class as i32),
            Some(Label::Score(score)) => scores.push(score),
            None => {}
        }
    }
    let count = examples.len();
    match (classes.len(), scores.len()) {
        (0, 0) => Ok(None),
        (n, 0) if n == count => {
            let classes = TensorData::new(classes, [count]);
            Ok(Some(Labels::Classes(Tensor::from_data(classes, device))))
        }
        (0, n) if n == count => {
            let scores = TensorData::new(scores, [count, 1]);
            Ok(Some(Labels::Values(Tensor::from_data(scores, device))))
        }
        (c, s) => Err(Error::Training(format!(
            "a batch of {count} examples has {c} classes and {s} scores as labels; all must be of \
             one kind"
        ))),
    }
}

#[cfg(test)]
#[path = "batch_tests.rs"]
mod tests;
