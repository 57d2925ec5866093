//! Batches as a stream that is a pure function of the seed. Any segment can be served again, so a
//! resumed run sees the batches of an uninterrupted one.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use burn::data::dataloader::{DataLoader, DataLoaderIterator, Progress};
use burn::data::dataset::DatasetError;
use burn::tensor::Device;

use crate::Result;
use crate::tasks::{BatchOrder, BatchPlan};
use crate::train::Segments;
use crate::train::job::BatchSource;

/// A training batch and its place in the stream, which seeds dropout.
#[derive(Debug, Clone)]
pub struct TrainItem<B> {
    /// The batch.
    pub batch: B,
    /// Its number since the training began.
    pub number: usize,
    /// Indices of its examples.
    pub examples: Vec<usize>,
}

/// Segments served so far, shared by the loaders of a run.
pub type SegmentCounter = Arc<AtomicUsize>;

/// Serves the training batches, one segment at a time.
#[derive(Clone)]
pub struct TrainLoader<B> {
    /// The data.
    pub source: Arc<BatchSource<B>>,
    /// Order of the examples in batches.
    pub order: BatchOrder,
    /// How the training is cut.
    pub segments: Segments,
    /// Segments served so far.
    pub served: SegmentCounter,
    /// Updates done before; of a segment that was interrupted only the rest is served.
    pub done: usize,
    /// Device of the batches.
    pub device: Device,
    /// Range of the batches to serve in each segment.
    pub window: Range<usize>,
}

/// Makes the batches of some numbers, one after another.
struct Batches<F> {
    numbers: Range<usize>,
    next: usize,
    make: F,
}

fn batches<T, F>(numbers: Range<usize>, make: F) -> Batches<F>
where
    F: FnMut(usize) -> Result<T>,
{
    Batches { next: numbers.start, numbers, make }
}

impl<T, F: FnMut(usize) -> Result<T>> Iterator for Batches<F> {
    type Item = Result<T, DatasetError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.next >= self.numbers.end {
            return None;
        }
        self.next += 1;
        Some((self.make)(self.next - 1).map_err(DatasetError::new))
    }
}

impl<T, F: FnMut(usize) -> Result<T>> DataLoaderIterator<T> for Batches<F> {
    fn progress(&self) -> Progress {
        let Range { start, end } = self.numbers;
        Progress::new(self.next - start, end - start, Some("batches".to_string()))
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
        let mut planned: Option<(usize, BatchPlan)> = None;
        Box::new(batches(start..end, move |number| {
            let per_epoch = self.segments.batches_per_epoch;
            let (epoch, at) = (number / per_epoch, number % per_epoch);
            let plan = match planned.take() {
                Some((of, plan)) if of == epoch => plan,
                _ => BatchPlan::shuffled(&self.source.lengths, self.order, epoch as u64)?,
            };
            let batch = (self.source.collate)(&plan.batches[at], &self.device)?;
            let examples = plan.batches[at].clone();
            planned = Some((epoch, plan));
            Ok(TrainItem { batch, number, examples })
        }))
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

/// Serves the evaluation batches after segments that end with an evaluation, none after others.
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
    /// Device of the batches.
    pub device: Device,
    /// Range of the batches to serve.
    pub window: Range<usize>,
}

impl<B: Clone + Send + 'static> DataLoader<B> for EvalLoader<B> {
    fn iter<'a>(&'a self) -> Box<dyn DataLoaderIterator<B> + 'a> {
        let due = self.segments.evaluates_after(self.served.load(Ordering::SeqCst));
        let next = self.window.start;
        let end = if due { self.window.end.min(self.plan.len()) } else { next };
        Box::new(batches(next..end, move |number| {
            (self.source.collate)(&self.plan.batches[number], &self.device)
        }))
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
