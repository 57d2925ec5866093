//! Options that override a recipe's settings.

use std::fmt::Display;
use std::path::PathBuf;

use losparse::pruning::{Curve, Importance, Reduction, Regrowth, Structure};
use losparse::tasks::TableFormat;
use losparse::tasks::squad::QaSettings;
use losparse::train::{Keep, LrDecay, Method, MethodRecipe, Recipe, TaskRecipe, TrainingRecipe};
use serde::{Serialize, de::DeserializeOwned};

use super::run::RunArgs;
use super::summary_args::{RougeArgs, SummaryArgs, TrainSummaryArgs};

/// `text [default: value]`; the value comes from the recipe's own defaults.
fn shown(text: &str, default: impl Display) -> String {
    format!("{text} [default: {default}]")
}

/// A setting's default as recipes write it.
fn default_word<T: Default + Serialize>() -> String {
    let value = serde_json::to_value(T::default()).unwrap_or_default();
    value.as_str().unwrap_or_default().to_string()
}

/// Parses one of a setting's words.
pub fn word<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    let text = text.to_ascii_lowercase().replace('-', "_");
    serde_json::from_value(text.into()).map_err(|error| error.to_string())
}

/// Parses a share: 0.2, or the same as 20%.
pub fn share(text: &str) -> Result<f64, String> {
    let (number, of) = match text.strip_suffix('%') {
        Some(percent) => (percent, 100.0),
        None => (text, 1.0),
    };
    let message = "a share is a number such as 0.2, or the same as 20%";
    Ok(number.trim().parse::<f64>().map_err(|_| message.to_string())? / of)
}

/// A name without the blanks around it.
fn trimmed(text: &str) -> Result<String, String> {
    Ok(text.trim().to_string())
}

/// Sets each given option.
macro_rules! override_settings {
    ($args:ident => $target:expr; $($field:ident),*; optional $($maybe:ident),*) => {{
        let target = $target;
        $(if let Some(value) = &$args.$field { target.$field = value.clone(); })*
        $(if let Some(value) = &$args.$maybe { target.$maybe = Some(value.clone()); })*
    }};
}
pub(super) use override_settings;

/// The name of the first option that was given.
macro_rules! first_given {
    ($args:ident; $($field:ident),*) => {
        None$(.or($args.$field.as_ref().map(|_| stringify!($field))))*
    };
}
pub(super) use first_given;

/// Most examples in a batch, and most of whatever else is counted in one run.
pub const MOST: usize = 1 << 16;

/// An error unless 1 to [`MOST`] of something are asked for.
pub fn check_count(option: &str, count: usize) -> losparse::Result<()> {
    match count {
        1..=MOST => Ok(()),
        _ => Err(losparse::Error::option(option, format!("{count} is not within 1 to {MOST}"))),
    }
}

/// What is evaluated on, and how it is read.
#[derive(clap::Args)]
#[command(next_help_heading = "Data")]
pub struct TaskArgs {
    /// GLUE task (cola, sst2, mrpc, stsb, qqp, mnli, qnli, rte, wnli), squad, squad_v2,
    /// summarization, xsum, cnn_dailymail, g2p, or what to call your own
    #[arg(long = "task", display_order = 1, value_name = "NAME")]
    pub name: Option<String>,
    /// Folder of a GLUE task's official files, or the one above it; folder of SQuAD's files, or of
    /// documents and summaries
    #[arg(long, display_order = 2, value_name = "FOLDER")]
    pub data: Option<PathBuf>,
    /// Your own evaluation data: .csv, .tsv or .jsonl; for squad .json. Without it, training holds
    /// out a tenth of --train
    #[arg(long, display_order = 4, value_name = "FILE")]
    pub dev: Option<PathBuf>,
    /// Column of the text
    #[arg(long, display_order = 5, value_name = "COLUMN")]
    pub text: Option<String>,
    /// Column of the second text, for tasks about pairs
    #[arg(long, display_order = 6, value_name = "COLUMN")]
    pub pair: Option<String>,
    /// Column of the label, for classification
    #[arg(long, display_order = 7, value_name = "COLUMN", conflicts_with = "score")]
    pub label: Option<String>,
    /// Labels in order, in place of the sorted ones of your training data; if the model's trained head
    /// has other names: what its outputs stand for
    #[arg(long, display_order = 7, value_name = "NAME,…", value_delimiter = ',', value_parser = trimmed)]
    pub labels: Option<Vec<String>>,
    /// Column of the score, for regression
    #[arg(long, display_order = 8, value_name = "COLUMN")]
    pub score: Option<String>,
    #[command(flatten)]
    pub table: TableArgs,
    #[arg(
        long,
        display_order = 9,
        value_name = "TOKENS",
        help = shown("Longest input; longer ones are cut", "128, squad 384, summarization 1024")
    )]
    pub max_length: Option<usize>,
    /// Evaluate on the first N examples only
    #[arg(long, display_order = 11, value_name = "N")]
    pub max_eval_examples: Option<usize>,
    #[command(flatten)]
    pub questions: QuestionArgs,
    #[command(flatten)]
    pub summaries: SummaryArgs,
    #[command(flatten)]
    pub rouge: RougeArgs,
}

/// How files with columns are read.
#[derive(clap::Args)]
pub struct TableArgs {
    /// Format of files with columns [default: as their names end]
    #[arg(long, display_order = 8, value_name = "csv|tsv|jsonl", value_parser = word::<TableFormat>)]
    pub format: Option<TableFormat>,
    /// Whether " quotes in them [default: in csv, not in tsv]
    #[arg(long, display_order = 8, value_name = "true|false", num_args = 0..=1,
        require_equals = true, default_missing_value = "true")]
    pub quoting: Option<bool>,
}

impl TableArgs {
    /// Overrides the settings that were given.
    pub fn apply(&self, task: &mut TaskRecipe) {
        override_settings!(self => task; ; optional format, quoting);
    }
}

/// How questions are answered.
#[derive(clap::Args)]
#[command(next_help_heading = "Questions (squad)")]
pub struct QuestionArgs {
    #[arg(long, value_name = "TOKENS",
        help = shown("Tokens that two windows of a long context share", QaSettings::default().doc_stride))]
    pub doc_stride: Option<usize>,
    #[arg(long, value_name = "TOKENS",
        help = shown("Longest answer", QaSettings::default().max_answer_length))]
    pub max_answer_length: Option<usize>,
    #[arg(long, value_name = "N",
        help = shown("Candidates for an answer", QaSettings::default().n_best))]
    pub n_best: Option<usize>,
    /// Whether some questions have no answer [default: as the task's name says]
    #[arg(long, value_name = "true|false", num_args = 0..=1, require_equals = true,
        default_missing_value = "true")]
    pub version_2_with_negative: Option<bool>,
    #[arg(long, value_name = "DIFFERENCE", allow_negative_numbers = true, help = shown(
        "Give no answer where its score exceeds the best one's by more",
        QaSettings::default().null_score_diff_threshold
    ))]
    pub null_score_diff_threshold: Option<f64>,
}

impl QuestionArgs {
    /// The first option that was given, as errors call it.
    pub fn given(&self) -> Option<&'static str> {
        let mut task = TaskRecipe::default();
        self.apply(&mut task);
        task.of_questions()
    }

    /// Overrides the settings that were given.
    pub fn apply(&self, task: &mut TaskRecipe) {
        override_settings!(self => task; ; optional doc_stride, max_answer_length, n_best,
            version_2_with_negative, null_score_diff_threshold);
    }
}

/// What is trained on.
#[derive(clap::Args)]
#[command(next_help_heading = "Data")]
pub struct TrainDataArgs {
    /// Your own training data: .csv, .tsv or .jsonl; for squad .json
    #[arg(long, display_order = 3, value_name = "FILE")]
    pub train: Option<PathBuf>,
    /// Train on the first N examples only
    #[arg(long, display_order = 10, value_name = "N")]
    pub max_train_examples: Option<usize>,
}

/// How the model is compressed.
#[derive(clap::Args)]
#[command(next_help_heading = "Compression")]
pub struct MethodArgs {
    #[arg(long, value_name = "losparse|itp|low-rank|movement|one-shot", value_parser = word::<Method>,
        help = "Settings of another method, for comparisons in the same training")]
    method: Option<Method>,
    #[arg(long, value_name = "SHARE", value_parser = share, help = shown(
        "Share of the layers' weights that is left, low-rank part and kept neurons together",
        MethodRecipe::default().ratio
    ))]
    ratio: Option<f64>,
    #[arg(long, value_name = "SHARE", value_parser = share, help = shown(
        "Share of the weights in the low-rank part, within the ratio; 0: no low-rank part (ITP)",
        "0.05, or half of a ratio below 0.1"
    ))]
    low_rank_ratio: Option<f64>,
    /// Rank of the low-rank part outright, in place of --low-rank-ratio
    #[arg(long, value_name = "N", conflicts_with = "low_rank_ratio")]
    rank: Option<usize>,
    #[arg(long, value_name = "PATTERN", value_delimiter = ',', help = shown(
        "Layers to compress, by the end of their names; * and ** match, ! excludes; repeatable \
         (`losparse inspect --layers` shows matches)",
        MethodRecipe::default().layers.join(",")
    ))]
    layers: Option<Vec<String>>,
    #[arg(long, value_name = "CRITERION", value_parser = word::<Importance>,
        help = shown("What a weight is worth: sensitivity, magnitude, movement, snip-momentum or \
            random", default_word::<Importance>()))]
    importance: Option<Importance>,
    #[arg(long, value_name = "BETA", help = shown(
        "Smoothing of the importance", "0.85, snip-momentum 0.9"
    ))]
    beta1: Option<f64>,
    #[arg(long, value_name = "BETA", help = shown(
        "Smoothing of the importance's uncertainty; 1: not used", MethodRecipe::default().beta2
    ))]
    beta2: Option<f64>,
    #[arg(long, value_name = "mean|sum|max|min", value_parser = word::<Reduction>,
        help = shown("How a neuron's weights make one score", default_word::<Reduction>()))]
    reduction: Option<Reduction>,
    #[arg(long, value_name = "rows|columns|unstructured", value_parser = word::<Structure>,
        help = shown("What is pruned as one: neurons, input columns, or single weights", default_word::<Structure>()))]
    structure: Option<Structure>,
    #[arg(long, value_name = "allowed|frozen", value_parser = word::<Regrowth>,
        help = shown("Whether pruned neurons may come back while training", default_word::<Regrowth>()))]
    regrowth: Option<Regrowth>,
    /// Updates before pruning begins [default: an eighth of all]
    #[arg(long, value_name = "N")]
    initial_warmup_steps: Option<usize>,
    /// Updates at the final ratio [default: three eighths of all]
    #[arg(long, value_name = "N")]
    final_warmup_steps: Option<usize>,
    /// Updates between prunings [default: 10, fewer in a short training]
    #[arg(long, value_name = "N")]
    interval: Option<usize>,
    #[arg(long, value_name = "cubic|linear|cosine|one-shot", value_parser = word::<Curve>,
        help = shown("How the kept share falls", default_word::<Curve>()))]
    curve: Option<Curve>,
    #[arg(long, value_name = "SHARE", value_parser = share, help = shown(
        "Keep this share of every layer's neurons, whatever they score",
        MethodRecipe::default().min_kept
    ))]
    min_kept: Option<f64>,
    #[arg(long, value_name = "SHARE", value_parser = share, help = shown(
        "Keep no more than this share of any layer's neurons", MethodRecipe::default().max_kept
    ))]
    max_kept: Option<f64>,
}

/// How the model is trained.
#[derive(clap::Args)]
#[command(next_help_heading = "Training")]
pub struct TrainingArgs {
    /// Passes over the training data [default: as many as 100 updates take, 3 to 40]
    #[arg(long, value_name = "N")]
    epochs: Option<usize>,
    #[arg(long, value_name = "N",
        help = shown("Examples in a batch", TrainingRecipe::default().batch_size))]
    batch_size: Option<usize>,
    #[arg(long, value_name = "N", help = shown(
        "Batches averaged into one update", TrainingRecipe::default().gradient_accumulation
    ))]
    gradient_accumulation: Option<usize>,
    /// Largest learning rate [default: 5e-5; to compress 2e-4, 1e-4 at a width
    /// of 768]
    #[arg(long, visible_alias = "lr", value_name = "RATE")]
    learning_rate: Option<f64>,
    #[arg(long, value_name = "linear|cosine|constant", value_parser = word::<LrDecay>,
        help = shown("How the learning rate falls", default_word::<LrDecay>()))]
    lr_decay: Option<LrDecay>,
    /// Updates over which the learning rate rises from 0 [default: a tenth of all]
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
    /// Scale gradients of a larger norm down to it [default: never]
    #[arg(long, value_name = "NORM")]
    max_grad_norm: Option<f64>,
    #[arg(long, value_name = "N", help = shown(
        "So many batches' examples are sorted by length together, to pad little; 1: wholly random",
        TrainingRecipe::default().bucket_batches
    ))]
    bucket_batches: Option<usize>,
    #[arg(long, value_name = "N", help = shown(
        "Seed of the batches' order, dropout and new heads", TrainingRecipe::default().seed
    ))]
    seed: Option<u64>,
    /// Updates between evaluations [default: an epoch's; a sixth of all without --epochs]
    #[arg(long, value_name = "N")]
    eval_steps: Option<usize>,
    /// Updates between checkpoints, a divisor of --eval-steps [default: the same]
    #[arg(long, value_name = "N")]
    save_steps: Option<usize>,
    #[arg(long, value_name = "N", help = shown(
        "Examples in a batch of evaluation", TrainingRecipe::default().eval_batch_size
    ))]
    eval_batch_size: Option<usize>,
    /// Stop after N evaluations (at the final ratio) without a better one [default: never]
    #[arg(long, value_name = "N")]
    early_stopping_patience: Option<usize>,
    #[arg(long, value_name = "best|last", value_parser = word::<Keep>,
        help = shown("Which evaluated model is the result", default_word::<Keep>()))]
    keep: Option<Keep>,
}

impl TaskArgs {
    /// Overrides the settings that were given.
    pub fn apply(&self, task: &mut TaskRecipe) {
        // Data of one kind replaces a recipe's data of the other.
        if self.data.is_some() {
            (task.train, task.dev) = (None, None);
            (task.text, task.pair, task.label, task.score) = (None, None, None, None);
        } else if self.dev.is_some() {
            task.data = None;
        }
        // So do what a task's name means and its longest input.
        if let Some(name) = &self.name
            && let Some(version_2) = TaskRecipe::has_unanswerable(name)
        {
            task.version_2_with_negative = Some(version_2);
        }
        if let (Some(_), Some(settings)) = (self.max_length, &mut task.summarization) {
            settings.max_source_length = None;
        }
        if self.label.is_some() || self.score.is_some() {
            (task.label, task.score) = (None, None);
        }
        if self.score.is_some() {
            task.labels = None;
        }
        self.questions.apply(task);
        self.summaries.apply(task);
        self.rouge.apply(task);
        self.table.apply(task);
        override_settings!(self => task; name;
            optional max_length, data, dev, text, pair, label, labels, score, max_eval_examples);
    }
}

impl TrainDataArgs {
    /// Overrides the settings that were given; `data` is the folder given beside them.
    pub fn apply(&self, task: &mut TaskRecipe, data: Option<&PathBuf>) {
        if self.train.is_some() && data.is_none() {
            task.data = None;
        }
        override_settings!(self => task; ; optional train, max_train_examples);
    }
}

impl MethodArgs {
    /// Overrides the settings that were given.
    ///
    /// # Errors
    /// If LoSparse, asked for by name or the recipe's, is left without one of its parts.
    pub fn apply(&self, method: &mut MethodRecipe) -> losparse::Result<()> {
        let before = Method::of(method);
        if let Some(ratio) = self.ratio {
            method.ratio = ratio;
        }
        if let Some(named) = self.method {
            named.apply(method);
        }
        if self.low_rank_ratio.is_some() {
            method.rank = None;
        }
        override_settings!(self => &mut *method;
            ratio, layers, importance, beta2, reduction, structure, regrowth, curve, min_kept,
            max_kept;
            optional low_rank_ratio, rank, beta1, initial_warmup_steps, final_warmup_steps, interval);
        // Another ratio must not turn a recipe into another method unnoticed.
        let same = self.low_rank_ratio.is_none() && self.rank.is_none();
        match self.method {
            Some(named) => named.check(method),
            None if same && self.ratio.is_some_and(|ratio| ratio > 0.0) => before.check(method),
            None => Ok(()),
        }
    }
}

impl TrainingArgs {
    /// Overrides the settings that were given.
    pub fn apply(&self, training: &mut TrainingRecipe) {
        override_settings!(self => training;
            batch_size, gradient_accumulation, lr_decay, weight_decay, adam_beta1, adam_beta2,
            adam_epsilon, bucket_batches, seed, eval_batch_size, keep;
            optional epochs, learning_rate, lr_warmup_steps, max_grad_norm, eval_steps, save_steps,
            early_stopping_patience);
    }
}

/// What is trained, on what, and how: what compressing and fine-tuning have in common.
#[derive(clap::Args)]
pub struct TrainArgs {
    #[command(flatten)]
    pub run: RunArgs,
    #[command(flatten)]
    task: TaskArgs,
    #[command(flatten)]
    train: TrainDataArgs,
    #[command(flatten)]
    training: TrainingArgs,
    #[command(flatten)]
    summaries: TrainSummaryArgs,
}

impl TrainArgs {
    /// The recipe file, that of the run that is resumed, or the defaults, with the settings that
    /// were given.
    pub fn recipe(&self) -> losparse::Result<Recipe> {
        let mut recipe = match (&self.run.recipe, self.run.begun()?) {
            (None, Some(begun)) => begun,
            (file, _) => read_recipe(file.as_ref())?,
        };
        self.task.apply(&mut recipe.task);
        self.train.apply(&mut recipe.task, self.task.data.as_ref());
        self.training.apply(&mut recipe.training);
        self.summaries.apply(&mut recipe.task);
        Ok(recipe)
    }
}

/// A recipe file, or the defaults.
pub fn read_recipe(path: Option<&PathBuf>) -> losparse::Result<Recipe> {
    path.map_or_else(|| Ok(Recipe::default()), Recipe::read)
}
