//! The two traits of training: a model with a loss, and an evaluator of its answers.

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
    /// The model's answers to a batch, as its evaluator needs them.
    type Output: Clone + Send + 'static;

    /// Whether a student learns answers about each token, so that its teacher must have its tokens.
    const TAUGHT_BY_TOKEN: bool = false;

    /// Computes the loss `[1]`, the mean over the batch, and the answers.
    fn forward_loss(&self, batch: Self::Batch) -> (Tensor<1>, Self::Output);

    /// As [`forward_loss`](Self::forward_loss), for evaluation. A model whose answers take more than
    /// a forward pass, such as generated text, computes them here.
    fn evaluate_batch(&self, batch: Self::Batch) -> (Tensor<1>, Self::Output) {
        self.forward_loss(batch)
    }

    /// Reads the logits of answers that a student learns, a row for each example of so many tokens.
    ///
    /// # Errors
    /// If they cannot be read from the device, or answers of this kind are not taught.
    fn soft_targets(output: &Self::Output, lengths: &[usize]) -> Result<Vec<Vec<f32>>>;

    /// The distance `[1]` of answers from the rows of a teacher's, at a temperature.
    fn distance_to_targets(
        output: &Self::Output,
        targets: &[&[f32]],
        temperature: f64,
    ) -> Tensor<1>;
}

/// Scores answers over a whole data set.
pub trait Evaluator<O>: Clone + Send + Sync + 'static {
    /// Forgets all answers.
    fn clear(&mut self);

    /// Adds the answers to one batch.
    ///
    /// # Errors
    /// If a value is not finite or cannot be read.
    fn push(&mut self, output: &O) -> Result<()>;

    /// Computes the metrics over all answers since the last [`Evaluator::clear`].
    ///
    /// # Errors
    /// If there are no answers.
    fn report(&self) -> Result<MetricReport>;

    /// Name of the metric that chooses the best model.
    fn primary(&self) -> String;

    /// The answers themselves, to compare with another model's; empty if there is nothing to compare.
    fn answers(&self) -> Answers {
        Answers::default()
    }

    /// One line for people on how the answers came about, such as the speed of generation.
    fn note(&self) -> Option<String> {
        None
    }
}
