//! The `losparse` object of `config.json`: the version of the format, the architecture, and the checksum
//! of the weights.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::source::TensorSource;
use crate::error::beginning;
use crate::{Error, Result};

/// The version that is written; older ones are read.
pub(crate) const VERSION: u64 = 2;

/// In the field `compute`: layers compute in 8-bit integers.
const INT8: &str = "int8";

/// Prefix of `model_type` in folders whose weights no other program can read.
const OWN: &str = "losparse_";

/// Storage of the weights, as `config.json` says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Format {
    /// `format_version`; `None` without a `losparse` object.
    version: Option<u64>,
    /// `base_model_type`: the architecture, if other programs cannot read the weights.
    base_model_type: Option<String>,
    /// `sha256` of `model.safetensors`.
    sha256: Option<String>,
    /// `compute`: whether layers compute in 8-bit integers.
    int8: bool,
}

impl Format {
    /// Reads the format and checks it; the message starts with the field's name.
    pub(crate) fn of(config: &Map<String, Value>) -> Result<Self, String> {
        let about = match config.get("losparse") {
            None | Some(Value::Null) => return Ok(Self::default()),
            Some(Value::Object(about)) => about,
            Some(other) => {
                return Err(format!("losparse: expected an object, found {}", shown(other)));
            }
        };
        let version = match about.get("format_version") {
            None => 1,
            Some(version) => version.as_u64().filter(|version| *version > 0).ok_or_else(|| {
                let found = shown(version);
                format!("losparse.format_version: expected a whole number, found {found}")
            })?,
        };
        if version > VERSION {
            return Err(format!(
                "losparse.format_version: {version} is newer than what losparse {} reads, which is \
                 up to {VERSION}; use a newer losparse",
                env!("CARGO_PKG_VERSION")
            ));
        }
        let text = |field: &str| match about.get(field) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(other) => {
                Err(format!("losparse.{field}: expected a string, found {}", shown(other)))
            }
        };
        if let Some(length) = about.get("max_length").filter(|length| !length.is_null())
            && length.as_u64().is_none_or(|length| length == 0)
        {
            let found = shown(length);
            return Err(format!("losparse.max_length: expected a number of tokens, found {found}"));
        }
        let format = Self {
            version: Some(version),
            base_model_type: text("base_model_type")?,
            sha256: text("sha256")?,
            int8: match text("compute")?.as_deref() {
                None | Some("f32") => false,
                Some(INT8) => true,
                Some(other) => {
                    return Err(format!(
                        "losparse.compute: expected {INT8} or f32, found `{other}`"
                    ));
                }
            },
        };
        if version < 2 && (format.base_model_type.is_some() || format.sha256.is_some()) {
            return Err("losparse.format_version: 1 has neither base_model_type nor sha256; \
                        restore the number that was there"
                .into());
        }
        Ok(format)
    }

    /// Whether layers may be compressed and matrices stored as 8-bit integers.
    pub(crate) fn is_own(&self) -> bool {
        self.version == Some(1) || self.base_model_type.is_some()
    }

    /// Whether layers compute in 8-bit integers.
    pub(crate) fn computes_in_int8(&self) -> bool {
        self.int8
    }

    /// Checks that the weights are those written with the configuration.
    ///
    /// # Errors
    /// If they are not, are not one whole file, or cannot be read.
    pub(crate) fn check_weights(&self, source: &TensorSource) -> Result<()> {
        let Some(expected) = &self.sha256 else { return Ok(()) };
        if source.sha256()?.as_ref() == Some(expected) {
            return Ok(());
        }
        Err(Error::format(
            source.path(),
            "damaged, or changed since it was written: its SHA-256 is not the one that config.json \
             has as losparse.sha256. Copy the folder again; if the change is meant, remove that \
             field",
        ))
    }
}

/// The beginning of a value, for a message.
pub(crate) fn shown(value: &Value) -> String {
    beginning(&value.to_string(), 60)
}

/// The architecture that `model_type` names, also in folders that only this crate reads.
pub(crate) fn model_type(config: &Map<String, Value>) -> Result<Option<String>, String> {
    let kind = match config.get("model_type") {
        None | Some(Value::Null) => None,
        Some(Value::String(kind)) => Some(kind.as_str()),
        Some(other) => {
            return Err(format!("model_type: expected a name, found {}", shown(other)));
        }
    };
    let base = Format::of(config)?.base_model_type;
    match (kind, base) {
        (kind, None) => match kind.and_then(|kind| kind.strip_prefix(OWN)) {
            Some(base) => Err(format!(
                "losparse.base_model_type: missing beside model_type `{OWN}{base}`; restore the \
                 config.json that was written with the weights"
            )),
            None => Ok(kind.map(str::to_string)),
        },
        (kind, Some(base)) if kind.and_then(|kind| kind.strip_prefix(OWN)) == Some(&base) => {
            Ok(Some(base))
        }
        (kind, Some(base)) => Err(format!(
            "model_type: expected `{OWN}{base}`, by losparse.base_model_type, found `{}`",
            kind.unwrap_or("none")
        )),
    }
}

/// Removes the fields that keep other programs from reading the weights.
pub(crate) fn forget_own(config: &mut Map<String, Value>, model_type: &str) {
    if config.get("model_type").and_then(Value::as_str) == Some(&format!("{OWN}{model_type}")) {
        config.insert("model_type".into(), model_type.into());
        config.remove(NOT_READ_BY_OTHERS);
    }
}

/// `transformers` reads this field before it loads weights of any class, and fails unless it names a
/// method that it knows; here it names none.
const NOT_READ_BY_OTHERS: &str = "quantization_config";

/// Writes into a configuration how weights are stored: `about`, or the `losparse` object that is there,
/// with the current version. With `sha256`, the weights are such that only this crate reads them, and
/// `model_type` says so; `int8` is whether layers are to compute in 8-bit integers.
pub(crate) fn mark(
    config: &mut Map<String, Value>,
    model_type: &str,
    about: Option<Value>,
    sha256: Option<String>,
    int8: bool,
) {
    config.insert("model_type".into(), model_type.into());
    let about = about.or_else(|| config.remove("losparse"));
    if about.is_none() && sha256.is_none() {
        return;
    }
    let mut about = match about {
        Some(Value::Object(about)) => about,
        _ => Map::new(),
    };
    about.insert("format_version".into(), VERSION.into());
    about.remove("base_model_type");
    about.remove("sha256");
    about.remove("compute");
    if let Some(sha256) = sha256 {
        about.insert("base_model_type".into(), model_type.into());
        about.insert("sha256".into(), sha256.into());
        if int8 {
            about.insert("compute".into(), INT8.into());
        }
        config.insert("model_type".into(), format!("{OWN}{model_type}").into());
        let note = format!("only losparse reads these weights ({})", env!("CARGO_PKG_REPOSITORY"));
        config.insert(NOT_READ_BY_OTHERS.into(), serde_json::json!({ "note": note }));
    }
    config.insert("losparse".into(), about.into());
}

/// The configuration beside weights, for messages.
pub(crate) fn config_beside(weights: &Path) -> PathBuf {
    weights.parent().unwrap_or(Path::new("")).join("config.json")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn object(value: Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn own_folders_have_a_type_of_their_own() {
        let mut config = object(json!({"losparse": {"task": "x", "sha256": "stale"}}));
        mark(&mut config, "bert", None, Some("sum".into()), false);
        assert_eq!(config["model_type"], "losparse_bert");
        let about = json!({"task": "x", "sha256": "sum", "format_version": 2,
            "base_model_type": "bert"});
        assert_eq!(config["losparse"], about);
        assert!(Format::of(&config).unwrap().is_own());
        assert_eq!(model_type(&config).unwrap().as_deref(), Some("bert"));

        forget_own(&mut config, "bert");
        mark(&mut config, "bert", None, None, false);
        let plain = json!({"model_type": "bert", "losparse": {"task": "x", "format_version": 2}});
        assert_eq!(Value::Object(config.clone()), plain);
        assert!(!Format::of(&config).unwrap().is_own());
        let mut config = Map::new();
        mark(&mut config, "bert", None, None, false);
        assert_eq!(Value::Object(config), json!({"model_type": "bert"}));
    }

    #[test]
    fn what_does_not_fit_together_is_refused_by_field() {
        for (config, part) in [
            (json!({"losparse": []}), "losparse: expected an object"),
            (json!({"losparse": {"format_version": 3}}), "losparse.format_version: 3 is newer"),
            (json!({"losparse": {"format_version": "2"}}), "losparse.format_version: expected"),
            (json!({"losparse": {"format_version": 0}}), "losparse.format_version: expected"),
            (json!({"losparse": {"sha256": "0"}}), "losparse.format_version: 1 has neither"),
            (json!({"losparse": {"format_version": 2, "sha256": 5}}), "losparse.sha256: expected"),
            (json!({"losparse": {"max_length": -1}}), "losparse.max_length: expected"),
            (json!({"model_type": 5}), "model_type: expected a name"),
            (json!({"model_type": "losparse_bert"}), "losparse.base_model_type: missing"),
            (
                json!({"model_type": "bert",
                    "losparse": {"format_version": 2, "base_model_type": "bert"}}),
                "model_type: expected `losparse_bert`",
            ),
            (
                json!({"model_type": "losparse_bert",
                    "losparse": {"format_version": 2, "base_model_type": "bart"}}),
                "model_type: expected `losparse_bart`",
            ),
        ] {
            let message = model_type(&object(config.clone())).unwrap_err();
            assert!(message.starts_with(part), "{config}: {message}");
        }
        let first = object(json!({"model_type": "bert", "losparse": {"format_version": 1}}));
        assert!(Format::of(&first).unwrap().is_own());
        assert_eq!(model_type(&first).unwrap().as_deref(), Some("bert"));
    }
}
