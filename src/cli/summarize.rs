//! `losparse predict` with a model that summarizes.

use std::io::{IsTerminal, Read};
use std::path::Path;

use anyhow::Context;
use losparse::tasks::summarization::SummarizationExample;
use losparse::train::{Interrupt, StoredColumns, Summarizer, TaskRecipe};
use losparse::{Error, Result};
use serde_json::{Value, json};

use super::args::TableArgs;
use super::machine::MachineArgs;
use super::output;
use super::progress::Progress;
use super::run::stop_on_ctrl_c;
use super::summary_args::SummaryArgs;

impl SummaryArgs {
    /// The settings asked for, as a task.
    pub fn asked(&self, max_length: Option<usize>) -> TaskRecipe {
        let name = "summarization".to_string();
        let mut task = TaskRecipe { name, max_length, ..TaskRecipe::default() };
        self.apply(&mut task);
        task
    }

    /// The documents given, or those of a file or of the standard input.
    pub fn documents(
        &self,
        texts: &[String],
        file: Option<&Path>,
        table: &TableArgs,
        columns: &StoredColumns,
    ) -> anyhow::Result<Vec<SummarizationExample>> {
        let documents = match file {
            Some(path) if path.extension().is_some_and(|end| end == "txt") => {
                let text = losparse::files::read_text(path)?;
                self.lines(&text, columns)?
            }
            Some(path) => {
                let mut task = self.asked(None);
                table.apply(&mut task);
                task.name.clear();
                columns.fill(&mut task, Some(path));
                return Ok(task.summarization_options().read_documents(path)?.examples);
            }
            None if texts.is_empty() => {
                if std::io::stdin().is_terminal() {
                    output::note(
                        "reading documents from the keyboard, one a line; end with Ctrl-D",
                    );
                }
                let mut text = String::new();
                std::io::stdin().read_to_string(&mut text).context("standard input")?;
                self.lines(&text, columns)?
            }
            None => texts.to_vec(),
        };
        if documents.is_empty() {
            let message = "no text given; give TEXT, --file, or lines on the standard input";
            return Err(Error::option("TEXT", message).into());
        }
        let example = |document| SummarizationExample { document, summary: None };
        Ok(documents.into_iter().map(example).collect())
    }

    /// A document a line; of lines that are JSON objects, the column of the document.
    fn lines(&self, text: &str, columns: &StoredColumns) -> Result<Vec<String>> {
        let stored = self.document.clone().or(columns.document.clone());
        let column = stored.unwrap_or(self.asked(None).summarization_options().document);
        let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
        lines
            .map(|(at, line)| match serde_json::from_str(line) {
                Ok(Value::Object(object)) => {
                    let document = object.get(&column).and_then(Value::as_str);
                    document.map(str::to_string).ok_or_else(|| {
                        let message = format!("line {}: no text {column:?} in it", at + 1);
                        Error::option("document", message)
                    })
                }
                _ => Ok(line.to_string()),
            })
            .collect()
    }
}

/// Summarizes `documents` and prints a summary a line.
pub fn summarize(
    summarizer: &Summarizer<'_>,
    documents: &[SummarizationExample],
    machine: &MachineArgs,
) -> anyhow::Result<()> {
    let interrupt = Interrupt::default();
    stop_on_ctrl_c(interrupt.clone())?;
    let progress = Progress::new(machine.quiet, false);
    let done = summarizer.summarize(documents, &progress, &interrupt)?;
    for (example, summary) in documents.iter().zip(done.summaries()?) {
        match machine.json {
            true => {
                output::print_json(&json!({"document": example.document, "summary": summary}))?;
            }
            false => output::print(&summary.replace('\n', " "))?,
        }
    }
    Ok(())
}
