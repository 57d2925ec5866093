//! Knowledge distillation: a student is trained towards the answers of a teacher, besides the labels
//! (Hinton et al. 2015; the published code's form).

use std::sync::Arc;

use burn::tensor::{Device, Tensor, TensorData, activation};

use super::{BatchSource, TrainableModel};
use crate::tasks::BatchPlan;
use crate::train::{DistillationRecipe, Event, Interrupt, Observer};
use crate::{Error, Result};

/// A logit beside which no other has any weight; of positions behind the end of a text.
const NEVER: f32 = -1e4;

/// A teacher's logits for every training example, computed once.
#[derive(Debug, Clone)]
pub struct SoftTargets {
    rows: Arc<Vec<Vec<f32>>>,
    settings: DistillationRecipe,
}

impl SoftTargets {
    /// Lets `teacher` answer all of `source`.
    ///
    /// # Errors
    /// If an answer is not finite, a batch cannot be made, or the run is stopped.
    pub fn compute<M: TrainableModel>(
        teacher: &M,
        source: &BatchSource<M::Batch>,
        settings: &DistillationRecipe,
        batch_size: usize,
        device: &Device,
        (observer, interrupt): (&dyn Observer, &Interrupt),
    ) -> Result<Self> {
        let plan = BatchPlan::sequential_by_length(&source.lengths, batch_size)?;
        let mut rows = Vec::with_capacity(source.lengths.len());
        for batch in &plan.batches {
            interrupt.check()?;
            let (_, output) = teacher.forward_loss((source.collate)(batch, device)?);
            let lengths: Vec<usize> = batch.iter().map(|&at| source.lengths[at]).collect();
            let answers = M::soft_targets(&output, &lengths)?;
            if answers.iter().flatten().any(|logit| !logit.is_finite()) {
                let message = "its answers to the training examples are not finite; the model is \
                               damaged, or its numbers are too large";
                return Err(Error::option("teacher", message));
            }
            rows.extend(answers);
            let (done, total) = (rows.len(), source.lengths.len());
            observer.event(&Event::Progress { done, total });
        }
        Ok(Self { rows: Arc::new(plan.restore(rows)), settings: settings.clone() })
    }

    /// The same targets, with the logit at `order[i]` in place `i`; as they are if `order` is empty.
    pub fn in_order(self, order: &[usize]) -> Self {
        if order.is_empty() || order.iter().copied().eq(0..order.len()) {
            return self;
        }
        let ordered = |row: &Vec<f32>| order.iter().map(|&at| row[at]).collect();
        Self { rows: Arc::new(self.rows.iter().map(ordered).collect()), ..self }
    }

    /// The loss `[1]` of a student's answers to the `examples` of a batch: its own plus the weighted
    /// distance from the teacher.
    pub fn loss<M: TrainableModel>(
        &self,
        own: Tensor<1>,
        output: &M::Output,
        examples: &[usize],
    ) -> Tensor<1> {
        let rows: Vec<&[f32]> = examples.iter().map(|&at| self.rows[at].as_slice()).collect();
        let distance = M::distance_to_targets(output, &rows, self.settings.temperature);
        own + distance * self.settings.weight
    }
}

/// `T²·KL(softmax(teacher/T) ‖ softmax(student/T))`, the sum over classes averaged over the batch. Of a
/// single logit, a score, whose KL is always 0: the mean squared error.
///
/// # Shapes
/// - `student`: `[batch, classes]`; rows of `teacher` may be shorter, the classes that they lack take no
///   part
pub(super) fn distance(student: Tensor<2>, teacher: &[&[f32]], temperature: f64) -> Tensor<1> {
    let [batch, classes] = student.dims();
    let targets = padded(teacher, [batch, classes], &student);
    if classes == 1 {
        return (student - targets).square().mean();
    }
    let student = match teacher.iter().all(|row| row.len() >= classes) {
        true => student,
        false => student.clone().mask_fill(targets.clone().lower_equal_elem(NEVER), NEVER),
    };
    let target = activation::log_softmax(targets / temperature, 1);
    let answer = activation::log_softmax(student / temperature, 1);
    (target.clone().exp() * (target - answer)).sum() * (temperature * temperature / batch as f64)
}

/// The rows as a constant `[batch, classes]` like `student`: cut, or filled with [`NEVER`].
fn padded(rows: &[&[f32]], [batch, classes]: [usize; 2], student: &Tensor<2>) -> Tensor<2> {
    let mut values = vec![NEVER; batch * classes];
    for (row, values) in rows.iter().zip(values.chunks_mut(classes)) {
        let known = row.len().min(classes);
        values[..known].copy_from_slice(&row[..known]);
    }
    let device = student.device().without_autodiff();
    let data = TensorData::new(values, [batch, classes]);
    let tensor = Tensor::from_data(data, (&device, student.dtype()));
    if student.is_autodiff() { Tensor::from_inner(tensor) } else { tensor }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn student(rows: [[f32; 3]; 2]) -> Tensor<2> {
        Tensor::from_inner(Tensor::from_floats(rows, &Device::default())).require_grad()
    }

    /// Values of PyTorch 2: `T * T * F.kl_div(log_softmax(s / T), softmax(t / T), reduction="batchmean")`.
    #[test]
    fn values_and_gradients_equal_pytorch() {
        let s = student([[0.5, -1.0, 2.0], [1.5, 0.25, -0.75]]);
        let teacher: [&[f32]; 2] = [&[2.0, -0.5, 0.0], &[-1.0, 1.0, 0.5]];
        for (temperature, expected, first) in [
            (1.0, 1.017691, [-0.3230593, -0.0141564, 0.3372157, 0.3203724, -0.1841302, -0.1362422]),
            (2.0, 1.185287, [-0.3258539, -0.0415775, 0.3674313, 0.366288, -0.1780473, -0.1882407]),
        ] {
            let loss = distance(s.clone(), &teacher, temperature);
            let gradient = s.grad(&loss.backward()).unwrap();
            assert!((loss.into_scalar::<f32>() - expected).abs() < 1e-6);
            let gradient: Vec<f32> = gradient.into_data().try_into_vec().unwrap();
            for (found, expected) in gradient.iter().zip(first) {
                assert!((found - expected).abs() < 1e-6, "{gradient:?}");
            }
        }
    }

    #[test]
    fn a_score_is_learned_by_its_squared_error() {
        let device = Device::default();
        let scores = Tensor::<2>::from_floats([[1.0], [3.0]], &device);
        let loss = distance(scores, &[&[2.0], &[0.0]], 2.0).into_scalar::<f32>();
        assert_eq!(loss, 5.0);
    }

    /// As if the batch were not padded.
    #[test]
    fn positions_behind_the_end_take_no_part() {
        let s = student([[0.5, -1.0, 2.0], [1.5, 0.25, 7.0]]);
        let teacher: [&[f32]; 2] = [&[2.0, -0.5, 0.0, 9.0], &[-1.0, 1.0]];
        let loss = distance(s.clone(), &teacher, 2.0);
        let row = |at: usize, width: usize| s.clone().narrow(0, at, 1).narrow(1, 0, width);
        let alone =
            distance(row(0, 3), &[&teacher[0][..3]], 2.0) + distance(row(1, 2), &[teacher[1]], 2.0);
        let off = (loss.clone() * 2.0 - alone).into_scalar::<f32>();
        assert!(off.abs() < 1e-5, "{off}");
        let gradient = s.grad(&loss.backward()).unwrap();
        let gradient: Vec<f32> = gradient.into_data().try_into_vec().unwrap();
        assert_eq!(gradient[5], 0.0);
        assert!(gradient.iter().all(|value| value.is_finite()));
    }

    #[test]
    fn the_teacher_itself_is_at_distance_0() {
        let rows = [[0.5, -1.0, 2.0], [1.5, 0.25, -0.75]];
        let loss = distance(student(rows), &[&rows[0], &rows[1]], 2.0).into_scalar::<f32>();
        assert!(loss.abs() < 1e-6, "{loss}");
    }
}
