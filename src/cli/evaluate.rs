//! `losparse evaluate`: scores a model, or a run's checkpoint, on labelled data.

use std::path::PathBuf;
use std::sync::Arc;

use burn::tensor::Device;
use losparse::checkpoint::LoadOptions;
use losparse::inspect::{SplitMetrics, no_better_than_constant};
use losparse::models::{AnyModel, AnyQuestionAnswerer, AnySeq2Seq, AnySequenceClassifier};
use losparse::models::{FolderModel, LabelConfig, ProblemType};
use losparse::tasks::{GlueTask, Split, Task, TextDataset, TextTokenizer, squad};
use losparse::train::checkpoints::CheckpointState;
use losparse::train::{
    Evaluator, Interrupt, Recipe, RunOptions, TaskRecipe, TextGenerator, answer_questions,
    evaluate_checkpoint, evaluate_model, label_config, read_split, table_options,
};
use losparse::{Error, Result};
use serde_json::json;

use super::global::GlobalArgs;
use super::opened::{Opened, task_name};
use super::options::task::TaskArgs;
use super::options::values::{check_count, read_recipe};
use super::output;
use super::progress::Progress;

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  losparse evaluate small/model --data glue
  losparse evaluate my-model --task rte --data glue
  losparse evaluate answers/model --data squad
  losparse evaluate summaries/model --dev test.jsonl --num-beams 4
  losparse evaluate small/model --dev dev.csv --text review --label stars
  losparse evaluate small/checkpoints/step-00000120

Models that losparse trained or compressed store their task; others need --task or --dev.")]
pub struct Args {
    /// Model folder: Hugging Face's, a compressed one, a run's output folder, or one of its
    /// checkpoints
    #[arg(value_name = "MODEL")]
    model: PathBuf,
    /// Recipe (TOML) whose [task] is used; options given here override it
    #[arg(long, value_name = "FILE", help_heading = "Data")]
    recipe: Option<PathBuf>,
    #[command(flatten)]
    task: TaskArgs,
    /// Examples in a batch [default: 32; for a checkpoint its recipe's]
    #[arg(long, value_name = "N", help_heading = "Data")]
    batch_size: Option<usize>,
}

/// Default number of examples in a batch.
const BATCH_SIZE: usize = 32;

impl Args {
    /// Runs the command.
    pub fn run(&self, global: &GlobalArgs) -> anyhow::Result<()> {
        check_count("batch_size", self.batch_size.unwrap_or(BATCH_SIZE))?;
        let device = global.open()?;
        if CheckpointState::is_in(&self.model) {
            let results = self.checkpoint(global, device)?;
            return self.print(&results, global);
        }
        if self.task.data.is_some() && self.task.dev.is_some() {
            let message =
                "is for a task's official files, and --dev for data of your own; give one";
            return Err(Error::option("data", message).into());
        }
        let mut recipe = read_recipe(self.recipe.as_ref())?.task;
        self.task.apply(&mut recipe);
        let options = LoadOptions {
            labels: self.labels(&recipe)?,
            called: recipe.labels.clone(),
            keep_head: true,
            ..LoadOptions::default()
        };
        let opened = Opened::load_for_labels(&self.model, &device, &options)?;
        self.refuse_others(&opened.model)?;
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
        let batch_size = self.batch_size.unwrap_or(BATCH_SIZE);
        let evaluation = Evaluation { opened, recipe, batch_size, global, device };
        let results = match &evaluation.opened.model {
            AnyModel::SequenceClassifier(model) => evaluation.classify(model)?,
            AnyModel::QuestionAnswerer(model) => vec![evaluation.answer(model)?],
            AnyModel::Seq2Seq(model) => vec![evaluation.summarize(model)?],
        };
        self.print(&results, global)
    }

    /// The labels in the order of the data, if that is known without the model.
    fn labels(&self, recipe: &TaskRecipe) -> Result<Option<LabelConfig>> {
        if recipe.dev.is_none() {
            let name = match recipe.name.as_str() {
                "" => task_name(&self.model).unwrap_or_default(),
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
    fn refuse_others(&self, model: &AnyModel) -> Result<()> {
        let TaskArgs { questions, summaries, rouge, .. } = &self.task;
        let labels = self.task.labels.as_ref().map(|_| "labels");
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

    fn print(&self, results: &[SplitMetrics], global: &GlobalArgs) -> anyhow::Result<()> {
        if global.json {
            // serde_json rejects paths that are not UTF-8.
            let model = self.model.display().to_string();
            for result in results {
                output::print_json(&json!({"model": model, "result": result}))?;
            }
            return Ok(());
        }
        let rows: Vec<Vec<String>> = results
            .iter()
            .map(|SplitMetrics { split, metrics }| {
                vec![split.clone(), metrics.examples.to_string(), metrics.to_string()]
            })
            .collect();
        output::print(&output::table(&["split", "examples", "metrics"], &[1], &rows))?;
        let poor = results.iter().filter_map(|result| no_better_than_constant(&result.metrics));
        poor.for_each(|message| output::warn(&message));
        Ok(())
    }

    /// Evaluates a checkpoint on the data of its run, unless other data is given.
    fn checkpoint(&self, global: &GlobalArgs, device: Device) -> anyhow::Result<Vec<SplitMetrics>> {
        let given = self.recipe.as_ref().map(|path| read_recipe(Some(path))).transpose()?;
        let observer = Arc::new(Progress::new(global.quiet || global.json, false));
        let options = RunOptions { observer, ..global.run_options(&self.model, device) };
        if self.task.labels.is_some() {
            let message = "a checkpoint's labels are those of its run";
            return Err(Error::option("labels", message).into());
        }
        let adjust = |recipe: &mut Recipe| {
            if let Some(given) = given {
                recipe.task = given.task;
            }
            self.task.apply(&mut recipe.task);
            let own = recipe.training.eval_batch_size;
            recipe.training.eval_batch_size = self.batch_size.unwrap_or(own);
        };
        Ok(evaluate_checkpoint(&self.model, adjust, &options)?)
    }
}

/// A model, and the task to evaluate it on.
struct Evaluation<'a> {
    opened: Opened,
    recipe: TaskRecipe,
    batch_size: usize,
    global: &'a GlobalArgs,
    device: Device,
}

impl Evaluation<'_> {
    fn classify(&self, model: &AnySequenceClassifier) -> Result<Vec<SplitMetrics>> {
        let Self { opened, recipe, batch_size, global, device } = self;
        let tokenizer = self.tokenizer(TaskRecipe::default().max_length())?;
        let mut results = Vec::new();
        for (split, mut data) in self.datasets()? {
            data.truncate(recipe.max_eval_examples.unwrap_or(usize::MAX));
            check_outputs(opened, &data.task)?;
            Opened::check_pairs(&data.examples, opened.takes_pairs()?)?;
            global.note(&format!("· evaluating {split}: {} examples", data.len()));
            data.notes().iter().for_each(|note| global.note(&format!("{split}: {note}")));
            let never = Interrupt::default();
            let (metrics, _) =
                evaluate_model(model, &tokenizer, &data, *batch_size, device, &never)?;
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
        let Self { opened, recipe, batch_size, global, device } = self;
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
        let done = summarizer.generate(&data.examples, &progress, &Interrupt::default())?;
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
