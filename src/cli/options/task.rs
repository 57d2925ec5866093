//! Options of a task: its data, and how questions are answered.

use std::path::PathBuf;

use losparse::tasks::TableFormat;
use losparse::tasks::squad::QaSettings;
use losparse::train::TaskRecipe;

use super::summaries::{RougeArgs, SummaryArgs};
use super::values::{override_settings, shown, trimmed, word};

/// Options of a task: evaluation data, how it is read, how answers and summaries are made.
#[derive(clap::Args)]
#[command(next_help_heading = "Data")]
pub struct TaskArgs {
    /// GLUE task (cola, sst2, mrpc, stsb, qqp, mnli, qnli, rte, wnli), squad, squad_v2,
    /// summarization, xsum, cnn_dailymail, g2p, or a name for your own task
    #[arg(long = "task", display_order = 1, value_name = "NAME")]
    pub name: Option<String>,
    /// Folder of the task's official files; for GLUE also the folder above it
    #[arg(long, display_order = 2, value_name = "FOLDER")]
    pub data: Option<PathBuf>,
    /// Your own evaluation data: .csv, .tsv or .jsonl; for squad .json
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
    /// Labels in order [default: those of your training data, sorted]; if the model's trained head has
    /// other names for its outputs, those names in order
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

/// Options of files with columns.
#[derive(clap::Args)]
pub struct TableArgs {
    /// Format of files with columns [default: from the file's extension]
    #[arg(long, display_order = 8, value_name = "csv|tsv|jsonl", value_parser = word::<TableFormat>)]
    pub format: Option<TableFormat>,
    /// Whether " quotes fields in csv or tsv files [default: true in csv, false in tsv]
    #[arg(long, display_order = 8, value_name = "true|false", num_args = 0..=1,
        require_equals = true, default_missing_value = "true")]
    pub quoting: Option<bool>,
}

impl TableArgs {
    /// Overrides the settings of `task` by the options that were given.
    pub fn apply(&self, task: &mut TaskRecipe) {
        override_settings!(self => task; ; optional format, quoting);
    }
}

/// Options of question answering.
#[derive(clap::Args)]
#[command(next_help_heading = "Questions (squad)")]
pub struct QuestionArgs {
    #[arg(long, value_name = "TOKENS",
        help = shown("Tokens that neighbouring windows of a long context share", QaSettings::default().doc_stride))]
    pub doc_stride: Option<usize>,
    #[arg(long, value_name = "TOKENS",
        help = shown("Longest answer to give", QaSettings::default().max_answer_length))]
    pub max_answer_length: Option<usize>,
    #[arg(long, value_name = "N",
        help = shown("Candidate answers to keep", QaSettings::default().n_best))]
    pub n_best: Option<usize>,
    /// Whether some questions have no answer [default: true for squad_v2]
    #[arg(long, value_name = "true|false", num_args = 0..=1, require_equals = true,
        default_missing_value = "true")]
    pub version_2_with_negative: Option<bool>,
    #[arg(long, value_name = "DIFFERENCE", allow_negative_numbers = true, help = shown(
        "Give no answer if its score exceeds the best answer's by more than this",
        QaSettings::default().null_score_diff_threshold
    ))]
    pub null_score_diff_threshold: Option<f64>,
}

impl QuestionArgs {
    /// The first option that was given, as the library names it.
    pub fn given(&self) -> Option<&'static str> {
        let mut task = TaskRecipe::default();
        self.apply(&mut task);
        task.of_questions()
    }

    /// Overrides the settings of `task` by the options that were given.
    pub fn apply(&self, task: &mut TaskRecipe) {
        override_settings!(self => task; ; optional doc_stride, max_answer_length, n_best,
            version_2_with_negative, null_score_diff_threshold);
    }
}

/// Options of the training data.
#[derive(clap::Args)]
#[command(next_help_heading = "Data")]
pub struct TrainDataArgs {
    /// Your own training data: .csv, .tsv or .jsonl; for squad .json. Without --dev, 1/10 of it is
    /// held out to evaluate on
    #[arg(long, display_order = 3, value_name = "FILE")]
    pub train: Option<PathBuf>,
    /// Train on the first N examples only; a file sorted by label must be shuffled before
    #[arg(long, display_order = 10, value_name = "N")]
    pub max_train_examples: Option<usize>,
}

impl TaskArgs {
    /// Overrides the settings of `task` by the options that were given.
    pub fn apply(&self, task: &mut TaskRecipe) {
        // A folder given here replaces the recipe's files, and files its folder.
        if self.data.is_some() {
            (task.train, task.dev) = (None, None);
            (task.text, task.pair, task.label, task.score) = (None, None, None, None);
        } else if self.dev.is_some() {
            task.data = None;
        }
        // A given name or length also replaces what the recipe derives from its own.
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
    /// Overrides the settings of `task` by the options that were given; `data` is the option
    /// `--data`.
    pub fn apply(&self, task: &mut TaskRecipe, data: Option<&PathBuf>) {
        if self.train.is_some() && data.is_none() {
            task.data = None;
        }
        override_settings!(self => task; ; optional train, max_train_examples);
    }
}
