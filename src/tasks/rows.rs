//! Reads rows of delimited text files, with their line numbers for messages.

use std::path::{Path, PathBuf};

use super::unclosed_quotes::first_fault;
use crate::files::read_text;
use crate::{Error, Result};

/// The delimiter of columns, and whether `"` quotes fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Dialect {
    pub delimiter: u8,
    pub quoting: bool,
}

/// The dialect of GLUE's files: tabs, no quoting.
pub(super) const TSV: Dialect = Dialect { delimiter: b'\t', quoting: false };

/// A row of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Row {
    /// Line of the file the row begins at, from 1.
    pub line: u64,
    pub fields: Vec<String>,
}

/// All rows of a file. Every row has a field for each column, unless read by [`Rows::read_ragged`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rows {
    pub path: PathBuf,
    pub columns: Vec<String>,
    pub rows: Vec<Row>,
}

impl Rows {
    /// Reads a file. Without `columns`, its first row names the columns.
    pub fn read(path: &Path, dialect: Dialect, columns: Option<&[&str]>) -> Result<Self> {
        let rows = Self::read_ragged(path, dialect, columns)?;
        for row in &rows.rows {
            if row.fields.len() != rows.columns.len() {
                let hint = if dialect.quoting {
                    "is a quote or delimiter missing?"
                } else {
                    "is a delimiter missing, or does the file use quotes?"
                };
                let message = format!(
                    "{} fields, but {} columns ({}); {hint}",
                    row.fields.len(),
                    rows.columns.len(),
                    rows.columns.join(", ")
                );
                return Err(rows.error_at(row.line, message));
            }
        }
        Ok(rows)
    }

    /// As [`Rows::read`], but keeps rows that have too few or too many fields.
    pub fn read_ragged(path: &Path, dialect: Dialect, columns: Option<&[&str]>) -> Result<Self> {
        let text = read_text(path)?;
        if dialect.quoting
            && let Some((line, fault)) = first_fault(&text, dialect.delimiter)
        {
            return Err(error_at(path, line, fault.message()));
        }
        let mut reader = csv::ReaderBuilder::new()
            .delimiter(dialect.delimiter)
            .quoting(dialect.quoting)
            .has_headers(false)
            .flexible(true)
            .from_reader(text.as_bytes());
        let mut rows = Vec::new();
        for record in reader.records() {
            let record = record.map_err(|error| Error::format(path, error.to_string()))?;
            let line = record.position().map_or(0, |position| {
                // The position is before blank lines that the reader skips.
                let rest = &text.as_bytes()[position.byte() as usize..];
                let blank = rest.iter().take_while(|byte| matches!(byte, b'\r' | b'\n'));
                position.line() + blank.filter(|byte| **byte == b'\n').count() as u64
            });
            rows.push(Row { line, fields: record.iter().map(str::to_owned).collect() });
        }
        let columns = match columns {
            Some(columns) => columns.iter().map(|column| column.to_string()).collect(),
            None if rows.is_empty() => Vec::new(),
            None => rows.remove(0).fields,
        };
        if rows.is_empty() {
            return Err(Error::format(path, "no rows; the file is empty or has only a header"));
        }
        Ok(Self { path: path.to_path_buf(), columns, rows })
    }

    /// Index of the column called `name`.
    pub fn column(&self, name: &str) -> Result<usize> {
        let mut found = (0..self.columns.len()).filter(|&index| self.columns[index] == name);
        match (found.next(), found.next()) {
            (Some(index), None) => Ok(index),
            (Some(_), Some(_)) => {
                Err(Error::format(&self.path, format!("two columns are called {name:?}")))
            }
            (None, _) => Err(missing_column(&self.path, name, &self.columns)),
        }
    }

    /// An error about one line of the file.
    pub fn error_at(&self, line: u64, message: impl std::fmt::Display) -> Error {
        error_at(&self.path, line, message)
    }
}

/// An error about one line of a file.
pub(super) fn error_at(path: &Path, line: u64, message: impl std::fmt::Display) -> Error {
    Error::format(path, format!("line {line}: {message}"))
}

/// An error about a column that is missing; it names the columns of the file.
pub(super) fn missing_column(path: &Path, name: &str, columns: &[String]) -> Error {
    let separators = [(';', "semicolons"), ('\t', "tabs"), (',', "commas"), ('|', "bars")];
    let only = match columns {
        [one] => separators.into_iter().find(|(separator, _)| one.contains(*separator)),
        _ => None,
    };
    let advice = only.map_or(String::new(), |(_, separators)| {
        format!(
            "; its first line looks separated by {separators}: commas are expected in a .csv, tabs \
             in a .tsv"
        )
    });
    let columns = columns.join(", ");
    Error::format(path, format!("no column {name:?}; the columns are: {columns}{advice}"))
}

/// Parses a finite number.
pub(super) fn parse_score(text: &str) -> std::result::Result<f32, String> {
    match text.trim().parse::<f32>() {
        Ok(score) if score.is_finite() => Ok(score),
        Ok(_) => Err(format!("{text:?} is not a finite number")),
        Err(_) => Err(format!("{text:?} is not a number")),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn write(text: &[u8]) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), text).unwrap();
        file
    }

    #[test]
    fn lines_are_counted_past_blank_ones_and_quoted_breaks() {
        let file = write(b"\xef\xbb\xbfa,b\r\n\r\n1,\"x\r\ny\"\r\n\r\n\r\n2,z\r\n3,w");
        let dialect = Dialect { delimiter: b',', quoting: true };
        let rows = Rows::read(file.path(), dialect, None).unwrap();
        assert_eq!(rows.columns, ["a", "b"]);
        let lines: Vec<u64> = rows.rows.iter().map(|row| row.line).collect();
        assert_eq!(lines, [3, 7, 8]);
        assert_eq!(rows.rows[0].fields, ["1", "x\r\ny"]);
    }

    #[test]
    fn tsv_keeps_quotes() {
        let file = write(b"a\tb\n\"x\t\"y\" z\n");
        let rows = Rows::read(file.path(), TSV, None).unwrap();
        assert_eq!(rows.rows[0].fields, ["\"x", "\"y\" z"]);
    }

    #[test]
    fn broken_files_name_their_line() {
        let ragged = write(b"a\tb\n1\t2\n\n3\n");
        let message = Rows::read(ragged.path(), TSV, None).unwrap_err().to_string();
        assert!(message.contains("line 4: 1 fields, but 2 columns (a, b)"), "{message}");
        let latin1 = write(b"a\tb\nx\t2\ncaf\xe9\t2\n");
        let message = Rows::read(latin1.path(), TSV, None).unwrap_err().to_string();
        assert!(message.contains("line 3 is not UTF-8"), "{message}");
        for text in [&b""[..], b"a\tb\n", b"\n\n"] {
            let message = Rows::read(write(text).path(), TSV, None).unwrap_err().to_string();
            assert!(message.contains("no rows"), "{message}");
        }
        let message = Rows::read(Path::new("no-such-file.tsv"), TSV, None).unwrap_err();
        assert!(message.to_string().contains("no-such-file.tsv"), "{message}");
    }

    #[test]
    fn columns_are_found_by_name() {
        let file = write(b"a\tb\ta\n1\t2\t3\n");
        let rows = Rows::read(file.path(), TSV, None).unwrap();
        assert_eq!(rows.column("b").unwrap(), 1);
        assert!(rows.column("a").unwrap_err().to_string().contains("two columns"));
        let missing = rows.column("label").unwrap_err().to_string();
        assert!(missing.contains("no column \"label\"; the columns are: a, b, a"), "{missing}");
    }
}
