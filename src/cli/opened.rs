//! A model folder, loaded for use: weights, tokenizer, and what it stores about its task.

use std::path::{Path, PathBuf};

use burn::tensor::Device;
use losparse::checkpoint::{LoadOptions, LoadReport};
use losparse::generation::{DEFAULT_NEW_TOKENS, GenerationConfig};
use losparse::inspect::RunReport;
use losparse::linear::round_weights;
use losparse::models::{AnyModel, FolderModel, ProblemType};
use losparse::precision;
use losparse::tasks::squad::QaSettings;
use losparse::tasks::{Example, GlueTask, SummarizationSettings, Task, TextTokenizer};
use losparse::train::checkpoints::{CheckpointState, CheckpointStore};
use losparse::train::{Recipe, StoredColumns, TaskRecipe, TextGenerationRecipe, model_tokenizer};
use losparse::{Error, Result};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

/// A loaded model folder.
pub struct Opened {
    pub folder: PathBuf,
    pub model: AnyModel,
    pub report: LoadReport,
    /// The `losparse` object of `config.json`; empty if a model has none.
    pub about: Map<String, Value>,
}

impl Opened {
    /// Loads the model of a folder: Hugging Face's, a compressed one's, or a run's output folder.
    pub fn load(folder: &Path, device: &Device) -> Result<Self> {
        Self::load_with(folder, device, &LoadOptions::default())
    }

    /// As [`Opened::load`], by `options`.
    pub fn load_with(folder: &Path, device: &Device, options: &LoadOptions) -> Result<Self> {
        let folder = find(folder)?;
        let (model, report) = AnyModel::load(&folder, device, options)?;
        let path = folder.join("config.json");
        let mut config: Map<String, Value> = losparse::files::read_json(&path)?;
        let about = match config.remove("losparse") {
            Some(Value::Object(about)) => about,
            _ => Map::new(),
        };
        Ok(Self { folder, model, report, about })
    }

    /// As [`Opened::load`], with weights in the format of this process's matrix products, if one was
    /// chosen.
    pub fn load_for_inference(folder: &Path, device: &Device) -> Result<Self> {
        Self::load_for_labels(folder, device, &LoadOptions::default())
    }

    /// As [`Opened::load_for_inference`], with the head in the order of the labels in `options`.
    pub fn load_for_labels(folder: &Path, device: &Device, options: &LoadOptions) -> Result<Self> {
        let opened = Self::load_with(folder, device, options)?;
        let Some(chosen) = precision::chosen() else { return Ok(opened) };
        Ok(Self { model: round_weights(opened.model, chosen), ..opened })
    }

    /// Checks that the model's head was trained and that no two outputs have the same name.
    pub fn check_head(&self) -> Result<()> {
        if let AnyModel::SequenceClassifier(model) = &self.model {
            let labels = model.labels();
            let wrong = |message| Err(Error::format(self.folder.join("config.json"), message));
            if let Some(name) = labels.name_of_two() {
                return wrong(format!("id2label: two outputs are called {name:?}; rename one"));
            }
            if let (ProblemType::Regression, count @ 2..) =
                (labels.problem_type(), labels.num_labels())
            {
                return wrong(format!(
                    "problem_type: a regression with {count} outputs is not supported, only one"
                ));
            }
        }
        // The head of a language model is its embedding, so it is never new.
        if self.report.newly_initialised.is_empty() || matches!(self.model, AnyModel::Seq2Seq(_)) {
            return Ok(());
        }
        let new = self.report.newly_initialised.join(", ");
        let why = self.report.labels.clone().unwrap_or_else(|| format!("{new} missing"));
        let message = format!("the model has no trained head ({why}); fine-tune it first");
        Err(Error::format(&self.folder, message))
    }

    /// The task that the model was trained for, if it stores one.
    pub fn task(&self) -> Result<Option<Task>> {
        let task: Option<Task> = self.stored("task")?.flatten();
        if let Some(task) = &task {
            task.validate().map_err(|e| self.wrong("task", e))?;
        }
        Ok(task)
    }

    /// The columns that the model was trained on, as far as it stores them.
    pub fn columns(&self) -> Result<StoredColumns> {
        Ok(self.stored::<Option<StoredColumns>>("columns")?.flatten().unwrap_or_default())
    }

    /// The entry `name` of the `losparse` object, if there is one.
    fn stored<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>> {
        let stored = self.about.get(name).map(|stored| serde_json::from_value(stored.clone()));
        stored.transpose().map_err(|e| self.wrong(name, e))
    }

    /// An error about the entry `name` of the `losparse` object.
    fn wrong(&self, name: &str, message: impl std::fmt::Display) -> Error {
        Error::format(self.folder.join("config.json"), format!("losparse.{name}: {message}"))
    }

    /// Whether the model was trained on pairs of texts, if it stores that.
    pub fn takes_pairs(&self) -> Result<Option<bool>> {
        let columns = self.columns()?;
        if columns.text.is_some() {
            return Ok(Some(columns.pair.is_some()));
        }
        let task = self.task()?.and_then(|task| task.name.parse::<GlueTask>().ok());
        Ok(task.map(GlueTask::has_pairs))
    }

    /// Checks that examples are pairs if, and only if, the model was trained on `pairs`.
    pub fn check_pairs(examples: &[Example], pairs: Option<bool>) -> Result<()> {
        let Some(pairs) = pairs else { return Ok(()) };
        let Some(at) = examples.iter().position(|example| example.pair.is_some() != pairs) else {
            return Ok(());
        };
        let message = match pairs {
            true => format!(
                "missing: text {} stands alone, and the model was trained on pairs of texts",
                at + 1
            ),
            false => "the model was trained on single texts, not on pairs".to_string(),
        };
        Err(Error::option("pair", message))
    }

    /// A task called `name` with the model's own labels.
    pub fn own_task(&self, name: &str) -> Result<Task> {
        match self.model.labels().problem_type() {
            ProblemType::Regression => Ok(Task::regression(name)),
            _ => Task::classification(name, self.model.labels().names()),
        }
    }

    /// The longest input in tokens: `asked`, else the one in training, else `default`; the latter
    /// two bounded by the model's.
    ///
    /// # Errors
    /// If `asked` is more than the model takes.
    pub fn max_length(&self, asked: Option<usize>, default: usize) -> Result<usize> {
        let longest = self.model.max_length();
        if let Some(asked) = asked.filter(|asked| *asked > longest) {
            let message = format!("{asked} tokens are more than the model's {longest}");
            return Err(Error::option("max_length", message));
        }
        let trained = self.about.get("max_length").and_then(Value::as_u64).map(|n| n as usize);
        Ok(asked.or(trained).unwrap_or(default).min(longest))
    }

    /// The folder's tokenizer.
    pub fn tokenizer(&self, max_length: usize) -> Result<TextTokenizer> {
        model_tokenizer(&self.folder, &self.model, max_length)
    }

    /// Settings of question answering: those of `asked`, else those in training, else those that
    /// the task's name implies.
    pub fn qa_settings(&self, asked: &TaskRecipe) -> Result<QaSettings> {
        let settings = match self.stored("question_answering")? {
            Some(stored) => asked.qa_settings_over(stored),
            None => asked.qa_settings(),
        };
        settings.validate()?;
        Ok(settings)
    }

    /// Settings of summarization: those of `recipe`, else those in training, else those that the
    /// task's name or the model's generation settings imply, else the defaults of `transformers`.
    /// The generation settings come along. `tell` gets notes on what the user may not expect.
    pub fn summarization(
        &self,
        recipe: &TaskRecipe,
        tell: &dyn Fn(&str),
    ) -> Result<(SummarizationSettings, GenerationConfig)> {
        let own = GenerationConfig::from_folder(&self.folder)?;
        let longest = self.model.max_length();
        let mut asked = recipe.summarization();
        // Nothing is trained, so no reference is too long.
        asked.max_target_length = asked.max_target_length.or(Some(longest));
        let preset = recipe.summarization.as_ref().and_then(|settings| settings.preset);
        let base: Option<SummarizationSettings> = match preset {
            None => self.stored("summarization")?,
            Some(_) => None,
        };
        let completed = own.clone().completed();
        let shortest = match &base {
            Some(base) => base.min_length,
            None if asked.preset.is_some() => 0,
            None => completed.shortest(),
        };
        let says = own.longest().is_some() || base.is_some() || asked.preset.is_some();
        if !says && asked.max_length.is_none() {
            tell(&format!(
                "· the model does not say how long its texts are: {DEFAULT_NEW_TOKENS} new tokens at \
                 most, as in transformers; --max-summary-length allows more"
            ));
        }
        let settings = match base {
            Some(base) => {
                // The preset that the task's name implies gives way to what the model stores.
                let settings = TextGenerationRecipe { preset: None, ..asked.clone() }.over(base);
                settings.validate()?;
                settings.check_lengths(longest)?;
                settings
            }
            None => asked.settings(&completed, longest)?,
        };
        if asked.min_length.is_none() && shortest > settings.max_length {
            tell(&format!(
                "· the model's shortest text, {shortest} tokens, gives way to the longest, {}",
                settings.max_length
            ));
        }
        if let Some(texts) = own.num_return_sequences.filter(|texts| *texts > 1) {
            tell(&format!("· the model's settings are to write {texts} texts; the best is given"));
        }
        Ok((settings, own))
    }
}

/// The name of the task that a folder's model was trained for, if that can be read.
pub fn task_name(folder: &Path) -> Option<String> {
    let config: Value = losparse::files::read_json(find(folder).ok()?.join("config.json")).ok()?;
    Some(config.pointer("/losparse/task/name")?.as_str()?.to_string())
}

/// The model folder that a path names: itself, or `model` in a run's output folder.
///
/// # Errors
/// If there is no such folder, or it is no model's: a checkpoint, or a run's that was not done.
pub fn find(folder: &Path) -> Result<PathBuf> {
    if !folder.is_dir() {
        let message = "no such folder; a model folder in Hugging Face's layout is expected";
        return Err(Error::format(folder, message));
    }
    let has = |folder: &Path, file: &str| folder.join(file).is_file();
    if has(folder, "config.json") {
        return Ok(folder.to_path_buf());
    }
    let inner = folder.join(RunReport::MODEL);
    let whole = has(&inner, "config.json");
    let message = if CheckpointState::is_in(folder) {
        "is a checkpoint and no model folder: `losparse evaluate` scores it, `losparse inspect --plots` \
         draws it; a run that is done has its model in the folder model"
            .to_string()
    } else if has(folder, Recipe::FILE) && !has(folder, RunReport::FILE) {
        match (whole, last_checkpoint(folder)) {
            (true, _) => format!(
                "its run is not done, and {} may be of an earlier one; go on with --resume, or name \
                 that folder",
                inner.display()
            ),
            (false, Some(last)) => format!(
                "its run is not done; go on with --resume, or `losparse evaluate` its last checkpoint, {}",
                last.display()
            ),
            (false, None) => "its run is not done; go on with --resume".to_string(),
        }
    } else if whole {
        return Ok(inner);
    } else {
        "no config.json; a model folder in Hugging Face's layout is expected".to_string()
    };
    Err(Error::format(folder, message))
}

/// Folder of the last checkpoint of a run.
fn last_checkpoint(run: &Path) -> Option<PathBuf> {
    let folder = run.join("checkpoints");
    let last = *CheckpointStore::steps_in(&folder).ok()?.last()?;
    Some(folder.join(CheckpointStore::name(last)))
}
