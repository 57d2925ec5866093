//! A recipe's `[task.summarization]`: lengths, beam search, and the cost of evaluations in training.

use serde::{Deserialize, Serialize};

use crate::generation::{EarlyStopping, GenerationConfig};
use crate::tasks::summarization::{SummarizationPreset, SummarizationSettings, TextMetrics};
use crate::tasks::take_given;
use crate::{Error, Result};

/// Settings of text generation. What is not set comes from the preset, if one is named, else from the
/// model's own generation settings, else from those of `facebook/bart-large`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TextGenerationRecipe {
    /// Published settings; by default those of the task's name (`xsum`, `cnn_dailymail`).
    pub preset: Option<SummarizationPreset>,
    /// Longest document in tokens; the same as `max_length` of `[task]`.
    pub max_source_length: Option<usize>,
    /// Longest reference summary in tokens, in training.
    pub max_target_length: Option<usize>,
    /// Number of beams; 1 is greedy search.
    pub num_beams: Option<usize>,
    /// Larger values favour longer summaries.
    pub length_penalty: Option<f64>,
    /// Shortest summary to generate, in tokens.
    pub min_length: Option<usize>,
    /// Longest summary to generate, in tokens.
    pub max_length: Option<usize>,
    /// Length of token sequences that may not occur twice in a text; 0 allows all.
    pub no_repeat_ngram_size: Option<usize>,
    /// When the search ends.
    pub early_stopping: Option<EarlyStopping>,
    /// Whether ROUGE compares stems.
    pub use_stemmer: Option<bool>,
    /// How written texts are scored; by default `rouge`, for the task `g2p` `phonemes`.
    pub metrics: Option<TextMetrics>,
    /// Share of the target probability spread over all tokens in training; by default 0.
    pub label_smoothing: Option<f64>,
    /// Number of beams in evaluations while training; by default `num_beams`.
    pub training_num_beams: Option<usize>,
    /// Number of examples in evaluations while training; by default all.
    pub training_eval_examples: Option<usize>,
}

impl TextGenerationRecipe {
    /// Resolves the settings for a model that reads and writes up to `longest` tokens. `model` holds its
    /// own generation settings.
    ///
    /// # Errors
    /// Names a setting that is impossible.
    pub fn settings(
        &self,
        model: &GenerationConfig,
        longest: usize,
    ) -> Result<SummarizationSettings> {
        let default = SummarizationSettings::default();
        let base = match self.preset {
            Some(preset) => preset.settings(),
            None => {
                let new = |tokens: Option<usize>| tokens.map(|new| new.saturating_add(1));
                let max_length = new(model.max_new_tokens).or(model.max_length);
                let max_length = max_length.unwrap_or(default.max_length).min(longest);
                let min_length = new(model.min_new_tokens).or(model.min_length);
                let longest_target = default.max_target_length.max(max_length);
                let mut base = SummarizationSettings {
                    max_source_length: default.max_source_length.min(longest),
                    max_target_length: longest_target.min(longest),
                    min_length: min_length.unwrap_or(default.min_length),
                    max_length,
                    ..default
                };
                take_given!(model => base; num_beams, length_penalty, no_repeat_ngram_size,
                    early_stopping);
                base
            }
        };
        let settings = self.over(base);
        settings.validate()?;
        settings.check_lengths(longest)?;
        Ok(settings)
    }

    /// Name of a setting that is set.
    pub(super) fn first_set(&self) -> Option<String> {
        toml::Table::try_from(self).ok()?.keys().min().cloned()
    }

    /// The settings, from `settings` where not set here. A shortest length that is not set gives way to
    /// the longest.
    pub fn over(&self, mut settings: SummarizationSettings) -> SummarizationSettings {
        take_given!(self => settings; preset, max_source_length, max_target_length, num_beams,
            length_penalty, max_length, no_repeat_ngram_size, early_stopping, use_stemmer, metrics);
        let shortest = settings.min_length.min(settings.max_length);
        SummarizationSettings { min_length: self.min_length.unwrap_or(shortest), ..settings }
    }

    /// Checks all that can be checked without a model.
    ///
    /// # Errors
    /// Names the first impossible setting.
    pub fn validate(&self) -> Result<()> {
        let smoothing = self.label_smoothing.unwrap_or(0.0);
        if !(0.0..1.0).contains(&smoothing) {
            let message = format!("{smoothing} is not within 0 to 1 (1 excluded)");
            return Err(Error::option("label_smoothing", message));
        }
        for (option, value) in [
            ("training_num_beams", self.training_num_beams),
            ("training_eval_examples", self.training_eval_examples),
        ] {
            if value == Some(0) {
                return Err(Error::option(option, "must be at least 1"));
            }
        }
        let preset = self.preset.unwrap_or_default().settings();
        // The model may set the other length.
        let base = SummarizationSettings { max_length: usize::MAX, min_length: 0, ..preset };
        self.over(base).validate()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tasks::SummarizationOptions;
    use crate::train::{JobKind, TaskRecipe};

    fn named(name: &str, settings: TextGenerationRecipe) -> TextGenerationRecipe {
        let task = TaskRecipe {
            name: name.into(),
            summarization: Some(settings),
            ..TaskRecipe::default()
        };
        task.summarization()
    }

    #[test]
    fn settings_come_from_recipe_preset_model_and_default_in_this_order() {
        let model = GenerationConfig {
            num_beams: Some(3),
            max_new_tokens: Some(30),
            min_length: Some(40),
            early_stopping: Some(EarlyStopping::Never),
            ..GenerationConfig::default()
        };
        let asked = TextGenerationRecipe { length_penalty: Some(0.5), ..Default::default() };
        let own = named("summarization", asked.clone()).settings(&model, 64).unwrap();
        assert_eq!((own.num_beams, own.max_length, own.min_length), (3, 31, 31));
        assert_eq!((own.length_penalty, own.no_repeat_ngram_size), (0.5, 3));
        assert_eq!((own.max_source_length, own.max_target_length), (64, 64));
        assert_eq!(own.early_stopping, EarlyStopping::Never);
        let xsum = named("xsum", asked).settings(&model, 1024).unwrap();
        let preset = SummarizationPreset::Xsum.settings();
        assert_eq!(xsum, SummarizationSettings { length_penalty: 0.5, ..preset });
        // A preset's lengths are asked for.
        let error = named("xsum", Default::default()).settings(&model, 64).unwrap_err();
        assert!(error.to_string().contains("option max_source_length: 1024"), "{error}");
        let generation = own.generation(&model);
        assert_eq!((generation.max_length, generation.max_new_tokens), (Some(31), None));
    }

    #[test]
    fn pronunciations_are_scored_by_phonemes() {
        let own = GenerationConfig { max_length: Some(32), ..GenerationConfig::default() };
        let of = |name: &str, settings| named(name, settings).settings(&own, 40).unwrap().metrics;
        assert_eq!(of("g2p", Default::default()), TextMetrics::Phonemes);
        assert_eq!(of("summarization", Default::default()), TextMetrics::Rouge);
        let rouge =
            TextGenerationRecipe { metrics: Some(TextMetrics::Rouge), ..Default::default() };
        assert_eq!(of("g2p", rouge), TextMetrics::Rouge);
        let text = "name = \"g2p\"\n[summarization]\nmetrics = \"phonemes\"";
        let task: TaskRecipe = toml::from_str(text).unwrap();
        assert_eq!(task.kind(), JobKind::TextGeneration);
        assert_eq!(task.summarization_options(), SummarizationOptions::g2p());
        assert!(toml::from_str::<TaskRecipe>(&text.replace("phonemes", "bleu")).is_err());
    }

    #[test]
    fn mistakes_are_named() {
        use TextGenerationRecipe as Settings;
        for (settings, wanted) in [
            (Settings { label_smoothing: Some(1.0), ..Default::default() }, "label_smoothing"),
            (Settings { training_num_beams: Some(0), ..Default::default() }, "training_num_beams"),
            (Settings { num_beams: Some(0), ..Default::default() }, "num_beams"),
            (
                Settings { min_length: Some(9), max_length: Some(8), ..Default::default() },
                "summarization.min_length",
            ),
        ] {
            let error = settings.validate().unwrap_err().to_string();
            assert!(error.contains(&format!("option {wanted}")), "{error}");
        }
        Settings { max_length: Some(8), ..Default::default() }.validate().unwrap();
        Settings { min_length: Some(200), ..Default::default() }.validate().unwrap();
    }
}
