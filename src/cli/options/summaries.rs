//! Options of summarization, those of a recipe's `[task.summarization]`.

use losparse::generation::EarlyStopping;
use losparse::tasks::summarization::{SummarizationPreset, TextMetrics};
use losparse::train::{TaskRecipe, TextGenerationRecipe};

use super::values::{first_given, override_settings, share, word};

/// Options of generating summaries.
#[derive(clap::Args)]
#[command(next_help_heading = "Summaries (summarization)")]
pub struct SummaryArgs {
    /// Column of the text to summarize [default: document]
    #[arg(long, value_name = "COLUMN")]
    pub document: Option<String>,
    /// Published settings to use where no option is given [default: the model's own]
    #[arg(long, value_name = "bart|xsum|cnn_dailymail|losparse",
        value_parser = word::<SummarizationPreset>)]
    preset: Option<SummarizationPreset>,
    /// Beams of the search; 1: greedy search
    #[arg(long, value_name = "N")]
    num_beams: Option<usize>,
    /// Larger values favour longer summaries
    #[arg(long, value_name = "EXPONENT", allow_negative_numbers = true)]
    length_penalty: Option<f64>,
    /// Shortest summary to generate
    #[arg(long, value_name = "TOKENS")]
    min_summary_length: Option<usize>,
    /// Longest summary to generate
    #[arg(long, value_name = "TOKENS")]
    max_summary_length: Option<usize>,
    /// Never repeat a sequence of N tokens in a summary; 0: repetition is allowed
    #[arg(long, value_name = "N")]
    no_repeat_ngram_size: Option<usize>,
    /// When the search ends; true: as soon as there are as many finished summaries as beams
    #[arg(long, value_name = "true|false|never", value_parser = early_stopping)]
    early_stopping: Option<EarlyStopping>,
}

fn early_stopping(text: &str) -> Result<EarlyStopping, String> {
    match text {
        "true" => Ok(EarlyStopping::FirstComplete),
        "false" => Ok(EarlyStopping::Heuristic),
        "never" => Ok(EarlyStopping::Never),
        _ => Err("true, false or never is expected".into()),
    }
}

impl SummaryArgs {
    /// The first option that was given, as the library names it.
    pub fn given(&self) -> Option<&'static str> {
        first_given!(self; document, preset, num_beams, length_penalty, min_summary_length,
            max_summary_length, no_repeat_ngram_size, early_stopping)
    }

    /// Overrides the settings of `task` by the options that were given.
    pub fn apply(&self, task: &mut TaskRecipe) {
        override_settings!(self => &mut *task; ; optional document);
        let mut settings = task.summarization.clone().unwrap_or_default();
        override_settings!(self => &mut settings; ; optional preset, num_beams, length_penalty,
            no_repeat_ngram_size, early_stopping);
        settings.min_length = self.min_summary_length.or(settings.min_length);
        settings.max_length = self.max_summary_length.or(settings.max_length);
        if task.summarization.is_some() || settings != TextGenerationRecipe::default() {
            task.summarization = Some(settings);
        }
    }
}

/// Options of scoring summaries.
#[derive(clap::Args)]
#[command(next_help_heading = "Summaries (summarization)")]
pub struct RougeArgs {
    /// Column of the summary [default: summary]
    #[arg(long, value_name = "COLUMN")]
    summary: Option<String>,
    /// Whether ROUGE compares stems of words [default: true]
    #[arg(long, value_name = "true|false")]
    use_stemmer: Option<bool>,
    /// Metrics of generated texts [default: rouge; phonemes for g2p]
    #[arg(long, value_name = "rouge|phonemes", value_parser = word::<TextMetrics>)]
    text_metrics: Option<TextMetrics>,
}

impl RougeArgs {
    /// The first option that was given, as the library names it.
    pub fn given(&self) -> Option<&'static str> {
        first_given!(self; summary, use_stemmer, text_metrics)
    }

    /// Overrides the settings of `task` by the options that were given.
    pub fn apply(&self, task: &mut TaskRecipe) {
        override_settings!(self => &mut *task; ; optional summary);
        if self.use_stemmer.is_some() {
            task.summarization.get_or_insert_default().use_stemmer = self.use_stemmer;
        }
        if self.text_metrics.is_some() {
            task.summarization.get_or_insert_default().metrics = self.text_metrics;
        }
    }
}

/// Options of training a model to summarize.
#[derive(clap::Args)]
#[command(next_help_heading = "Summaries (summarization)")]
pub struct TrainSummaryArgs {
    /// Longest reference summary in training [default: the longest to generate]
    #[arg(long, value_name = "TOKENS")]
    max_target_length: Option<usize>,
    /// Share of the target probability to spread over all tokens [default: 0]
    #[arg(long, value_name = "SHARE", value_parser = share)]
    label_smoothing: Option<f64>,
    /// Beams of the evaluations during training [default: --num-beams]
    #[arg(long, value_name = "N")]
    training_num_beams: Option<usize>,
    /// Examples of the evaluations during training [default: all]
    #[arg(long, value_name = "N")]
    training_eval_examples: Option<usize>,
}

impl TrainSummaryArgs {
    /// Overrides the settings of `task` by the options that were given.
    pub fn apply(&self, task: &mut TaskRecipe) {
        let mut settings = task.summarization.clone().unwrap_or_default();
        override_settings!(self => &mut settings; ; optional max_target_length, label_smoothing,
            training_num_beams, training_eval_examples);
        if task.summarization.is_some() || settings != TextGenerationRecipe::default() {
            task.summarization = Some(settings);
        }
    }
}
