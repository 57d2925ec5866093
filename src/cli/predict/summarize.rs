//! `losparse predict` with a text-to-text model, which summarizes.

use std::path::Path;

use losparse::tasks::summarization::SummarizationExample;
use losparse::train::{Interrupt, Silent, StoredColumns, TaskRecipe, TextGenerator, speed_note};
use losparse::{Error, Result};
use serde::Serialize;
use serde_json::Value;

use super::input::{Line, Lines, batches};
use crate::cli::global::GlobalArgs;
use crate::cli::options::summaries::SummaryArgs;
use crate::cli::options::task::TableArgs;
use crate::cli::output;

impl SummaryArgs {
    /// A summarization task with the settings that were given.
    pub fn asked(&self, max_length: Option<usize>) -> TaskRecipe {
        let name = "summarization".to_string();
        let mut task = TaskRecipe { name, max_length, ..TaskRecipe::default() };
        self.apply(&mut task);
        task
    }

    /// Batches of documents: those given, or those of a file or the standard input.
    pub fn documents(
        &self,
        texts: &[String],
        file: Option<&Path>,
        table: &TableArgs,
        columns: &StoredColumns,
        batch_size: usize,
    ) -> Result<Documents> {
        let lines = match file {
            Some(path) if path.extension().is_some_and(|end| end == "txt") => {
                Lines::of_file(path, batch_size)?
            }
            Some(path) => {
                let mut task = self.asked(None);
                table.apply(&mut task);
                task.name.clear();
                columns.fill(&mut task, Some(path));
                let documents = task.summarization_options().read_documents(path)?.examples;
                return Ok(Box::new(batches(documents, batch_size)));
            }
            None if texts.is_empty() => Lines::of_stdin("documents", batch_size),
            None => {
                let documents = texts.iter().cloned().map(example).collect();
                return Ok(Box::new(batches(documents, batch_size)));
            }
        };
        let stored = self.document.clone().or(columns.document.clone());
        let column = stored.unwrap_or(self.asked(None).summarization_options().document);
        let documents = move |lines: Result<Vec<Line>>| {
            lines?.into_iter().map(|line| document(line, &column).map(example)).collect()
        };
        Ok(Box::new(lines.at_least_one()?.map(documents)))
    }
}

/// Batches of documents.
type Documents = Box<dyn Iterator<Item = Result<Vec<SummarizationExample>>>>;

fn example(document: String) -> SummarizationExample {
    SummarizationExample { document, summary: None }
}

/// The document of a line: the whole line, or if that is a JSON object its field `column`.
fn document(line: Line, column: &str) -> Result<String> {
    let Line { number, text } = line;
    if !text.trim_start().starts_with('{') {
        return Ok(text);
    }
    let failed =
        |message: String| Err(Error::option("document", format!("line {number}: {message}")));
    match serde_json::from_str(&text) {
        Ok(Value::Object(mut object)) => match object.remove(column) {
            Some(Value::String(document)) => Ok(document),
            _ => failed(format!("no text {column:?} in it")),
        },
        Err(error) if text.trim_start().starts_with("{\"") => {
            failed(format!("begins like a JSON object but is not one: {error}"))
        }
        _ => Ok(text),
    }
}

/// Summarizes `documents` and prints one summary a line, those of a batch before the next batch is
/// read.
pub fn summarize(
    summarizer: &TextGenerator<'_>,
    documents: Documents,
    global: &GlobalArgs,
) -> anyhow::Result<()> {
    // Ctrl-C simply ends the program: summaries that were printed are good.
    let never = Interrupt::default();
    let (mut count, mut tokens, mut seconds) = (0, 0, 0.0);
    for documents in documents {
        let documents = documents?;
        let done = summarizer.generate(&documents, &Silent, &never)?;
        let summaries = done.texts()?;
        match global.json {
            true => {
                let pairs = documents.iter().zip(&summaries);
                let printed = pairs.map(|(e, summary)| Printed { document: &e.document, summary });
                output::print_json_lines(printed)?;
            }
            false => output::print_lines(summaries.into_iter())?,
        }
        let speed = done.speed();
        (count, tokens, seconds) = (count + documents.len(), tokens + speed.0, seconds + speed.1);
    }
    if let Some(text) = speed_note(count, tokens, seconds) {
        global.note(&text);
    }
    Ok(())
}

/// A summary as printed with `--json`.
#[derive(Serialize)]
struct Printed<'a> {
    document: &'a str,
    summary: &'a str,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_document_or_an_object_that_has_it() {
        let read = |text: &str| {
            let read = document(Line { number: 7, text: text.into() }, "article");
            read.map_err(|error| error.to_string())
        };
        for text in ["", "  ", "A cat.", "[1]", "{braces} first", "7"] {
            assert_eq!(read(text).as_deref(), Ok(text));
        }
        assert_eq!(read(r#" {"article": "A cat.", "id": 1}"#).as_deref(), Ok("A cat."));
        for wrong in [r#"{"text": "A cat."}"#, r#"{"article": 7}"#, r#"{"article": "A ca"#] {
            let error = read(wrong).unwrap_err();
            assert!(error.contains("line 7: "), "{error}");
        }
    }
}
