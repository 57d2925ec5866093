//! The kinds of task: what each brings to a run. Training, evaluating, saving and measuring are the
//! same for all.
//!
//! Begin with [`Job`]; `dispatch!` is the one place that chooses among its implementations.
//! Everything here may use recipes and checkpoints, and nothing of the learner or the run.

mod batches;
mod classification;
mod distillation;
mod evaluate;
mod hold_out;
mod labelled_data;
mod question_answering;
mod start;
mod stored_columns;
mod text_generation;
mod trainable;

use std::path::{Path, PathBuf};

use burn::tensor::Device;
use serde_json::{Map, Value};

pub use self::batches::BatchSource;
pub use self::classification::Classification;
pub use self::distillation::SoftTargets;
pub use self::evaluate::{collect_answers, evaluate_model, predict_logits};
pub(super) use self::labelled_data::read_task;
pub use self::labelled_data::{label_config, table_options};
pub use self::question_answering::{QuestionAnswering, answer_questions, read_split};
pub use self::start::{Start, model_tokenizer};
pub use self::stored_columns::StoredColumns;
pub use self::text_generation::{TextGeneration, TextGenerator, check_memory, speed_note};
pub use self::trainable::{Evaluator, TrainableModel};
use super::checkpoints::Inputs;
use super::{Event, Observer, Recipe};
use crate::checkpoint::checksum::{Sum, sha256_of_file};
use crate::models::FolderModel;
use crate::tasks::Task;
use crate::{Error, Result};

/// A kind of task.
pub trait Job: Sized {
    /// The models that do it.
    type Model: TrainableModel + FolderModel;
    /// Scores their answers.
    type Evaluator: Evaluator<<Self::Model as TrainableModel>::Output>;

    /// Loads the model and the data that `recipe` names.
    ///
    /// # Errors
    /// If a file is missing, damaged or does not fit the others.
    fn prepare(recipe: &Recipe, device: &Device, observer: &dyn Observer) -> Result<Loaded<Self>>;
}

/// Calls `function::<J>(…)` with the job `J` of a [`JobKind`](super::JobKind).
macro_rules! dispatch {
    ($kind:expr, $function:ident($($argument:expr),*)) => {
        match $kind {
            $crate::train::JobKind::Classification => {
                $function::<$crate::train::job::Classification>($($argument),*)
            }
            $crate::train::JobKind::QuestionAnswering => {
                $function::<$crate::train::job::QuestionAnswering>($($argument),*)
            }
            $crate::train::JobKind::TextGeneration => {
                $function::<$crate::train::job::TextGeneration>($($argument),*)
            }
        }
    };
}
pub(super) use dispatch;

/// The model to train, and all else that a run reads. The model is apart so that training holds the
/// only copy.
pub type Loaded<J> = (<J as Job>::Model, Prepared<<J as Job>::Model, <J as Job>::Evaluator>);

/// The data of a training, and facts about its model.
pub struct Prepared<M: TrainableModel, E> {
    /// The pretrained model's origin.
    pub start: Start,
    /// The task.
    pub task: Task,
    /// Entries of the saved model's `config.json` under `losparse`, besides the task.
    pub about: Map<String, Value>,
    /// Training data.
    pub train: BatchSource<M::Batch>,
    /// Evaluation data; the first split decides.
    pub dev: Vec<EvalSplit<M::Batch, E>>,
    /// Cheaper data for evaluations while training, in place of the first of `dev`.
    pub while_training: Option<EvalSplit<M::Batch, E>>,
    /// Number of evaluation examples held out of the training data; `None` if they have a file of
    /// their own.
    pub held_out: Option<usize>,
    /// Training loss of a model that ignores its input.
    pub blind_loss: f64,
}

/// A split to evaluate on.
pub struct EvalSplit<B, E> {
    /// `dev`, `dev_mismatched`, …
    pub name: String,
    /// Its batches.
    pub source: BatchSource<B>,
    /// Scores answers to them.
    pub evaluator: E,
}

/// Tells the observer how many examples of a file were left out, if any were.
fn tell_skipped(observer: &dyn Observer, split: &str, skipped: usize, what: &str) {
    if skipped > 0 {
        let message = format!("{split}: {skipped} {what} skipped");
        observer.event(&Event::Note { message });
    }
}

/// SHA-256 over all weight files of a model folder.
fn sum_of_weights(folder: &Path) -> Result<String> {
    let entries = std::fs::read_dir(folder).map_err(|e| Error::io(folder, e))?;
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.retain(|path| path.extension().is_some_and(|end| end == "safetensors" || end == "bin"));
    paths.sort();
    let mut sum = Sum::default();
    for path in paths {
        sum.add(sha256_of_file(&path)?.as_bytes());
    }
    Ok(sum.finish())
}

/// SHA-256 over the configuration and all weight files of a teacher.
pub(super) fn sum_of_teacher(folder: &Path) -> Result<String> {
    let mut sum = Sum::default();
    sum.add(sha256_of_file(&folder.join("config.json"))?.as_bytes());
    sum.add(sum_of_weights(folder)?.as_bytes());
    Ok(sum.finish())
}

impl<M: TrainableModel, E> Prepared<M, E> {
    /// SHA-256 of everything that a run of `recipe` reads.
    ///
    /// # Errors
    /// If the files of the starting model or of the teacher cannot be read.
    pub(super) fn inputs(&self, recipe: &Recipe) -> Result<Inputs> {
        let mut dev = Sum::default();
        for split in self.dev.iter().chain(&self.while_training) {
            dev.add(split.source.digest.as_bytes());
        }
        let teacher = recipe.teaching().and_then(|distillation| distillation.teacher.as_ref());
        Ok(Inputs {
            train: self.train.digest.clone(),
            dev: dev.finish(),
            config: sha256_of_file(&self.start.folder.join("config.json"))?,
            weights: sum_of_weights(&self.start.folder)?,
            teacher: teacher.map(|folder| sum_of_teacher(folder)).transpose()?.unwrap_or_default(),
        })
    }
}
