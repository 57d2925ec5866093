//! The part of `config.json` that all architectures have in common.

use std::path::Path;

use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer, Serialize};

use super::LabelConfig;
use crate::Error;

/// Configuration of a model, read from and written to `config.json`.
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

    /// Sizes that the tensors of a checkpoint show too, so that the two can be compared before anything is
    /// built.
    fn sizes_shown(&self) -> Vec<SizeShown>;

    /// Parses and validates the text of a `config.json`; `path` is for messages.
    ///
    /// # Errors
    /// [`Error::Format`] naming the field at fault.
    fn from_json(text: &str, path: &Path) -> Result<Self, Error> {
        let config: Self = serde_json::from_str(text)
            .map_err(|e| Error::format(path, field_at_fault::<Self>(text, &e.to_string())))?;
        config.validate().map_err(|message| Error::format(path, message))?;
        let labels = config.labels().num_labels();
        if labels > MOST_LABELS {
            let message = format!("num_labels: {labels} is beyond {MOST_LABELS}");
            return Err(Error::format(path, message));
        }
        Ok(config)
    }
}

/// The methods of [`ModelConfig`] that give a field, that of the field `$inner` if one is named.
macro_rules! config_fields {
    ($($inner:ident)?) => {
        fn labels(&self) -> &$crate::models::LabelConfig {
            &self.$($inner.)?labels
        }

        fn labels_mut(&mut self) -> &mut $crate::models::LabelConfig {
            &mut self.$($inner.)?labels
        }

        fn other_mut(&mut self) -> &mut serde_json::Map<String, serde_json::Value> {
            &mut self.$($inner.)?other
        }

        fn vocab_size(&self) -> usize {
            self.$($inner.)?vocab_size
        }
    };
}
pub(crate) use config_fields;

/// A size in a configuration, and where a checkpoint shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SizeShown {
    /// Name of the field.
    pub field: &'static str,
    /// Its value.
    pub value: usize,
    /// Where a checkpoint shows it.
    pub shown: Shown,
}

/// Place in a checkpoint that shows a size; names are without the prefix of the base model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shown {
    /// Length of an axis of a tensor, less some rows beyond.
    Axis {
        /// The tensor.
        tensor: &'static str,
        /// The axis, in the file's orientation.
        axis: usize,
        /// Rows that the axis has beyond the size.
        beyond: usize,
    },
    /// Number of layers whose names begin so, followed by their index.
    Layers(&'static str),
}

/// A size that is the length of an axis.
pub(crate) fn axis(
    field: &'static str,
    value: usize,
    tensor: &'static str,
    axis: usize,
) -> SizeShown {
    SizeShown { field, value, shown: Shown::Axis { tensor, axis, beyond: 0 } }
}

/// A number of layers.
pub(crate) fn layers(field: &'static str, value: usize, prefix: &'static str) -> SizeShown {
    SizeShown { field, value, shown: Shown::Layers(prefix) }
}

/// Labels beyond this number are a mistake: even their names would not fit into memory.
const MOST_LABELS: usize = 1 << 20;

/// Sizes beyond this are a mistake: products of two must not overflow.
const LARGEST: usize = 1 << 24;

/// Finds the field at fault, which serde does not name: the one that fails alone.
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

/// Reads a configuration in which missing fields have other `defaults` than those of the type.
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

/// Fails, naming `field`, if `value` is zero.
pub(crate) fn nonzero(field: &str, value: usize) -> Result<(), String> {
    if value == 0 { Err(format!("{field}: must not be 0")) } else { Ok(()) }
}

/// Fails, naming `field`, if `value` is no size: zero, or larger than in any model.
pub(crate) fn size(field: &str, value: usize) -> Result<(), String> {
    nonzero(field, value)?;
    at_most(field, value)
}

/// Fails, naming `field`, if `value` is larger than in any model.
pub(crate) fn at_most(field: &str, value: usize) -> Result<(), String> {
    if value > LARGEST { Err(format!("{field}: {value} is beyond {LARGEST}")) } else { Ok(()) }
}

/// Fails, naming `field`, unless this number of heads divides a `width`.
pub(crate) fn heads(field: &str, heads: usize, width: (&str, usize)) -> Result<(), String> {
    size(field, heads)?;
    match width.1.is_multiple_of(heads) {
        true => Ok(()),
        false => Err(format!("{field}: {heads} does not divide {} {}", width.0, width.1)),
    }
}

/// Fails, naming `field`, unless its token is in the vocabulary.
pub(crate) fn token(field: &str, token: Option<usize>, vocab_size: usize) -> Result<(), String> {
    match token.filter(|&token| token >= vocab_size) {
        None => Ok(()),
        Some(token) => Err(format!("{field}: {token} is not below vocab_size {vocab_size}")),
    }
}

/// Fails, naming `field`, unless `value` is a standard deviation in 32 bits.
pub(crate) fn deviation(field: &str, value: f64) -> Result<(), String> {
    match value >= 0.0 && (value as f32).is_finite() {
        true => Ok(()),
        false => Err(format!("{field}: {value} is negative or too large")),
    }
}

/// Fails, naming `field`, unless `value` can keep a division from one by zero, in 32 bits.
pub(crate) fn epsilon(field: &str, value: f64) -> Result<(), String> {
    match value as f32 > 0.0 && (value as f32).is_finite() {
        true => Ok(()),
        false => Err(format!("{field}: {value} is not positive")),
    }
}

/// Fails, naming `field`, unless `value` is a dropout probability.
pub(crate) fn probability(field: &str, value: f64) -> Result<(), String> {
    if (0.0..1.0).contains(&value) {
        Ok(())
    } else {
        Err(format!("{field}: {value} is not in [0, 1)"))
    }
}
