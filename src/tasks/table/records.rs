//! Reads the columns that are asked for, from each format.

use std::collections::HashSet;
use std::path::Path;

use serde_json::{Map, Value};

use super::TableFormat;
use crate::files::read_text;
use crate::tasks::rows::{Dialect, Row, Rows, error_at, missing_column};
use crate::{Error, Result};

/// The columns to read.
#[derive(Debug, Clone, Copy)]
pub(in crate::tasks) struct Columns<'a> {
    pub text: &'a str,
    /// The second text of pairs.
    pub pair: Option<&'a str>,
    pub target: Option<&'a str>,
    /// Format of the file; by default from its extension.
    pub format: Option<TableFormat>,
    /// Whether `"` quotes fields; by default true for CSV and false for TSV.
    pub quoting: Option<bool>,
}

/// The value of a row's target column.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::tasks) enum Field {
    Text(String),
    /// A JSON number or boolean, as JSON writes it.
    Other(String),
}

/// The columns of a row that are asked for.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::tasks) struct Record {
    /// Line of the file the row begins at, from 1.
    pub line: u64,
    pub text: String,
    pub pair: Option<String>,
    /// `None` if the target is not asked for, or null.
    pub target: Option<Field>,
}

/// Reads the records of a file. There is at least one; a file without any is an error.
pub(in crate::tasks) fn read_records(path: &Path, columns: Columns<'_>) -> Result<Vec<Record>> {
    let names = [Some(columns.text), columns.pair, columns.target];
    let twice = |name: &&str| names.iter().flatten().filter(|other| *other == name).count() > 1;
    if let Some(name) = names.into_iter().flatten().find(twice) {
        let message =
            format!("the column {name:?} is named for two things, of text, pair and target");
        return Err(Error::format(path, message));
    }
    let format = columns.format.map_or_else(|| TableFormat::of(path), Ok)?;
    let dialect = match format {
        TableFormat::Csv => Dialect { delimiter: b',', quoting: columns.quoting.unwrap_or(true) },
        TableFormat::Tsv => Dialect { delimiter: b'\t', quoting: columns.quoting.unwrap_or(false) },
        TableFormat::Jsonl => return read_json_lines(path, columns),
    };
    let rows = Rows::read(path, dialect, None)?;
    let text = rows.column(columns.text)?;
    let pair = columns.pair.map(|name| rows.column(name)).transpose()?;
    let target = columns.target.map(|name| rows.column(name)).transpose()?;
    if let (true, Some(target)) = (dialect.quoting, target) {
        refuse_swallowed(&rows, target, dialect.delimiter)?;
    }
    let records = rows.rows.into_iter().map(|row| Record {
        line: row.line,
        text: row.fields[text].clone(),
        pair: pair.map(|pair| row.fields[pair].clone()),
        target: target.map(|target| Field::Text(row.fields[target].clone())),
    });
    Ok(records.collect())
}

/// Rejects a quoted field that spans lines if one of them is a whole row, with a target that other
/// rows have: its quote was never closed, and a quote of a later row ended it.
fn refuse_swallowed(rows: &Rows, target: usize, delimiter: u8) -> Result<()> {
    let (long, plain): (Vec<&Row>, Vec<&Row>) =
        rows.rows.iter().partition(|row| row.fields.iter().any(|field| field.contains('\n')));
    if long.is_empty() {
        return Ok(());
    }
    let values: HashSet<&str> = plain.iter().map(|row| row.fields[target].trim()).collect();
    let is_number = |value: &str| value.parse::<f64>().is_ok();
    let numbers = !values.is_empty() && values.iter().all(|value| is_number(value));
    let is_row = |line: &str| {
        let fields: Vec<&str> = line.split(char::from(delimiter)).collect();
        let value = fields.get(target).map_or("", |value| value.trim());
        fields.len() == rows.columns.len()
            && (values.contains(value) || (numbers && is_number(value)))
    };
    for row in long {
        let lines = row.fields.iter().zip(&rows.columns);
        let mut lines = lines.flat_map(|(field, name)| field.lines().map(move |line| (line, name)));
        if let Some((line, column)) = lines.find(|(line, _)| is_row(line)) {
            let message = format!(
                "column {column:?} of this row holds the whole row {line:?}: a quote (\") is open \
                 somewhere. Close it, or have quotes read as text with --quoting=false; if the text \
                 is meant to be so, store it as JSON lines (.jsonl)"
            );
            return Err(rows.error_at(row.line, message));
        }
    }
    Ok(())
}

fn read_json_lines(path: &Path, columns: Columns<'_>) -> Result<Vec<Record>> {
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
            text: record.text(columns.text)?,
            pair: columns.pair.map(|name| record.text(name)).transpose()?,
            target: columns.target.map(|name| record.field(name)).transpose()?.flatten(),
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
