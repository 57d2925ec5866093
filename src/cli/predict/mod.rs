//! `losparse predict`: answers to texts, read from arguments, a file or the standard input.
//!
//! [`Args::run`] opens the model and hands over to the file for its kind: [`classify`], [`answer`]
//! or [`summarize`]. All read their texts through [`input`].

mod answer;
mod classify;
mod input;
mod summarize;

use std::path::PathBuf;

use losparse::models::{AnyModel, FolderModel};
use losparse::tasks::{Example, TableOptions, TableTarget};
use losparse::train::{TaskRecipe, TextGenerator};
use losparse::{Error, Result};

use self::answer::{AnswerArgs, answer};
use self::classify::{Asked, Classifier};
use self::input::{ALIKE, Line, Lines, Unanswered, batches};
use self::summarize::summarize;
use crate::cli::global::GlobalArgs;
use crate::cli::opened::Opened;
use crate::cli::options::summaries::SummaryArgs;
use crate::cli::options::task::TableArgs;
use crate::cli::options::values::check_count;

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  losparse predict small/model \"A gripping film.\" \"Two hours of nothing.\"
  losparse predict small/model \"He is asleep.\" --pair \"He sleeps.\"
  losparse predict small/model --file reviews.csv --text review --json > labels.jsonl
  cat lines.txt | losparse predict small/model
  losparse predict answers/model --question \"Who sleeps?\" --context \"The cat sleeps.\"
  losparse predict summaries/model --file articles.jsonl --document article --json

Without TEXT and --file, every line of the standard input is a text, blank lines too, and is answered
as it comes; a tab divides a pair, unless the model was trained on single texts. A line that cannot be
answered gets an error in its place, and the exit code is then 1. Models that summarize
also take JSON lines there, and as --file a .txt with one text a line.")]
pub struct Args {
    /// Model folder: Hugging Face's, a compressed one, or a run's output folder
    #[arg(value_name = "MODEL")]
    model: PathBuf,
    /// Texts to answer
    #[arg(value_name = "TEXT", conflicts_with = "file")]
    texts: Vec<String>,
    /// Second text of the pair, once for each TEXT; with --file, the column of the second text
    #[arg(long, value_name = "TEXT|COLUMN", help_heading = "Input")]
    pair: Vec<String>,
    /// Texts from a .csv, .tsv or .jsonl file; questions from SQuAD's .json
    #[arg(long, value_name = "FILE", conflicts_with = "question", help_heading = "Input")]
    file: Option<PathBuf>,
    /// Column of the text in the file [default: as in training]
    #[arg(long, value_name = "COLUMN", requires = "file", help_heading = "Input")]
    text: Option<String>,
    #[command(flatten, next_help_heading = "Input")]
    table: TableArgs,
    /// Longest input; longer ones are cut [default: as in training, or the model's longest]
    #[arg(long, value_name = "TOKENS", help_heading = "Input")]
    max_length: Option<usize>,
    /// Texts in a batch
    #[arg(long, value_name = "N", default_value_t = 32, help_heading = "Input")]
    batch_size: usize,
    #[command(flatten)]
    answer: AnswerArgs,
    #[command(flatten)]
    summaries: SummaryArgs,
}

impl Args {
    /// Runs the command.
    pub fn run(&self, global: &GlobalArgs) -> anyhow::Result<()> {
        check_count("batch_size", self.batch_size)?;
        let device = global.open()?;
        let opened = Opened::load_for_inference(&self.model, &device)?;
        opened.check_head()?;
        self.refuse_others(&opened.model)?;
        let longest = opened.max_length(self.max_length, opened.model.max_length())?;
        let tokenizer = opened.tokenizer(longest)?;
        match &opened.model {
            AnyModel::SequenceClassifier(model) => {
                let (opened, tokenizer) = (&opened, &tokenizer);
                let (batch_size, device) = (self.batch_size, &device);
                let classifier = Classifier { opened, model, tokenizer, batch_size, device };
                let pairs = opened.takes_pairs()?;
                classifier.answer(self.examples(opened, pairs)?, global.json)
            }
            AnyModel::QuestionAnswerer(model) => {
                let examples = self.answer.examples(self.file.as_ref())?;
                let settings = self.answer.settings(&opened)?;
                let batch_size = self.batch_size;
                let json = global.json;
                answer(model, &tokenizer, &examples, settings, batch_size, &device, json)
            }
            AnyModel::Seq2Seq(model) => {
                let asked = self.summaries.asked(self.max_length);
                let tell = |text: &str| global.note(text);
                let (settings, own) = opened.summarization(&asked, &tell)?;
                let documents = {
                    let (file, size) = (self.file.as_deref(), self.batch_size);
                    let columns = opened.columns()?;
                    self.summaries.documents(&self.texts, file, &self.table, &columns, size)?
                };
                let tokenizer = &opened.tokenizer(settings.max_source_length)?;
                let (settings, own, batch_size) = (&settings, &own, self.batch_size);
                let device = &device;
                let summarizer =
                    TextGenerator { model, tokenizer, settings, own, batch_size, device };
                summarize(&summarizer, documents, global)
            }
        }
    }

    /// Rejects options that are for another kind of model.
    fn refuse_others(&self, model: &AnyModel) -> Result<()> {
        let column = self.text.as_ref().map(|_| "text");
        let pair = self.pair.first().map(|_| "pair");
        let (answer, summaries) = (self.answer.given(), self.summaries.given());
        let (given, what) = match model {
            AnyModel::SequenceClassifier(_) => {
                (answer.or(summaries), "the model classifies or scores texts: give TEXT or --file")
            }
            AnyModel::QuestionAnswerer(_) => (
                self.texts.first().map(|_| "TEXT").or(column).or(pair).or(summaries),
                "the model answers questions: give --question and --context, or --file",
            ),
            AnyModel::Seq2Seq(_) => (
                answer.or(column).or(pair),
                "the model writes summaries: give TEXT, or --file with the column in --document",
            ),
        };
        given.map_or(Ok(()), |option| Err(Error::option(option, what)))
    }

    /// The texts, [`ALIKE`] batches at a time. `pairs`: whether the model was trained on pairs, if
    /// known.
    ///
    /// # Errors
    /// If they cannot be read, or are no pairs where the model takes pairs; on the standard input that
    /// is an error of the line alone.
    fn examples(&self, opened: &Opened, pairs: Option<bool>) -> Result<Texts> {
        let most = self.batch_size.saturating_mul(ALIKE);
        let given = |examples: Vec<Example>| -> Result<Texts> {
            Opened::check_pairs(&examples, pairs)?;
            Ok(Box::new(batches(examples.into_iter().map(Ok).collect(), most)))
        };
        if let Some(file) = &self.file {
            let mut asked = TaskRecipe {
                text: self.text.clone(),
                pair: self.pair.first().cloned(),
                ..TaskRecipe::default()
            };
            self.table.apply(&mut asked);
            opened.columns()?.fill(&mut asked, Some(file));
            let Some(text) = asked.text else {
                let message = "missing: the column of the file that holds the text";
                return Err(Error::option("text", message));
            };
            if self.pair.len() > 1 {
                return Err(Error::option("pair", "with --file, give one column"));
            }
            let options = TableOptions {
                name: "predict".into(),
                text,
                pair: asked.pair,
                // Prediction reads no target.
                target: TableTarget::Score { column: String::new() },
                format: asked.format,
                quoting: asked.quoting,
            };
            let data = options.read_unlabeled(file, &opened.own_task("predict")?)?;
            return given(data.examples);
        }
        if self.texts.is_empty() {
            if !self.pair.is_empty() {
                let message =
                    "goes with TEXT or --file; on the standard input a tab divides a pair";
                return Err(Error::option("pair", message));
            }
            let lines = Lines::of_stdin("texts", most).at_least_one()?;
            let example = move |line| example(line, pairs);
            return Ok(Box::new(
                lines.map(move |lines| Ok(lines?.into_iter().map(example).collect())),
            ));
        }
        given(pair_up(&self.texts, &self.pair)?)
    }
}

/// Batches of texts to classify.
type Texts = Box<dyn Iterator<Item = Result<Vec<Asked>>>>;

/// The text of a line, or the pair of texts that its first tab divides unless the model was trained on
/// single texts; `pairs` says on what, if known.
fn example(line: Line, pairs: Option<bool>) -> Asked {
    let Line { number: line, text } = line;
    let text = text.map_err(|error| Unanswered { line, error })?;
    match text.split_once('\t').filter(|_| pairs != Some(false)) {
        Some((text, pair)) => {
            Ok(Example { text: text.to_string(), pair: Some(pair.to_string()), label: None })
        }
        None if pairs == Some(true) => {
            let error =
                "stands alone, and the model was trained on pairs of texts: divide them by a tab";
            Err(Unanswered { line, error: error.to_string() })
        }
        None => Ok(Example { text, pair: None, label: None }),
    }
}

/// Examples of `texts`, each with the text of `pairs` at its place, if there are any.
fn pair_up(texts: &[String], pairs: &[String]) -> Result<Vec<Example>> {
    if !pairs.is_empty() && pairs.len() != texts.len() {
        let message = format!("given {} times for {} texts", pairs.len(), texts.len());
        return Err(Error::option("pair", message));
    }
    let mut pairs = pairs.iter().cloned();
    Ok(texts
        .iter()
        .map(|text| Example { text: text.clone(), pair: pairs.next(), label: None })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_as_many_as_texts() {
        let texts = ["a".to_string(), "b".to_string()];
        assert_eq!(pair_up(&texts, &texts).unwrap()[1].pair.as_deref(), Some("b"));
        assert_eq!(pair_up(&texts, &[]).unwrap()[1].pair, None);
        let error = pair_up(&texts, &texts[..1]).unwrap_err().to_string();
        assert!(error.contains("option pair: given 1 times for 2 texts"), "{error}");
    }

    #[test]
    fn the_first_tab_of_a_line_divides_a_pair() {
        let read = |text: &str, pairs: Option<bool>| {
            let read = example(Line { number: 7, text: Ok(text.into()) }, pairs);
            read.map(|Example { text, pair, .. }| (text, pair)).map_err(|fault| fault.to_string())
        };
        let both = |text: &str, pair: &str| Ok((text.to_string(), Some(pair.to_string())));
        let alone = |text: &str| Ok((text.to_string(), None));
        for pairs in [None, Some(true)] {
            assert_eq!(read("a\tb", pairs), both("a", "b"));
            assert_eq!(read("a\tb\tc", pairs), both("a", "b\tc"));
            assert_eq!(read("\tb", pairs), both("", "b"));
        }
        assert_eq!(read("a\tb", Some(false)), alone("a\tb"));
        for pairs in [None, Some(false)] {
            assert_eq!(read("", pairs), alone(""));
        }
        assert!(read("a", Some(true)).unwrap_err().starts_with("line 7: stands alone"));
    }
}
