//! Options of the training, those of a recipe's `[training]`.

use std::path::PathBuf;

use losparse::train::{Keep, LrDecay, Recipe, TrainingRecipe};

use super::values::{default_word, override_settings, shown, word};

/// Options of the training.
#[derive(clap::Args)]
#[command(next_help_heading = "Training")]
pub struct TrainingArgs {
    /// Also learn from the answers of this model, trained for the task; `none`: from the labels alone
    /// [default: when compressing, the dense model, fine-tuned first if it has no head for the task]
    #[arg(long, value_name = "FOLDER|none")]
    teacher: Option<PathBuf>,
    /// Passes over the training data [default: enough for 100 updates, 3 to 40]
    #[arg(long, value_name = "N")]
    epochs: Option<usize>,
    #[arg(long, value_name = "N",
        help = shown("Examples in a batch", TrainingRecipe::default().batch_size))]
    batch_size: Option<usize>,
    #[arg(long, value_name = "N", help = shown(
        "Batches averaged into one update", TrainingRecipe::default().gradient_accumulation
    ))]
    gradient_accumulation: Option<usize>,
    /// Peak learning rate [default: 5e-5; when compressing 2e-4, or 1e-4 at width 768, and half of that for a
    /// model that is its own teacher]
    #[arg(long, visible_alias = "lr", value_name = "RATE")]
    learning_rate: Option<f64>,
    #[arg(long, value_name = "linear|cosine|constant", value_parser = word::<LrDecay>,
        help = shown("How the learning rate falls after its peak", default_word::<LrDecay>()))]
    lr_decay: Option<LrDecay>,
    /// Updates over which the learning rate rises from 0 [default: 1/10 of all]
    #[arg(long, value_name = "N")]
    lr_warmup_steps: Option<usize>,
    #[arg(long, value_name = "DECAY",
        help = shown("AdamW's weight decay", TrainingRecipe::default().weight_decay))]
    weight_decay: Option<f32>,
    #[arg(long, value_name = "BETA",
        help = shown("AdamW's first beta", TrainingRecipe::default().adam_beta1))]
    adam_beta1: Option<f32>,
    #[arg(long, value_name = "BETA",
        help = shown("AdamW's second beta", TrainingRecipe::default().adam_beta2))]
    adam_beta2: Option<f32>,
    #[arg(long, value_name = "EPSILON", help = shown(
        "AdamW's epsilon", format!("{:e}", TrainingRecipe::default().adam_epsilon)
    ))]
    adam_epsilon: Option<f32>,
    /// Scale gradients down to this norm if theirs is larger [default: never]
    #[arg(long, value_name = "NORM")]
    max_grad_norm: Option<f64>,
    #[arg(long, value_name = "N", help = shown(
        "Sort the examples of N batches by length together, to pad less; 1: fully random batches",
        TrainingRecipe::default().bucket_batches
    ))]
    bucket_batches: Option<usize>,
    #[arg(long, value_name = "N", help = shown(
        "Seed of batch order, dropout and new heads", TrainingRecipe::default().seed
    ))]
    seed: Option<u64>,
    /// Updates between evaluations [default: one epoch; without --epochs 1/6 of all]
    #[arg(long, value_name = "N")]
    eval_steps: Option<usize>,
    /// Updates between checkpoints, a divisor of --eval-steps [default: the same]
    #[arg(long, value_name = "N")]
    save_steps: Option<usize>,
    #[arg(long, value_name = "N", help = shown(
        "Examples in an evaluation batch", TrainingRecipe::default().eval_batch_size
    ))]
    eval_batch_size: Option<usize>,
    /// Stop after N evaluations at the final ratio without improvement [default: never]
    #[arg(long, value_name = "N")]
    early_stopping_patience: Option<usize>,
    #[arg(long, value_name = "best|last", value_parser = word::<Keep>,
        help = shown("Which evaluated model becomes the result; of equally good ones the last", default_word::<Keep>()))]
    keep: Option<Keep>,
}

impl TrainingArgs {
    /// Overrides the settings of `recipe` by the options that were given.
    pub fn apply(&self, recipe: &mut Recipe) {
        if let Some(teacher) = &self.teacher {
            let named = (teacher.as_os_str() != "none").then(|| teacher.clone());
            let settings = recipe.distillation.take().unwrap_or_default();
            recipe.distillation = Some(settings.with_teacher(named));
        }
        let training = &mut recipe.training;
        override_settings!(self => training;
            batch_size, gradient_accumulation, lr_decay, weight_decay, adam_beta1, adam_beta2,
            adam_epsilon, bucket_batches, seed, eval_batch_size, keep;
            optional epochs, learning_rate, lr_warmup_steps, max_grad_norm, eval_steps, save_steps,
            early_stopping_patience);
    }
}
