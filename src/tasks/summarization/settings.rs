//! Settings of summarization: lengths of documents and summaries, and beam search.

use serde::{Deserialize, Serialize};

use crate::generation::{EarlyStopping, GenerationConfig};
use crate::tasks::take_given;
use crate::{Error, Result};

/// Published settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SummarizationPreset {
    /// `facebook/bart-large`: its configuration's `summarization`.
    #[default]
    Bart,
    /// `facebook/bart-large-xsum`: its configuration's `summarization_xsum`.
    Xsum,
    /// `facebook/bart-large-cnn`: its configuration's `summarization_cnn`.
    CnnDailymail,
    /// LoSparse's runs on XSum and CNN/DailyMail: documents of 256 tokens, summaries of 128, six
    /// beams, no shortest length, else as `bart`.
    Losparse,
}

/// Metrics of generated texts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TextMetrics {
    /// ROUGE-1, 2, L and Lsum.
    #[default]
    Rouge,
    /// Word accuracy and phoneme error rate; phonemes are separated by blanks.
    Phonemes,
}

/// Lengths of documents and summaries, and beam search with the names of Hugging Face's `generate`.
///
/// In TOML and JSON, settings that are absent come from `preset`:
///
/// ```toml
/// preset = "xsum"
/// num_beams = 4
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Written")]
pub struct SummarizationSettings {
    /// The source of settings that are absent.
    pub preset: SummarizationPreset,
    /// Longest document in tokens, special tokens included; longer ones are cut.
    pub max_source_length: usize,
    /// Longest reference summary in training, in tokens, special tokens included.
    pub max_target_length: usize,
    /// Number of beams; 1 is greedy search.
    pub num_beams: usize,
    /// A beam's score is its log-probability divided by its length to this power; larger values
    /// favour longer summaries.
    pub length_penalty: f64,
    /// Shortest summary to generate, in tokens; counted like `max_length`.
    pub min_length: usize,
    /// Longest summary to generate, in tokens, including the decoder's start token and the end
    /// token.
    pub max_length: usize,
    /// Length of the token sequences that never occur twice in a summary; 0: repetition is allowed.
    pub no_repeat_ngram_size: usize,
    /// When the search ends; `true`: as soon as there are `num_beams` finished summaries.
    pub early_stopping: EarlyStopping,
    /// Whether ROUGE compares stems.
    pub use_stemmer: bool,
    /// Metrics of generated texts.
    pub metrics: TextMetrics,
}

impl Default for SummarizationSettings {
    fn default() -> Self {
        SummarizationPreset::default().settings()
    }
}

impl SummarizationPreset {
    /// The settings of this preset.
    pub fn settings(self) -> SummarizationSettings {
        // The configurations have no lengths for training: documents get all 1024 positions of
        // BART, reference summaries the length of the longest summary to generate.
        let bart = SummarizationSettings {
            preset: self,
            max_source_length: 1024,
            max_target_length: 128,
            num_beams: 4,
            length_penalty: 1.0,
            min_length: 12,
            max_length: 128,
            no_repeat_ngram_size: 3,
            early_stopping: EarlyStopping::FirstComplete,
            use_stemmer: true,
            metrics: TextMetrics::Rouge,
        };
        match self {
            Self::Bart => bart,
            Self::Xsum => SummarizationSettings {
                max_target_length: 62,
                num_beams: 6,
                min_length: 11,
                max_length: 62,
                ..bart
            },
            Self::CnnDailymail => SummarizationSettings {
                max_target_length: 142,
                length_penalty: 2.0,
                min_length: 56,
                max_length: 142,
                ..bart
            },
            Self::Losparse => SummarizationSettings {
                max_source_length: 256,
                num_beams: 6,
                min_length: 0,
                ..bart
            },
        }
    }
}

impl SummarizationSettings {
    /// Checks every setting. Reading from TOML or JSON does so, too.
    ///
    /// # Errors
    /// The error names the first impossible setting.
    pub fn validate(&self) -> Result<()> {
        let refuse = |option: &str, message: String| Err(Error::option(option, message));
        for (option, length) in [
            ("max_source_length", self.max_source_length),
            ("max_target_length", self.max_target_length),
            ("summarization.max_length", self.max_length),
        ] {
            // The start token, the end token and one between them.
            if length < 3 {
                return refuse(option, format!("{length} leaves no room for text; at least 3"));
            }
        }
        if self.num_beams == 0 {
            return refuse("num_beams", "0; 1 is greedy search".into());
        }
        if !self.length_penalty.is_finite() {
            let message = format!("{} is not a finite number", self.length_penalty);
            return refuse("length_penalty", message);
        }
        if self.min_length > self.max_length {
            let (least, most) = (self.min_length, self.max_length);
            let message = format!("{least} tokens are more than the longest summary's {most}");
            return refuse("summarization.min_length", message);
        }
        Ok(())
    }

    /// Checks the lengths for a model that reads and writes up to `longest` tokens.
    ///
    /// # Errors
    /// The error names the length that is too large.
    pub fn check_lengths(&self, longest: usize) -> Result<()> {
        for (option, tokens) in [
            ("max_source_length", self.max_source_length),
            ("max_target_length", self.max_target_length),
        ] {
            if tokens > longest {
                let message = format!("{tokens} tokens are more than the model's {longest}");
                return Err(Error::option(option, message));
            }
        }
        // The last token is generated but never read.
        let most = longest.saturating_add(1);
        if self.max_length > most {
            let message = format!(
                "{} tokens are more than the {most} that the model writes",
                self.max_length
            );
            return Err(Error::option("summarization.max_length", message));
        }
        Ok(())
    }

    /// The generation settings; what is not set here, such as special tokens, is from `model`.
    pub fn generation(&self, model: &GenerationConfig) -> GenerationConfig {
        GenerationConfig {
            max_length: Some(self.max_length),
            min_length: Some(self.min_length),
            num_beams: Some(self.num_beams),
            num_return_sequences: Some(1),
            length_penalty: Some(self.length_penalty),
            early_stopping: Some(self.early_stopping),
            no_repeat_ngram_size: Some(self.no_repeat_ngram_size),
            // These would override the lengths above.
            max_new_tokens: None,
            min_new_tokens: None,
            ..model.clone()
        }
    }
}

/// The settings as in files, where each may be absent.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    #[serde(default)]
    preset: SummarizationPreset,
    max_source_length: Option<usize>,
    max_target_length: Option<usize>,
    num_beams: Option<usize>,
    length_penalty: Option<f64>,
    min_length: Option<usize>,
    max_length: Option<usize>,
    no_repeat_ngram_size: Option<usize>,
    early_stopping: Option<EarlyStopping>,
    use_stemmer: Option<bool>,
    metrics: Option<TextMetrics>,
}

impl TryFrom<Written> for SummarizationSettings {
    type Error = Error;

    fn try_from(written: Written) -> Result<Self> {
        let mut settings = written.preset.settings();
        take_given!(written => settings; max_source_length, max_target_length, num_beams,
            length_penalty, min_length, max_length, no_repeat_ngram_size, early_stopping,
            use_stemmer, metrics);
        settings.validate()?;
        Ok(settings)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn presets_are_possible_and_survive_toml() {
        use SummarizationPreset::*;
        for preset in [Bart, Xsum, CnnDailymail, Losparse] {
            let settings = preset.settings();
            assert_eq!(settings.preset, preset);
            settings.validate().unwrap();
            let text = toml::to_string(&settings).unwrap();
            assert_eq!(toml::from_str::<SummarizationSettings>(&text).unwrap(), settings, "{text}");
        }
    }

    #[test]
    fn absent_settings_come_from_the_preset() {
        let none: SummarizationSettings = toml::from_str("").unwrap();
        assert_eq!(none, SummarizationSettings::default());
        let text = "preset = \"cnn_dailymail\"\nnum_beams = 2\nlength_penalty = 0.5";
        let some: SummarizationSettings = toml::from_str(text).unwrap();
        let preset = SummarizationPreset::CnnDailymail.settings();
        assert_eq!((preset.min_length, preset.max_length, preset.length_penalty), (56, 142, 2.0));
        assert_eq!(some, SummarizationSettings { num_beams: 2, length_penalty: 0.5, ..preset });
    }

    #[test]
    fn impossible_settings_are_errors_that_name_them() {
        for (text, wanted) in [
            ("max_source_length = 2", "option max_source_length: 2 leaves no room"),
            ("num_beams = 0", "option num_beams: 0; 1 is greedy"),
            ("length_penalty = nan", "option length_penalty: NaN"),
            ("max_length = 11", "option summarization.min_length: 12 tokens are more than"),
            ("beams = 3", "unknown field `beams`"),
            ("preset = \"cnn\"", "unknown variant `cnn`"),
        ] {
            let message = toml::from_str::<SummarizationSettings>(text).unwrap_err().to_string();
            assert!(message.contains(wanted), "{message}");
        }
    }
}
