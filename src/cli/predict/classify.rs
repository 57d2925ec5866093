//! `losparse predict` with a sequence classifier, which gives texts labels or scores.

use std::collections::BTreeMap;

use burn::tensor::Device;
use losparse::inspect::visible;
use losparse::models::{AnySequenceClassifier, FolderModel, ProblemType};
use losparse::tasks::metrics::{argmax, softmax};
use losparse::tasks::{Example, TextTokenizer};
use losparse::train::{Interrupt, predict_logits};
use losparse::{Error, Result};
use serde::Serialize;

use super::input::{Tally, Unanswered};
use crate::cli::opened::Opened;
use crate::cli::output::{self, Table};

/// Widest column of labels, characters.
const WIDEST: usize = 40;

/// A text to classify, or an input that gets no answer.
pub type Asked = Result<Example, Unanswered>;

/// A classifier with all that is needed to run it on texts.
pub struct Classifier<'a> {
    pub opened: &'a Opened,
    pub model: &'a AnySequenceClassifier,
    pub tokenizer: &'a TextTokenizer,
    pub batch_size: usize,
    pub device: &'a Device,
}

impl Classifier<'_> {
    /// Classifies or scores `texts` and prints the answers of each batch before the next is read.
    ///
    /// # Errors
    /// Also at the end, if a text got no answer.
    pub fn answer(
        &self,
        texts: impl Iterator<Item = Result<Vec<Asked>>>,
        as_json: bool,
    ) -> anyhow::Result<()> {
        let labels = self.opened.model.labels();
        let (names, kind) = (labels.names(), labels.problem_type());
        let mut table = table(kind, &names);
        let (mut done, mut tally) = (0, Tally::default());
        for asked in texts {
            let asked = asked?;
            tally.add(&asked);
            let (examples, faults) = apart(asked);
            let answers = self.answers(&examples, kind, done)?;
            done += examples.len();
            let mut pairs = examples.iter().zip(&answers);
            // Every fault stands where its answer would.
            let in_order = faults.iter().filter_map(|fault| match fault {
                Some(fault) => Some(Err(fault)),
                None => pairs.next().map(Ok),
            });
            if as_json {
                output::print_json_lines(in_order.map(|line| match line {
                    Ok((example, answer)) => Line::Answer(answer.json(example, &names)),
                    Err(fault) => Line::Fault(fault),
                }))?;
                continue;
            }
            let rows = in_order.map(|line| {
                let ([label, number], text) = match line {
                    Ok((example, answer)) => (answer.cells(&names), shown(example)),
                    Err(fault) => (["error".to_string(), String::new()], fault.to_string()),
                };
                match (kind, line) {
                    (ProblemType::Regression, Ok(_)) => vec![number, text],
                    (ProblemType::Regression, Err(_)) => vec![label, text],
                    _ => vec![label, number, text],
                }
            });
            output::print(&table.add(&rows.collect::<Vec<_>>()))?;
        }
        tally.end()
    }

    /// Answers to `examples`. `before` counts the examples of earlier batches, for messages.
    fn answers(
        &self,
        examples: &[Example],
        kind: ProblemType,
        before: usize,
    ) -> Result<Vec<Answer>> {
        let encoded = self.tokenizer.encode_examples(examples)?;
        let (never, pad_id) = (Interrupt::default(), self.tokenizer.pad_id());
        let (model, size, device) = (self.model, self.batch_size, self.device);
        let logits = predict_logits(model, &encoded, pad_id, size, device, &never)?;
        if let Some(at) = logits.iter().position(|row| row.iter().any(|l| !l.is_finite())) {
            let number = before + at + 1;
            let message = format!("the model's answer to text {number} is not a finite number");
            return Err(Error::format(&self.opened.folder, message));
        }
        Ok(logits.iter().map(|row| Answer::new(kind, row)).collect())
    }
}

/// The examples, and for each input its fault; `None` stands for the next of the examples.
fn apart(asked: Vec<Asked>) -> (Vec<Example>, Vec<Option<Unanswered>>) {
    let mut examples = Vec::with_capacity(asked.len());
    let faults = asked.into_iter().map(|asked| asked.map(|example| examples.push(example)).err());
    let faults = faults.collect();
    (examples, faults)
}

/// An empty table whose first column has room for every label.
fn table(kind: ProblemType, names: &[String]) -> Table {
    let widest = names.iter().map(|name| visible(name).chars().count().min(WIDEST)).max();
    match kind {
        ProblemType::Regression => Table::new(&["score", "text"], &[0], &["-0.0000".len()]),
        _ => {
            let widths = [widest.unwrap_or(0)];
            Table::new(&["label", "probability", "text"], &[1], &widths)
        }
    }
}

/// The beginning of an example's text, and of its second text if it is a pair.
fn shown(example: &Example) -> String {
    let text = output::shorten(&example.text, 60);
    match &example.pair {
        Some(pair) => output::shorten(&format!("{text} | {}", output::shorten(pair, 60)), 60),
        None => text,
    }
}

/// A model's answer to one text.
#[derive(Debug, PartialEq)]
enum Answer {
    Score(f64),
    /// The most likely class, and the probability of each class.
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
                Self::Class(argmax(logits), softmax(&values().collect::<Vec<_>>()))
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

    fn json<'a>(&self, example: &'a Example, names: &'a [String]) -> Printed<'a> {
        let by_name = |each: &[f64]| {
            Some(names.iter().map(String::as_str).zip(each.iter().copied()).collect())
        };
        let mut printed = Printed {
            text: &example.text,
            pair: example.pair.as_deref(),
            label: None,
            labels: None,
            probability: None,
            probabilities: None,
            score: None,
        };
        match self {
            Self::Score(score) => printed.score = Some(*score),
            Self::Class(best, each) => {
                printed.label = names.get(*best).map(String::as_str);
                printed.probability = Some(each[*best]);
                printed.probabilities = by_name(each);
            }
            Self::Several(each) => {
                printed.labels = Some(self.labels(names));
                printed.probabilities = by_name(each);
            }
        }
        printed
    }
}

/// A line of `--json`.
#[derive(Serialize)]
#[serde(untagged)]
enum Line<'a> {
    Answer(Printed<'a>),
    Fault(&'a Unanswered),
}

/// An answer as printed with `--json`. Borrows the texts, which may be long.
#[derive(Serialize)]
struct Printed<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    label: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    labels: Option<Vec<&'a str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pair: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    probabilities: Option<BTreeMap<&'a str, f64>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    probability: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    score: Option<f64>,
    text: &'a str,
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn answers_follow_the_kind_of_task() {
        let names = ["no".to_string(), "yes".to_string()];
        let example = Example { text: "a".into(), pair: Some("b".into()), label: None };
        let class =
            Answer::new(ProblemType::SingleLabelClassification, &[1000.0, 1000.0 + 3f32.ln()]);
        assert_eq!(class.cells(&names), ["yes", "0.7500"]);
        let json = json!(class.json(&example, &names));
        assert_eq!((&json["pair"], &json["label"]), (&json!("b"), &json!("yes")));
        assert!((json["probabilities"]["no"].as_f64().unwrap() - 0.25).abs() < 1e-5);
        let several = Answer::new(ProblemType::MultiLabelClassification, &[2.0, 1.0]);
        assert_eq!(several.cells(&names), ["no, yes", "0.8808, 0.7311"]);
        let score = Answer::new(ProblemType::Regression, &[2.5]);
        assert_eq!(json!(score.json(&example, &names))["score"], json!(2.5));
    }
}
