//! Settings of a generation: `generation_config.json`.

use std::path::Path;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use crate::{Error, Result, files};

/// Tokens that Hugging Face's `generate` adds at most where nothing says how many.
pub const DEFAULT_NEW_TOKENS: usize = 20;

/// One token or several, as files have either.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum TokenIds {
    /// A token.
    One(usize),
    /// Several.
    Many(Vec<usize>),
}

impl TokenIds {
    /// The tokens.
    pub fn as_slice(&self) -> &[usize] {
        match self {
            Self::One(token) => std::slice::from_ref(token),
            Self::Many(tokens) => tokens,
        }
    }
}

/// When a beam search ends, `early_stopping`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum EarlyStopping {
    /// `false`: when the best hypothesis, at its present length, is worse than all that are
    /// complete.
    #[default]
    Heuristic,
    /// `true`: as soon as `num_beams` hypotheses are complete.
    FirstComplete,
    /// `"never"`: when no hypothesis can become better than those that are complete.
    Never,
}

impl Serialize for EarlyStopping {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Heuristic => serializer.serialize_bool(false),
            Self::FirstComplete => serializer.serialize_bool(true),
            Self::Never => serializer.serialize_str("never"),
        }
    }
}

impl<'de> Deserialize<'de> for EarlyStopping {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Value::deserialize(deserializer)? {
            Value::Bool(false) => Ok(Self::Heuristic),
            Value::Bool(true) => Ok(Self::FirstComplete),
            Value::String(text) if text == "never" => Ok(Self::Never),
            other => Err(D::Error::custom(format!("{other} is not true, false or \"never\""))),
        }
    }
}

/// Settings of a generation by Hugging Face's names; what is `None` takes the model's setting,
/// then Hugging Face's default.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct GenerationConfig {
    /// Longest output in tokens, the start token included; default: 20 new tokens.
    pub max_length: Option<usize>,
    /// Most tokens after the start token; counts before `max_length`.
    pub max_new_tokens: Option<usize>,
    /// Output below this length, the start token included, cannot end; default 0.
    pub min_length: Option<usize>,
    /// Fewest tokens after the start token; counts before `min_length`.
    pub min_new_tokens: Option<usize>,
    /// Hypotheses of a beam search; default 1: greedy.
    pub num_beams: Option<usize>,
    /// Outputs for each example, at most `num_beams`; default 1.
    pub num_return_sequences: Option<usize>,
    /// Exponent of the length by which a hypothesis' score is divided; default 1.
    pub length_penalty: Option<f64>,
    /// When a beam search ends; default `false`.
    pub early_stopping: Option<EarlyStopping>,
    /// Sequences of so many tokens occur once only; default 0: no limit.
    pub no_repeat_ngram_size: Option<usize>,
    /// Token that follows the start token.
    pub forced_bos_token_id: Option<usize>,
    /// Tokens one of which is last in an output of the greatest length.
    pub forced_eos_token_id: Option<TokenIds>,
    /// Token that an output starts with; default: `bos_token_id`.
    pub decoder_start_token_id: Option<usize>,
    /// Token that texts start with.
    pub bos_token_id: Option<usize>,
    /// Tokens that end an output.
    pub eos_token_id: Option<TokenIds>,
    /// Token that pads; default: the first of `eos_token_id`.
    pub pad_token_id: Option<usize>,
    /// Settings that change what is generated and are not supported are errors; others are
    /// ignored.
    #[serde(flatten)]
    pub other: serde_json::Map<String, Value>,
}

/// Settings not supported, each with the values that leave a generation as it is.
const UNSUPPORTED: [(&str, &[f64]); 23] = [
    ("do_sample", &[]),
    ("num_beam_groups", &[1.0]),
    ("diversity_penalty", &[0.0]),
    ("penalty_alpha", &[0.0]),
    ("repetition_penalty", &[1.0]),
    ("encoder_repetition_penalty", &[1.0]),
    ("encoder_no_repeat_ngram_size", &[0.0]),
    ("bad_words_ids", &[]),
    ("force_words_ids", &[]),
    ("constraints", &[]),
    ("sequence_bias", &[]),
    ("suppress_tokens", &[]),
    ("begin_suppress_tokens", &[]),
    ("exponential_decay_length_penalty", &[]),
    ("guidance_scale", &[1.0]),
    ("stop_strings", &[]),
    ("max_time", &[]),
    ("prompt_lookup_num_tokens", &[]),
    ("remove_invalid_values", &[]),
    ("renormalize_logits", &[]),
    ("token_healing", &[]),
    ("dola_layers", &[]),
    ("watermarking_config", &[]),
];

/// A generation's settings with every default filled in.
#[derive(Debug, Clone)]
pub(crate) struct Resolved {
    pub max_length: usize,
    pub min_length: usize,
    pub num_beams: usize,
    pub num_return_sequences: usize,
    pub length_penalty: f64,
    pub early_stopping: EarlyStopping,
    pub no_repeat_ngram_size: usize,
    pub forced_bos: Option<u32>,
    pub forced_eos: Vec<u32>,
    pub start: u32,
    pub eos: Vec<u32>,
    pub pad: u32,
}

impl GenerationConfig {
    /// The settings in a model folder: those of `generation_config.json`, or of `config.json` in
    /// folders without it. Special tokens that the former lacks are the latter's.
    ///
    /// # Errors
    /// If a file is malformed, there is neither, or a setting is not supported.
    pub fn from_folder(folder: impl AsRef<Path>) -> Result<Self> {
        let folder = folder.as_ref();
        let model = Self::read(&folder.join("config.json"))?;
        let path = folder.join("generation_config.json");
        if !path.is_file() {
            model.check_supported_in(&folder.join("config.json"))?;
            return Ok(model);
        }
        let mut config = Self::read(&path)?;
        config.check_supported_in(&path)?;
        config.decoder_start_token_id =
            config.decoder_start_token_id.or(model.decoder_start_token_id);
        config.bos_token_id = config.bos_token_id.or(model.bos_token_id);
        config.eos_token_id = config.eos_token_id.or(model.eos_token_id);
        config.pad_token_id = config.pad_token_id.or(model.pad_token_id);
        Ok(config)
    }

    fn read(path: &Path) -> Result<Self> {
        let mut config: Self = files::read_json(path)?;
        // The setting's old name, in files of BART's first years.
        if config.other.get("force_bos_token_to_be_generated") == Some(&Value::Bool(true)) {
            config.forced_bos_token_id = config.forced_bos_token_id.or(config.bos_token_id);
        }
        Ok(config)
    }

    /// An error about the file that these settings are of: nobody typed them.
    fn check_supported_in(&self, path: &Path) -> Result<()> {
        self.check_supported().map_err(|error| match error {
            Error::Option { option, message } => Error::format(path, format!("{option} {message}")),
            error => error,
        })
    }

    /// The greatest length in tokens, the start token included, if there is one.
    pub fn longest(&self) -> Option<usize> {
        self.max_new_tokens.map(|new| new.saturating_add(1)).or(self.max_length)
    }

    /// The least length in tokens, the start token included.
    pub fn shortest(&self) -> usize {
        let new = self.min_new_tokens.map(|new| new.saturating_add(1));
        new.or(self.min_length).unwrap_or(0)
    }

    /// These settings with Hugging Face's defaults: greedy, [`DEFAULT_NEW_TOKENS`] new tokens.
    pub fn completed(self) -> Self {
        let max_new_tokens = match self.longest() {
            Some(_) => None,
            None => Some(DEFAULT_NEW_TOKENS),
        };
        self.or(&Self {
            max_new_tokens,
            min_length: Some(0),
            num_beams: Some(1),
            length_penalty: Some(1.0),
            early_stopping: Some(EarlyStopping::Heuristic),
            no_repeat_ngram_size: Some(0),
            ..Self::default()
        })
    }

    /// These settings, and `defaults` where there are none.
    pub fn or(self, defaults: &Self) -> Self {
        let defaults = defaults.clone();
        let mut other = defaults.other;
        other.extend(self.other);
        Self {
            max_length: self.max_length.or(defaults.max_length),
            max_new_tokens: self.max_new_tokens.or(defaults.max_new_tokens),
            min_length: self.min_length.or(defaults.min_length),
            min_new_tokens: self.min_new_tokens.or(defaults.min_new_tokens),
            num_beams: self.num_beams.or(defaults.num_beams),
            num_return_sequences: self.num_return_sequences.or(defaults.num_return_sequences),
            length_penalty: self.length_penalty.or(defaults.length_penalty),
            early_stopping: self.early_stopping.or(defaults.early_stopping),
            no_repeat_ngram_size: self.no_repeat_ngram_size.or(defaults.no_repeat_ngram_size),
            forced_bos_token_id: self.forced_bos_token_id.or(defaults.forced_bos_token_id),
            forced_eos_token_id: self.forced_eos_token_id.or(defaults.forced_eos_token_id),
            decoder_start_token_id: self.decoder_start_token_id.or(defaults.decoder_start_token_id),
            bos_token_id: self.bos_token_id.or(defaults.bos_token_id),
            eos_token_id: self.eos_token_id.or(defaults.eos_token_id),
            pad_token_id: self.pad_token_id.or(defaults.pad_token_id),
            other,
        }
    }

    /// Fills in defaults and checks everything against a model with `vocab_size` tokens that
    /// decodes up to `model_length` of them.
    pub(crate) fn resolve(&self, vocab_size: usize, model_length: usize) -> Result<Resolved> {
        self.check_supported()?;
        let token = |name: &str, token: usize| match u32::try_from(token) {
            Ok(id) if token < vocab_size => Ok(id),
            _ => Err(Error::option(
                name,
                format!("{token} is not below the vocabulary's {vocab_size} tokens"),
            )),
        };
        let tokens = |name: &str, ids: &Option<TokenIds>| -> Result<Vec<u32>> {
            ids.iter().flat_map(TokenIds::as_slice).map(|&id| token(name, id)).collect()
        };
        let eos = tokens("eos_token_id", &self.eos_token_id)?;
        let start = self.decoder_start_token_id.or(self.bos_token_id).ok_or_else(|| {
            Error::option("decoder_start_token_id", "missing, and so is bos_token_id; set one")
        })?;
        let pad = match self.pad_token_id {
            Some(pad) => token("pad_token_id", pad)?,
            None => eos.first().copied().unwrap_or_default(),
        };
        let max_length =
            self.longest().unwrap_or_else(|| (DEFAULT_NEW_TOKENS + 1).min(model_length));
        if max_length < 2 {
            return Err(Error::option("max_length", "leaves no room for a token; at least 2"));
        }
        // The last token is never read.
        if max_length - 1 > model_length {
            let message = format!(
                "{max_length} tokens are more than the {} that the model can decode",
                model_length + 1
            );
            return Err(Error::option("max_length", message));
        }
        let num_beams = self.num_beams.unwrap_or(1);
        let num_return_sequences = self.num_return_sequences.unwrap_or(1);
        if num_beams == 0 {
            return Err(Error::option("num_beams", "must not be 0"));
        }
        if num_beams > vocab_size {
            let message =
                format!("{num_beams} beams are more than the vocabulary's {vocab_size} tokens");
            return Err(Error::option("num_beams", message));
        }
        if num_return_sequences == 0 || num_return_sequences > num_beams {
            let message = format!("{num_return_sequences} is not in 1..=num_beams ({num_beams})");
            return Err(Error::option("num_return_sequences", message));
        }
        let length_penalty = self.length_penalty.unwrap_or(1.0);
        let divisors = [2.0, max_length as f64].map(|length| length.powf(length_penalty) as f32);
        let unused = num_beams == 1 && length_penalty.is_finite();
        if !unused && !divisors.iter().all(|divisor| divisor.is_normal()) {
            let message = format!("{length_penalty} makes every score 0 or infinite");
            return Err(Error::option("length_penalty", message));
        }
        Ok(Resolved {
            max_length,
            min_length: self.shortest(),
            num_beams,
            num_return_sequences,
            length_penalty,
            early_stopping: self.early_stopping.unwrap_or_default(),
            no_repeat_ngram_size: self.no_repeat_ngram_size.unwrap_or(0),
            forced_bos: match self.forced_bos_token_id {
                Some(id) => Some(token("forced_bos_token_id", id)?),
                None => None,
            },
            forced_eos: tokens("forced_eos_token_id", &self.forced_eos_token_id)?,
            start: token("decoder_start_token_id", start)?,
            eos,
            pad,
        })
    }

    fn check_supported(&self) -> Result<()> {
        for (name, neutral) in UNSUPPORTED {
            let harmless = match self.other.get(name) {
                None | Some(Value::Null | Value::Bool(false)) => true,
                Some(Value::Array(items)) => items.is_empty(),
                Some(Value::Object(fields)) => fields.is_empty(),
                Some(value) => value.as_f64().is_some_and(|value| neutral.contains(&value)),
            };
            if !harmless {
                let message = "is not supported (greedy decoding and beam search are); remove it";
                return Err(Error::option(name, message));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
