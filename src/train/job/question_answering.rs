//! Extractive question answering as a job.

use std::path::PathBuf;
use std::sync::Arc;

use burn::tensor::{Device, Int, Tensor, TensorData};
use serde_json::{Map, json};

use super::classification::{encoder_input, rows};
use super::distillation::distance;
use super::hold_out::{Splits, tell_shared};
use super::{BatchSource, EvalSplit, Evaluator, Job, Loaded, Prepared, Start, TrainableModel};
use super::{collect_answers, tell_skipped};
use crate::checkpoint::checksum::Sum;
use crate::inspect::Answers;
use crate::models::{AnyQuestionAnswerer, LabelConfig, question_answering_loss};
use crate::tasks::squad::{
    self, QaDataset, QaExample, QaPrediction, QaSettings, QaWindow, WindowLogits, best_answer,
    encode_training_windows, encode_windows, find_file,
};
use crate::tasks::{EncodedExample, MetricReport, Split, Task, TextBatch, TextTokenizer};
use crate::train::{Interrupt, Observer, Recipe, Silent, TaskRecipe};
use crate::{Error, Result};

/// Answers to questions, as spans of a context.
#[derive(Debug, Clone, Copy)]
pub struct QuestionAnswering;

impl Job for QuestionAnswering {
    type Model = AnyQuestionAnswerer;
    type Evaluator = QaEvaluator;

    fn prepare(recipe: &Recipe, device: &Device, observer: &dyn Observer) -> Result<Loaded<Self>> {
        let settings = recipe.task.qa_settings();
        settings.validate()?;
        let task = squad::task(&recipe.task.name, settings.version_2_with_negative);
        let splits = Splits::read(recipe, observer, read_examples, |q| q.context.clone())?;
        tell_skipped(observer, "dev", splits.skipped[1], "questions");
        let name = splits.dev_name();
        let Splits { train, dev, held_out, skipped } = splits;
        let [seen, asked] = [&train, &dev].map(|set| set.iter());
        fn question(example: &QaExample) -> (&str, &str) {
            (&example.question, &example.context)
        }
        tell_shared(observer, "dev", seen.map(question), asked.map(question));
        let (model, start) = Start::load(recipe, LabelConfig::default(), device, observer)?;
        let pad_id = start.tokenizer.pad_id();
        tell_skipped(observer, "train", skipped[0], "questions");
        let windows = encode_training_windows(&start.tokenizer, &train, &settings)?;
        let train = qa_batches(Arc::new(windows), pad_id);
        let evaluator = QaEvaluator::new(&task, dev, &start.tokenizer, settings)?;
        let dev =
            EvalSplit { name, source: qa_batches(evaluator.windows.clone(), pad_id), evaluator };
        let about = Map::from_iter([("question_answering".to_string(), json!(settings))]);
        // Every token is equally likely to begin or end the answer.
        let blind_loss = (start.tokenizer.max_length() as f64).ln();
        let prepared = Prepared {
            start,
            task,
            about,
            train,
            dev: vec![dev],
            while_training: None,
            held_out,
            blind_loss,
        };
        Ok((model, prepared))
    }
}

fn read_examples(task: &TaskRecipe, split: Split) -> Result<(Vec<QaExample>, usize)> {
    let name = if split == Split::Train { "train" } else { "dev" };
    read_split(task, name).map(|data| (data.examples, data.skipped))
}

/// Reads the questions of a split, `train` or `dev`.
///
/// # Errors
/// If the file is missing or not in SQuAD's format, or a question of SQuAD 1.1 has no answer.
pub fn read_split(recipe: &TaskRecipe, split: &str) -> Result<QaDataset> {
    let version_2 = recipe.qa_settings().version_2_with_negative;
    let (file, most) = match split {
        "train" => (&recipe.train, recipe.max_train_examples),
        _ => (&recipe.dev, recipe.max_eval_examples),
    };
    let path: PathBuf = match (file, &recipe.data) {
        (Some(file), _) => file.clone(),
        (None, Some(folder)) => find_file(folder, split, version_2)?,
        (None, None) => {
            let message = "missing: a file of SQuAD's format (or `data` for the folder of both)";
            return Err(Error::option(split, message));
        }
    };
    let mut data = QaDataset::read(&path)?;
    if !version_2 {
        data.drop_empty().map_err(|message| Error::format(&path, message))?;
    }
    if split == "train" {
        data.drop_astray().map_err(|message| Error::format(&path, message))?;
    }
    data.truncate(most.unwrap_or(usize::MAX));
    if data.is_empty() {
        return Err(Error::option(split, "holds no example"));
    }
    if let Some(example) = data.unanswered().filter(|_| !version_2) {
        let message = format!(
            "question {} has no answer; data with such questions need the task squad_v2",
            example.id
        );
        return Err(Error::format(path, message));
    }
    Ok(data)
}

/// A batch of windows on a device.
#[derive(Debug, Clone)]
pub struct QaBatch {
    /// The tokens.
    pub text: TextBatch,
    /// First token of the answer `[batch]`; 0 if the window does not hold it.
    pub start_positions: Tensor<1, Int>,
    /// Last token of the answer `[batch]`.
    pub end_positions: Tensor<1, Int>,
    /// Index of each window.
    pub windows: Vec<usize>,
}

/// Logits of a batch of windows.
#[derive(Debug, Clone)]
pub struct QaOutput {
    /// Logits of the answer's first token `[batch, length]`.
    pub start: Tensor<2>,
    /// Logits of its last token `[batch, length]`.
    pub end: Tensor<2>,
    /// Index of each window.
    pub windows: Vec<usize>,
}

/// Batches windows, padded to the longest of each batch.
fn qa_batches(windows: Arc<Vec<QaWindow>>, pad_id: u32) -> BatchSource<QaBatch> {
    let lengths = windows.iter().map(|window| window.input_ids.len()).collect();
    let mut sum = Sum::default();
    for window in windows.iter() {
        sum.add_numbers(&window.input_ids);
        sum.add_numbers(&window.token_type_ids);
        sum.add_numbers(&[window.answer.0 as u32, window.answer.1 as u32]);
    }
    let make = move |indices: &[usize], device: &Device| {
        let examples: Vec<EncodedExample> = indices
            .iter()
            .map(|&at| EncodedExample {
                input_ids: windows[at].input_ids.clone(),
                token_type_ids: windows[at].token_type_ids.clone(),
                label: None,
            })
            .collect();
        let text = TextBatch::new(&examples.iter().collect::<Vec<_>>(), pad_id, device)?;
        let positions = |pick: fn(&QaWindow) -> usize| {
            let positions: Vec<i32> = indices.iter().map(|&at| pick(&windows[at]) as i32).collect();
            Tensor::from_data(TensorData::new(positions, [indices.len()]), device)
        };
        Ok(QaBatch {
            text,
            start_positions: positions(|window| window.answer.0),
            end_positions: positions(|window| window.answer.1),
            windows: indices.to_vec(),
        })
    };
    BatchSource { lengths, digest: sum.finish(), collate: Arc::new(make) }
}

impl TrainableModel for AnyQuestionAnswerer {
    type Batch = QaBatch;
    type Output = QaOutput;
    const TAUGHT_BY_TOKEN: bool = true;

    fn forward_loss(&self, batch: QaBatch) -> (Tensor<1>, QaOutput) {
        let (start, end) = self.forward(encoder_input(&batch.text));
        let loss = question_answering_loss(
            start.clone(),
            end.clone(),
            batch.start_positions,
            batch.end_positions,
        );
        (loss, QaOutput { start, end, windows: batch.windows })
    }

    /// The logits of the first token, then those of the last.
    fn soft_targets(output: &QaOutput, lengths: &[usize]) -> Result<Vec<Vec<f32>>> {
        let (start, end) = (rows(output.start.clone())?, rows(output.end.clone())?);
        let joined = start.iter().zip(&end).zip(lengths);
        Ok(joined.map(|((start, end), &own)| [&start[..own], &end[..own]].concat()).collect())
    }

    fn distance_to_targets(output: &QaOutput, targets: &[&[f32]], temperature: f64) -> Tensor<1> {
        let (start, end): (Vec<&[f32]>, Vec<&[f32]>) =
            targets.iter().map(|row| row.split_at(row.len() / 2)).unzip();
        (distance(output.start.clone(), &start, temperature)
            + distance(output.end.clone(), &end, temperature))
            / 2.0
    }
}

/// Turns logits into answers and scores them.
#[derive(Debug, Clone)]
pub struct QaEvaluator {
    task: Task,
    settings: QaSettings,
    examples: Arc<Vec<QaExample>>,
    windows: Arc<Vec<QaWindow>>,
    logits: Vec<Option<WindowLogits>>,
}

impl QaEvaluator {
    /// Makes an evaluator of answers to `examples`.
    ///
    /// # Errors
    /// As [`encode_windows`].
    pub fn new(
        task: &Task,
        examples: Vec<QaExample>,
        tokenizer: &TextTokenizer,
        settings: QaSettings,
    ) -> Result<Self> {
        let windows = encode_windows(tokenizer, &examples, &settings)?;
        Ok(Self {
            task: task.clone(),
            settings,
            examples: Arc::new(examples),
            logits: vec![None; windows.len()],
            windows: Arc::new(windows),
        })
    }

    /// The answer to every question.
    ///
    /// # Errors
    /// If a window was not evaluated.
    pub fn predictions(&self) -> Result<Vec<QaPrediction>> {
        let mut windows: Vec<Vec<(&QaWindow, &WindowLogits)>> = vec![vec![]; self.examples.len()];
        for (window, logits) in self.windows.iter().zip(&self.logits) {
            let logits = logits.as_ref().ok_or_else(|| {
                let id = &self.examples[window.example].id;
                Error::Training(format!("question {id} was not evaluated whole"))
            })?;
            windows[window.example].push((window, logits));
        }
        let answers = self.examples.iter().zip(&windows);
        Ok(answers.map(|(example, own)| best_answer(example, own, &self.settings)).collect())
    }
}

impl Evaluator<QaOutput> for QaEvaluator {
    fn clear(&mut self) {
        self.logits.fill(None);
    }

    fn push(&mut self, output: &QaOutput) -> Result<()> {
        let (start, end) = (rows(output.start.clone())?, rows(output.end.clone())?);
        for ((&at, mut start), mut end) in output.windows.iter().zip(start).zip(end) {
            let (Some(slot), Some(window)) = (self.logits.get_mut(at), self.windows.get(at)) else {
                return Err(Error::Training(format!("there is no window {at}")));
            };
            // An answer never lies in the padding.
            start.truncate(window.input_ids.len());
            end.truncate(window.input_ids.len());
            if let Some(logit) = start.iter().chain(&end).find(|logit| !logit.is_finite()) {
                let id = &self.examples[window.example].id;
                return Err(Error::Training(format!(
                    "the model's answer to question {id} is {logit}, not a finite number; a lower \
                     learning rate may help"
                )));
            }
            *slot = Some(WindowLogits { start, end });
        }
        Ok(())
    }

    fn report(&self) -> Result<MetricReport> {
        let version_2 = self.settings.version_2_with_negative;
        squad::score(&self.task, &self.examples, &self.predictions()?, version_2)
    }

    fn primary(&self) -> String {
        self.task.primary.to_string()
    }

    fn answers(&self) -> Answers {
        let logits = self.logits.iter().flatten();
        let predictions = self.predictions().unwrap_or_default();
        Answers {
            logits: logits.map(|l| [l.start.as_slice(), &l.end].concat()).collect(),
            predictions: predictions.into_iter().map(|answer| answer.text).collect(),
        }
    }
}

/// Answers `examples`. The evaluator that is returned holds the answers and their metrics.
///
/// # Errors
/// If a text cannot be tokenized, the device fails, or the run is stopped.
pub fn answer_questions(
    model: &AnyQuestionAnswerer,
    tokenizer: &TextTokenizer,
    task: &Task,
    examples: Vec<QaExample>,
    settings: QaSettings,
    batch_size: usize,
    device: &Device,
) -> Result<QaEvaluator> {
    let evaluator = QaEvaluator::new(task, examples, tokenizer, settings)?;
    let source = qa_batches(evaluator.windows.clone(), tokenizer.pad_id());
    let never = Interrupt::default();
    collect_answers(model, &source, evaluator, batch_size, device, &Silent, &never)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn no_context_is_both_trained_and_evaluated_on() {
        let question = |at: usize, of: usize| {
            format!(
                r#"{{"id": "{at}-{of}", "question": "?", "answers": [{{"text": "t", "answer_start": 0}}]}}"#
            )
        };
        // The last context is there twice, in two articles.
        let article = |at: usize| {
            let questions: Vec<String> = (0..3).map(|of| question(at, of)).collect();
            let (context, questions) = (at.min(19), questions.join(", "));
            format!(r#"{{"paragraphs": [{{"context": "text {context}", "qas": [{questions}]}}]}}"#)
        };
        let articles: Vec<String> = (0..21).map(article).collect();
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("own.json");
        std::fs::write(&file, format!(r#"{{"data": [{}]}}"#, articles.join(", "))).unwrap();
        let task = |most| TaskRecipe {
            name: "squad".into(),
            train: Some(file.clone()),
            max_train_examples: most,
            ..TaskRecipe::default()
        };
        let hold = |most| {
            let recipe = Recipe { task: task(most), ..Recipe::default() };
            let group = |example: &QaExample| example.context.clone();
            let splits = Splits::read(&recipe, &Silent, read_examples, group).unwrap();
            (splits.train, splits.dev)
        };
        let (train, dev) = hold(None);
        assert_eq!(train.len() + dev.len(), 63);
        assert!((6..=11).contains(&dev.len()), "{}", dev.len());
        let contexts = |set: &[QaExample]| -> HashSet<String> {
            set.iter().map(|example| example.context.to_string()).collect()
        };
        assert!(contexts(&train).is_disjoint(&contexts(&dev)));
        // Fewer to train on are no fewer to evaluate on.
        let (few, same) = hold(Some(5));
        assert_eq!((few.len(), same), (5, dev));
    }
}
