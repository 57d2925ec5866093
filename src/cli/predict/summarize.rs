//! `losparse predict` with a text-to-text model, which summarizes.

use std::path::Path;

use losparse::Result;
use losparse::tasks::summarization::SummarizationExample;
use losparse::train::{Interrupt, Silent, StoredColumns, TaskRecipe, TextGenerator, speed_note};
use serde::Serialize;
use serde_json::Value;

use super::input::{Line, Lines, Tally, Unanswered, batches};
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
                let documents = documents.into_iter().map(Ok).collect();
                return Ok(Box::new(batches(documents, batch_size)));
            }
            None if texts.is_empty() => Lines::of_stdin("documents", batch_size),
            None => {
                let documents = texts.iter().cloned().map(example).map(Ok).collect();
                return Ok(Box::new(batches(documents, batch_size)));
            }
        };
        let stored = self.document.clone().or(columns.document.clone());
        let column = stored.unwrap_or(self.asked(None).summarization_options().document);
        let documents = move |lines: Result<Vec<Line>>| {
            Ok(lines?.into_iter().map(|line| document(line, &column).map(example)).collect())
        };
        Ok(Box::new(lines.at_least_one()?.map(documents)))
    }
}

/// Batches of documents.
type Documents = Box<dyn Iterator<Item = Result<Vec<Asked>>>>;

/// A document to summarize, or an input that gets no answer.
type Asked = Result<SummarizationExample, Unanswered>;

fn example(document: String) -> SummarizationExample {
    SummarizationExample { document, summary: None }
}

/// The document of a line: the whole line, or if that is a JSON object its field `column`.
fn document(line: Line, column: &str) -> Result<String, Unanswered> {
    let Line { number: line, text } = line;
    let fault = |error: String| Unanswered { line, error };
    let text = text.map_err(fault)?;
    if !text.trim_start().starts_with('{') {
        return Ok(text);
    }
    match serde_json::from_str(&text) {
        Ok(Value::Object(mut object)) => match object.remove(column) {
            Some(Value::String(document)) => Ok(document),
            _ => Err(fault(format!("no text {column:?} in it; --document names the field"))),
        },
        Err(error) if text.trim_start().starts_with("{\"") => {
            Err(fault(format!("begins like a JSON object but is not one: {error}")))
        }
        _ => Ok(text),
    }
}

/// Summarizes `documents` and prints one summary a line, those of a batch before the next batch is
/// read. A document without a summary gets an empty line, or an object with the error.
///
/// # Errors
/// Also at the end, if a document got no summary.
pub fn summarize(
    summarizer: &TextGenerator<'_>,
    documents: Documents,
    global: &GlobalArgs,
) -> anyhow::Result<()> {
    // Ctrl-C simply ends the program: summaries that were printed are good.
    let never = Interrupt::default();
    let (mut count, mut tokens, mut seconds) = (0, 0, 0.0);
    let mut tally = Tally::default();
    for asked in documents {
        let asked = asked?;
        tally.add(&asked);
        let documents: Vec<_> = asked.iter().flatten().cloned().collect();
        let done = summarizer.generate(&documents, &Silent, &never)?;
        let mut summaries = done.texts()?.into_iter();
        let in_order = asked.iter().map(|asked| match asked {
            Ok(example) => {
                let summary = summaries.next().unwrap_or_default();
                Printed::Summary { document: &example.document, summary }
            }
            Err(fault) => Printed::Fault(fault),
        });
        match global.json {
            true => output::print_json_lines(in_order)?,
            false => output::print_lines(in_order.map(|line| match line {
                Printed::Summary { summary, .. } => summary,
                Printed::Fault(fault) => {
                    output::note(&fault.to_string());
                    ""
                }
            }))?,
        }
        let speed = done.speed();
        (count, tokens, seconds) = (count + documents.len(), tokens + speed.0, seconds + speed.1);
    }
    if let Some(text) = speed_note(count, tokens, seconds) {
        global.note(&text);
    }
    tally.end()
}

/// A line of `--json`.
#[derive(Serialize)]
#[serde(untagged)]
enum Printed<'a> {
    Summary { document: &'a str, summary: &'a str },
    Fault(&'a Unanswered),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_document_or_an_object_that_has_it() {
        let read = |text: &str| {
            let read = document(Line { number: 7, text: Ok(text.into()) }, "article");
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
