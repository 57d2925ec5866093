//! Scores the model of a folder on labelled data: `evaluate`, and `compress` without training.

use std::path::Path;

use burn::tensor::Device;
use losparse::checkpoint::LoadOptions;
use losparse::inspect::SplitMetrics;
use losparse::models::{AnyModel, AnyQuestionAnswerer, AnySeq2Seq, AnySequenceClassifier};
use losparse::models::{FolderModel, LabelConfig, ProblemType};
use losparse::tasks::{GlueTask, Split, Task, TextDataset, TextTokenizer, squad};
use losparse::train::{
    Evaluator, Interrupt, TaskRecipe, TextGenerator, answer_questions, evaluate_model,
    label_config, read_split, table_options,
};
use losparse::{Error, Result};

use super::global::GlobalArgs;
use super::opened::{Opened, task_name};
use super::options::task::TaskArgs;
use super::progress::Progress;

/// Default number of examples in a batch.
pub const BATCH_SIZE: usize = 32;

/// Scores the model of a folder on the data of `recipe`, whose settings `task` overrides.
///
/// # Errors
/// If the model has no trained head, or the data is missing or another task's.
pub fn evaluate(
    model: &Path,
    task: &TaskArgs,
    recipe: TaskRecipe,
    batch_size: usize,
    global: &GlobalArgs,
    device: &Device,
    interrupt: &Interrupt,
) -> Result<Vec<SplitMetrics>> {
    let mut evaluation = prepare(model, task, recipe, batch_size, global, device)?;
    evaluation.interrupt = interrupt.clone();
    Ok(match &evaluation.opened.model {
        AnyModel::SequenceClassifier(model) => evaluation.classify(model)?,
        AnyModel::QuestionAnswerer(model) => vec![evaluation.answer(model)?],
        AnyModel::Seq2Seq(model) => vec![evaluation.summarize(model)?],
    })
}

/// Checks that [`evaluate`] will find its data, of the task that the model is for.
///
/// # Errors
/// As [`evaluate`].
pub fn check(model: &Path, task: &TaskArgs, global: &GlobalArgs, device: &Device) -> Result<()> {
    let evaluation = prepare(model, task, TaskRecipe::default(), BATCH_SIZE, global, device)?;
    match evaluation.opened.model {
        AnyModel::SequenceClassifier(_) => evaluation.datasets().map(|_| ()),
        AnyModel::QuestionAnswerer(_) => read_split(&evaluation.recipe, "dev").map(|_| ()),
        AnyModel::Seq2Seq(_) => evaluation.recipe.read_summaries(Split::Dev).map(|_| ()),
    }
}

/// The model and what it is scored on.
fn prepare<'a>(
    model: &Path,
    task: &TaskArgs,
    mut recipe: TaskRecipe,
    batch_size: usize,
    global: &'a GlobalArgs,
    device: &Device,
) -> Result<Evaluation<'a>> {
    if task.data.is_some() && task.dev.is_some() {
        let message = "is for a task's official files, and --dev for data of your own; give one";
        return Err(Error::option("data", message));
    }
    task.apply(&mut recipe);
    let options = LoadOptions {
        labels: labels(model, &recipe)?,
        called: recipe.labels.clone(),
        keep_head: true,
        ..LoadOptions::default()
    };
    let opened = Opened::load_for_labels(model, device, &options)?;
    refuse_others(task, &opened.model)?;
    opened.check_head()?;
    if let Some(note) = &opened.report.labels {
        global.note(note);
    }
    let file = recipe.dev.clone();
    if (file.is_some() || matches!(opened.model, AnyModel::Seq2Seq(_)))
        && let Some(note) = opened.columns()?.fill(&mut recipe, file.as_deref())
    {
        global.note(&note);
    }
    let device = device.clone();
    let interrupt = Interrupt::default();
    Ok(Evaluation { opened, recipe, batch_size, global, device, interrupt })
}

/// The labels in the order of the data, if that is known without the model.
fn labels(model: &Path, recipe: &TaskRecipe) -> Result<Option<LabelConfig>> {
    if recipe.dev.is_none() {
        let name = match recipe.name.as_str() {
            "" => task_name(model).unwrap_or_default(),
            name => name.to_string(),
        };
        // A name that is not GLUE's has no order of labels; the model's kind decides what it
        // means.
        return Ok(name.parse::<GlueTask>().ok().map(|task| label_config(&task.task())));
    }
    let own = |labels: &Vec<String>| Task::classification("own", labels.clone());
    Ok(recipe.labels.as_ref().map(own).transpose()?.map(|task| label_config(&task)))
}

/// Rejects options that are for another kind of model.
pub fn refuse_others(task: &TaskArgs, model: &AnyModel) -> Result<()> {
    let TaskArgs { questions, summaries, rouge, .. } = task;
    let labels = task.labels.as_ref().map(|_| "labels");
    let texts = summaries.given().or(rouge.given());
    let (given, what) = match model {
        AnyModel::SequenceClassifier(_) => {
            (questions.given().or(texts), "the model classifies or scores texts")
        }
        AnyModel::QuestionAnswerer(_) => (texts.or(labels), "the model answers questions"),
        AnyModel::Seq2Seq(_) => (questions.given().or(labels), "the model writes texts"),
    };
    given.map_or(Ok(()), |option| Err(Error::option(option, what)))
}

/// A model, and the task to evaluate it on.
struct Evaluation<'a> {
    opened: Opened,
    recipe: TaskRecipe,
    batch_size: usize,
    global: &'a GlobalArgs,
    device: Device,
    /// Stops it between batches.
    interrupt: Interrupt,
}

impl Evaluation<'_> {
    fn classify(&self, model: &AnySequenceClassifier) -> Result<Vec<SplitMetrics>> {
        let Self { opened, recipe, batch_size, global, device, interrupt } = self;
        let tokenizer = self.tokenizer(TaskRecipe::default().max_length())?;
        let mut results = Vec::new();
        for (split, mut data) in self.datasets()? {
            data.truncate(recipe.max_eval_examples.unwrap_or(usize::MAX));
            check_outputs(opened, &data.task)?;
            Opened::check_pairs(&data.examples, opened.takes_pairs()?)?;
            global.note(&format!("· evaluating {split}: {} examples", data.len()));
            data.notes().iter().for_each(|note| global.note(&format!("{split}: {note}")));
            let (metrics, _) =
                evaluate_model(model, &tokenizer, &data, *batch_size, device, interrupt)?;
            results.push(SplitMetrics { split, metrics });
        }
        Ok(results)
    }

    fn answer(&self, model: &AnyQuestionAnswerer) -> Result<SplitMetrics> {
        let Self { opened, recipe, global, device, .. } = self;
        // The default length is SQuAD's, whatever the task is called.
        let squad = TaskRecipe { name: "squad".into(), ..TaskRecipe::default() };
        let tokenizer = self.tokenizer(squad.max_length())?;
        let settings = opened.qa_settings(recipe)?;
        let version_2 = settings.version_2_with_negative;
        let recipe = TaskRecipe { version_2_with_negative: Some(version_2), ..recipe.clone() };
        let data = read_split(&recipe, "dev")?;
        let skipped = match data.skipped {
            0 => String::new(),
            skipped => format!(", {skipped} skipped"),
        };
        global.note(&format!("· evaluating dev: {} questions{skipped}", data.len()));
        let task = squad::task("squad", version_2);
        let (examples, batch_size) = (data.examples, self.batch_size);
        let evaluator =
            answer_questions(model, &tokenizer, &task, examples, settings, batch_size, device)?;
        Ok(SplitMetrics { split: "dev".into(), metrics: evaluator.report()? })
    }

    fn summarize(&self, model: &AnySeq2Seq) -> Result<SplitMetrics> {
        let Self { opened, recipe, batch_size, global, device, interrupt } = self;
        let (settings, own) = opened.summarization(recipe, &|text| global.note(text))?;
        let mut recipe = recipe.clone();
        if let (true, Some(task)) = (recipe.name.is_empty(), opened.task()?) {
            recipe.name = task.name;
        }
        let data = recipe.read_summaries(Split::Dev)?;
        global.note(&format!("· evaluating dev: {} documents", data.len()));
        let tokenizer = &opened.tokenizer(settings.max_source_length)?;
        let (settings, own, batch_size) = (&settings, &own, *batch_size);
        let summarizer = TextGenerator { model, tokenizer, settings, own, batch_size, device };
        let progress = Progress::new(global.quiet, false);
        let done = summarizer.generate(&data.examples, &progress, interrupt)?;
        Ok(SplitMetrics { split: "dev".into(), metrics: done.report()? })
    }

    fn tokenizer(&self, default_length: usize) -> Result<TextTokenizer> {
        let opened = &self.opened;
        opened.tokenizer(opened.max_length(self.recipe.max_length, default_length)?)
    }

    /// The data to evaluate on: name and examples of each split.
    fn datasets(&self) -> Result<Vec<(String, TextDataset)>> {
        let Self { opened, recipe, .. } = self;
        let stored = opened.task()?;
        if let Some(path) = &recipe.dev {
            let task = match (&recipe.labels, stored) {
                (Some(labels), _) => Task::classification("own", labels.clone())?,
                (None, Some(task)) => task,
                (None, None) => opened.own_task("own")?,
            };
            let table = table_options(&TaskRecipe { data: None, ..recipe.clone() })?;
            let missing = || Error::option("text", "missing: the column that holds the text");
            let data = table.ok_or_else(missing)?.read_eval(path, &task)?;
            return Ok(vec![("dev".into(), data)]);
        }
        let name = match (recipe.name.as_str(), stored) {
            ("", Some(task)) if task.name.parse::<GlueTask>().is_err() => {
                let message = format!(
                    "missing; the model was trained on data of its own ({}): give a file with the \
                     same columns",
                    task.name
                );
                return Err(Error::option("dev", message));
            }
            ("", Some(task)) => task.name,
            ("", None) => {
                let message = "missing; the model does not store what it was trained for. Give \
                               a GLUE task with --data, or your own --dev file";
                return Err(Error::option("task", message));
            }
            (name, _) => name.to_string(),
        };
        let task: GlueTask = name.parse()?;
        let Some(folder) = &recipe.data else {
            return Err(Error::option(
                "data",
                format!("missing; give the folder of {task}'s files"),
            ));
        };
        let splits = task.dev_splits().iter().map(|&split| {
            let data = task.load(folder, split)?;
            Ok((data_name(task, split), data))
        });
        splits.collect()
    }
}

/// The name of a split: that of its file without `.tsv`.
fn data_name(task: GlueTask, split: Split) -> String {
    let name = task.file_name(split).unwrap_or("dev.tsv");
    name.trim_end_matches(".tsv").to_string()
}

/// Checks that the model gives a text one label, and has an output for each label of the task.
fn check_outputs(opened: &Opened, task: &Task) -> Result<()> {
    if opened.model.labels().problem_type() == ProblemType::MultiLabelClassification {
        let message = "problem_type: the model gives a text any number of labels \
                       (multi_label_classification); evaluate scores one label a text";
        return Err(Error::format(opened.folder.join("config.json"), message));
    }
    let (outputs, labels) = (opened.model.labels().num_labels(), task.num_labels());
    if outputs == labels {
        return Ok(());
    }
    let message = format!(
        "the model has {outputs} outputs but task {} needs {labels}: it was trained for another task",
        task.name
    );
    Err(Error::format(&opened.folder, message))
}
