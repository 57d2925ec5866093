//! What a model must offer to be trained here, and how its answers are scored.

use burn::module::ModuleDisplay;
use burn::tensor::Tensor;

use crate::Result;
use crate::inspect::Answers;
use crate::linear::Compressible;
use crate::tasks::MetricReport;

/// A model with a loss on batches of its task.
pub trait TrainableModel: Compressible + ModuleDisplay + 'static {
    /// A batch of inputs and labels.
    type Batch: Clone + Send + std::fmt::Debug + 'static;
    /// What the model answers to a batch, with the labels, as its evaluator needs it.
    type Output: Clone + Send + 'static;

    /// The model's answer to `batch`, and its loss `[1]`, mean over the batch.
    fn forward_loss(&self, batch: Self::Batch) -> (Tensor<1>, Self::Output);

    /// The same for evaluation, where the answer is scored: a model whose answer takes more than
    /// its forward pass, such as generated text, makes it here.
    fn evaluate_batch(&self, batch: Self::Batch) -> (Tensor<1>, Self::Output) {
        self.forward_loss(batch)
    }
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

    /// The answers themselves, for a comparison with another model's to the same batches; empty
    /// where there is nothing to compare.
    fn answers(&self) -> Answers {
        Answers::default()
    }

    /// One line for people about how the answers were made, such as their speed.
    fn note(&self) -> Option<String> {
        None
    }
}
