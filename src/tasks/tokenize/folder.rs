//! Reads the files of a folder that describe its tokenizer.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::files::{read_json_text, read_text};
use crate::{Error, Result};

/// The files of a folder that describe its tokenizer, except for old vocabulary files.
#[derive(Debug, Default)]
pub(super) struct Files {
    /// `None` for a tokenizer that is embedded in a program.
    folder: Option<PathBuf>,
    pub(super) json: Option<Json>,
    /// `tokenizer_config.json`.
    pub(super) config: Map<String, Value>,
    /// `config.json`.
    pub(super) model_config: Map<String, Value>,
    pub(super) special_tokens_map: Map<String, Value>,
    pub(super) added_tokens: Map<String, Value>,
}

/// `tokenizer.json`.
#[derive(Debug)]
pub(super) struct Json {
    pub(super) path: PathBuf,
    pub(super) text: String,
    pub(super) fields: Map<String, Value>,
}

impl Files {
    /// Reads the files that exist.
    pub(super) fn read(folder: &Path) -> Result<Self> {
        if !folder.is_dir() {
            return Err(Error::format(folder, "no such folder; a model's folder is expected"));
        }
        let object = |name: &str| {
            let path = folder.join(name);
            if !is_there(&path) {
                return Ok(Map::new());
            }
            let object = serde_json::from_str(&read_json_text(&path)?);
            object.map_err(|error| Error::format(path, format!("not a JSON object: {error}")))
        };
        let json = folder.join("tokenizer.json");
        let json = match is_there(&json) {
            true => Some(Json::new(&json, read_json_text(&json)?)?),
            false => None,
        };
        Ok(Self {
            folder: Some(folder.to_path_buf()),
            json,
            config: object("tokenizer_config.json")?,
            model_config: object("config.json")?,
            special_tokens_map: object("special_tokens_map.json")?,
            added_tokens: object("added_tokens.json")?,
        })
    }

    /// The files of a tokenizer that is embedded in a program.
    pub(super) fn embedded(json: &[u8], config: Option<&[u8]>) -> Result<Self> {
        let path = PathBuf::from("embedded tokenizer.json");
        let text = std::str::from_utf8(json);
        let text = text.map_err(|error| Error::format(&path, error.to_string()))?.to_string();
        let config = config.map(serde_json::from_slice).transpose().map_err(|error| {
            Error::format("embedded tokenizer_config.json", format!("not a JSON object: {error}"))
        })?;
        let json = Some(Json::new(&path, text)?);
        Ok(Self { json, config: config.unwrap_or_default(), ..Self::default() })
    }

    /// The path of the file `name`, whether it exists or not.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        match &self.folder {
            Some(folder) => folder.join(name),
            None => PathBuf::from(format!("embedded {name}")),
        }
    }

    /// The text of the file `name`, if it exists.
    pub(super) fn text(&self, name: &str) -> Result<Option<String>> {
        let path = self.path(name);
        if self.folder.is_some() && is_there(&path) { read_text(&path).map(Some) } else { Ok(None) }
    }

    /// The folder, or `tokenizer.json` without a folder, for messages.
    pub(super) fn place(&self) -> PathBuf {
        self.folder.clone().unwrap_or_else(|| self.path("tokenizer.json"))
    }
}

/// Whether something has this name. A dangling link counts: reading it gives the error.
fn is_there(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}

impl Json {
    fn new(path: &Path, text: String) -> Result<Self> {
        let fields = serde_json::from_str(&text).map_err(|error| {
            Error::format(path, format!("not a tokenizer of Hugging Face's format: {error}"))
        })?;
        Ok(Self { path: path.to_path_buf(), text, fields })
    }

    /// An error about this file.
    pub(super) fn wrong(&self, message: impl std::fmt::Display) -> Error {
        Error::format(&self.path, format!("not a tokenizer of Hugging Face's format: {message}"))
    }
}
