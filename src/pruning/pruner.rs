//! One pruning step over a whole model.

use std::collections::HashMap;

use burn::module::{Module, ParamId};
use burn::optim::lr_scheduler::module_lr_scheduler::ModuleLearningRate;
use burn::optim::{GradientsParams, ModuleOptimizer};
use burn::tensor::{Device, Tensor, TensorData};

use super::counters::{Counters, StoredCounters};
use super::importance::{Seen, sums_suffice};
use super::sparse::{apply_mask, for_each_frozen, for_each_sparse};
use super::{
    Group, LayerImportance, PruningConfig, Regrowth, Structure, above_never_kept, bound, cap_at,
    gradient_norm, kept_share, threshold,
};
use crate::linear::{Compressible, to_vec};
use crate::ops;
use crate::optim::{Request, step_with};
use crate::{Error, Result};

/// Prunes the sparse parts of a model while it trains. Made by [`PruningConfig::init`].
///
/// A Burn module: put it beside the model and checkpoints carry importance and step, so a resumed
/// run goes on exactly. One [`Pruner::optimize`] replaces the optimizer's own `step`.
#[derive(Module, Debug)]
pub struct Pruner {
    layers: Vec<LayerImportance>,
    counters: StoredCounters,
    #[module(skip)]
    config: PruningConfig,
}

/// Report of one step.
#[derive(Debug, Clone, PartialEq)]
pub struct PruneStep {
    /// The step, `t`.
    pub step: usize,
    /// Share of `S` that the schedule keeps at this step.
    pub keep_ratio: f64,
    /// Score strictly below which neurons were pruned; `None`: no pruning at this step.
    pub threshold: Option<f32>,
    /// Share of `S` that this step's pruning left; `None`: no pruning at this step.
    pub kept: Option<f64>,
    /// Whether the update was skipped because a gradient was not finite.
    pub skipped: bool,
    /// Norm of the whole gradient before the update.
    pub gradient_norm: f64,
}

impl PruningConfig {
    /// A pruner for the decomposed layers of `model`, at step 0.
    ///
    /// # Errors
    /// If a setting is impossible or the model has no sparse part to prune.
    pub fn init<M: Compressible>(&self, model: &M) -> Result<Pruner> {
        self.validate()?;
        let mut layers = Vec::new();
        let mut device = None;
        for_each_sparse(&mut model.clone(), |_, sparse| {
            let on = sparse.lazy_device().without_autodiff();
            let dims = sparse.lazy_shape().dims();
            layers.push(LayerImportance::new(self, layers.len(), dims, &on));
            device = Some(on);
        });
        let device = device.ok_or_else(|| {
            Error::layer("all", "no layer has a sparse part to prune; decompose the model first")
        })?;
        let counters = Counters::default().to_stored(ParamId::new(), &device);
        Ok(Pruner { layers, counters, config: *self })
    }
}

impl Pruner {
    /// A pruner without layers, for models that are trained without pruning.
    fn idle(total_steps: usize, device: &Device) -> Self {
        let schedule = super::Schedule::new(1.0, total_steps)
            .with_initial_warmup_steps(0)
            .with_final_warmup_steps(0)
            .with_interval(10);
        let config = PruningConfig::new(schedule);
        let device = device.clone().without_autodiff();
        let counters = Counters::default().to_stored(ParamId::new(), &device);
        Self { layers: Vec::new(), counters, config }
    }

    /// A pruner of `model` with the settings, or an idle one for a training without pruning.
    ///
    /// # Errors
    /// As [`PruningConfig::init`].
    pub fn new_or_idle<M: Compressible>(
        model: &M,
        config: Option<PruningConfig>,
        total_steps: usize,
        device: &Device,
    ) -> Result<Self> {
        match config {
            Some(config) => config.init(model),
            None => Ok(Self::idle(total_steps, device)),
        }
    }

    /// The settings.
    pub fn config(&self) -> &PruningConfig {
        &self.config
    }

    /// The next step, `t`.
    pub fn step(&self) -> usize {
        self.counters().step
    }

    /// Updates skipped so far because a gradient was not finite.
    pub fn skipped(&self) -> usize {
        self.counters().skipped
    }

    /// Per-layer importance, in the order of the model's layers.
    pub fn importance(&self) -> &[LayerImportance] {
        &self.layers
    }

    /// One update: optimizer step, importance, selection and masking. Replaces
    /// `optimizer.step(lr, model, gradients)`. An update with a gradient that is not finite is skipped
    /// whole.
    ///
    /// Under frozen regrowth, [`crate::optim::AdamW`] passes over neurons that are pruned for good: from
    /// its first update on, layers have no gradients for them. Another optimizer, which needs gradients of
    /// the weights' shape, cannot take its place within a training.
    ///
    /// # Errors
    /// If too many updates in a row were skipped.
    pub fn optimize<M: Compressible>(
        &mut self,
        model: M,
        optimizer: &mut ModuleOptimizer,
        lr: impl Into<ModuleLearningRate>,
        gradients: GradientsParams,
    ) -> Result<(M, PruneStep)> {
        let norm = gradient_norm(&model, &gradients).unwrap_or(f64::NAN);
        if !norm.is_finite() {
            let done = self.skip(norm)?;
            return Ok((model, done));
        }
        let (model, mut done) = self.apply(model, optimizer, lr, gradients, |_, _| {});
        done.gradient_norm = norm;
        Ok((model, done))
    }

    /// [`Pruner::optimize`] with gradients that are known to be finite, whose norm it leaves out.
    /// `updated` sees the model after the optimizer's step, before anything is pruned.
    pub(crate) fn apply<M: Compressible>(
        &mut self,
        mut model: M,
        optimizer: &mut ModuleOptimizer,
        lr: impl Into<ModuleLearningRate>,
        gradients: GradientsParams,
        updated: impl FnOnce(&Self, &M),
    ) -> (M, PruneStep) {
        let taken = self.sparse_gradients(&model, &gradients);
        let mut requests = HashMap::new();
        let mut ids = Vec::with_capacity(self.layers.len());
        let sums = sums_suffice(&self.config);
        for_each_frozen(&mut model, |sparse, frozen| {
            let columns = frozen.clone().filter(|columns| columns.gathered());
            requests.insert(sparse.id, Request { columns, sums });
            ids.push(sparse.id);
        });
        let (mut model, mut answers) = step_with(optimizer, lr, model, gradients, requests);
        updated(self, &model);
        let seen = taken.into_iter().zip(ids).map(|(gradient, id)| {
            match answers.get_mut(&id).and_then(Option::take) {
                Some(sums) => Seen::Sums(sums),
                None => gradient.map_or(Seen::Nothing, Seen::Gradient),
            }
        });
        let seen = seen.collect();
        let done = self.observe(&mut model, seen, |id| answers.contains_key(&id));
        (model, done)
    }

    /// Gradients of the sparse parts, taken before the optimizer consumes them.
    pub fn sparse_gradients<M: Compressible>(
        &self,
        model: &M,
        gradients: &GradientsParams,
    ) -> Vec<Option<Tensor<2>>> {
        if !self.config.importance.needs_gradients() {
            return Vec::new();
        }
        let mut taken = Vec::with_capacity(self.layers.len());
        for_each_sparse(&mut model.clone(), |_, sparse| taken.push(gradients.get::<2>(sparse.id)));
        taken
    }

    /// Importance, selection and masking after an optimizer step, with the weights from after it and
    /// `gradients` from before it, as in the published code.
    pub fn update<M: Compressible>(
        &mut self,
        model: &mut M,
        gradients: &[Option<Tensor<2>>],
    ) -> PruneStep {
        let seen = |gradient: &Option<Tensor<2>>| match gradient {
            Some(gradient) => Seen::Gradient(gradient.clone()),
            None => Seen::Nothing,
        };
        self.observe(model, gradients.iter().map(seen).collect(), |_| false)
    }

    /// [`Pruner::update`] by the evidence of every layer. `takes_columns` says of a parameter whether its
    /// optimizer takes gradients of some columns alone.
    fn observe<M: Compressible>(
        &mut self,
        model: &mut M,
        seen: Vec<Seen>,
        takes_columns: impl Fn(ParamId) -> bool,
    ) -> PruneStep {
        let config = self.config;
        let schedule = config.schedule;
        let Counters { step, window, skipped, .. } = self.close_window();
        let mut layers = self.layers.iter_mut().zip(seen);
        for_each_frozen(model, |sparse, frozen| {
            if let Some((layer, seen)) = layers.next() {
                layer.observe(&config, sparse, frozen.as_deref(), seen, window);
            }
        });
        drop(layers);
        let keep_ratio = schedule.keep_ratio(step);
        let prunes = schedule.prunes(step) && !self.layers.is_empty();
        let pruned = if prunes { self.prune(model, keep_ratio) } else { None };
        if config.regrowth == Regrowth::Frozen {
            self.apply_masks(model, prunes);
            self.tell_layers(model, takes_columns);
        }
        self.count(Counters { step: step + 1, window: window + 1, skipped, in_a_row: 0 });
        PruneStep {
            step,
            keep_ratio,
            threshold: pruned.map(|(threshold, _)| threshold),
            kept: pruned.map(|(_, kept)| kept),
            skipped: false,
            gradient_norm: f64::NAN,
        }
    }

    /// Passes over an update whose gradient was not finite.
    ///
    /// # Errors
    /// If it was one too many in a row.
    pub fn skip(&mut self, gradient_norm: f64) -> Result<PruneStep> {
        let Counters { step, window, skipped, in_a_row } = self.close_window();
        let (skipped, in_a_row) = (skipped + 1, in_a_row + 1);
        self.count(Counters { step: step + 1, window, skipped, in_a_row });
        if in_a_row >= self.config.max_skipped_in_a_row {
            return Err(Error::Training(format!(
                "{in_a_row} updates in a row had a gradient that is not finite (the last at step \
                 {step}); lower the learning rate or look for bad values in the data and weights"
            )));
        }
        let keep_ratio = self.config.schedule.keep_ratio(step);
        Ok(PruneStep {
            step,
            keep_ratio,
            threshold: None,
            kept: None,
            skipped: true,
            gradient_norm,
        })
    }

    fn counters(&self) -> Counters {
        Counters::of(&self.counters)
    }

    fn count(&mut self, counters: Counters) {
        let param = self.counters.param();
        self.counters = counters.to_stored(param.id, &param.lazy_device());
    }

    /// Closes the importance window if it ends at this step and is not empty.
    pub(super) fn close_window(&mut self) -> Counters {
        let mut counters = self.counters();
        if counters.step.is_multiple_of(self.config.schedule.interval) && counters.window > 0 {
            self.layers.iter_mut().for_each(|layer| layer.close_window(&self.config));
            counters.window = 0;
        }
        counters
    }

    /// Zeroes neurons that score below the threshold over the whole model; returns the threshold and the
    /// share of `S` that is left.
    fn prune<M: Compressible>(&mut self, model: &mut M, keep_ratio: f64) -> Option<(f32, f64)> {
        let config = self.config;
        let layers = &self.layers;
        let mut scores = Vec::with_capacity(layers.len());
        let mut entries = Vec::with_capacity(layers.len());
        for_each_sparse(model, |_, sparse| {
            let [d_input, d_output] = sparse.lazy_shape().dims();
            scores.push(layers[scores.len()].scores(&config, sparse.val().inner()));
            entries.push(match config.structure {
                Structure::Neurons => d_input,
                Structure::Inputs => d_output,
                Structure::Unstructured => 1,
            });
        });
        let mut groups = read_groups(&scores, &entries);
        if config.bounds_layers() {
            let cap = cap_at(keep_ratio, config.schedule.final_keep_ratio, config.max_kept);
            for (group, scores) in groups.iter_mut().zip(&mut scores) {
                bound(group, config.min_kept, cap);
                let data = TensorData::new(group.scores.clone(), scores.dims());
                *scores = Tensor::from_data(data, &scores.device());
            }
        }
        let threshold = above_never_kept(threshold(&groups, keep_ratio)?);
        let kept = kept_share(&groups, threshold);
        let frozen = config.regrowth == Regrowth::Frozen;
        let mut at = 0;
        for_each_sparse(model, |_, sparse| {
            let mask = scores[at].clone().greater_equal_scalar(threshold).float();
            if frozen && let Some(kept) = &mut self.layers[at].mask {
                LayerImportance::freeze(kept, mask);
            } else {
                apply_mask(sparse, mask);
            }
            at += 1;
        });
        Some((threshold, kept))
    }

    /// Tells the layers of `model` which neurons are pruned for good, which makes frozen training
    /// faster. [`Pruner::optimize`] does so too: before the first step it matters only if a resumed
    /// training is to be equal to the last bit. `adamw`: [`crate::optim::AdamW`] trains the model.
    pub fn announce<M: Compressible>(&self, model: &mut M, adamw: bool) {
        self.tell_layers(model, |_| adamw);
    }

    /// [`Pruner::announce`], by parameter.
    fn tell_layers<M: Compressible>(&self, model: &mut M, takes_columns: impl Fn(ParamId) -> bool) {
        let config = &self.config;
        let no_entries = sums_suffice(config) || !config.importance.needs_gradients();
        let mut layers = self.layers.iter();
        for_each_frozen(model, |sparse, frozen| {
            let layer = layers.next().filter(|_| config.structure == Structure::Neurons);
            let gathered =
                no_entries && takes_columns(sparse.id) && ops::gathers_gradients(&sparse.val());
            let columns = layer.and_then(|layer| layer.active(gathered));
            *frozen = columns.filter(|columns| !columns.others.is_empty()).cloned();
        });
    }

    /// Zeroes neurons that are pruned for good, in layers where they can have changed: in all if some were
    /// `pruned` just now, else where the optimizer does not pass them over.
    fn apply_masks<M: Compressible>(&self, model: &mut M, pruned: bool) {
        let by_neuron = self.config.structure == Structure::Neurons;
        let mut layers = self.layers.iter();
        for_each_frozen(model, |sparse, frozen| {
            let Some(layer) = layers.next() else { return };
            let passed_over = frozen.as_ref().is_some_and(|columns| columns.gathered());
            let whole = || by_neuron && layer.active(false).is_some_and(|c| c.others.is_empty());
            if let Some(mask) = &layer.mask
                && (pruned || !(passed_over || whole()))
            {
                apply_mask(sparse, mask.param().val());
            }
        });
    }
}

/// The layers' `scores` with the entries that each stands for, read from the device at once.
fn read_groups(scores: &[Tensor<2>], entries: &[usize]) -> Vec<Group> {
    let Some(device) = scores.first().map(Tensor::device) else { return Vec::new() };
    let flat = scores.iter().map(|scores| {
        let count = scores.shape().num_elements();
        // Layers may lie on several devices.
        scores.clone().reshape([count]).to_device(&device)
    });
    let all = to_vec(Tensor::<1>::cat(flat.collect(), 0));
    let mut rest = all.as_slice();
    let group = |(scores, &entries): (&Tensor<2>, &usize)| {
        let (own, others) = rest.split_at(scores.shape().num_elements());
        rest = others;
        Group { scores: own.to_vec(), entries }
    };
    scores.iter().zip(entries).map(group).collect()
}
