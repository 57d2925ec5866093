//! Sequence classification and regression as a job.

use burn::tensor::{Device, Tensor};
use serde_json::{Map, json};

use super::distillation::distance;
use super::hold_out::{tell_held_out, tell_shared};
use super::labelled_data::{label_config, load_task_data};
use super::{BatchSource, EvalSplit, Evaluator, Job, Loaded, Prepared, Start, StoredColumns};
use super::{TrainableModel, tell_skipped};
use crate::inspect::Answers;
use crate::models::{AnySequenceClassifier, EncoderInput, Labels};
use crate::tasks::metrics::argmax;
use crate::tasks::{
    Example, Label, MetricReport, Predictions, Task, TaskKind, TextBatch, TextDataset,
};
use crate::train::{Event, Observer, Recipe};
use crate::{Error, Result};

/// Labels or scores for texts and text pairs.
#[derive(Debug, Clone, Copy)]
pub struct Classification;

impl Job for Classification {
    type Model = AnySequenceClassifier;
    type Evaluator = ClassifierEvaluator;

    fn prepare(recipe: &Recipe, device: &Device, observer: &dyn Observer) -> Result<Loaded<Self>> {
        let data = load_task_data(&recipe.task, recipe.training.seed)?;
        let task = data.task().clone();
        let blind_loss = blind_loss(&data.train);
        let held_out = recipe.task.dev_share().and(data.dev.first()).map(|(_, set)| set.len());
        if let Some(held_out) = held_out {
            tell_held_out(observer, held_out, data.train.len(), recipe.training.seed);
        }
        let sets = data.dev.iter().map(|(name, set)| (name.as_str(), set));
        for (name, set) in [("train", &data.train)].into_iter().chain(sets) {
            for note in set.notes() {
                observer.event(&Event::Note { message: format!("{name}: {note}") });
            }
        }
        for (name, set) in &data.dev {
            let [train, dev] = [&data.train, set].map(|set| set.examples.iter());
            fn text(example: &Example) -> (&str, Option<&str>) {
                (&example.text, example.pair.as_deref())
            }
            tell_shared(observer, name, train.map(text), dev.map(text));
        }
        let (model, start) = Start::load(recipe, label_config(&task), device, observer)?;
        let (tokenizer, pad_id) = (&start.tokenizer, start.tokenizer.pad_id());
        tell_skipped(observer, "train", data.train.skipped, "lines");
        let train = BatchSource::text(tokenizer.encode_dataset(&data.train)?, pad_id);
        let dev = data.dev.into_iter().map(|(name, set)| {
            tell_skipped(observer, &name, set.skipped, "lines");
            if let Some(at) = set.examples.iter().position(|example| example.label.is_none()) {
                let message = format!("example {} has no label to be scored by", at + 1);
                return Err(Error::option(name, message));
            }
            let source = BatchSource::text(tokenizer.encode_dataset(&set)?, pad_id);
            Ok(EvalSplit { name, source, evaluator: ClassifierEvaluator::new(&task)? })
        });
        let dev = dev.collect::<Result<_>>()?;
        let columns = StoredColumns::of(&recipe.task);
        let columns = columns.map(|columns| ("columns".to_string(), json!(columns)));
        let about = Map::from_iter(columns);
        let prepared =
            Prepared { start, task, about, train, dev, while_training: None, held_out, blind_loss };
        Ok((model, prepared))
    }
}

/// Loss of a model that ignores its input: the logarithm of the number of classes, or the variance of
/// the scores.
fn blind_loss(train: &TextDataset) -> f64 {
    let scores: Vec<f64> = train
        .examples
        .iter()
        .filter_map(|example| match example.label {
            Some(Label::Score(score)) => Some(f64::from(score)),
            _ => None,
        })
        .collect();
    if scores.is_empty() {
        return (train.task.num_labels().max(1) as f64).ln();
    }
    let count = scores.len() as f64;
    let mean = scores.iter().sum::<f64>() / count;
    scores.iter().map(|score| (score - mean).powi(2)).sum::<f64>() / count
}

/// Logits of a batch, with its labels.
#[derive(Debug, Clone)]
pub struct ClassifierOutput {
    /// `[batch, num_labels]`.
    pub logits: Tensor<2>,
    /// The labels.
    pub labels: Labels,
}

/// The encoder's input for a batch.
pub(super) fn encoder_input(batch: &TextBatch) -> EncoderInput {
    EncoderInput::new(batch.input_ids.clone())
        .with_attention_mask(batch.attention_mask.clone())
        .with_token_type_ids(batch.token_type_ids.clone())
}

impl TrainableModel for AnySequenceClassifier {
    type Batch = TextBatch;
    type Output = ClassifierOutput;

    fn forward_loss(&self, batch: TextBatch) -> (Tensor<1>, ClassifierOutput) {
        // Classification heads never read padding.
        let logits = self.forward(encoder_input(&batch).with_sequences(batch.sequences.clone()));
        let labels = batch.labels.expect("training and evaluation data are labelled");
        let loss = self.loss(logits.clone(), labels.clone());
        (loss, ClassifierOutput { logits, labels })
    }

    fn soft_targets(output: &ClassifierOutput, _: &[usize]) -> Result<Vec<Vec<f32>>> {
        rows(output.logits.clone())
    }

    fn distance_to_targets(
        output: &ClassifierOutput,
        targets: &[&[f32]],
        temperature: f64,
    ) -> Tensor<1> {
        distance(output.logits.clone(), targets, temperature)
    }
}

/// Scores a classifier's logits by a task's metrics.
#[derive(Debug, Clone)]
pub struct ClassifierEvaluator {
    task: Task,
    predictions: Predictions,
    logits: Vec<Vec<f32>>,
}

impl ClassifierEvaluator {
    /// Makes an evaluator for `task`.
    ///
    /// # Errors
    /// If the task's metrics do not fit its kind.
    pub fn new(task: &Task) -> Result<Self> {
        let predictions = Predictions::new(task)?;
        Ok(Self { task: task.clone(), predictions, logits: Vec::new() })
    }
}

impl Evaluator<ClassifierOutput> for ClassifierEvaluator {
    fn clear(&mut self) {
        self.logits.clear();
        if let Ok(empty) = Predictions::new(&self.task) {
            self.predictions = empty;
        }
    }

    fn push(&mut self, output: &ClassifierOutput) -> Result<()> {
        self.predictions.push_batch(output.logits.clone(), &output.labels)?;
        self.logits.extend(rows(output.logits.clone())?);
        Ok(())
    }

    fn report(&self) -> Result<MetricReport> {
        self.predictions.report()
    }

    fn primary(&self) -> String {
        self.task.primary.to_string()
    }

    fn answers(&self) -> Answers {
        let name = |row: &Vec<f32>| match &self.task.kind {
            TaskKind::Classification { labels } => labels[argmax(row)].clone(),
            _ => String::new(),
        };
        Answers { logits: self.logits.clone(), predictions: self.logits.iter().map(name).collect() }
    }
}

/// Reads the rows of a matrix from the device.
pub(super) fn rows(matrix: Tensor<2>) -> Result<Vec<Vec<f32>>> {
    let width = matrix.dims()[1];
    let data = matrix.try_into_data().map_err(|e| {
        Error::Training(format!("reading the model's answers from the device: {e:?}"))
    })?;
    let values: Vec<f32> = data.convert::<f32>().iter::<f32>().collect();
    Ok(values.chunks(width).map(<[f32]>::to_vec).collect())
}
