//! One pruning step over a whole model.

use burn::module::{Module, Param, ParamId};
use burn::optim::lr_scheduler::module_lr_scheduler::ModuleLearningRate;
use burn::optim::{GradientsParams, ModuleOptimizer};
use burn::tensor::{Device, Int, Tensor, TensorData};
use serde::{Deserialize, Serialize};

use super::{
    Group, LayerImportance, NEVER_KEPT, PruningConfig, Regrowth, Structure, above_never_kept,
    bound, cap_at, gradient_norm, threshold,
};
use crate::linear::{Compressible, CompressibleLinear};
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
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Counters {
    step: usize,
    window: usize,
    skipped: usize,
    in_a_row: usize,
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
    /// Whether the update was skipped because a gradient was not finite.
    pub skipped: bool,
    /// Norm of the whole gradient before the update.
    pub gradient_norm: f64,
}

/// Neurons of one layer that have any non-zero entry in `S`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerKept {
    /// Full name of the layer.
    pub name: String,
    /// Kept neurons (columns of `S`, in Burn's orientation).
    pub kept: usize,
    /// All neurons.
    pub neurons: usize,
}

/// Scores of one layer's neurons (or columns) as selection compares them.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct LayerScores {
    /// Full name of the layer.
    pub name: String,
    /// Scores of those that have any non-zero entry in `S`.
    pub kept: Vec<f32>,
    /// Scores of the others; what is frozen has none.
    pub pruned: Vec<f32>,
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
        Ok(Self { layers, counters: Counters::default().to_param(&device), host: None, config })
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
        Self { layers: Vec::new(), counters, host: None, config }
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

    /// Forgets counters mirrored on the host; call it after a record was loaded into the pruner.
    pub fn reload(&mut self) {
        self.host = None;
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
        mut model: M,
        optimizer: &mut ModuleOptimizer,
        lr: impl Into<ModuleLearningRate>,
        gradients: GradientsParams,
    ) -> Result<(M, PruneStep)> {
        let norm = gradient_norm(&model, &gradients).unwrap_or(f64::NAN);
        if !norm.is_finite() {
            let done = self.skip(norm)?;
            return Ok((model, done));
        }
        let sparse = self.sparse_gradients(&model, &gradients);
        model = optimizer.step(lr, model, gradients);
        let mut done = self.update(&mut model, &sparse);
        done.gradient_norm = norm;
        Ok((model, done))
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
        let mut counters = self.counters();
        let step = counters.step;
        let config = self.config;
        let schedule = config.schedule;
        if step.is_multiple_of(schedule.interval) {
            self.fold(&mut counters);
        }
        let mut at = 0;
        let layers = &mut self.layers;
        for_each_sparse(model, |_, sparse| {
            if let Some(gradient) = gradients.get(at) {
                let sparse = sparse.val().inner();
                // A layer that took no part in the loss has a gradient of zero.
                let gradient = gradient.clone().unwrap_or_else(|| sparse.zeros_like());
                layers[at].observe(&config, sparse, gradient, counters.window);
            }
            at += 1;
        });
        counters.window += 1;
        counters.in_a_row = 0;
        let keep_ratio = schedule.keep_ratio(step);
        let prunes = schedule.prunes(step) && !self.layers.is_empty();
        let threshold = if prunes { self.prune(model, keep_ratio) } else { None };
        if config.regrowth == Regrowth::Frozen {
            self.apply_masks(model);
            self.announce(model);
        }
        counters.step += 1;
        self.set_counters(counters);
        PruneStep { step, keep_ratio, threshold, skipped: false, gradient_norm: f64::NAN }
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
        Ok(PruneStep { step, keep_ratio, threshold: None, skipped: true, gradient_norm })
    }

    fn fold(&mut self, counters: &mut Counters) {
        if counters.window > 0 {
            for layer in &mut self.layers {
                layer.fold(&self.config);
            }
            counters.window = 0;
        }
    }

    /// Zeroes what scores below the model-wide threshold; returns the threshold.
    fn prune<M: Compressible>(&mut self, model: &mut M, keep_ratio: f64) -> Option<f32> {
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
        Some(threshold)
    }

    /// Tells the layers of `model` whether pruned neurons are pruned for good, which makes frozen
    /// training faster. [`Pruner::update`] does so too: before the first step it matters only where
    /// a resumed training is to be equal to the last bit.
    pub fn announce<M: Compressible>(&self, model: &mut M) {
        let frozen = self.config.regrowth == Regrowth::Frozen
            && self.config.structure == Structure::Rows
            && !self.layers.is_empty();
        model.for_each_linear_mut(&mut |_, linear| {
            if let CompressibleLinear::LowRankSparse(layer) = linear {
                layer.frozen = frozen;
            }
        });
    }

    fn apply_masks<M: Compressible>(&self, model: &mut M) {
        let mut at = 0;
        for_each_sparse(model, |_, sparse| {
            if let Some(mask) = &self.layers[at].mask {
                apply_mask(sparse, mask.val());
            }
            at += 1;
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

    /// Scores of every layer of `model` as they stand; empty where single entries are pruned.
    pub fn scores<M: Compressible>(&self, model: &M) -> Vec<LayerScores> {
        let dim = match self.config.structure {
            Structure::Rows => 0,
            Structure::Columns => 1,
            Structure::Unstructured => return Vec::new(),
        };
        let mut all = Vec::new();
        let mut layers = self.layers.iter();
        for_each_sparse(&mut model.clone(), |name, sparse| {
            let Some(layer) = layers.next() else { return };
            let sparse = sparse.val().inner();
            let alive = crate::decompose::to_vec(sparse.clone().abs().max_dim(dim));
            let scores = crate::decompose::to_vec(layer.scores(&self.config, sparse));
            let mut found = LayerScores { name: name.to_string(), ..LayerScores::default() };
            for (score, alive) in scores.into_iter().zip(alive) {
                match alive > 0.0 {
                    true => found.kept.push(score),
                    false if score > NEVER_KEPT => found.pruned.push(score),
                    false => {}
                }
            }
            all.push(found);
        });
        all
    }

    /// The same as the next [`Pruner::update`] will have them before it masks anything.
    pub fn scores_ahead<M: Compressible>(&self, model: &M) -> Vec<LayerScores> {
        let mut ahead = self.clone();
        let mut counters = ahead.counters();
        if counters.step.is_multiple_of(self.config.schedule.interval) {
            ahead.fold(&mut counters);
        }
        ahead.scores(model)
    }

    /// Kept neurons of every layer of `model`.
    pub fn kept<M: Compressible>(model: &M) -> Vec<LayerKept> {
        let mut kept = Vec::new();
        for_each_sparse(&mut model.clone(), |name, sparse| {
            let columns = sparse.val().inner().abs().max_dim(0);
            let alive = crate::decompose::to_vec(columns).iter().filter(|v| **v > 0.0).count();
            let neurons = sparse.lazy_shape()[1];
            kept.push(LayerKept { name: name.to_string(), kept: alive, neurons });
        });
        kept
    }
}

/// One read from the device for all layers' scores.
fn read_groups(scores: &[Tensor<2>], shapes: &[([usize; 2], usize)]) -> Vec<Group> {
    let flat: Vec<Tensor<1>> = scores
        .iter()
        .map(|s| {
            let count = s.shape().num_elements();
            s.clone().reshape([count])
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

fn apply_mask(sparse: &mut Param<Tensor<2>>, mask: Tensor<2>) {
    // Taken out, so that nothing else holds the values and they are masked in place.
    let nothing = Param::initialized(ParamId::new(), Tensor::zeros([0, 0], &mask.device()));
    let param = std::mem::replace(sparse, nothing);
    *sparse = param.map(|tensor| {
        let trained = tensor.is_require_grad();
        let autodiff = tensor.is_autodiff();
        let masked = masked(tensor.inner(), mask);
        let masked = if autodiff { Tensor::from_inner(masked) } else { masked };
        masked.set_require_grad(trained && autodiff)
    });
}

fn masked(tensor: Tensor<2>, mask: Tensor<2>) -> Tensor<2> {
    #[cfg(feature = "flex")]
    let tensor = match crate::kernels::passes::mask_columns(tensor, &mask) {
        Ok(masked) => return masked,
        Err(tensor) => tensor,
    };
    tensor * mask
}

/// Calls `f` with the sparse part of every layer that has one.
fn for_each_sparse<M: Compressible>(model: &mut M, mut f: impl FnMut(&str, &mut Param<Tensor<2>>)) {
    model.for_each_linear_mut(&mut |name, linear| {
        if let CompressibleLinear::LowRankSparse(layer) = linear
            && let Some(sparse) = &mut layer.sparse
        {
            f(name, sparse);
        }
    });
}

impl Counters {
    fn to_tensor(self, device: &Device) -> Tensor<1, Int> {
        let values = [self.step, self.window, self.skipped, self.in_a_row].map(|v| v as i64);
        Tensor::from_data(TensorData::from(values), device)
    }

    fn to_param(self, device: &Device) -> Param<Tensor<1, Int>> {
        Param::initialized(ParamId::new(), self.to_tensor(device))
    }

    fn from_param(param: &Param<Tensor<1, Int>>) -> Self {
        let data = param.val().into_data().convert::<i64>();
        let values: Vec<i64> = data.try_into_vec().unwrap_or_default();
        let at = |i: usize| values.get(i).map_or(0, |v| *v as usize);
        Self { step: at(0), window: at(1), skipped: at(2), in_a_row: at(3) }
    }
}
