//! What a model must offer to be trained here, and sequence classifiers as such a model.

use burn::module::ModuleDisplay;
use burn::tensor::Tensor;

use crate::Result;
use crate::linear::Compressible;
use crate::models::{self, AnySequenceClassifier, EncoderInput};
use crate::tasks::{self, MetricReport, Predictions, Task, TextBatch};

/// A model with a loss on batches of its task.
pub trait TrainableModel: Compressible + ModuleDisplay + 'static {
    /// A batch of inputs and labels.
    type Batch: Clone + Send + std::fmt::Debug + 'static;
    /// What the model answers to a batch, with the labels, as its evaluator needs it.
    type Output: Clone + Send + 'static;

    /// The model's answer to `batch`, and its loss `[1]`, mean over the batch.
    fn forward_loss(&self, batch: Self::Batch) -> (Tensor<1>, Self::Output);
}

/// Scores answers over a whole data set.
pub trait Evaluator<O>: Clone + Send + Sync + 'static {
    /// Forgets all answers.
    fn clear(&mut self);

    /// Takes in the answer to one batch.
    ///
    /// # Errors
    /// If it holds a value that is not finite or cannot be read.
    fn push(&mut self, output: &O) -> Result<()>;

    /// The metrics over all answers since the last [`Evaluator::clear`].
    ///
    /// # Errors
    /// If there were none.
    fn report(&self) -> Result<MetricReport>;

    /// Name of the metric that decides.
    fn primary(&self) -> String;
}

/// Logits of a batch and what they should say.
#[derive(Debug, Clone)]
pub struct ClassifierOutput {
    /// `[batch, num_labels]`.
    pub logits: Tensor<2>,
    /// The labels.
    pub labels: tasks::Labels,
}

/// The encoder's input of a batch.
pub(crate) fn encoder_input(batch: &TextBatch) -> EncoderInput {
    EncoderInput::new(batch.input_ids.clone())
        .with_attention_mask(batch.attention_mask.clone())
        .with_token_type_ids(batch.token_type_ids.clone())
}

impl TrainableModel for AnySequenceClassifier {
    type Batch = TextBatch;
    type Output = ClassifierOutput;

    fn forward_loss(&self, batch: TextBatch) -> (Tensor<1>, ClassifierOutput) {
        let logits = self.forward(encoder_input(&batch));
        let labels = batch.labels.expect("training and evaluation data are labelled");
        let targets = match labels.clone() {
            tasks::Labels::Classes(classes) => models::Labels::Classes(classes),
            tasks::Labels::Scores(scores) => {
                let [batch] = scores.dims();
                models::Labels::Values(scores.reshape([batch, 1]))
            }
        };
        let loss = self.loss(logits.clone(), targets);
        (loss, ClassifierOutput { logits, labels })
    }
}

/// Scores a classifier's logits by a task's metrics.
#[derive(Debug, Clone)]
pub struct ClassifierEvaluator {
    task: Task,
    predictions: Predictions,
}

impl ClassifierEvaluator {
    /// An evaluator for `task`.
    ///
    /// # Errors
    /// If the task's metrics do not fit its kind.
    pub fn new(task: &Task) -> Result<Self> {
        Ok(Self { task: task.clone(), predictions: Predictions::new(task)? })
    }
}

impl Evaluator<ClassifierOutput> for ClassifierEvaluator {
    fn clear(&mut self) {
        if let Ok(empty) = Predictions::new(&self.task) {
            self.predictions = empty;
        }
    }

    fn push(&mut self, output: &ClassifierOutput) -> Result<()> {
        self.predictions.push_batch(output.logits.clone(), &output.labels)
    }

    fn report(&self) -> Result<MetricReport> {
        self.predictions.report()
    }

    fn primary(&self) -> String {
        self.task.primary.to_string()
    }
}
