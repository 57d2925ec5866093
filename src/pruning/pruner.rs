//! One pruning step over a whole model.

use std::collections::HashMap;
use std::sync::Arc;

use burn::module::{Module, Param};
use burn::optim::lr_scheduler::module_lr_scheduler::ModuleLearningRate;
use burn::optim::{GradientsParams, ModuleOptimizer};
use burn::tensor::{Device, Int, Tensor, TensorData};

use super::counters::Counters;
use super::importance::{Seen, sums_suffice};
use super::sparse::{apply_mask, for_each_frozen, for_each_sparse};
use super::{
    Group, LayerImportance, LayerScores, PruningConfig, Regrowth, Structure, above_never_kept,
    bound, cap_at, gradient_norm, kept_share, threshold,
};
use crate::kernels::{ActiveColumns, SparseGradient};
use crate::linear::Compressible;
use crate::ops;
use crate::optim::guide::{self, Request};
use crate::{Error, Result};

/// Prunes the sparse parts of a model while it trains.
///
/// A Burn module: put it beside the model and checkpoints carry importance and step, so a resumed
/// run goes on exactly. One [`Pruner::optimize`] replaces the optimizer's own `step`.
#[derive(Module, Debug)]
pub struct Pruner {
    layers: Vec<LayerImportance>,
    /// `[step, valid samples in the window, skipped updates, skipped in a row]`.
    counters: Param<Tensor<1, Int>>,
    #[module(skip)]
    host: Option<Counters>,
    #[module(skip)]
    config: PruningConfig,
    /// Columns that are not pruned for good, once known: of the masks, so they change with those.
    #[module(skip)]
    columns: Option<Vec<Arc<ActiveColumns>>>,
    /// Whether the optimizer takes gradients of some columns alone.
    #[module(skip)]
    adamw: bool,
}

/// What one step did.
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

impl Pruner {
    /// A pruner for the decomposed layers of `model`, at step 0.
    ///
    /// # Errors
    /// If a setting is impossible or the model has no sparse part to prune.
    pub fn new<M: Compressible>(model: &M, config: PruningConfig) -> Result<Self> {
        config.validate()?;
        let mut layers = Vec::new();
        let mut device = None;
        for_each_sparse(&mut model.clone(), |_, sparse| {
            let on = sparse.lazy_device().without_autodiff();
            let dims = sparse.lazy_shape().dims();
            layers.push(LayerImportance::new(&config, layers.len(), dims, &on));
            device = Some(on);
        });
        let device = device.ok_or_else(|| {
            Error::layer("all", "no layer has a sparse part to prune; decompose the model first")
        })?;
        // Counters are mirrored on the host from the first use on, so that a record may come first.
        Ok(Self::with(layers, Counters::default().to_param(&device), config))
    }

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
        let device = device.clone().without_autodiff();
        let counters = Counters::default().to_param(&device);
        Self::with(Vec::new(), counters, config)
    }

    fn with(
        layers: Vec<LayerImportance>,
        counters: Param<Tensor<1, Int>>,
        config: PruningConfig,
    ) -> Self {
        Self { layers, counters, host: None, config, columns: None, adamw: false }
    }

    /// A pruner of `model` with the settings, or an idle one for a training without pruning.
    ///
    /// # Errors
    /// As [`Pruner::new`].
    pub fn new_or_idle<M: Compressible>(
        model: &M,
        config: Option<PruningConfig>,
        total_steps: usize,
        device: &Device,
    ) -> Result<Self> {
        match config {
            Some(config) => Self::new(model, config),
            None => Ok(Self::idle(total_steps, device)),
        }
    }

    /// Says that the model is updated by [`Pruner::optimize`] with [`crate::optim::AdamW`] always.
    ///
    /// Neurons that are pruned for good then have neither gradients nor moments, and the optimizer
    /// passes them over. Another optimizer would find gradients of another shape than the weights'.
    pub fn with_adamw(mut self) -> Self {
        self.adamw = true;
        self.columns = None;
        self
    }

    /// The settings.
    pub fn config(&self) -> &PruningConfig {
        &self.config
    }

    /// The next step, `t`.
    pub fn step(&mut self) -> usize {
        self.counters().step
    }

    /// Updates skipped so far because a gradient was not finite.
    pub fn skipped(&mut self) -> usize {
        self.counters().skipped
    }

    /// Per-layer importance, in the order of the model's layers.
    pub fn importance(&self) -> &[LayerImportance] {
        &self.layers
    }

    /// Forgets what is mirrored on the host; call it after a record was loaded into the pruner.
    pub fn reload(&mut self) {
        self.host = None;
        self.columns = None;
    }

    /// One update: optimizer step, importance, selection and masking. Replaces
    /// `optimizer.step(lr, model, gradients)`.
    ///
    /// An update with a gradient that is not finite is skipped whole.
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
        updated: impl FnOnce(&mut Self, &M),
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
        let (mut model, mut sums) = guide::step(optimizer, lr, model, gradients, requests);
        updated(self, &model);
        let seen = taken.into_iter().zip(ids).map(|(gradient, id)| match sums.remove(&id) {
            Some(sums) => Seen::Sums(sums),
            None => gradient.map_or(Seen::Nothing, Seen::Gradient),
        });
        let seen = seen.collect();
        let done = self.observe(&mut model, seen);
        (model, done)
    }

    /// Gradients of the sparse parts, to be taken before the optimizer consumes them.
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
        self.observe(model, gradients.iter().map(seen).collect())
    }

    /// [`Pruner::update`] with what there is to see of every layer.
    fn observe<M: Compressible>(&mut self, model: &mut M, seen: Vec<Seen>) -> PruneStep {
        let mut counters = self.counters();
        let step = counters.step;
        let config = self.config;
        let schedule = config.schedule;
        if step.is_multiple_of(schedule.interval) {
            self.fold(&mut counters);
        }
        let mut layers = self.layers.iter_mut().zip(seen);
        for_each_frozen(model, |sparse, frozen| {
            if let Some((layer, seen)) = layers.next() {
                let columns = frozen.as_deref();
                layer.observe(&config, sparse, columns, seen, counters.window);
            }
        });
        drop(layers);
        counters.window += 1;
        counters.in_a_row = 0;
        let keep_ratio = schedule.keep_ratio(step);
        let prunes = schedule.prunes(step) && !self.layers.is_empty();
        let pruned = if prunes { self.prune(model, keep_ratio) } else { None };
        if config.regrowth == Regrowth::Frozen {
            if prunes {
                self.columns = None;
            }
            self.apply_masks(model, prunes);
            self.columns = Some(self.columns(model));
            self.announce(model);
        }
        counters.step += 1;
        self.set_counters(counters);
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
        let mut counters = self.counters();
        let step = counters.step;
        if step.is_multiple_of(self.config.schedule.interval) {
            self.fold(&mut counters);
        }
        counters.step += 1;
        counters.skipped += 1;
        counters.in_a_row += 1;
        self.set_counters(counters);
        if counters.in_a_row >= self.config.max_skipped_in_a_row {
            return Err(Error::Training(format!(
                "{} updates in a row had a gradient that is not finite (the last at step {step}); \
                 lower the learning rate or look for bad values in the data and weights",
                counters.in_a_row
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

    fn fold(&mut self, counters: &mut Counters) {
        if counters.window > 0 {
            for layer in &mut self.layers {
                layer.fold(&self.config);
            }
            counters.window = 0;
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
                    Structure::Rows => d_input,
                    Structure::Columns => d_output,
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
                *kept = kept.clone().map(|kept| kept * mask);
            } else {
                apply_mask(sparse, mask);
            }
            at += 1;
        });
        Some((threshold, kept))
    }

    /// Tells the layers of `model` which neurons are pruned for good, which makes frozen training
    /// faster. [`Pruner::update`] does so too: before the first step it matters only where a resumed
    /// training is to be equal to the last bit.
    pub fn announce<M: Compressible>(&self, model: &mut M) {
        let mut columns = self.columns(model).into_iter();
        for_each_frozen(model, |_, frozen| {
            *frozen = columns.next().filter(|columns| !columns.others.is_empty());
        });
    }

    /// Columns that are not pruned for good, of every layer; empty where none are pruned for good.
    fn columns<M: Compressible>(&self, model: &mut M) -> Vec<Arc<ActiveColumns>> {
        if let Some(columns) = &self.columns {
            return columns.clone();
        }
        let config = &self.config;
        if config.regrowth != Regrowth::Frozen || config.structure != Structure::Rows {
            return Vec::new();
        }
        let gathers = self.adamw && (sums_suffice(config) || !config.importance.needs_gradients());
        let mut columns = Vec::with_capacity(self.layers.len());
        let mut layers = self.layers.iter();
        for_each_sparse(model, |_, sparse| {
            let Some(mask) = layers.next().and_then(|layer| layer.mask.as_ref()) else { return };
            let found = ActiveColumns::of_mask(&crate::decompose::to_vec(mask.val()));
            let gradient = match gathers && ops::gathers_gradients(&sparse.val()) {
                true => SparseGradient::Gathered,
                false => SparseGradient::Active,
            };
            columns.push(Arc::new(ActiveColumns { gradient, ..found }));
        });
        columns
    }

    /// Zeroes what is pruned for good, in layers where it can have changed: anywhere if something was
    /// `pruned` just now, else where the optimizer does not pass it over.
    fn apply_masks<M: Compressible>(&self, model: &mut M, pruned: bool) {
        let whole = |at: usize| {
            let columns = self.columns.as_ref().and_then(|columns| columns.get(at));
            columns.is_some_and(|columns| columns.others.is_empty())
        };
        let mut layers = self.layers.iter().enumerate();
        for_each_frozen(model, |sparse, frozen| {
            let Some((at, layer)) = layers.next() else { return };
            let passed_over = frozen.as_ref().is_some_and(|columns| columns.gathered());
            if let Some(mask) = &layer.mask
                && (pruned || !(passed_over || whole(at)))
            {
                apply_mask(sparse, mask.val());
            }
        });
    }

    fn counters(&mut self) -> Counters {
        let counters = self.host.unwrap_or_else(|| Counters::from_param(&self.counters));
        self.host = Some(counters);
        counters
    }

    fn set_counters(&mut self, counters: Counters) {
        let device = self.counters.lazy_device();
        let id = self.counters.id;
        self.counters = Param::initialized(id, counters.to_tensor(&device));
        self.host = Some(counters);
    }

    /// [`Pruner::scores`] as the next [`Pruner::update`] will have them before it masks anything.
    pub fn scores_ahead<M: Compressible>(&self, model: &M) -> Vec<LayerScores> {
        let mut ahead = self.clone();
        let mut counters = ahead.counters();
        if counters.step.is_multiple_of(self.config.schedule.interval) {
            ahead.fold(&mut counters);
        }
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
    let all = crate::decompose::to_vec(Tensor::cat(flat, 0));
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
