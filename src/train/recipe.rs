//! The recipe: every setting of a run, as TOML. What a run resolves it to is saved with its result.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::TaskRecipe;
use super::data::Segments;
use crate::checkpoint::StorageDtype;
use crate::decompose::Rank;
use crate::linear::LayerSelection;
use crate::pruning::{Curve, Importance, PruningConfig, Reduction, Regrowth, Schedule, Structure};
use crate::{Error, Result};

/// Every setting of a run.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Recipe {
    /// Where the settings come from: `published`, or `chosen` where the source does not say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provenance: Option<String>,
    /// The model folder to start from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<PathBuf>,
    /// What the result's weights are stored as.
    pub storage: StorageDtype,
    /// The data and what is predicted.
    pub task: TaskRecipe,
    /// The compression; absent: plain fine-tuning.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<MethodRecipe>,
    /// The training.
    pub training: TrainingRecipe,
}

/// The compression.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MethodRecipe {
    /// Share of the compressed layers' weights that is left: low-rank part plus kept neurons.
    pub ratio: f64,
    /// Share of the weights in the low-rank part, within `ratio`; 0 is ITP.
    pub low_rank_ratio: f64,
    /// The rank outright, in place of `low_rank_ratio`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rank: Option<usize>,
    /// Patterns of the layers to compress.
    pub layers: Vec<String>,
    /// What an entry of `S` is worth.
    pub importance: Importance,
    /// Smoothing of the importance.
    pub beta1: f64,
    /// Smoothing of its uncertainty; 1: none.
    pub beta2: f64,
    /// How a neuron's entries become one score.
    pub reduction: Reduction,
    /// What is pruned as one.
    pub structure: Structure,
    /// Whether pruned neurons may come back.
    pub regrowth: Regrowth,
    /// Updates before pruning begins; by default an eighth of all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub initial_warmup_steps: Option<usize>,
    /// Updates at the final ratio; by default three eighths of all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub final_warmup_steps: Option<usize>,
    /// Updates between prunings.
    pub interval: usize,
    /// How the kept share falls between the warmups.
    pub curve: Curve,
    /// Share of every layer's neurons that is kept, whatever they score.
    pub min_kept: f64,
    /// Share of every layer's neurons beyond which none is kept.
    pub max_kept: f64,
}

impl Default for MethodRecipe {
    fn default() -> Self {
        Self {
            ratio: 0.2,
            low_rank_ratio: 0.05,
            rank: None,
            layers: LayerSelection::all().patterns().to_vec(),
            importance: Importance::default(),
            beta1: 0.85,
            beta2: 1.0,
            reduction: Reduction::default(),
            structure: Structure::default(),
            regrowth: Regrowth::default(),
            initial_warmup_steps: None,
            final_warmup_steps: None,
            interval: 10,
            curve: Curve::default(),
            min_kept: 0.0,
            max_kept: 1.0,
        }
    }
}

/// A way to compress, as the literature names it: what sets it apart, for comparisons in the same
/// training.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// Low-rank + structured sparse (Li et al. 2023).
    #[default]
    Losparse,
    /// Iterative structured pruning alone: no low-rank part.
    Itp,
    /// Low-rank alone: the whole ratio goes into the rank.
    LowRank,
    /// Structured movement pruning (Sanh et al. 2020) alone.
    Movement,
    /// Pruning by magnitude alone and at once, then fine-tuning what is left.
    OneShot,
}

impl Method {
    /// Gives `recipe` the settings that set the method apart; its ratio and the rest stay.
    pub fn apply(self, recipe: &mut MethodRecipe) {
        recipe.rank = None;
        recipe.low_rank_ratio = match self {
            Self::Losparse => recipe.low_rank_ratio,
            Self::LowRank => recipe.ratio,
            Self::Itp | Self::Movement | Self::OneShot => 0.0,
        };
        recipe.importance = match self {
            Self::Movement => Importance::Movement,
            Self::OneShot => Importance::Magnitude,
            _ => recipe.importance,
        };
        if self == Self::OneShot {
            recipe.curve = Curve::OneShot;
            recipe.regrowth = Regrowth::Frozen;
        }
    }
}

/// Which evaluated model is the result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Keep {
    /// The best of those at the final ratio, by the task's primary metric.
    #[default]
    Best,
    /// The last.
    Last,
}

/// How the learning rate falls after its warmup.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LrDecay {
    /// Linearly to 0.
    #[default]
    Linear,
    /// As half a cosine to 0.
    Cosine,
    /// Not at all.
    Constant,
}

/// The training.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TrainingRecipe {
    /// Passes over the training data.
    pub epochs: usize,
    /// Examples in a batch.
    pub batch_size: usize,
    /// Batches whose gradients are averaged into one update.
    pub gradient_accumulation: usize,
    /// Largest learning rate.
    pub learning_rate: f64,
    /// How the learning rate falls.
    pub lr_decay: LrDecay,
    /// Updates over which the learning rate rises from 0; by default a tenth of all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lr_warmup_steps: Option<usize>,
    /// AdamW's weight decay.
    pub weight_decay: f32,
    /// AdamW's β₁.
    pub adam_beta1: f32,
    /// AdamW's β₂.
    pub adam_beta2: f32,
    /// AdamW's ε.
    pub adam_epsilon: f32,
    /// Gradients of a larger norm are scaled down to it; absent: never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_grad_norm: Option<f64>,
    /// So many batches' examples are sorted by length together, so that little is padded; 1 leaves
    /// batches wholly random.
    pub bucket_batches: usize,
    /// Seed of the batches' order, dropout and new heads.
    pub seed: u64,
    /// Updates between evaluations; by default an epoch's worth.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eval_steps: Option<usize>,
    /// Updates between checkpoints, a divisor of `eval_steps`; by default equal to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub save_steps: Option<usize>,
    /// Examples in a batch of evaluation.
    pub eval_batch_size: usize,
    /// Stop after so many evaluations (at the final ratio) without a better one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub early_stopping_patience: Option<usize>,
    /// Which evaluated model is the result.
    pub keep: Keep,
}

impl Default for TrainingRecipe {
    fn default() -> Self {
        Self {
            epochs: 3,
            batch_size: 32,
            gradient_accumulation: 1,
            learning_rate: 5e-5,
            lr_decay: LrDecay::default(),
            lr_warmup_steps: None,
            weight_decay: 0.0,
            adam_beta1: 0.9,
            adam_beta2: 0.999,
            adam_epsilon: 1e-8,
            max_grad_norm: None,
            bucket_batches: 4,
            seed: 42,
            eval_steps: None,
            save_steps: None,
            eval_batch_size: 32,
            early_stopping_patience: None,
            keep: Keep::default(),
        }
    }
}

impl TrainingRecipe {
    /// Updates over which the learning rate rises.
    pub(super) fn lr_warmup_steps(&self, total_steps: usize) -> usize {
        self.lr_warmup_steps.unwrap_or(total_steps / 10)
    }
}

impl Recipe {
    /// Reads a recipe file.
    ///
    /// # Errors
    /// If it cannot be read, is not TOML or has an unknown or mistyped setting.
    pub fn read(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let text = std::fs::read_to_string(path).map_err(|e| Error::io(path, e))?;
        Self::parse(&text).map_err(|message| Error::format(path, message))
    }

    /// Parses a recipe.
    ///
    /// # Errors
    /// What is wrong and on which line.
    pub fn parse(text: &str) -> Result<Self, String> {
        toml::from_str(text).map_err(|e| e.to_string().trim_end().to_string())
    }

    /// The recipe as TOML.
    pub fn to_toml(&self) -> String {
        toml::to_string_pretty(self).unwrap_or_default()
    }

    /// The recipe with the settings written out that otherwise depend on the kind of task.
    pub fn resolved(&self) -> Self {
        Self { task: self.task.resolved(), ..self.clone() }
    }

    /// The recipe with every number of updates written out that otherwise depends on how long the
    /// training is.
    pub(super) fn resolved_for(&self, segments: Segments) -> Self {
        let mut recipe = self.clone();
        let training = &mut recipe.training;
        training.eval_steps = Some(segments.eval_steps);
        training.save_steps = Some(segments.save_steps);
        training.lr_warmup_steps = Some(training.lr_warmup_steps(segments.total_steps));
        if let Some(method) = &mut recipe.method {
            let schedule = method.pruning(segments.total_steps, 1.0).schedule;
            method.initial_warmup_steps = Some(schedule.initial_warmup_steps);
            method.final_warmup_steps = Some(schedule.final_warmup_steps);
        }
        recipe
    }

    /// Checks every setting that can be checked without data.
    ///
    /// # Errors
    /// Names the first impossible one.
    pub fn validate(&self) -> Result<()> {
        let training = &self.training;
        for (name, value) in [
            ("epochs", training.epochs),
            ("batch_size", training.batch_size),
            ("gradient_accumulation", training.gradient_accumulation),
            ("bucket_batches", training.bucket_batches),
            ("eval_batch_size", training.eval_batch_size),
            ("eval_steps", training.eval_steps.unwrap_or(1)),
            ("save_steps", training.save_steps.unwrap_or(1)),
            ("early_stopping_patience", training.early_stopping_patience.unwrap_or(1)),
        ] {
            if value == 0 {
                return Err(Error::option(name, "must be at least 1"));
            }
        }
        if !(training.learning_rate.is_finite() && training.learning_rate > 0.0) {
            let message = format!("{} is not a positive number", training.learning_rate);
            return Err(Error::option("learning_rate", message));
        }
        if training.max_grad_norm.is_some_and(|norm| !(norm.is_finite() && norm > 0.0)) {
            return Err(Error::option("max_grad_norm", "must be a positive number"));
        }
        if !(training.weight_decay.is_finite() && training.weight_decay >= 0.0) {
            return Err(Error::option("weight_decay", "must be 0 or a positive number"));
        }
        let betas = [("adam_beta1", training.adam_beta1), ("adam_beta2", training.adam_beta2)];
        if let Some((name, beta)) = betas.into_iter().find(|(_, b)| !(0.0..1.0).contains(b)) {
            return Err(Error::option(name, format!("{beta} is not in 0 to 1 (1 excluded)")));
        }
        if training.adam_epsilon.is_nan() || training.adam_epsilon <= 0.0 {
            return Err(Error::option("adam_epsilon", "must be a positive number"));
        }
        self.task.validate()?;
        self.method.as_ref().map_or(Ok(()), MethodRecipe::validate)
    }
}

impl MethodRecipe {
    /// Checks every setting.
    ///
    /// # Errors
    /// Names the first impossible one.
    pub fn validate(&self) -> Result<()> {
        if !(self.ratio > 0.0 && self.ratio <= 1.0) {
            return Err(Error::option(
                "ratio",
                format!(
                    "{} is not a share of the weights; give a number above 0, up to 1",
                    self.ratio
                ),
            ));
        }
        if !(0.0..=1.0).contains(&self.low_rank_ratio) {
            let message = format!("{} is not within 0 to 1", self.low_rank_ratio);
            return Err(Error::option("low_rank_ratio", message));
        }
        if self.rank.is_none() && self.low_rank_ratio > self.ratio {
            return Err(Error::option(
                "low_rank_ratio",
                format!("{} is above the ratio {} it is part of", self.low_rank_ratio, self.ratio),
            ));
        }
        if self.layers.is_empty() {
            return Err(Error::option("layers", "no pattern given; `**` takes every layer"));
        }
        self.pruning(usize::MAX / 8, self.ratio).validate()
    }

    /// How ranks are chosen.
    pub fn rank(&self) -> Rank {
        self.rank.map_or(Rank::Budget(self.low_rank_ratio), Rank::Fixed)
    }

    /// Which layers are compressed.
    pub fn selection(&self) -> LayerSelection {
        LayerSelection::new(self.layers.clone())
    }

    /// Settings of the pruner for a training of `total_steps` updates that keeps
    /// `final_keep_ratio` of `S`.
    pub fn pruning(&self, total_steps: usize, final_keep_ratio: f64) -> PruningConfig {
        let default = Schedule::new(final_keep_ratio, total_steps);
        PruningConfig {
            importance: self.importance,
            beta1: self.beta1,
            beta2: self.beta2,
            reduction: self.reduction,
            structure: self.structure,
            regrowth: self.regrowth,
            min_kept: self.min_kept,
            max_kept: self.max_kept,
            ..PruningConfig::new(Schedule {
                initial_warmup_steps: self
                    .initial_warmup_steps
                    .unwrap_or(default.initial_warmup_steps),
                final_warmup_steps: self.final_warmup_steps.unwrap_or(default.final_warmup_steps),
                interval: self.interval,
                curve: self.curve,
                ..default
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn toml_round_trip_and_defaults() {
        let text = "model = 'm'\n[task]\nname = 'stsb'\ndata = 'glue'\n[method]\nratio = 0.1\n";
        let recipe = Recipe::parse(text).unwrap();
        recipe.validate().unwrap();
        let method = recipe.method.clone().unwrap();
        assert_eq!((method.ratio, method.low_rank_ratio, method.interval), (0.1, 0.05, 10));
        assert_eq!(Recipe::parse(&recipe.to_toml()).unwrap(), recipe);
    }

    #[test]
    fn methods_differ_in_what_sets_them_apart() {
        let with = |method: Method| {
            let mut recipe = MethodRecipe { ratio: 0.1, ..MethodRecipe::default() };
            method.apply(&mut recipe);
            recipe.validate().unwrap();
            recipe
        };
        assert_eq!(with(Method::Losparse), MethodRecipe { ratio: 0.1, ..MethodRecipe::default() });
        assert_eq!(with(Method::Itp).low_rank_ratio, 0.0);
        assert_eq!(with(Method::LowRank).low_rank_ratio, 0.1);
        assert_eq!(with(Method::Movement).importance, Importance::Movement);
        let once = with(Method::OneShot).pruning(800, 0.1);
        assert_eq!((once.schedule.keep_ratio(100), once.schedule.keep_ratio(101)), (1.0, 0.1));
        assert_eq!((once.importance, once.regrowth), (Importance::Magnitude, Regrowth::Frozen));
    }

    #[test]
    fn mistakes_are_named() {
        let unknown = Recipe::parse("[training]\nlearning_rat = 1\n").unwrap_err();
        assert!(unknown.contains("learning_rat"), "{unknown}");
        for (text, name) in [
            ("[method]\nratio = 1.7", "ratio"),
            ("[method]\nratio = 0.1\nlow_rank_ratio = 0.2", "low_rank_ratio"),
            ("[method]\nlayers = []", "layers"),
            ("[method]\ninterval = 0", "interval"),
            ("[training]\nepochs = 0", "epochs"),
            ("[training]\nlearning_rate = -1.0", "learning_rate"),
            ("[task]\nmax_length = 1", "max_length"),
        ] {
            let error = Recipe::parse(text).unwrap().validate().unwrap_err().to_string();
            assert!(error.contains(&format!("option {name}")), "{text}: {error}");
        }
    }
}
