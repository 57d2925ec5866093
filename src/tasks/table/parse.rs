//! The columns asked for, out of each format.

use std::path::Path;

use serde_json::{Map, Value};

use super::{TableFormat, TableOptions};
use crate::tasks::rows::{Dialect, Rows, error_at, missing_column, read_text};
use crate::{Error, Result};

/// What a row says to predict.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Field {
    Text(String),
    /// A JSON number or truth value, as JSON writes it.
    Other(String),
}

/// The columns asked for, of one row.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Record {
    /// Line of the file the row begins at, from 1.
    pub line: u64,
    pub text: String,
    pub pair: Option<String>,
    /// Unless the target is not asked for, or null.
    pub target: Option<Field>,
}

/// Reads a file's records; there is at least one.
pub(super) fn read_records(
    path: &Path,
    format: TableFormat,
    options: &TableOptions,
    target: Option<&str>,
) -> Result<Vec<Record>> {
    let dialect = match format {
        TableFormat::Csv => Dialect { delimiter: b',', quoting: options.quoting.unwrap_or(true) },
        TableFormat::Tsv => Dialect { delimiter: b'\t', quoting: options.quoting.unwrap_or(false) },
        TableFormat::Jsonl => return read_json_lines(path, options, target),
    };
    let rows = Rows::read(path, dialect, None)?;
    let text = rows.column(&options.text)?;
    let pair = options.pair.as_deref().map(|name| rows.column(name)).transpose()?;
    let target = target.map(|name| rows.column(name)).transpose()?;
    let records = rows.rows.into_iter().map(|row| Record {
        line: row.line,
        text: row.fields[text].clone(),
        pair: pair.map(|pair| row.fields[pair].clone()),
        target: target.map(|target| Field::Text(row.fields[target].clone())),
    });
    Ok(records.collect())
}

fn read_json_lines(
    path: &Path,
    options: &TableOptions,
    target: Option<&str>,
) -> Result<Vec<Record>> {
    let mut records = Vec::new();
    for (line, text) in (1..).zip(read_text(path)?.lines()) {
        if text.trim().is_empty() {
            continue;
        }
        let object: Map<String, Value> = serde_json::from_str(text)
            .map_err(|error| error_at(path, line, format!("not a JSON object: {error}")))?;
        let record = JsonRow { path, line, object };
        records.push(Record {
            line,
            text: record.text(&options.text)?,
            pair: options.pair.as_deref().map(|name| record.text(name)).transpose()?,
            target: target.map(|name| record.field(name)).transpose()?.flatten(),
        });
    }
    if records.is_empty() {
        return Err(Error::format(path, "no rows; the file is empty"));
    }
    Ok(records)
}

struct JsonRow<'a> {
    path: &'a Path,
    line: u64,
    object: Map<String, Value>,
}

impl JsonRow<'_> {
    fn get(&self, name: &str) -> Result<&Value> {
        self.object.get(name).ok_or_else(|| {
            let columns: Vec<String> = self.object.keys().cloned().collect();
            match missing_column(self.path, name, &columns) {
                Error::Format { path, message } => error_at(&path, self.line, message),
                error => error,
            }
        })
    }

    fn text(&self, name: &str) -> Result<String> {
        match self.get(name)? {
            Value::String(text) => Ok(text.clone()),
            other => Err(self.wrong(name, other, "a string")),
        }
    }

    fn field(&self, name: &str) -> Result<Option<Field>> {
        match self.get(name)? {
            Value::Null => Ok(None),
            Value::String(text) => Ok(Some(Field::Text(text.clone()))),
            other @ (Value::Number(_) | Value::Bool(_)) => {
                Ok(Some(Field::Other(other.to_string())))
            }
            other => Err(self.wrong(name, other, "a string or number")),
        }
    }

    fn wrong(&self, name: &str, value: &Value, wanted: &str) -> Error {
        error_at(self.path, self.line, format!("column {name:?}: {value} is not {wanted}"))
    }
}
