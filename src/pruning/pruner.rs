//! One pruning step over a whole model.

use std::collections::HashMap;

use burn::module::{Module, ParamId};
use burn::optim::lr_scheduler::module_lr_scheduler::ModuleLearningRate;
use burn::optim::{GradientsParams, ModuleOptimizer};
use burn::tensor::{Device, Tensor, TensorData};

use super::counters::Counters;
use super::importance::{Seen, sums_suffice};
use super::sparse::{apply_mask, for_each_frozen, for_each_sparse};
use super::{
    Group, LayerImportance, LayerScores, PruningConfig, Regrowth, Structure, above_never_kept,
    bound, cap_at, gradient_norm, kept_share, threshold,
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
    counters: Counters,
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
        Ok(Pruner { layers, counters: Counters::new(&device), config: *self })
    }
}

impl Pruner {
    /// A pruner without layers, for models that are trained without pruning.
    pub fn idle(total_steps: usize, device: &Device) -> Self {
        let config = PruningConfig::new(super::Schedule {
            initial_keep_ratio: 1.0,
            final_keep_ratio: 1.0,
            initial_warmup_steps: 0,
            final_warmup_steps: 0,
            total_steps,
            interval: 10,
            curve: super::Curve::default(),
        });
        let counters = Counters::new(&device.clone().without_autodiff());
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
        self.counters.step
    }

    /// Updates skipped so far because a gradient was not finite.
    pub fn skipped(&self) -> usize {
        self.counters.skipped
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
        let step = self.counters.step;
        let config = self.config;
        let schedule = config.schedule;
        self.close_window();
        let window = self.counters.window;
        let mut layers = self.layers.iter_mut().zip(seen);
        for_each_frozen(model, |sparse, frozen| {
            if let Some((layer, seen)) = layers.next() {
                layer.observe(&config, sparse, frozen.as_deref(), seen, window);
            }
        });
        drop(layers);
        self.counters.window += 1;
        self.counters.in_a_row = 0;
        let keep_ratio = schedule.keep_ratio(step);
        let prunes = schedule.prunes(step) && !self.layers.is_empty();
        let pruned = if prunes { self.prune(model, keep_ratio) } else { None };
        if config.regrowth == Regrowth::Frozen {
            self.apply_masks(model, prunes);
            self.tell_layers(model, takes_columns);
        }
        self.counters.step += 1;
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
        let step = self.counters.step;
        self.close_window();
        self.counters.step += 1;
        self.counters.skipped += 1;
        self.counters.in_a_row += 1;
        let in_a_row = self.counters.in_a_row;
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

    /// Closes the importance window if it ends at this step and is not empty.
    fn close_window(&mut self) {
        if self.counters.step.is_multiple_of(self.config.schedule.interval)
            && self.counters.window > 0
        {
            self.layers.iter_mut().for_each(|layer| layer.close_window(&self.config));
            self.counters.window = 0;
        }
    }

    /// Zeroes what scores below the model-wide threshold; returns the threshold, and the share of
    /// `S` that is left.
    fn prune<M: Compressible>(&mut self, model: &mut M, keep_ratio: f64) -> Option<(f32, f64)> {
        let config = self.config;
        let layers = &self.layers;
        let mut scores = Vec::with_capacity(layers.len());
        let mut groups = Vec::with_capacity(layers.len());
        let mut at = 0;
        for_each_sparse(model, |_, sparse| {
            let [d_input, d_output] = sparse.lazy_shape().dims();
            let score = layers[at].scores(&config, sparse.val().inner());
            groups.push((
                score.dims(),
                match config.structure {
                    Structure::Neurons => d_input,
                    Structure::Inputs => d_output,
                    Structure::Unstructured => 1,
                },
            ));
            scores.push(score);
            at += 1;
        });
        let mut groups = read_groups(&scores, &groups);
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
                kept.and(mask);
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
            let mask = layers.next().and_then(|layer| layer.mask.as_ref());
            let mask = mask.filter(|_| config.structure == Structure::Neurons);
            let gathered =
                no_entries && takes_columns(sparse.id) && ops::gathers_gradients(&sparse.val());
            let columns = mask.map(|mask| mask.active(gathered).clone());
            *frozen = columns.filter(|columns| !columns.others.is_empty());
        });
    }

    /// Zeroes what is pruned for good, in layers where it can have changed: anywhere if something was
    /// `pruned` just now, else where the optimizer does not pass it over.
    fn apply_masks<M: Compressible>(&self, model: &mut M, pruned: bool) {
        let by_neuron = self.config.structure == Structure::Neurons;
        let mut layers = self.layers.iter();
        for_each_frozen(model, |sparse, frozen| {
            let Some(mask) = layers.next().and_then(|layer| layer.mask.as_ref()) else { return };
            let passed_over = frozen.as_ref().is_some_and(|columns| columns.gathered());
            let whole = || by_neuron && mask.active(false).others.is_empty();
            if pruned || !(passed_over || whole()) {
                apply_mask(sparse, mask.val());
            }
        });
    }

    /// [`Pruner::scores`] as the next [`Pruner::update`] will have them before it masks anything.
    pub fn scores_ahead<M: Compressible>(&self, model: &M) -> Vec<LayerScores> {
        let mut ahead = self.clone();
        ahead.close_window();
        ahead.scores(model)
    }
}

/// One read from the device for all layers' scores.
fn read_groups(scores: &[Tensor<2>], shapes: &[([usize; 2], usize)]) -> Vec<Group> {
    let Some(device) = scores.first().map(Tensor::device) else { return Vec::new() };
    let flat: Vec<Tensor<1>> = scores
        .iter()
        .map(|s| {
            let count = s.shape().num_elements();
            // Layers may lie on several devices.
            s.clone().reshape([count]).to_device(&device)
        })
        .collect();
    let all = to_vec(Tensor::cat(flat, 0));
    let mut rest = all.as_slice();
    shapes
        .iter()
        .map(|([a, b], entries)| {
            let (head, tail) = rest.split_at(a * b);
            rest = tail;
            Group { scores: head.to_vec(), entries: *entries }
        })
        .collect()
}
