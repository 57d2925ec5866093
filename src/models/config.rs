//! What every architecture's `config.json` has in common.

use std::path::Path;

use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer, Serialize};

use super::LabelConfig;
use crate::Error;

/// A model's configuration, read from and written to `config.json`.
pub trait ModelConfig:
    Clone + std::fmt::Debug + Serialize + DeserializeOwned + Send + Sync
{
    /// Checks every field that the computation uses; the message starts with the field's name.
    fn validate(&self) -> Result<(), String>;

    /// Labels and kind of task.
    fn labels(&self) -> &LabelConfig;

    /// Labels and kind of task, to change them before a fresh head is made.
    fn labels_mut(&mut self) -> &mut LabelConfig;

    /// Fields that the architecture does not use, kept for the file's next reader.
    fn other_mut(&mut self) -> &mut serde_json::Map<String, serde_json::Value>;

    /// Number of tokens in the vocabulary.
    fn vocab_size(&self) -> usize;

    /// Longest input, in tokens.
    fn max_length(&self) -> usize;

    /// Width of the hidden states.
    fn hidden_size(&self) -> usize;

    /// Parses and validates the text of a `config.json`; `path` is for messages.
    ///
    /// # Errors
    /// [`Error::Format`] naming the field at fault.
    fn from_json(text: &str, path: &Path) -> Result<Self, Error> {
        let config: Self = serde_json::from_str(text)
            .map_err(|e| Error::format(path, field_at_fault::<Self>(text, &e.to_string())))?;
        config.validate().map_err(|message| Error::format(path, message))?;
        Ok(config)
    }
}

/// serde's message names the value but not the field: the one that fails alone is at fault.
fn field_at_fault<C: ModelConfig>(text: &str, message: &str) -> String {
    let Ok(fields) = serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(text)
    else {
        return message.to_string();
    };
    for (field, value) in fields {
        let alone = serde_json::Map::from_iter([(field.clone(), value)]);
        if let Err(error) = serde_json::from_value::<C>(alone.into()) {
            return format!("{field}: {error}");
        }
    }
    message.to_string()
}

/// Reads a configuration whose fields, where the file leaves them out, have other `defaults` than
/// the type's own.
pub(crate) fn read_with_defaults<'de, C: DeserializeOwned, D: Deserializer<'de>, const N: usize>(
    deserializer: D,
    defaults: [(&str, usize); N],
) -> Result<C, D::Error> {
    let mut fields = serde_json::Map::deserialize(deserializer)?;
    for (name, value) in defaults {
        fields.entry(name).or_insert(value.into());
    }
    serde_json::from_value(fields.into()).map_err(D::Error::custom)
}

/// An error naming `field` if `value` is zero.
pub(crate) fn nonzero(field: &str, value: usize) -> Result<(), String> {
    if value == 0 { Err(format!("{field}: must not be 0")) } else { Ok(()) }
}

/// An error naming `field` unless `value` is a dropout probability.
pub(crate) fn probability(field: &str, value: f64) -> Result<(), String> {
    if (0.0..1.0).contains(&value) {
        Ok(())
    } else {
        Err(format!("{field}: {value} is not in [0, 1)"))
    }
}
