//! Loss of sequence classifiers.

use burn::tensor::{Int, Tensor, activation, assert_shape};

use super::ProblemType;

/// Labels of a batch.
#[derive(Debug, Clone)]
pub enum Labels {
    /// `[batch]`: class of each example; −100 leaves an example out of the loss.
    Classes(Tensor<1, Int>),
    /// `[batch, num_labels]`: targets of a regression, or 0/1 for each of several labels.
    Values(Tensor<2>),
}

/// The loss `[1]` that Hugging Face's `...ForSequenceClassification` computes, mean over the batch.
///
/// Integer labels under [`ProblemType::Regression`] are taken as numbers.
///
/// # Shapes
/// - `logits`: `[batch, num_labels]`
///
/// # Panics
/// If labels do not fit the logits' shape or are values for a classification into classes.
pub fn sequence_classification_loss(
    problem_type: ProblemType,
    logits: Tensor<2>,
    labels: Labels,
) -> Tensor<1> {
    let [batch, num_labels] = logits.dims();
    match (problem_type, labels) {
        (ProblemType::SingleLabelClassification, Labels::Classes(classes)) => {
            assert_shape!(classes, [batch]);
            cross_entropy(logits, classes)
        }
        (ProblemType::SingleLabelClassification, Labels::Values(_)) => {
            panic!("single_label_classification takes Labels::Classes, got Labels::Values")
        }
        (ProblemType::Regression, labels) => {
            let targets = values(labels, &logits);
            assert_shape!(targets, [batch, num_labels]);
            let error = logits - targets;
            (error.clone() * error).mean()
        }
        (ProblemType::MultiLabelClassification, labels) => {
            let targets = values(labels, &logits);
            assert_shape!(targets, [batch, num_labels]);
            // −[y log σ(x) + (1−y) log σ(−x)], stable for large |x|.
            let positive = activation::log_sigmoid(logits.clone()) * targets.clone();
            let negative = activation::log_sigmoid(-logits) * (-targets + 1.0);
            -(positive + negative).mean()
        }
    }
}

/// The mean cross-entropy `[1]` over the examples whose class is not −100.
pub(super) fn cross_entropy(logits: Tensor<2>, classes: Tensor<1, Int>) -> Tensor<1> {
    let [batch, _] = logits.dims();
    let ignored = classes.clone().equal_elem(-100);
    // [batch] → [batch, 1]
    let index = classes.mask_fill(ignored.clone(), 0).reshape([batch, 1]);
    let log_probabilities: Tensor<1> =
        activation::log_softmax(logits, 1).gather(1, index).reshape([batch]);
    let counted = ignored.bool_not().float().cast(log_probabilities.dtype());
    -(log_probabilities * counted.clone()).sum() / counted.sum()
}

fn values(labels: Labels, logits: &Tensor<2>) -> Tensor<2> {
    match labels {
        Labels::Values(values) => values,
        Labels::Classes(classes) => {
            let [batch] = classes.dims();
            classes.float().cast(logits.dtype()).reshape([batch, 1])
        }
    }
}
