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
    /// A warning of labels that `max_train_examples` left without an example.
    pub lost: Option<String>,
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
    Ok(TaskData { train, dev: vec![(HELD_OUT.to_string(), dev)], lost: None })
}

/// Keeps the first `most` examples to train on. Returns a warning if labels lose all of theirs, as in a file
/// that is sorted by label.
///
/// # Errors
/// If just one label is left of several.
fn take_first(train: &mut TextDataset, most: usize) -> Result<Option<String>> {
    let before = train.label_counts();
    train.truncate(most);
    let after = train.label_counts();
    let (left, lost): (Vec<_>, Vec<_>) = before
        .into_iter()
        .zip(after)
        .filter(|((_, before), _)| *before > 0)
        .partition(|(_, (_, after))| *after > 0);
    let (Some((first, _)), Some(((name, _), _))) = (lost.first(), left.first()) else {
        return Ok(None);
    };
    const ADVICE: &str = "shuffle the file, or take more";
    if left.len() == 1 {
        let message =
            format!("the first {} examples all have the label {name:?}; {ADVICE}", train.len());
        return Err(Error::option("max_train_examples", message));
    }
    let others = match lost.len() {
        1 => String::new(),
        2 => " or another".to_string(),
        count => format!(" or {} others", count - 1),
    };
    let (count, label) = (train.len(), &first.0);
    Ok(Some(format!(
        "none of the first {count} examples has the label {label:?}{others}; {ADVICE}"
    )))
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
                    TaskData { train, dev: vec![("dev".to_string(), dev)], lost: None }
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
            TaskData { train: task.load(folder, Split::Train)?, dev, lost: None }
        }
    };
    if let Some(most) = recipe.max_train_examples {
        data.lost = take_first(&mut data.train, most)?;
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_that_the_first_examples_lack_are_pointed_out() {
        let labels = ["a", "b", "c", "never"].map(String::from).to_vec();
        let task = Task::classification("own", labels).unwrap();
        let of = |classes: &[usize]| {
            let example = |&class: &usize| Example {
                text: "text".into(),
                pair: None,
                label: Some(Label::Class(class)),
            };
            let examples = classes.iter().map(example).collect();
            TextDataset { examples, task: task.clone(), skipped: 0 }
        };
        let sorted = || of(&[0, 0, 0, 1, 1, 2, 2]);
        let first = |most| take_first(&mut sorted(), most).unwrap();
        // A label that has no example at all is not lost.
        assert_eq!((first(6), first(9)), (None, None));
        let told = first(5).unwrap();
        let advice = "shuffle the file, or take more";
        assert_eq!(told, format!("none of the first 5 examples has the label \"c\"; {advice}"));
        let error = take_first(&mut sorted(), 3).unwrap_err().to_string();
        let named = "option max_train_examples: the first 3 examples all have the label \"a\"";
        assert_eq!(error, format!("{named}; {advice}"));
        let mut mixed = of(&[0, 1, 2, 3, 3, 1]);
        let told = take_first(&mut mixed, 2).unwrap().unwrap();
        assert!(told.contains("the label \"c\" or another; "), "{told}");
        assert_eq!(mixed.len(), 2);
        // One label alone, in the whole file, is the file's and not the option's.
        assert_eq!(take_first(&mut of(&[1, 1, 1]), 2).unwrap(), None);
    }
}
