//! Evaluation of a model over a whole data set.

use std::time::{Duration, Instant};

use burn::tensor::Device;

use super::batches::BatchSource;
use super::classification::{encoder_input, rows};
use super::{Evaluator, TrainableModel};
use crate::models::AnySequenceClassifier;
use crate::tasks::{BatchPlan, EncodedExample, MetricReport, Predictions, Task, TextBatch};
use crate::tasks::{TextDataset, TextTokenizer};
use crate::train::{Event, Interrupt, Observer};
use crate::{Error, Result};

/// Time between two progress events of an evaluation.
const TELL_EVERY: Duration = Duration::from_secs(1);

/// Evaluates `model` on all of `source` and returns `evaluator` with its answers.
///
/// # Errors
/// If an answer is not finite, the device fails, or the run is stopped.
pub fn collect_answers<M: TrainableModel, E: Evaluator<M::Output>>(
    model: &M,
    source: &BatchSource<M::Batch>,
    mut evaluator: E,
    batch_size: usize,
    device: &Device,
    observer: &dyn Observer,
    interrupt: &Interrupt,
) -> Result<E> {
    let plan = BatchPlan::sequential_by_length(&source.lengths, batch_size)?;
    evaluator.clear();
    let (mut done, total) = (0, source.lengths.len());
    let mut told = Instant::now();
    for batch in &plan.batches {
        interrupt.check()?;
        let (_, output) = model.evaluate_batch((source.collate)(batch, device)?);
        evaluator.push(&output)?;
        done += batch.len();
        if told.elapsed() >= TELL_EVERY {
            told = Instant::now();
            observer.event(&Event::Progress { done, total });
        }
    }
    if let Some(message) = evaluator.note() {
        observer.event(&Event::Note { message });
    }
    Ok(evaluator)
}

/// Computes logits `[example][label]` in the order of `examples`.
///
/// # Errors
/// If the device fails or the run is stopped.
///
/// # Panics
/// If an example lacks the end token that the model needs; examples encoded by the tokenizer of
/// [`model_tokenizer`](super::model_tokenizer) have it.
pub fn predict_logits(
    model: &AnySequenceClassifier,
    examples: &[EncodedExample],
    pad_id: u32,
    batch_size: usize,
    device: &Device,
    interrupt: &Interrupt,
) -> Result<Vec<Vec<f32>>> {
    let lengths: Vec<usize> = examples.iter().map(|e| e.input_ids.len()).collect();
    let plan = BatchPlan::sequential_by_length(&lengths, batch_size)?;
    let mut answers = Vec::with_capacity(examples.len());
    for batch in &plan.batches {
        interrupt.check()?;
        let chosen: Vec<&EncodedExample> = batch.iter().map(|&at| &examples[at]).collect();
        let batch = TextBatch::new(&chosen, pad_id, device)?;
        answers.extend(rows(model.forward(encoder_input(&batch)))?);
    }
    Ok(plan.restore(answers))
}

/// Scores logits `[example][label]` against the labels, by the task's metrics.
///
/// # Errors
/// If an example has no label or a logit is not finite.
fn score(task: &Task, logits: &[Vec<f32>], data: &TextDataset) -> Result<MetricReport> {
    let mut predictions = Predictions::new(task)?;
    for (at, (row, example)) in logits.iter().zip(&data.examples).enumerate() {
        let label = example.label.ok_or_else(|| {
            Error::option("dev", format!("example {} has no label to be scored by", at + 1))
        })?;
        predictions.push(row, &[label])?;
    }
    predictions.report()
}

/// Evaluates `model` on `data`: metrics, and logits `[example][label]` in the order of the data.
///
/// # Errors
/// If an example cannot be tokenized or has no label, the device fails, or the run is stopped.
pub fn evaluate_model(
    model: &AnySequenceClassifier,
    tokenizer: &TextTokenizer,
    data: &TextDataset,
    batch_size: usize,
    device: &Device,
    interrupt: &Interrupt,
) -> Result<(MetricReport, Vec<Vec<f32>>)> {
    let examples = tokenizer.encode_dataset(data)?;
    let pad_id = tokenizer.pad_id();
    let logits = predict_logits(model, &examples, pad_id, batch_size, device, interrupt)?;
    Ok((score(&data.task, &logits, data)?, logits))
}
