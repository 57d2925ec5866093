//! The result in 8-bit integers, where the metric holds in them.

use burn::module::Module;

use super::Run;
use crate::checkpoint::StorageDtype;
use crate::device::is_flex;
use crate::inspect::{Int8Comparison, SplitMetrics};
use crate::linear::{Compressible, round_weights};
use crate::precision::Precision;
use crate::quantize::{QuantizedLayer, candidates, movements, quantize_layers};
use crate::tasks::MetricReport;
use crate::train::job::{Evaluator, Job, TrainableModel};
use crate::{Error, Result};

/// Shares of the layers, those that lose most, that are left in floats one after another until the metric
/// holds.
const IN_FLOATS: [f64; 3] = [0.125, 0.25, 0.5];

/// Training examples that tell which layers lose most.
const EXAMPLES: usize = 32;

/// A result, and how it is stored.
pub(super) struct Stored<M> {
    pub model: M,
    pub dtype: StorageDtype,
    pub int8: Option<Int8Comparison>,
}

impl<J: Job> Run<'_, J> {
    /// Gives `model`, whose metrics are known, the numbers that the recipe asks for; with
    /// [`Storage::Auto`], 8-bit integers if the metric that chooses among evaluations holds.
    pub(super) fn in_numbers(
        &self,
        model: J::Model,
        known: &[SplitMetrics],
    ) -> Result<Stored<J::Model>> {
        let stored = |model, dtype| Stored { model, dtype, int8: None };
        match self.recipe.storage.dtype() {
            Some(StorageDtype::Int8) => {
                let model = round_weights(model.valid(), Precision::Int8);
                Ok(stored(model, StorageDtype::Int8))
            }
            Some(dtype) => Ok(stored(model, dtype)),
            None if is_flex(&self.options.device) && !candidates(&model).is_empty() => {
                self.stage("Trying 8-bit integers")?;
                self.in_int8_if_it_holds(model.valid(), known)
            }
            None => Ok(stored(model, StorageDtype::F32)),
        }
    }

    fn in_int8_if_it_holds(
        &self,
        model: J::Model,
        known: &[SplitMetrics],
    ) -> Result<Stored<J::Model>> {
        let split = self.choosing()?;
        let floats = match (known.first(), &self.prepared.while_training) {
            (Some(known), None) => known.metrics.clone(),
            _ => self.evaluate_split(&model, split)?.report()?,
        };
        let all = candidates(&model).len();
        let mut of = 0;
        model.for_each_linear(&mut |_, _| of += 1);
        let comparison = |int8: Option<&MetricReport>, layers| Int8Comparison {
            split: split.name.clone(),
            metric: floats.primary,
            f32: floats.primary_value(),
            int8: int8.map(MetricReport::primary_value),
            tolerance: Int8Comparison::tolerance(floats.examples),
            layers,
            examples: floats.examples,
            of,
        };
        let tried = |model: &J::Model| match self.evaluate_split(model, split) {
            Err(error @ Error::Interrupted(_)) => Err(error),
            // An answer that is not finite is one that does not hold.
            other => Ok(other.and_then(|evaluator| evaluator.report()).ok()),
        };
        let holds = |int8: &MetricReport| Int8Comparison::holds(&floats, int8);
        let stored = |model, int8: &MetricReport, layers| {
            let int8 = Some(comparison(Some(int8), layers));
            Ok(Stored { model, dtype: StorageDtype::Int8, int8 })
        };

        let whole = round_weights(model.clone(), Precision::Int8);
        let first = tried(&whole)?;
        if let Some(int8) = first.as_ref().filter(|int8| holds(int8)) {
            return stored(whole, int8, all);
        }
        drop(whole);
        let mut layers = self.by_loss(&model)?;
        for share in IN_FLOATS {
            let floats = (share * all as f64).ceil() as usize;
            layers.iter_mut().enumerate().for_each(|(at, layer)| layer.int8 = at >= floats);
            let most = quantize_layers(model.clone(), &layers);
            if let Some(int8) = tried(&most)?.filter(|int8| floats < all && holds(int8)) {
                return stored(most, &int8, all - floats);
            }
        }
        let int8 = Some(comparison(first.as_ref(), 0));
        Ok(Stored { model, dtype: StorageDtype::F32, int8 })
    }

    /// The layers, by how far each alone moves the losses on some training examples, those that move them
    /// most first.
    fn by_loss(&self, model: &J::Model) -> Result<Vec<QuantizedLayer>> {
        let source = &self.prepared.train;
        let mut losses = |model: &J::Model| {
            let examples = 0..source.lengths.len().min(EXAMPLES);
            let losses = examples.map(|at| {
                self.options.interrupt.check()?;
                let batch = (source.collate)(&[at], &self.options.device)?;
                let (loss, _) = model.forward_loss(batch);
                Ok(loss.into_data().iter::<f32>().next().unwrap_or(f32::NAN))
            });
            losses.collect::<Result<Vec<f32>>>()
        };
        let exact = losses(model)?;
        let mut layers = movements(model, &exact, &mut losses)?;
        layers.sort_by(|a, b| b.moved.total_cmp(&a.moved));
        Ok(layers)
    }
}
