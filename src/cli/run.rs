//! `compress` and `finetune`: options, checks, the run itself and what is printed at its end.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::builder::Resettable;
use losparse::Error;
use losparse::inspect::RunReport;
use losparse::train::{Difference, Interrupt, JobKind, Recipe, RunOptions, Storage};
use serde_json::json;

use super::dry_run::described;
use super::global::GlobalArgs;
use super::options::summaries::TrainSummaryArgs;
use super::options::task::{TaskArgs, TrainDataArgs};
use super::options::training::TrainingArgs;
use super::options::values::{read_recipe, word};
use super::output;
use super::progress::Progress;
use super::signals::stop_on_ctrl_c;
use super::summary::summary;

/// Options of a run: the model it starts from, the folder of its result, how it begins.
#[derive(clap::Args)]
#[command(next_help_heading = "Run")]
pub struct RunArgs {
    /// Model folder to start from, in Hugging Face's layout [default: the recipe's model]
    #[arg(value_name = "MODEL", help_heading = Resettable::Reset)]
    pub model: Option<PathBuf>,
    /// Folder for the result: model/, recipe.toml, report.md, report.json, checkpoints
    #[arg(long, short, value_name = "FOLDER", required_unless_present = "dry_run")]
    pub output: Option<PathBuf>,
    /// Recipe with the settings (TOML); options given here override it
    #[arg(long, value_name = "FILE")]
    pub recipe: Option<PathBuf>,
    /// Start from a new head even if the model has one with as many labels, of another task
    #[arg(long)]
    new_head: bool,
    /// Number format of the result. With int8 the layers also compute in it; auto is int8 on CPUs if the
    /// metric holds within 0.3 points, else f32 [default: f32; of `compress` without a recipe: auto]
    #[arg(long, value_name = "auto|f32|f16|bf16|int8", value_parser = word::<Storage>)]
    pub storage: Option<Storage>,
    /// Only show what would be done, and the time and memory that it would take
    #[arg(long)]
    dry_run: bool,
    /// Go on from the last checkpoint in the output folder, with the recipe there
    #[arg(long)]
    resume: bool,
    /// Replace an earlier run in the output folder
    #[arg(long, conflicts_with = "resume")]
    pub overwrite: bool,
    /// Show Burn's training dashboard
    #[cfg(feature = "tui")]
    #[arg(long, conflicts_with = "json")]
    tui: bool,
}

/// Options that `compress` and `finetune` share.
#[derive(clap::Args)]
pub struct TrainArgs {
    #[command(flatten)]
    pub run: RunArgs,
    #[command(flatten)]
    pub task: TaskArgs,
    #[command(flatten)]
    train: TrainDataArgs,
    #[command(flatten)]
    training: TrainingArgs,
    #[command(flatten)]
    summaries: TrainSummaryArgs,
}

impl TrainArgs {
    /// The recipe to run: the file's, that of the run to resume, or the default one, overridden by
    /// the options that were given.
    pub fn recipe(&self) -> losparse::Result<Recipe> {
        let mut recipe = match (&self.run.recipe, self.run.begun()?) {
            (None, Some(begun)) => begun,
            (file, _) => read_recipe(file.as_ref())?,
        };
        self.task.apply(&mut recipe.task);
        self.train.apply(&mut recipe.task, self.task.data.as_ref());
        self.training.apply(&mut recipe);
        self.summaries.apply(&mut recipe.task);
        Ok(recipe)
    }
}

/// [`losparse::train::compress`] or [`losparse::train::finetune`].
type Pipeline = fn(&Recipe, &RunOptions) -> losparse::Result<RunReport>;

impl RunArgs {
    /// The recipe of the run to resume. `None` without `--resume`, or if the folder holds no recipe
    /// but the command line names a model or recipe.
    ///
    /// # Errors
    /// If there is no run to resume, or its recipe cannot be read.
    fn begun(&self) -> losparse::Result<Option<Recipe>> {
        let Some(output) = self.output.as_ref().filter(|_| self.resume) else { return Ok(None) };
        let file = output.join(Recipe::FILE);
        if file.is_file() {
            return Recipe::read(file).map(Some);
        }
        if self.model.is_none() && self.recipe.is_none() {
            let message = "holds no run to resume (no recipe.toml); start it without --resume";
            return Err(Error::format(output, message));
        }
        Ok(None)
    }

    /// Whether settings come from a recipe file, or from the run to resume.
    pub fn has_recipe(&self) -> losparse::Result<bool> {
        Ok(self.recipe.is_some() || self.begun()?.is_some())
    }

    /// Checks that this command began the run to resume: `compress` if `compresses`, else
    /// `finetune`.
    ///
    /// # Errors
    /// The error names the command that began it.
    pub fn check_command(&self, recipe: &Recipe, compresses: bool) -> losparse::Result<()> {
        let own = self.recipe.is_none() && self.begun()?.is_some();
        if own && recipe.method.is_some() != compresses {
            let command = if compresses { "finetune" } else { "compress" };
            let message = format!("holds a run of `losparse {command}`; resume it with that");
            return Err(Error::format(self.output.clone().unwrap_or_default(), message));
        }
        Ok(())
    }

    /// Checks that model and data of the run to resume are still there.
    ///
    /// # Errors
    /// Names the path that the run recorded and how to give the new one.
    fn check_places(&self, recipe: &Recipe) -> losparse::Result<()> {
        let (Some(_), Some((name, path))) = (self.begun()?, recipe.missing_path()) else {
            return Ok(());
        };
        let what = if name == "model" { "as MODEL".to_string() } else { format!("with --{name}") };
        let message = format!(
            "is not there, and the run to resume was started with it; if it has moved, give its new \
             path {what}"
        );
        Err(Error::format(path, message))
    }

    /// Checks that the run to resume was begun with the same settings.
    fn check_settings(&self, recipe: &Recipe) -> losparse::Result<()> {
        let Some(begun) = self.begun()? else { return Ok(()) };
        let now = recipe.resolved().with_absolute_paths();
        // Whether moved files are the same, their checksums tell later.
        let begun = begun.with_absolute_paths().with_paths_of(&now);
        let Some(difference) = begun.difference(&now) else { return Ok(()) };
        let Difference { setting, first, second } = difference;
        let value = |value: Option<String>| value.unwrap_or_else(|| "none".to_string());
        let (first, second) = (value(first), value(second));
        let option = match setting.strip_prefix("distillation.") {
            Some(_) => "teacher",
            None => setting.rsplit('.').next().unwrap_or_default(),
        };
        let folder = self.output.clone().unwrap_or_default();
        let message = format!(
            "{second}, but the run in {} was started with {first}; leave the option out to go on \
             with it, or start another run",
            folder.display()
        );
        Err(Error::option(option, message))
    }

    /// Runs `recipe`, or with `--dry-run` prints its plan. The report compares with the `baseline`.
    pub fn run(
        &self,
        mut recipe: Recipe,
        baseline: Option<&Path>,
        global: &GlobalArgs,
        pipeline: Pipeline,
    ) -> anyhow::Result<()> {
        if let Some(model) = &self.model {
            recipe.model = Some(model.clone());
        }
        if let Some(storage) = self.storage {
            recipe.storage = storage;
        }
        recipe.new_head |= self.new_head;
        self.check_places(&recipe)?;
        recipe.model = Some(check(&recipe)?);
        if let Some(teacher) = recipe.distillation.as_mut().and_then(|own| own.teacher.as_mut()) {
            let found = super::opened::find(teacher);
            *teacher = found.map_err(|error| Error::option("teacher", error.to_string()))?;
        }
        recipe.validate()?;
        self.check_settings(&recipe)?;
        if let Some(file) = &self.recipe
            && !same_settings(&Recipe::read(file)?, &recipe)
        {
            // Settings that the user changed no longer come from the recipe's source.
            recipe.provenance = None;
        }
        let device = global.open_to_train()?;
        let output = self.output.clone().unwrap_or_default();
        let options = RunOptions {
            resume: self.resume,
            overwrite: self.overwrite,
            baseline: baseline.map(Path::to_path_buf),
            ..global.run_options(&output, device.clone())
        };
        if self.dry_run {
            if self.output.is_some() {
                options.check_output(recipe.model.as_deref())?;
            }
            let plan = losparse::train::plan(&recipe, &device)?;
            return match global.json {
                true => output::print_json(&plan),
                false => {
                    plan.notes.iter().for_each(|note| global.note(note));
                    Ok(output::print(&described(&plan))?)
                }
            };
        }
        let interrupt = Interrupt::default();
        stop_on_ctrl_c(interrupt.clone())?;
        #[cfg(feature = "tui")]
        let tui = self.tui;
        #[cfg(not(feature = "tui"))]
        let tui = false;
        let observer = Arc::new(Progress::new(global.quiet || tui, global.json));
        let options = RunOptions { tui, observer, interrupt, ..options };
        let report = match pipeline(&recipe, &options) {
            Err(error @ Error::Interrupted(_)) => {
                output::note(&advice(std::env::args_os(), &options.output, &recipe));
                return Err(error.into());
            }
            result => result?,
        };
        match global.json {
            true => output::print_json(&json!({"event": "done", "report": report}))?,
            false => output::print(&summary(&report, &options.output.display().to_string()))?,
        }
        verdict(&report)
    }
}

/// Error of a run that ended with a result that is not what was asked for. The result is kept.
#[derive(Debug)]
pub struct Marked;

impl std::fmt::Display for Marked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the result is kept, but is not what was asked for")
    }
}

impl std::error::Error for Marked {}

/// Prints a report's warnings; call it last.
///
/// # Errors
/// [`Marked`] if the result is not what was asked for.
pub fn verdict(report: &RunReport) -> anyhow::Result<()> {
    report.warnings.iter().for_each(|warning| output::warn(&warning.message));
    if report.is_spoilt() { Err(Marked.into()) } else { Ok(()) }
}

/// Whether two recipes are equal apart from model and data.
fn same_settings(a: &Recipe, b: &Recipe) -> bool {
    let settings = |recipe: &Recipe| {
        let mut recipe = Recipe { model: None, ..recipe.clone() };
        let task = &mut recipe.task;
        (task.data, task.train, task.dev) = (None, None, None);
        recipe
    };
    settings(a) == settings(b)
}

/// Checks that a recipe names model and data; returns the model's folder.
fn check(recipe: &Recipe) -> losparse::Result<PathBuf> {
    let Some(model) = &recipe.model else {
        return Err(Error::option("MODEL", "missing; give the folder of the model to start from"));
    };
    let model = super::opened::find(model)?;
    let task = &recipe.task;
    let own = task.train.is_some() || task.dev.is_some();
    if task.name.is_empty() && !own {
        let message = "missing; give a GLUE task, squad or xsum with --data, or your own --train \
                       and --dev files";
        return Err(Error::option("task", message));
    }
    if !own && task.data.is_none() {
        if task.kind() == JobKind::Classification {
            task.name.parse::<losparse::tasks::GlueTask>()?;
        }
        return Err(Error::option("data", "missing; give the folder of the task's files"));
    }
    Ok(model)
}

/// Advice after an interruption: resume the run of `recipe` in `output`, or start again if nothing
/// was saved.
fn advice(args: impl Iterator<Item = OsString>, output: &Path, recipe: &Recipe) -> String {
    let now = recipe.resolved().with_absolute_paths();
    let begun = Recipe::read(output.join(Recipe::FILE));
    match begun.is_ok_and(|begun| begun.difference(&now).is_none()) {
        true => {
            let args = args.filter(|word| word != "--overwrite" && word != "--resume");
            format!("go on with: {}", output::command_line(args.chain(["--resume".into()])))
        }
        false => {
            format!("nothing was saved yet; start again with: {}", output::command_line(args))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_to_go_on_is_the_same_with_resume() {
        let words =
            ["/usr/bin/losparse", "compress", "my model", "--overwrite", "--layers", "!*.a"];
        let words = || words.into_iter().map(OsString::from);
        let folder = tempfile::tempdir().unwrap();
        let recipe = Recipe { model: Some("my model".into()), ..Recipe::default() };
        let advice = || advice(words(), folder.path(), &recipe);
        let start_again = "nothing was saved yet; start again with: losparse compress 'my model' \
                           --overwrite --layers '!*.a'";
        assert_eq!(advice(), start_again);
        // The recipe of an earlier run, which this one had not replaced yet.
        let file = folder.path().join("recipe.toml");
        std::fs::write(&file, Recipe::default().to_toml()).unwrap();
        assert_eq!(advice(), start_again);
        std::fs::write(&file, recipe.resolved().with_absolute_paths().to_toml()).unwrap();
        let go_on = "go on with: losparse compress 'my model' --layers '!*.a' --resume";
        assert_eq!(advice(), go_on);
    }

    #[test]
    fn provenance_is_kept_with_unchanged_settings_only() {
        let published = Recipe { provenance: Some("published".into()), ..Recipe::default() };
        let mut own = Recipe { model: Some("my-bert".into()), ..published.clone() };
        own.task.data = Some("my-data".into());
        assert!(same_settings(&published, &own));
        own.training.epochs = Some(7);
        assert!(!same_settings(&published, &own));
    }

    #[test]
    fn a_run_needs_a_model_and_data() {
        let here = concat!(env!("CARGO_MANIFEST_DIR"), "/models/movie-sentiment");
        let mut recipe = Recipe::default();
        let message = |recipe: &Recipe| check(recipe).unwrap_err().to_string();
        assert!(message(&recipe).starts_with("option MODEL: missing"));
        recipe.model = Some("no/such/folder".into());
        assert!(message(&recipe).contains("no/such/folder: no such folder"));
        recipe.model = Some(here.into());
        assert!(message(&recipe).starts_with("option task: missing"));
        recipe.task.name = "nothing".into();
        assert!(message(&recipe).contains("is not a GLUE task"));
        recipe.task.name = "sst2".into();
        assert!(message(&recipe).starts_with("option data: missing"));
        recipe.task.data = Some("glue".into());
        check(&recipe).unwrap();
    }
}
