//! Tables: CSV, TSV, JSON lines, GLUE's files, documents with summaries.

use std::path::{Path, PathBuf};

use losparse::Result;
use losparse::tasks::{
    GlueTask, Label, Split, SummarizationOptions, TableFormat, TableOptions, TableTarget, Task,
};
use serde_json::json;

use super::files::scratch;
use super::input::Input;
use super::{Outcome, outcome};

const FORMATS: [(TableFormat, &str); 3] =
    [(TableFormat::Csv, "csv"), (TableFormat::Tsv, "tsv"), (TableFormat::Jsonl, "jsonl")];

/// A table made of the input: no row goes missing or comes from nowhere. Or a table of texts from
/// the input, written by the rules of its format: they are read as they were.
pub fn table(data: &[u8]) -> Outcome {
    let mut input = Input::new(data);
    let scratch = scratch();
    let (format, extension) = *input.choose(&FORMATS);
    let path = scratch.path().join(format!("table.{extension}"));
    let write = |bytes: &[u8]| std::fs::write(&path, bytes).expect("a file");
    match input.byte() % 5 {
        0 => {
            let options = options(&mut input);
            let bytes = input.rest();
            write(bytes);
            outcome(given(&path, bytes, format, &options))
        }
        1 => {
            let texts = texts(&mut input);
            write(written(&texts, format, input.flag()).as_bytes());
            round_trip(&path, &texts, format);
            Ok(())
        }
        2 => {
            let task = *input.choose(&GlueTask::ALL);
            let split = *input.choose(&[Split::Train, Split::Dev, Split::Test]);
            let Some(name) = task.file_name(split) else { return Ok(()) };
            let bytes = input.rest();
            std::fs::write(scratch.path().join(name), bytes).expect("a file");
            let set = task.load(scratch.path(), split);
            if let Ok(set) = &set {
                let lines = lines(&text(bytes)).count();
                let rows = set.len() + set.skipped;
                assert!(rows == lines || rows + 1 == lines, "{rows} of {lines} lines");
            }
            outcome(set)
        }
        _ => {
            let options = SummarizationOptions {
                document: "text".into(),
                summary: "pair".into(),
                format: None,
                quoting: quoting(&mut input),
            };
            let bytes = input.rest();
            write(bytes);
            let set = options.read(&path);
            if let Ok(set) = &set {
                let rows = rows(&text(bytes), format, options.quoting);
                assert_eq!(set.len() + set.skipped, rows, "rows went missing");
            }
            outcome(set)
        }
    }
}

fn quoting(input: &mut Input) -> Option<bool> {
    *input.choose(&[None, Some(true), Some(false)])
}

fn options(input: &mut Input) -> TableOptions {
    let column = || "label".to_string();
    let labels = ["up", "down", "1"].map(String::from).to_vec();
    let targets = [
        TableTarget::Label { column: column(), labels: None },
        TableTarget::Label { column: column(), labels: Some(labels) },
        TableTarget::Score { column: column() },
    ];
    TableOptions {
        name: "mood".into(),
        text: "text".into(),
        pair: input.flag().then(|| "pair".into()),
        target: input.choose(&targets).clone(),
        format: None,
        quoting: quoting(input),
    }
}

/// Reads a file as training data, as data to evaluate on, and as texts without answers.
fn given(path: &Path, bytes: &[u8], format: TableFormat, options: &TableOptions) -> Result<()> {
    let task = Task::classification("mood", ["down", "up"].map(String::from).to_vec())?;
    let rows = || rows(&text(bytes), format, options.quoting);
    let unlabeled = options.read_unlabeled(path, &task);
    if let Ok(set) = &unlabeled {
        assert_eq!(set.len() + set.skipped, rows(), "rows went missing");
    }
    let train = options.read_train(path)?;
    assert_eq!(train.len() + train.skipped, rows(), "rows went missing");
    let classes = train.task.labels().len();
    for example in &train.examples {
        match example.label {
            Some(Label::Class(class)) => assert!(class < classes, "class {class} of {classes}"),
            Some(Label::Score(score)) => assert!(score.is_finite(), "a score of {score}"),
            None => panic!("training data without an answer"),
        }
    }
    let eval = options.read_eval(path, &train.task).expect("labels that were just read");
    assert_eq!(eval.examples, train.examples, "other examples at the second reading");
    let unlabeled = unlabeled.expect("texts that were just read");
    if train.skipped == 0 {
        for (without, with) in unlabeled.examples.iter().zip(&train.examples) {
            assert_eq!((&without.text, &without.pair), (&with.text, &with.pair));
        }
    }
    Ok(())
}

/// A file's text, as readers see it.
fn text(bytes: &[u8]) -> String {
    let text = std::str::from_utf8(bytes).expect("what was read is UTF-8");
    text.strip_prefix('\u{feff}').unwrap_or(text).to_string()
}

/// Lines that are not empty, by any line end.
fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.split(['\r', '\n']).filter(|line| !line.is_empty())
}

/// Number of rows below the header, counted by other means than the reader's.
fn rows(text: &str, format: TableFormat, quoting: Option<bool>) -> usize {
    let delimiter = match format {
        TableFormat::Jsonl => {
            return text.lines().filter(|line| !line.trim().is_empty()).count();
        }
        TableFormat::Csv => ',',
        TableFormat::Tsv => '\t',
    };
    if !quoting.unwrap_or(format == TableFormat::Csv) {
        return lines(text).count().saturating_sub(1);
    }
    let mut rows = 0;
    let mut quoted = false;
    let (mut at_field, mut in_row) = (true, false);
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '"' if quoted && characters.peek() == Some(&'"') => drop(characters.next()),
            '"' if quoted => quoted = false,
            _ if quoted => {}
            '"' if at_field => (quoted, at_field, in_row) = (true, false, true),
            '\r' | '\n' => {
                rows += usize::from(in_row);
                (at_field, in_row) = (true, false);
            }
            other => (at_field, in_row) = (other == delimiter, true),
        }
    }
    (rows + usize::from(in_row)).saturating_sub(1)
}

/// Rows of a text and its pair.
fn texts(input: &mut Input) -> Vec<[String; 2]> {
    let mut texts = vec![[input.text(), input.text()]];
    while !input.is_empty() && texts.len() < 20 {
        texts.push([input.text(), input.text()]);
    }
    texts
}

/// The file of these rows, whose labels are `up` and `down` by turns.
fn written(texts: &[[String; 2]], format: TableFormat, windows: bool) -> String {
    let end = if windows { "\r\n" } else { "\n" };
    let label = |at: usize| ["up", "down"][at % 2];
    let rows = texts.iter().enumerate();
    if format == TableFormat::Jsonl {
        let row = |(at, [text, pair]): (usize, &[String; 2])| {
            json!({"text": text, "pair": pair, "label": label(at)}).to_string() + end
        };
        return rows.map(row).collect();
    }
    let delimiter = if format == TableFormat::Csv { "," } else { "\t" };
    let quote = |text: &str| format!("\"{}\"", text.replace('"', "\"\""));
    let header = ["text", "pair", "label"].join(delimiter) + end;
    let row = |(at, [text, pair]): (usize, &[String; 2])| {
        [quote(text), quote(pair), quote(label(at))].join(delimiter) + end
    };
    header + &rows.map(row).collect::<String>()
}

fn round_trip(path: &PathBuf, texts: &[[String; 2]], format: TableFormat) {
    let options = TableOptions {
        name: "mood".into(),
        text: "text".into(),
        pair: Some("pair".into()),
        target: TableTarget::Label {
            column: "label".into(),
            labels: Some(["up", "down"].map(String::from).to_vec()),
        },
        format: Some(format),
        quoting: Some(true),
    };
    let set = match options.read_train(path) {
        // A field of several lines, one of which is a row, is refused: it may be an open quote.
        Err(error) if error.to_string().contains("holds the whole row") => return,
        set => set.expect("a table written by its format's rules"),
    };
    assert_eq!(set.len(), texts.len(), "rows went missing");
    for (at, (example, [text, pair])) in set.examples.iter().zip(texts).enumerate() {
        assert_eq!((&example.text, example.pair.as_ref()), (text, Some(pair)), "row {at}");
        assert_eq!(example.label, Some(Label::Class(at % 2)), "row {at}");
    }
}
