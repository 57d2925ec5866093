//! Batches as a stream that is a pure function of the seed: any segment of it can be served again,
//! so a resumed run sees what an uninterrupted one would have seen.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use burn::data::dataloader::{DataLoader, DataLoaderIterator, Progress};
use burn::data::dataset::DatasetError;
use burn::tensor::Device;

use crate::checkpoint::checksum::Sum;
use crate::tasks::{BatchOrder, BatchPlan, EncodedExample, Label, TextBatch, collate};
use crate::{Error, Result};

/// Makes a batch of the examples with the given indices.
pub type Collate<B> = Arc<dyn Fn(&[usize], &Device) -> Result<B> + Send + Sync>;

/// Data whose batches a loader serves.
pub struct BatchSource<B> {
    /// Tokens of each example.
    pub lengths: Vec<usize>,
    /// SHA-256 of the examples in their order: what tells the same data.
    pub digest: String,
    /// Makes the batches.
    pub collate: Collate<B>,
}

impl<B> Clone for BatchSource<B> {
    fn clone(&self) -> Self {
        let (lengths, digest) = (self.lengths.clone(), self.digest.clone());
        Self { lengths, digest, collate: self.collate.clone() }
    }
}

impl BatchSource<TextBatch> {
    /// Batches of tokenized text, padded to their longest.
    pub fn text(examples: Vec<EncodedExample>, pad_id: u32) -> Self {
        let lengths = examples.iter().map(|example| example.input_ids.len()).collect();
        let digest = digest(&examples);
        let make = move |indices: &[usize], device: &Device| {
            let chosen: Vec<&EncodedExample> = indices.iter().map(|&at| &examples[at]).collect();
            Ok(collate(&chosen, pad_id)?.to_device(device))
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

/// How a training is cut into batches, updates and segments (Burn's epochs here: what lies between
/// two checkpoints).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segments {
    /// Passes over the data.
    pub epochs: usize,
    /// Batches in one pass over the data.
    pub batches_per_epoch: usize,
    /// Batches in an update.
    pub accumulation: usize,
    /// Updates of the whole training.
    pub total_steps: usize,
    /// Updates between checkpoints.
    pub save_steps: usize,
    /// Updates between evaluations, a multiple of `save_steps`.
    pub eval_steps: usize,
}

impl Segments {
    /// Cuts a training of `epochs` passes. Every update has exactly `accumulation` batches; what is
    /// left over at the very end is not trained on.
    ///
    /// # Errors
    /// If there is no whole update, or `save_steps` does not divide `eval_steps`.
    pub fn new(
        examples: usize,
        batch_size: usize,
        accumulation: usize,
        epochs: usize,
        eval_steps: Option<usize>,
        save_steps: Option<usize>,
    ) -> Result<Self> {
        let batches_per_epoch = examples.div_ceil(batch_size);
        let total_steps = batches_per_epoch * epochs / accumulation;
        if total_steps == 0 {
            return Err(Error::option(
                "gradient_accumulation",
                format!(
                    "{accumulation} batches an update are more than the {} of the whole training",
                    batches_per_epoch * epochs
                ),
            ));
        }
        let eval_steps = eval_steps.unwrap_or(total_steps.div_ceil(epochs)).min(total_steps);
        let save_steps = save_steps.unwrap_or(eval_steps).min(eval_steps);
        if !eval_steps.is_multiple_of(save_steps) {
            return Err(Error::option(
                "save_steps",
                format!("{save_steps} does not divide the {eval_steps} steps between evaluations"),
            ));
        }
        Ok(Self { epochs, batches_per_epoch, accumulation, total_steps, save_steps, eval_steps })
    }

    /// Number of segments.
    pub fn count(&self) -> usize {
        self.total_steps.div_ceil(self.save_steps)
    }

    /// Updates done after `segments` segments.
    pub fn steps_after(&self, segments: usize) -> usize {
        (segments * self.save_steps).min(self.total_steps)
    }

    /// Whether the model is evaluated after `segments` segments.
    pub fn evaluates_after(&self, segments: usize) -> bool {
        segments == self.count() || (segments * self.save_steps).is_multiple_of(self.eval_steps)
    }
}

/// A training batch and its place in the stream, from which dropout is seeded.
#[derive(Debug, Clone)]
pub struct TrainItem<B> {
    /// The batch.
    pub batch: B,
    /// Its number since the training began.
    pub number: usize,
}

/// Segments served so far, shared by the loaders of a run.
pub type SegmentCounter = Arc<AtomicUsize>;

/// Serves segment after segment of the training batches.
#[derive(Clone)]
pub struct TrainLoader<B> {
    /// The data.
    pub source: Arc<BatchSource<B>>,
    /// How examples are put into batches.
    pub order: BatchOrder,
    /// How the training is cut.
    pub segments: Segments,
    /// Segments served so far.
    pub served: SegmentCounter,
    /// Updates done before: of a segment in whose midst a run was interrupted, only the rest is
    /// served.
    pub done: usize,
    /// Where batches go.
    pub device: Device,
    /// Batches of each segment that are served.
    pub window: std::ops::Range<usize>,
}

struct TrainIterator<B> {
    loader: TrainLoader<B>,
    start: usize,
    next: usize,
    end: usize,
    plan: Option<(usize, BatchPlan)>,
}

impl<B> TrainIterator<B> {
    fn batch(&mut self, number: usize) -> Result<B> {
        let (epoch, at) = (
            number / self.loader.segments.batches_per_epoch,
            number % self.loader.segments.batches_per_epoch,
        );
        if self.plan.as_ref().is_none_or(|(planned, _)| *planned != epoch) {
            let loader = &self.loader;
            let lengths = &loader.source.lengths;
            let plan = BatchPlan::shuffled(lengths, loader.order, epoch as u64)?;
            self.plan = Some((epoch, plan));
        }
        let indices = self.plan.as_ref().map_or(&[][..], |(_, plan)| &plan.batches[at]);
        (self.loader.source.collate)(indices, &self.loader.device)
    }
}

impl<B> Iterator for TrainIterator<B> {
    type Item = Result<TrainItem<B>, DatasetError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.next == self.end {
            return None;
        }
        let number = self.next;
        self.next += 1;
        let batch = self.batch(number).map_err(DatasetError::new);
        Some(batch.map(|batch| TrainItem { batch, number }))
    }
}

impl<B> DataLoaderIterator<TrainItem<B>> for TrainIterator<B> {
    fn progress(&self) -> Progress {
        let unit = Some("batches".to_string());
        Progress::new(self.next - self.start, self.end - self.start, unit)
    }
}

impl<B: Clone + Send + 'static> DataLoader<TrainItem<B>> for TrainLoader<B> {
    fn iter<'a>(&'a self) -> Box<dyn DataLoaderIterator<TrainItem<B>> + 'a> {
        let segment = self.served.fetch_add(1, Ordering::SeqCst);
        let per_step = self.segments.accumulation;
        let first = self.segments.steps_after(segment).max(self.done) * per_step;
        let last = self.segments.steps_after(segment + 1) * per_step;
        let start = (first + self.window.start).min(last);
        let end = first.saturating_add(self.window.end).min(last);
        Box::new(TrainIterator { loader: self.clone(), start, next: start, end, plan: None })
    }

    fn num_items(&self) -> usize {
        let batches = self.segments.save_steps * self.segments.accumulation;
        self.window.end.min(batches) - self.window.start.min(batches)
    }

    fn to_device(&self, device: &Device) -> Arc<dyn DataLoader<TrainItem<B>>> {
        Arc::new(Self { device: device.clone(), ..self.clone() })
    }

    fn slice(&self, start: usize, end: usize) -> Arc<dyn DataLoader<TrainItem<B>>> {
        let from = self.window.start;
        let window = from + start..(from.saturating_add(end)).min(self.window.end);
        Arc::new(Self { window, ..self.clone() })
    }
}

/// Serves the evaluation batches after segments that end with an evaluation, and nothing after
/// others.
#[derive(Clone)]
pub struct EvalLoader<B> {
    /// The data.
    pub source: Arc<BatchSource<B>>,
    /// Indices of each batch's examples.
    pub plan: Arc<BatchPlan>,
    /// How the training is cut.
    pub segments: Segments,
    /// Training segments served so far.
    pub served: SegmentCounter,
    /// Where batches go.
    pub device: Device,
    /// Batches that are served.
    pub window: std::ops::Range<usize>,
}

struct EvalIterator<B> {
    loader: EvalLoader<B>,
    next: usize,
    end: usize,
}

impl<B> Iterator for EvalIterator<B> {
    type Item = Result<B, DatasetError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.next >= self.end {
            return None;
        }
        let indices = &self.loader.plan.batches[self.next];
        self.next += 1;
        let batch = (self.loader.source.collate)(indices, &self.loader.device);
        Some(batch.map_err(DatasetError::new))
    }
}

impl<B> DataLoaderIterator<B> for EvalIterator<B> {
    fn progress(&self) -> Progress {
        let start = self.loader.window.start;
        Progress::new(self.next - start, self.end - start, Some("batches".to_string()))
    }
}

impl<B: Clone + Send + 'static> DataLoader<B> for EvalLoader<B> {
    fn iter<'a>(&'a self) -> Box<dyn DataLoaderIterator<B> + 'a> {
        let due = self.segments.evaluates_after(self.served.load(Ordering::SeqCst));
        let next = self.window.start;
        let end = if due { self.window.end.min(self.plan.len()) } else { next };
        Box::new(EvalIterator { loader: self.clone(), next, end })
    }

    fn num_items(&self) -> usize {
        self.window.end.min(self.plan.len()) - self.window.start
    }

    fn to_device(&self, device: &Device) -> Arc<dyn DataLoader<B>> {
        Arc::new(Self { device: device.clone(), ..self.clone() })
    }

    fn slice(&self, start: usize, end: usize) -> Arc<dyn DataLoader<B>> {
        let from = self.window.start;
        Arc::new(Self { window: from + start..from + end, ..self.clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn updates_segments_and_evaluations() {
        let s = Segments::new(100, 8, 4, 3, Some(4), Some(2)).unwrap();
        // 13 batches an epoch, 39 in all, 9 whole updates.
        assert_eq!((s.batches_per_epoch, s.total_steps, s.count()), (13, 9, 5));
        let evaluated: Vec<usize> = (1..=5).filter(|&n| s.evaluates_after(n)).collect();
        assert_eq!(evaluated, [2, 4, 5]);
        assert_eq!(s.steps_after(5), 9);
        assert!(Segments::new(100, 8, 4, 3, Some(4), Some(3)).is_err());
        assert!(Segments::new(8, 8, 4, 3, None, None).is_err());
    }

    fn loader(served: usize, done: usize) -> TrainLoader<Vec<usize>> {
        let source = BatchSource {
            lengths: (0..50).map(|n| n % 7 + 1).collect(),
            digest: String::new(),
            collate: Arc::new(|indices, _| Ok(indices.to_vec())),
        };
        TrainLoader {
            source: Arc::new(source),
            order: BatchOrder { batch_size: 4, bucket_batches: 50, seed: 3 },
            segments: Segments::new(50, 4, 2, 2, Some(4), None).unwrap(),
            served: Arc::new(AtomicUsize::new(served)),
            done,
            device: Device::default(),
            window: 0..usize::MAX,
        }
    }

    fn serve(loader: &TrainLoader<Vec<usize>>) -> Vec<(usize, Vec<usize>)> {
        loader.iter().map(|item| item.unwrap()).map(|item| (item.number, item.batch)).collect()
    }

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

    #[test]
    fn a_resumed_stream_goes_on_where_it_stopped() {
        let whole = loader(0, 0);
        let segments: Vec<_> = (0..4).map(|_| serve(&whole)).collect();
        let numbers: Vec<usize> = segments.concat().iter().map(|(n, _)| *n).collect();
        assert_eq!(numbers, (0..26).collect::<Vec<_>>());
        let resumed = loader(2, 8);
        assert_eq!(serve(&resumed), segments[2]);
        assert_eq!(serve(&resumed), segments[3]);
        // Interrupted after 10 updates of 2 batches each, and at a segment's end before it was whole.
        let resumed = loader(2, 10);
        assert_eq!(serve(&resumed), segments[2][4..]);
        assert_eq!(serve(&resumed), segments[3]);
        let resumed = loader(2, 12);
        assert!(serve(&resumed).is_empty());
        assert_eq!(serve(&resumed), segments[3]);
        let mut epoch: Vec<usize> =
            segments.concat()[..13].iter().flat_map(|(_, b)| b.clone()).collect();
        epoch.sort_unstable();
        assert_eq!(epoch, (0..50).collect::<Vec<_>>(), "every example once an epoch");
    }
}
