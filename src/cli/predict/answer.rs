//! `losparse predict` with a question-answering model.

use std::path::PathBuf;

use burn::tensor::Device;
use losparse::models::AnyQuestionAnswerer;
use losparse::tasks::squad::{self, Candidate, QaDataset, QaExample, QaPrediction};
use losparse::tasks::{TextTokenizer, squad::QaSettings};
use losparse::train::{TaskRecipe, answer_questions};
use losparse::{Error, Result};
use serde_json::{Value, json};

use super::input::ALIKE;
use crate::cli::opened::Opened;
use crate::cli::options::task::QuestionArgs;
use crate::cli::output::{self, Table};

#[derive(clap::Args)]
#[command(next_help_heading = "Questions (squad)")]
pub struct AnswerArgs {
    /// Question about the context; repeatable
    #[arg(long, value_name = "TEXT", requires = "context")]
    pub question: Vec<String>,
    /// Text that holds the answers
    #[arg(long, value_name = "TEXT", requires = "question")]
    pub context: Option<String>,
    #[command(flatten)]
    pub settings: QuestionArgs,
}

impl AnswerArgs {
    /// The questions: those given, or those of a file in SQuAD's format.
    pub fn examples(&self, file: Option<&PathBuf>) -> Result<Vec<QaExample>> {
        if let Some(file) = file {
            return QaDataset::read(file).map(|data| data.examples);
        }
        let Some(context) = &self.context else {
            let message = "missing; the model answers questions: give --question and --context, or \
                           --file with SQuAD's JSON";
            return Err(Error::option("question", message));
        };
        if context.trim().is_empty() {
            let message = "holds no text; give the text that holds the answers";
            return Err(Error::option("context", message));
        }
        let examples = self.question.iter().enumerate().map(|(at, question)| QaExample {
            id: (at + 1).to_string(),
            question: question.clone(),
            context: context.as_str().into(),
            answers: vec![],
        });
        Ok(examples.collect())
    }

    /// The first option that was given, as the library names it.
    pub fn given(&self) -> Option<&'static str> {
        (!self.question.is_empty()).then_some("question").or_else(|| self.settings.given())
    }

    /// Settings of question answering: those given, else those in training.
    pub fn settings(&self, opened: &Opened) -> Result<QaSettings> {
        let mut asked = TaskRecipe { name: "squad".into(), ..TaskRecipe::default() };
        self.settings.apply(&mut asked);
        opened.qa_settings(&asked)
    }
}

/// Answers `examples` and prints the answers, [`ALIKE`] batches at a time.
pub fn answer(
    model: &AnyQuestionAnswerer,
    tokenizer: &TextTokenizer,
    examples: &[QaExample],
    settings: QaSettings,
    batch_size: usize,
    device: &Device,
    as_json: bool,
) -> anyhow::Result<()> {
    let task = squad::task("squad", settings.version_2_with_negative);
    let mut table =
        Table::new(&["answer", "probability", "question"], &[1], &["(no answer)".len()]);
    for examples in examples.chunks(batch_size.saturating_mul(ALIKE)) {
        let asked = examples.to_vec();
        let evaluator =
            answer_questions(model, tokenizer, &task, asked, settings, batch_size, device)?;
        let answers = evaluator.predictions()?;
        let pairs = examples.iter().zip(&answers);
        if as_json {
            output::print_json_lines(pairs.map(|(example, answer)| json(example, answer)))?;
            continue;
        }
        let rows = pairs.map(|(example, answer)| {
            let text = if said(answer).is_empty() { "(no answer)" } else { said(answer) };
            let question = output::shorten(&example.question, 50);
            vec![output::shorten(text, 40), format!("{:.4}", probability(answer)), question]
        });
        output::print(&table.add(&rows.collect::<Vec<_>>()))?;
    }
    Ok(())
}

/// Whether a candidate is not from the context: without any span, `best_answer` gives the word
/// `empty`.
fn is_invented(candidate: &Candidate) -> bool {
    candidate.end == 0 && !candidate.text.is_empty()
}

/// The text of the answer; empty if there is none.
fn said(answer: &QaPrediction) -> &str {
    if answer.candidates.iter().any(is_invented) { "" } else { &answer.text }
}

/// Probability of the given answer among all candidates.
fn probability(answer: &QaPrediction) -> f64 {
    let given = answer.candidates.iter().find(|candidate| candidate.text == answer.text);
    given.map_or(0.0, |candidate| candidate.probability)
}

fn json(example: &QaExample, answer: &QaPrediction) -> Value {
    let given = answer.candidates.iter().find(|candidate| candidate.text == answer.text);
    let given = given.filter(|candidate| !is_invented(candidate));
    let candidates: Vec<&Candidate> =
        answer.candidates.iter().filter(|candidate| !is_invented(candidate)).collect();
    let mut object = json!({
        "id": example.id,
        "question": example.question,
        "answer": said(answer),
        "probability": probability(answer),
        "start": given.map(|candidate| candidate.start),
        "end": given.map(|candidate| candidate.end),
        "candidates": candidates,
    });
    if let Some(difference) = answer.score_diff {
        object["score_diff"] = difference.into();
    }
    object
}
