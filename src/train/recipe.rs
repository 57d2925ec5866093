//! The recipe: every setting of a run, as TOML. What a run resolves it to is saved with its result.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::data::Segments;
use super::{JobKind, MethodRecipe, TaskRecipe};
use crate::checkpoint::StorageDtype;
use crate::pruning::share_of;
use crate::{Error, Result, files};

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
    /// Start from a new head even if the model has one for as many labels: one of another task.
    #[serde(skip_serializing_if = "is_false")]
    pub new_head: bool,
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

fn is_false(value: &bool) -> bool {
    !value
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
    /// Passes over the training data; by default as many as 100 updates take, between 3 and 40.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub epochs: Option<usize>,
    /// Examples in a batch.
    pub batch_size: usize,
    /// Batches whose gradients are averaged into one update.
    pub gradient_accumulation: usize,
    /// Largest learning rate; by default 5e-5 for fine-tuning and 2e-4 for a compression, less for a
    /// wide model: 1e-4 at a width of 768.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub learning_rate: Option<f64>,
    /// How the learning rate falls.
    pub lr_decay: LrDecay,
    /// Share of all updates over which the learning rate rises from 0; by default a tenth.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lr_warmup_share: Option<f64>,
    /// The same as a number of updates, in place of the share.
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
    /// Updates between evaluations; by default an epoch's worth, or a sixth of all where `epochs`
    /// follow from the data.
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
            epochs: None,
            batch_size: 32,
            gradient_accumulation: 1,
            learning_rate: None,
            lr_decay: LrDecay::default(),
            lr_warmup_share: None,
            lr_warmup_steps: None,
            weight_decay: 0.0,
            adam_beta1: 0.9,
            adam_beta2: 0.999,
            adam_epsilon: 1e-8,
            max_grad_norm: None,
            bucket_batches: 1,
            seed: 42,
            eval_steps: None,
            save_steps: None,
            eval_batch_size: 32,
            early_stopping_patience: None,
            keep: Keep::default(),
        }
    }
}

/// Most of whatever a training counts: products of two of them are no overflow.
const MOST: usize = 1 << 31;
/// Updates that a training has by default, where its epochs allow. Of little data more are no better:
/// neurons are told apart by gradients, of which little is left once the data is known by heart.
const UPDATES: usize = 100;
/// Fewest and most epochs by default.
const EPOCHS: [usize; 2] = [3, 40];
/// Evaluations by default of a training whose epochs follow from the data.
const EVALUATIONS: usize = 6;
/// Share of the updates over which the learning rate rises by default.
const LR_WARMUP_SHARE: f64 = 0.1;
/// Learning rate of fine-tuning by default.
const TUNING_RATE: f64 = 5e-5;
/// Learning rate of a compression by default, of models up to this width; of wider ones it falls as
/// their width rises, to the published rates of base models.
const COMPRESSION_RATE: (f64, usize) = (2e-4, 384);

impl TrainingRecipe {
    /// Passes over so many training examples.
    pub fn epochs(&self, examples: usize) -> usize {
        self.epochs.unwrap_or_else(|| {
            let batches = UPDATES * self.gradient_accumulation;
            let epochs = batches.div_ceil(examples.div_ceil(self.batch_size.max(1)).max(1));
            epochs.clamp(EPOCHS[0], EPOCHS[1])
        })
    }

    /// How a training on so many examples is cut into updates.
    ///
    /// # Errors
    /// As [`Segments::new`].
    pub(super) fn segments(&self, examples: usize) -> Result<Segments> {
        let epochs = self.epochs(examples);
        let (batch_size, accumulation) = (self.batch_size, self.gradient_accumulation);
        let evaluations = if self.epochs.is_some() { epochs } else { epochs.min(EVALUATIONS) };
        let segments = Segments::new(examples, batch_size, accumulation, epochs, None, None)?;
        let eval_steps = self.eval_steps.unwrap_or(segments.total_steps.div_ceil(evaluations));
        let cut = |eval_steps, save_steps| {
            Segments::new(examples, batch_size, accumulation, epochs, eval_steps, save_steps)
        };
        cut(Some(eval_steps), self.save_steps)
    }

    /// The learning rate of fine-tuning, or of the compression of a model of this width.
    pub(super) fn learning_rate(&self, compressed_width: Option<usize>) -> f64 {
        self.learning_rate.unwrap_or_else(|| {
            let (rate, most) = COMPRESSION_RATE;
            let scaled = |width: usize| rate * most as f64 / width.max(most) as f64;
            compressed_width.map_or(TUNING_RATE, scaled)
        })
    }

    /// Updates over which the learning rate rises.
    pub(super) fn lr_warmup_steps(&self, total_steps: usize) -> usize {
        let share = self.lr_warmup_share.unwrap_or(LR_WARMUP_SHARE);
        self.lr_warmup_steps.unwrap_or(share_of(share, total_steps))
    }

    /// The same with the settings written out that otherwise depend on others, and without those
    /// that another stands in place of. What follows from the data's size or the model stays
    /// unwritten.
    fn resolved(&self) -> Self {
        let share = self.lr_warmup_share.unwrap_or(LR_WARMUP_SHARE);
        Self { lr_warmup_share: self.lr_warmup_steps.is_none().then_some(share), ..self.clone() }
    }
}

impl Recipe {
    /// Reads a recipe file.
    ///
    /// # Errors
    /// If it cannot be read, is not TOML or has an unknown or mistyped setting.
    pub fn read(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let text = files::read_text(path)?;
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

    /// The recipe with the settings written out that otherwise depend on others. Numbers of updates
    /// that follow from the length of the training stay shares of it, so that the recipe means the
    /// same for another length.
    pub fn resolved(&self) -> Self {
        let method = self.method.as_ref().map(MethodRecipe::resolved);
        let (task, training) = (self.task.resolved(), self.training.resolved());
        Self { task, method, training, ..self.clone() }
    }

    /// The recipe with every number of updates written out: what a checkpoint is of.
    pub(crate) fn resolved_for(&self, segments: Segments) -> Self {
        let mut recipe = self.clone();
        let training = &mut recipe.training;
        training.epochs = Some(segments.epochs);
        training.eval_steps = Some(segments.eval_steps);
        training.save_steps = Some(segments.save_steps);
        training.lr_warmup_steps = Some(training.lr_warmup_steps(segments.total_steps));
        training.lr_warmup_share = None;
        if let Some(method) = &mut recipe.method {
            let schedule = method.pruning(segments.total_steps, 1.0).schedule;
            method.initial_warmup_steps = Some(schedule.initial_warmup_steps);
            method.final_warmup_steps = Some(schedule.final_warmup_steps);
            method.interval = Some(schedule.interval);
            (method.initial_warmup_share, method.final_warmup_share) = (None, None);
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
            ("epochs", training.epochs.unwrap_or(1)),
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
            if value > MOST {
                return Err(Error::option(name, format!("{value} is more than {MOST}")));
            }
        }
        if let Some(rate) = training.learning_rate
            && !(rate.is_finite() && rate > 0.0)
        {
            return Err(Error::option("learning_rate", format!("{rate} is not a positive number")));
        }
        if let Some(share) = training.lr_warmup_share
            && !(0.0..=1.0).contains(&share)
        {
            return Err(Error::option("lr_warmup_share", format!("{share} is not within 0 to 1")));
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
        if !(training.adam_epsilon.is_finite() && training.adam_epsilon > 0.0) {
            return Err(Error::option("adam_epsilon", "must be a positive number"));
        }
        self.check_paths()?;
        self.task.validate()?;
        if self.new_head && self.task.kind() == JobKind::Summarization {
            let message =
                "a model that writes texts has no head of its own: it shares its embeddings";
            return Err(Error::option("new_head", message));
        }
        self.method.as_ref().map_or(Ok(()), MethodRecipe::validate)
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
        assert_eq!((method.ratio, method.low_rank_ratio(), method.interval), (0.1, 0.05, None));
        assert_eq!(Recipe::parse(&recipe.to_toml()).unwrap(), recipe);
        let new_head = Recipe { new_head: true, ..recipe.resolved() };
        assert_eq!(Recipe::parse(&new_head.to_toml()).unwrap(), new_head);
    }

    #[test]
    fn what_depends_on_others_is_written_out() {
        let text = "[method]\nratio = 0.04\nimportance = 'snip-momentum'\n";
        let resolved = Recipe::parse(text).unwrap().resolved();
        let method = resolved.method.clone().unwrap();
        assert_eq!((method.low_rank_ratio, method.beta1), (Some(0.02), Some(0.9)));
        assert_eq!(resolved.resolved(), resolved);
    }

    #[test]
    fn epochs_and_rate_follow_from_data_and_model() {
        let training = TrainingRecipe::default();
        // 32 examples an update.
        let of = |examples| training.epochs(examples);
        assert_eq!([1, 100, 600, 2_490, 67_349].map(of), [40, 25, 6, 3, 3]);
        let four = TrainingRecipe { gradient_accumulation: 4, ..training.clone() };
        assert_eq!((four.epochs(2_490), four.segments(2_490).unwrap().total_steps), (6, 117));
        let given = TrainingRecipe { epochs: Some(1), ..training.clone() };
        assert_eq!((given.epochs(600), given.segments(600).unwrap().eval_steps), (1, 19));
        // Six evaluations, however many epochs.
        let segments = training.segments(600).unwrap();
        assert_eq!((segments.total_steps, segments.eval_steps), (114, 19));
        let rates = [16, 384, 768, 1536].map(|width| training.learning_rate(Some(width)));
        assert_eq!((rates, training.learning_rate(None)), ([2e-4, 2e-4, 1e-4, 5e-5], 5e-5));
        let given = TrainingRecipe { learning_rate: Some(3e-3), ..training };
        assert_eq!(given.learning_rate(Some(768)), 3e-3);
    }

    #[test]
    fn shares_stay_shares_and_numbers_numbers() {
        let text = "[method]\nfinal_warmup_steps = 7\n[training]\nlr_warmup_steps = 3\n";
        let resolved = Recipe::parse(text).unwrap().resolved();
        let method = resolved.method.clone().unwrap();
        assert_eq!((method.final_warmup_steps, method.final_warmup_share), (Some(7), None));
        assert_eq!((method.initial_warmup_steps, method.initial_warmup_share), (None, Some(0.125)));
        let training = &resolved.training;
        assert_eq!((training.lr_warmup_steps, training.lr_warmup_share), (Some(3), None));
        assert_eq!((training.epochs, training.eval_steps), (None, None));
        assert_eq!(Recipe::parse(&resolved.to_toml()).unwrap(), resolved);
        for steps in [24, 240] {
            let schedule = method.pruning(steps, 0.1).schedule;
            assert_eq!(schedule.initial_warmup_steps, steps / 8);
            assert_eq!(schedule.final_warmup_steps, 7);
        }
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
            ("[training]\nepochs = 9223372036854775807", "epochs"),
            ("[training]\nbatch_size = 9223372036854775807", "batch_size"),
            ("[training]\nadam_epsilon = inf", "adam_epsilon"),
            ("[training]\nlearning_rate = -1.0", "learning_rate"),
            ("[training]\nlr_warmup_share = 1.5", "lr_warmup_share"),
            ("[method]\nfinal_warmup_share = 1.0", "final_warmup_share"),
            ("[task]\nmax_length = 1", "max_length"),
            ("new_head = true\n[task]\nname = 'xsum'", "new_head"),
        ] {
            let error = Recipe::parse(text).unwrap().validate().unwrap_err().to_string();
            assert!(error.contains(&format!("option {name}")), "{text}: {error}");
        }
    }
}
