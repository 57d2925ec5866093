//! A task's metric over the whole evaluation data, as a Burn metric.

use std::marker::PhantomData;
use std::sync::{Arc, Mutex};

use burn::tensor::TensorReadError;
use burn::train::metric::{
    Adaptor, Metric, MetricAttributes, MetricMetadata, MetricName, Numeric, NumericAttributes,
    NumericEntry, SerializedEntry,
};

use super::compressing_model::StepOutput;
use crate::Result;
use crate::tasks::MetricReport;
use crate::train::job::Evaluator;

/// Result of the latest evaluation, handed from the metrics' thread to the training's.
pub type Latest = Arc<Mutex<Option<Result<MetricReport>>>>;

/// Collects answers batch by batch and scores them at the end, as metrics such as F1 are not means over
/// batches.
pub struct TaskMetric<E, O> {
    evaluator: E,
    failed: Option<crate::Error>,
    answers: usize,
    value: f64,
    name: MetricName,
    latest: Latest,
    output: PhantomData<fn() -> O>,
}

impl<E: Clone, O> Clone for TaskMetric<E, O> {
    fn clone(&self) -> Self {
        Self {
            evaluator: self.evaluator.clone(),
            failed: None,
            answers: self.answers,
            value: self.value,
            name: self.name.clone(),
            latest: self.latest.clone(),
            output: PhantomData,
        }
    }
}

impl<E: Evaluator<O>, O> TaskMetric<E, O> {
    /// Makes a metric that puts its results into `latest`.
    pub fn new(evaluator: E, latest: Latest) -> Self {
        let name = Arc::new(evaluator.primary());
        Self {
            evaluator,
            failed: None,
            answers: 0,
            value: f64::NAN,
            name,
            latest,
            output: PhantomData,
        }
    }
}

/// Answers of one batch.
pub struct Answers<O>(Option<O>);

impl<O: Clone> Adaptor<Answers<O>> for StepOutput<O> {
    fn adapt(&self) -> Answers<O> {
        Answers(self.output.clone())
    }
}

impl<E: Evaluator<O>, O: Send + 'static> Metric for TaskMetric<E, O> {
    type Input = Answers<O>;

    fn name(&self) -> MetricName {
        self.name.clone()
    }

    fn attributes(&self) -> MetricAttributes {
        NumericAttributes { unit: None, higher_is_better: true }.into()
    }

    fn update(
        &mut self,
        answers: &Answers<O>,
        _metadata: &MetricMetadata,
    ) -> Result<SerializedEntry, TensorReadError> {
        if let Some(output) = &answers.0 {
            self.answers += 1;
            if let Err(error) = self.evaluator.push(output) {
                self.failed.get_or_insert(error);
            }
        }
        Ok(SerializedEntry::not_available(None))
    }

    fn compute(&mut self) -> Result<SerializedEntry, TensorReadError> {
        if self.answers == 0 {
            return Ok(SerializedEntry::not_available(None));
        }
        let report = match self.failed.take() {
            Some(error) => Err(error),
            None => self.evaluator.report(),
        };
        self.value = report.as_ref().map_or(f64::NAN, MetricReport::primary_value);
        if let Ok(mut latest) = self.latest.lock() {
            *latest = Some(report);
        }
        let value = self.value;
        Ok(SerializedEntry::new(format!("{value:.4}"), NumericEntry::Final(value).serialize()))
    }

    fn clear(&mut self) {
        self.evaluator.clear();
        self.failed = None;
        self.answers = 0;
    }
}

impl<E: Evaluator<O>, O: Send + 'static> Numeric for TaskMetric<E, O> {
    fn value(&self) -> Option<NumericEntry> {
        None
    }

    fn running_value(&self) -> Option<NumericEntry> {
        None
    }

    fn final_value(&self) -> NumericEntry {
        NumericEntry::Final(self.value)
    }
}
