//! Labelled examples for classification and regression, from GLUE files or tables.

use std::str::FromStr;

use super::hold_out::{HELD_OUT, hold_out};
use crate::models::{LabelConfig, ProblemType};
use crate::tasks::{
    Example, GlueTask, Label, Split, TableOptions, TableTarget, Task, TaskKind, TextDataset,
};
use crate::train::TaskRecipe;
use crate::{Error, Result};

/// Training and evaluation examples.
#[derive(Debug, Clone)]
pub struct TaskData {
    /// Training examples.
    pub train: TextDataset,
    /// Evaluation splits by name; the first one decides.
    pub dev: Vec<(String, TextDataset)>,
}

impl TaskData {
    /// The task.
    pub fn task(&self) -> &Task {
        &self.train.task
    }
}

/// The labels that a model for `task` has.
pub fn label_config(task: &Task) -> LabelConfig {
    match &task.kind {
        TaskKind::Classification { labels } => LabelConfig {
            problem_type: Some(ProblemType::SingleLabelClassification),
            ..LabelConfig::named(labels.clone())
        },
        TaskKind::Regression => {
            LabelConfig { problem_type: Some(ProblemType::Regression), ..LabelConfig::numbered(1) }
        }
        TaskKind::QuestionAnswering { .. } | TaskKind::Summarization => LabelConfig::default(),
    }
}

/// Options to read a recipe's own tables; `None` for a GLUE task.
///
/// # Errors
/// If columns are missing or contradict each other.
pub fn table_options(recipe: &TaskRecipe) -> Result<Option<TableOptions>> {
    if recipe.data.is_some() {
        if let Some(option) = recipe.of_tables() {
            let message = "is for tables of your own, and data for the files of a GLUE task; give one \
                           or the other";
            return Err(Error::option(option, message));
        }
        return Ok(None);
    }
    let text = recipe.text.clone().ok_or_else(|| {
        Error::option("text", "missing: the name of the column that holds the text")
    })?;
    let target = match (&recipe.label, &recipe.score) {
        (Some(column), None) => {
            TableTarget::Label { column: column.clone(), labels: recipe.labels.clone() }
        }
        (None, Some(column)) => TableTarget::Score { column: column.clone() },
        (Some(_), Some(_)) => {
            let message = "give either a label column (classes) or a score column, not both";
            return Err(Error::option("label", message));
        }
        (None, None) => {
            let message = "missing: the column to predict (or `score` for a number)";
            return Err(Error::option("label", message));
        }
    };
    let name = if recipe.name.is_empty() { "custom" } else { &recipe.name };
    Ok(Some(TableOptions {
        name: name.to_string(),
        text,
        pair: recipe.pair.clone(),
        target,
        format: recipe.format,
        quoting: recipe.quoting,
    }))
}

/// Reads a recipe's task from its training data.
///
/// # Errors
/// As [`load_task_data`].
pub(in crate::train) fn read_task(recipe: &TaskRecipe) -> Result<Task> {
    match (table_options(recipe)?, &recipe.train) {
        (Some(options), Some(file)) => Ok(options.read_train(file)?.task),
        (Some(_), None) => Err(Error::option("train", "missing: the file with the labels")),
        (None, _) => Ok(GlueTask::from_str(&recipe.name)?.task()),
    }
}

/// Holds out `share` of every class of the training data. No text is in both parts.
fn held_out(train: TextDataset, share: f64, seed: u64) -> Result<TaskData> {
    let TextDataset { examples, task, skipped } = train;
    let place = |example: &Example| {
        let class = match example.label {
            Some(Label::Class(class)) => class,
            _ => 0,
        };
        (class, (example.text.clone(), example.pair.clone()))
    };
    let parts = hold_out(examples, share, seed, place)?;
    let dev = TextDataset { examples: parts.dev, task: task.clone(), skipped: 0 };
    let train = TextDataset { examples: parts.train, task, skipped };
    Ok(TaskData { train, dev: vec![(HELD_OUT.to_string(), dev)] })
}

/// Reads a recipe's data. `seed` draws the examples that are held out to evaluate on, if any are.
///
/// # Errors
/// Names an unknown task, or a file that cannot be used.
pub fn load_task_data(recipe: &TaskRecipe, seed: u64) -> Result<TaskData> {
    let mut data = match table_options(recipe)? {
        Some(options) => {
            let missing = |what: &str| {
                let message =
                    "missing: a CSV, TSV or JSON lines file (or `data` for a GLUE folder)";
                Error::option(what, message)
            };
            let train_file = recipe.train.as_ref().ok_or_else(|| missing("train"))?;
            let train = options.read_train(train_file)?;
            match (&recipe.dev, recipe.dev_share()) {
                (Some(dev_file), _) => {
                    let dev = options.read_eval(dev_file, &train.task)?;
                    TaskData { train, dev: vec![("dev".to_string(), dev)] }
                }
                (None, Some(share)) => held_out(train, share, seed)?,
                (None, None) => return Err(missing("dev")),
            }
        }
        None => {
            let folder = recipe.data.as_deref().unwrap_or(std::path::Path::new("."));
            let task = GlueTask::from_str(&recipe.name)?;
            let dev = task.dev_splits().iter().map(|&split| {
                let name = match split {
                    Split::DevMismatched => "dev_mismatched",
                    _ => "dev",
                };
                Ok((name.to_string(), task.load(folder, split)?))
            });
            let dev = dev.collect::<Result<_>>()?;
            TaskData { train: task.load(folder, Split::Train)?, dev }
        }
    };
    data.train.truncate(recipe.max_train_examples.unwrap_or(usize::MAX));
    let most = recipe.max_eval_examples.unwrap_or(usize::MAX);
    data.dev.iter_mut().for_each(|(_, set)| set.truncate(most));
    let sets = data.dev.iter().map(|(name, set)| (name.as_str(), set));
    for (name, set) in sets.chain([("train", &data.train)]) {
        if set.is_empty() {
            return Err(Error::option(name, "holds no example"));
        }
    }
    Ok(data)
}
