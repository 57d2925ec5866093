//! `losparse predict`.

use std::io::{IsTerminal, Read};
use std::path::PathBuf;

use anyhow::Context;
use losparse::models::{AnyModel, FolderModel, ProblemType};
use losparse::tasks::metrics::argmax;
use losparse::tasks::{Example, TableOptions, TableTarget};
use losparse::train::{Interrupt, Summarizer, TaskRecipe, predict_logits};
use losparse::{Error, Result};
use serde_json::{Map, Value, json};

use super::answer::{AnswerArgs, answer};
use super::args::TableArgs;
use super::machine::MachineArgs;
use super::model::Opened;
use super::output;
use super::summarize::summarize;
use super::summary_args::SummaryArgs;

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  losparse predict small/model \"A gripping film.\" \"Two hours of nothing.\"
  losparse predict small/model \"He is asleep.\" --pair \"He sleeps.\"
  losparse predict small/model --file reviews.csv --text review --json > labels.jsonl
  cat lines.txt | losparse predict small/model
  losparse predict answers/model --question \"Who sleeps?\" --context \"The cat sleeps.\"
  losparse predict summaries/model --file articles.jsonl --document article --json

Without texts and --file, every line of the standard input is a text; a tab divides a pair. A
model that summarizes also takes JSON lines there, and --file with a .txt of one text a line.")]
pub struct Args {
    /// Model folder: Hugging Face's, a compressed one, or a run's output folder
    #[arg(value_name = "MODEL")]
    model: PathBuf,
    /// Texts
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
    /// Longest input; longer ones are cut [default: as trained, or the model's longest]
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
    pub fn run(&self, machine: &MachineArgs) -> anyhow::Result<()> {
        let device = machine.open()?;
        let opened = Opened::load_for_inference(&self.model, &device)?;
        opened.check_head()?;
        self.refuse_others(&opened.model)?;
        let longest = opened.max_length(self.max_length, opened.model.max_length())?;
        let tokenizer = opened.tokenizer(longest)?;
        let model = match &opened.model {
            AnyModel::SequenceClassifier(model) => model,
            AnyModel::QuestionAnswerer(model) => {
                let examples = self.answer.examples(self.file.as_ref())?;
                let settings = self.answer.settings(&opened)?;
                let batch_size = self.batch_size;
                let json = machine.json;
                return answer(model, &tokenizer, examples, settings, batch_size, &device, json);
            }
            AnyModel::Seq2Seq(model) => {
                let asked = self.summaries.asked(self.max_length);
                let (settings, own) = opened.summarization(&asked)?;
                let documents = {
                    let file = self.file.as_deref();
                    let columns = opened.columns()?;
                    self.summaries.documents(&self.texts, file, &self.table, &columns)?
                };
                let tokenizer = &opened.tokenizer(settings.max_source_length)?;
                let (settings, own, batch_size) = (&settings, &own, self.batch_size);
                let device = &device;
                let summarizer = Summarizer { model, tokenizer, settings, own, batch_size, device };
                return summarize(&summarizer, &documents, machine);
            }
        };
        let examples = self.examples(&opened)?;
        let encoded = tokenizer.encode_examples(&examples)?;
        let never = Interrupt::default();
        let pad_id = tokenizer.pad_id();
        let logits = predict_logits(model, &encoded, pad_id, self.batch_size, &device, &never)?;
        if let Some(at) = logits.iter().position(|row| row.iter().any(|l| !l.is_finite())) {
            let message = format!("the model's answer to text {} is not a finite number", at + 1);
            return Err(Error::format(&opened.folder, message).into());
        }
        let names = opened.model.labels().names();
        let kind = opened.model.labels().problem_type();
        let answers: Vec<Answer> = logits.iter().map(|row| Answer::new(kind, row)).collect();
        if machine.json {
            return examples.iter().zip(&answers).try_for_each(|(example, answer)| {
                output::print_json(&answer.json(example, &names))
            });
        }
        let rows: Vec<Vec<String>> = examples
            .iter()
            .zip(&answers)
            .map(|(example, answer)| {
                let [label, number] = answer.cells(&names);
                let pair = example.pair.as_ref().map(|pair| format!(" | {pair}"));
                let text = format!("{}{}", example.text, pair.unwrap_or_default());
                vec![label, number, output::shorten(&text, 60)]
            })
            .collect();
        let table = match kind {
            ProblemType::Regression => {
                let rows: Vec<Vec<String>> =
                    rows.into_iter().map(|row| row[1..].to_vec()).collect();
                output::table(&["score", "text"], &[0], &rows)
            }
            _ => output::table(&["label", "probability", "text"], &[1], &rows),
        };
        Ok(output::print(&table)?)
    }

    /// An error if an option was given that is for another kind of model.
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

    fn examples(&self, opened: &Opened) -> anyhow::Result<Vec<Example>> {
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
                return Err(Error::option("text", message).into());
            };
            if self.pair.len() > 1 {
                return Err(Error::option("pair", "with --file, give one column").into());
            }
            let options = TableOptions {
                name: "predict".into(),
                text,
                pair: asked.pair,
                // Not read: prediction needs no answers.
                target: TableTarget::Score { column: String::new() },
                format: asked.format,
                quoting: asked.quoting,
            };
            return Ok(options.read_unlabeled(file, &opened.own_task("predict")?)?.examples);
        }
        if self.texts.is_empty() {
            if !self.pair.is_empty() {
                let message =
                    "goes with TEXT or --file; on the standard input a tab divides a pair";
                return Err(Error::option("pair", message).into());
            }
            return read_stdin();
        }
        let examples = pair_up(&self.texts, &self.pair)?;
        Ok(examples)
    }
}

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

fn read_stdin() -> anyhow::Result<Vec<Example>> {
    if std::io::stdin().is_terminal() {
        output::note("reading texts from the keyboard, one a line; end with Ctrl-D");
    }
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text).context("standard input")?;
    let lines = text.lines().filter(|line| !line.trim().is_empty());
    let examples: Vec<Example> = lines
        .map(|line| match line.split_once('\t') {
            Some((text, pair)) => {
                Example { text: text.into(), pair: Some(pair.into()), label: None }
            }
            None => Example { text: line.into(), pair: None, label: None },
        })
        .collect();
    if examples.is_empty() {
        let message = "no text given; give TEXT, --file, or lines on the standard input";
        return Err(Error::option("TEXT", message).into());
    }
    Ok(examples)
}

/// A model's answer to one text.
#[derive(Debug, PartialEq)]
enum Answer {
    Score(f64),
    /// Probability of each class, and the most likely one.
    Class(usize, Vec<f64>),
    /// Probability of each of several labels.
    Several(Vec<f64>),
}

impl Answer {
    fn new(kind: ProblemType, logits: &[f32]) -> Self {
        let values = || logits.iter().map(|&logit| f64::from(logit));
        match kind {
            ProblemType::Regression => Self::Score(values().next().unwrap_or(f64::NAN)),
            ProblemType::SingleLabelClassification => {
                let largest = values().fold(f64::NEG_INFINITY, f64::max);
                let powers: Vec<f64> = values().map(|value| (value - largest).exp()).collect();
                let sum: f64 = powers.iter().sum();
                Self::Class(argmax(logits), powers.into_iter().map(|power| power / sum).collect())
            }
            ProblemType::MultiLabelClassification => {
                Self::Several(values().map(|value| 1.0 / (1.0 + (-value).exp())).collect())
            }
        }
    }

    fn labels<'n>(&self, names: &'n [String]) -> Vec<&'n str> {
        let chosen: Vec<usize> = match self {
            Self::Score(_) => vec![],
            Self::Class(best, _) => vec![*best],
            Self::Several(each) => (0..each.len()).filter(|&at| each[at] > 0.5).collect(),
        };
        chosen.into_iter().filter_map(|at| names.get(at)).map(String::as_str).collect()
    }

    fn cells(&self, names: &[String]) -> [String; 2] {
        let number = match self {
            Self::Score(score) => format!("{score:.4}"),
            Self::Class(best, each) => format!("{:.4}", each[*best]),
            Self::Several(each) => {
                let chosen = each.iter().filter(|probability| **probability > 0.5);
                chosen.map(|p| format!("{p:.4}")).collect::<Vec<_>>().join(", ")
            }
        };
        [self.labels(names).join(", "), number]
    }

    fn json(&self, example: &Example, names: &[String]) -> Value {
        let mut object = json!({"text": example.text});
        if let Some(pair) = &example.pair {
            object["pair"] = pair.as_str().into();
        }
        let by_name = |each: &[f64]| -> Map<String, Value> {
            names.iter().zip(each).map(|(name, p)| (name.clone(), json!(p))).collect()
        };
        match self {
            Self::Score(score) => object["score"] = json!(score),
            Self::Class(best, each) => {
                object["label"] = json!(names.get(*best));
                object["probability"] = json!(each[*best]);
                object["probabilities"] = by_name(each).into();
            }
            Self::Several(each) => {
                object["labels"] = json!(self.labels(names));
                object["probabilities"] = by_name(each).into();
            }
        }
        object
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_follow_the_kind_of_task() {
        let names = ["no".to_string(), "yes".to_string()];
        let example = Example { text: "a".into(), pair: Some("b".into()), label: None };
        let class =
            Answer::new(ProblemType::SingleLabelClassification, &[1000.0, 1000.0 + 3f32.ln()]);
        assert_eq!(class.cells(&names), ["yes", "0.7500"]);
        let json = class.json(&example, &names);
        assert_eq!((&json["pair"], &json["label"]), (&json!("b"), &json!("yes")));
        assert!((json["probabilities"]["no"].as_f64().unwrap() - 0.25).abs() < 1e-5);
        let several = Answer::new(ProblemType::MultiLabelClassification, &[2.0, 1.0]);
        assert_eq!(several.cells(&names), ["no, yes", "0.8808, 0.7311"]);
        let score = Answer::new(ProblemType::Regression, &[2.5]);
        assert_eq!(score.json(&example, &names)["score"], json!(2.5));
    }

    #[test]
    fn pairs_are_as_many_as_texts() {
        let texts = ["a".to_string(), "b".to_string()];
        assert_eq!(pair_up(&texts, &texts).unwrap()[1].pair.as_deref(), Some("b"));
        assert_eq!(pair_up(&texts, &[]).unwrap()[1].pair, None);
        let error = pair_up(&texts, &texts[..1]).unwrap_err().to_string();
        assert!(error.contains("option pair: given 1 times for 2 texts"), "{error}");
    }
}
