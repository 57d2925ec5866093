//! A recipe's `[training]`: batches, learning rate, AdamW, evaluations and checkpoints.

use serde::{Deserialize, Serialize};

use crate::pruning::share_of;
use crate::train::Segments;
use crate::{Error, Result};

/// Which evaluated model is the result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Keep {
    /// The best at the final ratio, by the task's primary metric; the last of equals.
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
    /// Passes over the training data; by default enough for 100 updates, between 3 and 40.
    pub epochs: Option<usize>,
    /// Examples in a batch.
    pub batch_size: usize,
    /// Batches whose gradients are averaged into one update.
    pub gradient_accumulation: usize,
    /// Largest learning rate; by default 5e-5 for fine-tuning and 2e-4 for compression, less for wide
    /// models: 1e-4 at a width of 768. Half of that for a model that is its own teacher, so fine-tuned.
    pub learning_rate: Option<f64>,
    /// How the learning rate falls.
    pub lr_decay: LrDecay,
    /// Share of all updates over which the learning rate rises from 0; by default a tenth.
    pub lr_warmup_share: Option<f64>,
    /// Number of these updates, in place of the share.
    pub lr_warmup_steps: Option<usize>,
    /// AdamW's weight decay.
    pub weight_decay: f32,
    /// AdamW's β₁.
    pub adam_beta1: f32,
    /// AdamW's β₂.
    pub adam_beta2: f32,
    /// AdamW's ε.
    pub adam_epsilon: f32,
    /// Gradients of a larger norm are scaled down to it; never if absent.
    pub max_grad_norm: Option<f64>,
    /// Number of batches whose examples are sorted by length together, to pad less; 1 leaves batches
    /// wholly random.
    pub bucket_batches: usize,
    /// Seed of the batches' order, dropout and new heads.
    pub seed: u64,
    /// Updates between evaluations; by default an epoch, or a sixth of the training if `epochs` is not
    /// set.
    pub eval_steps: Option<usize>,
    /// Updates between checkpoints, a divisor of `eval_steps`; by default equal to it.
    pub save_steps: Option<usize>,
    /// Examples in a batch of evaluation.
    pub eval_batch_size: usize,
    /// Number of evaluations at the final ratio without a better one after which training stops.
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

/// Largest count in a training; the product of two does not overflow.
const MOST: usize = 1 << 31;
/// Default number of updates, if the bounds on epochs allow. More are no better on little data:
/// importance comes from gradients, which vanish once the model has memorised the data.
const UPDATES: usize = 100;
/// Fewest and most epochs by default.
const EPOCHS: [usize; 2] = [3, 40];
/// Default number of evaluations if `epochs` is not set.
const EVALUATIONS: usize = 6;
/// Default of `lr_warmup_share`.
const LR_WARMUP_SHARE: f64 = 0.1;
/// Default learning rate of fine-tuning.
const TUNING_RATE: f64 = 5e-5;
/// Default learning rate of compression, up to this width. Beyond, it falls in proportion to the
/// width, to the published rates of base models.
const COMPRESSION_RATE: (f64, usize) = (2e-4, 384);
/// Share of it for a model that begins fine-tuned.
const ONCE_TUNED: f64 = 0.5;

/// A model to compress, as its learning rate depends on it.
#[derive(Debug, Clone, Copy)]
pub(in crate::train) struct Compressed {
    /// Width of its widest layer.
    pub width: usize,
    /// Whether it is fine-tuned already.
    pub tuned: bool,
}

impl TrainingRecipe {
    /// Number of passes over so many training examples.
    pub fn epochs(&self, examples: usize) -> usize {
        self.epochs.unwrap_or_else(|| {
            let batches = UPDATES * self.gradient_accumulation;
            let epochs = batches.div_ceil(examples.div_ceil(self.batch_size.max(1)).max(1));
            epochs.clamp(EPOCHS[0], EPOCHS[1])
        })
    }

    /// Cuts a training on so many examples into updates.
    ///
    /// # Errors
    /// As [`Segments::new`].
    pub(in crate::train) fn segments(&self, examples: usize) -> Result<Segments> {
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

    /// The learning rate: that which is set, else the default for compressing such a model, or for
    /// fine-tuning if none is given.
    pub(in crate::train) fn learning_rate(&self, compressed: Option<Compressed>) -> f64 {
        let by_default = |Compressed { width, tuned }| {
            let (rate, most) = COMPRESSION_RATE;
            let share = if tuned { ONCE_TUNED } else { 1.0 };
            share * rate * most as f64 / width.max(most) as f64
        };
        self.learning_rate.unwrap_or(compressed.map_or(TUNING_RATE, by_default))
    }

    /// Updates over which the learning rate rises.
    pub(in crate::train) fn lr_warmup_steps(&self, total_steps: usize) -> usize {
        let share = self.lr_warmup_share.unwrap_or(LR_WARMUP_SHARE);
        self.lr_warmup_steps.unwrap_or(share_of(share, total_steps))
    }

    /// Writes out the defaults that depend on other settings, and drops settings that another
    /// replaces. What depends on the data or the model stays open.
    pub(super) fn resolved(&self) -> Self {
        let share = self.lr_warmup_share.unwrap_or(LR_WARMUP_SHARE);
        Self { lr_warmup_share: self.lr_warmup_steps.is_none().then_some(share), ..self.clone() }
    }

    /// Writes out every number of updates.
    pub(super) fn resolved_for(&self, segments: Segments) -> Self {
        Self {
            epochs: Some(segments.epochs),
            eval_steps: Some(segments.eval_steps),
            save_steps: Some(segments.save_steps),
            lr_warmup_steps: Some(self.lr_warmup_steps(segments.total_steps)),
            lr_warmup_share: None,
            ..self.clone()
        }
    }

    /// # Errors
    /// Names the first impossible setting.
    pub(super) fn validate(&self) -> Result<()> {
        for (name, value) in [
            ("epochs", self.epochs.unwrap_or(1)),
            ("batch_size", self.batch_size),
            ("gradient_accumulation", self.gradient_accumulation),
            ("bucket_batches", self.bucket_batches),
            ("eval_batch_size", self.eval_batch_size),
            ("eval_steps", self.eval_steps.unwrap_or(1)),
            ("save_steps", self.save_steps.unwrap_or(1)),
            ("early_stopping_patience", self.early_stopping_patience.unwrap_or(1)),
        ] {
            if value == 0 {
                return Err(Error::option(name, "must be at least 1"));
            }
            if value > MOST {
                return Err(Error::option(name, format!("{value} is more than {MOST}")));
            }
        }
        if let Some(rate) = self.learning_rate
            && !(rate.is_finite() && rate > 0.0)
        {
            return Err(Error::option("learning_rate", format!("{rate} is not a positive number")));
        }
        if let Some(share) = self.lr_warmup_share
            && !(0.0..=1.0).contains(&share)
        {
            return Err(Error::option("lr_warmup_share", format!("{share} is not within 0 to 1")));
        }
        if self.max_grad_norm.is_some_and(|norm| !(norm.is_finite() && norm > 0.0)) {
            return Err(Error::option("max_grad_norm", "must be a positive number"));
        }
        if !(self.weight_decay.is_finite() && self.weight_decay >= 0.0) {
            return Err(Error::option("weight_decay", "must be 0 or a positive number"));
        }
        let betas = [("adam_beta1", self.adam_beta1), ("adam_beta2", self.adam_beta2)];
        if let Some((name, beta)) = betas.into_iter().find(|(_, b)| !(0.0..1.0).contains(b)) {
            return Err(Error::option(name, format!("{beta} is not in 0 to 1 (1 excluded)")));
        }
        if !(self.adam_epsilon.is_finite() && self.adam_epsilon > 0.0) {
            return Err(Error::option("adam_epsilon", "must be a positive number"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let of = |width, tuned| training.learning_rate(Some(Compressed { width, tuned }));
        assert_eq!([16, 384, 768, 1536].map(|width| of(width, false)), [2e-4, 2e-4, 1e-4, 5e-5]);
        assert_eq!((of(768, true), training.learning_rate(None)), (5e-5, 5e-5));
        let given = TrainingRecipe { learning_rate: Some(3e-3), ..training };
        let tuned = Compressed { width: 768, tuned: true };
        assert_eq!(given.learning_rate(Some(tuned)), 3e-3);
    }
}
