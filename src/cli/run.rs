//! What compressing and fine-tuning have in common.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use clap::builder::Resettable;
use losparse::Error;
use losparse::checkpoint::StorageDtype;
use losparse::inspect::{RunReport, percent, thousands};
use losparse::train::checkpoints::CheckpointState;
use losparse::train::{Interrupt, JobKind, Recipe, RunOptions};
use serde_json::json;

use super::args::word;
use super::machine::MachineArgs;
use super::output;
use super::progress::Progress;

/// Where a run starts and what becomes of it.
#[derive(clap::Args)]
#[command(next_help_heading = "Run")]
pub struct RunArgs {
    /// Model folder to start from, in Hugging Face's layout; may be in the recipe instead
    #[arg(value_name = "MODEL", help_heading = Resettable::Reset)]
    model: Option<PathBuf>,
    /// Folder for the result: model/, recipe.toml, report.md, report.json, checkpoints
    #[arg(long, short, value_name = "FOLDER", required_unless_present = "dry_run")]
    output: Option<PathBuf>,
    /// Recipe with the settings (TOML); options given here override it
    #[arg(long, value_name = "FILE")]
    pub recipe: Option<PathBuf>,
    /// Start from a new head even if the model has one for as many labels (one of another task)
    #[arg(long)]
    new_head: bool,
    /// What the result's weights are stored as [default: f32]
    #[arg(long, value_name = "f32|f16|bf16|int8", value_parser = word::<StorageDtype>)]
    storage: Option<StorageDtype>,
    /// Only say what would be done and what it would take
    #[arg(long)]
    dry_run: bool,
    /// Go on from the last checkpoint in the output folder
    #[arg(long)]
    resume: bool,
    /// Replace an earlier run in the output folder
    #[arg(long, conflicts_with = "resume")]
    overwrite: bool,
    /// Show Burn's training dashboard
    #[cfg(feature = "tui")]
    #[arg(long, conflicts_with = "json")]
    tui: bool,
}

/// A run of the library.
type Pipeline = fn(&Recipe, &RunOptions) -> losparse::Result<RunReport>;

impl RunArgs {
    /// Runs `recipe`, or says what that would be; the report compares with the `baseline`.
    pub fn run(
        &self,
        mut recipe: Recipe,
        baseline: Option<&Path>,
        machine: &MachineArgs,
        pipeline: Pipeline,
    ) -> anyhow::Result<()> {
        if let Some(model) = &self.model {
            recipe.model = Some(model.clone());
        }
        if let Some(storage) = self.storage {
            recipe.storage = storage;
        }
        recipe.new_head |= self.new_head;
        check(&recipe)?;
        recipe.validate()?;
        if let Some(file) = &self.recipe
            && !same_settings(&Recipe::read(file)?, &recipe)
        {
            // They are the user's now, not the source's.
            recipe.provenance = None;
        }
        let device = machine.open_to_train()?;
        if self.dry_run {
            let plan = losparse::train::plan(&recipe, &device)?;
            return match machine.json {
                true => output::print_json(&plan),
                false => Ok(output::print(&output::describe(&serde_json::to_value(&plan)?))?),
            };
        }
        let interrupt = Interrupt::default();
        stop_on_ctrl_c(interrupt.clone())?;
        #[cfg(feature = "tui")]
        let tui = self.tui;
        #[cfg(not(feature = "tui"))]
        let tui = false;
        let options = RunOptions {
            output: self.output.clone().unwrap_or_default(),
            resume: self.resume,
            overwrite: self.overwrite,
            baseline: baseline.map(Path::to_path_buf),
            tui,
            device,
            device_name: machine.device_name(),
            command: output::command_line(std::env::args()),
            observer: Arc::new(Progress::new(machine.quiet || tui, machine.json)),
            interrupt,
        };
        let report = match pipeline(&recipe, &options) {
            Err(error @ Error::Interrupted(_)) => {
                output::note(&advice(std::env::args(), &options.output));
                return Err(error.into());
            }
            result => result?,
        };
        match machine.json {
            true => output::print_json(&json!({"event": "done", "report": report}))?,
            false => output::print(&summary(&report, &options.output.display().to_string()))?,
        }
        verdict(&report)
    }
}

/// The end of a run whose result is marked: it is there, and is not what was asked for.
#[derive(Debug)]
pub struct Marked;

impl std::fmt::Display for Marked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the result is kept, but is not what was asked for")
    }
}

impl std::error::Error for Marked {}

/// Warns of what is wrong with a result, after all else.
///
/// # Errors
/// [`Marked`] if the result should not be used as it is.
pub fn verdict(report: &RunReport) -> anyhow::Result<()> {
    report.warnings.iter().for_each(|warning| output::warn(&warning.message));
    if report.is_spoilt() { Err(Marked.into()) } else { Ok(()) }
}

/// Whether two recipes differ in nothing but model and data.
fn same_settings(a: &Recipe, b: &Recipe) -> bool {
    let settings = |recipe: &Recipe| {
        let mut recipe = Recipe { model: None, ..recipe.clone() };
        let task = &mut recipe.task;
        (task.data, task.train, task.dev) = (None, None, None);
        recipe
    };
    settings(a) == settings(b)
}

/// Checks that there is something to run.
fn check(recipe: &Recipe) -> losparse::Result<()> {
    let Some(model) = &recipe.model else {
        return Err(Error::option("MODEL", "missing; give the folder of the model to start from"));
    };
    if !model.is_dir() {
        let message = "no such folder; a model folder in Hugging Face's layout is expected";
        return Err(Error::format(model, message));
    }
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
    Ok(())
}

/// The first Ctrl-C stops the run cleanly, the second at once.
pub fn stop_on_ctrl_c(interrupt: Interrupt) -> anyhow::Result<()> {
    let handler = move || {
        if interrupt.stopped() {
            std::process::exit(super::INTERRUPTED.into());
        }
        interrupt.stop("by Ctrl-C");
        output::note("stopping after this batch; press Ctrl-C again to stop at once");
    };
    ctrlc::set_handler(handler).context("cannot listen for Ctrl-C")
}

/// How to go on after an interruption: from the last checkpoint in `output`, if there is one.
fn advice(args: impl Iterator<Item = String>, output: &Path) -> String {
    let checkpoints = std::fs::read_dir(output.join("checkpoints")).into_iter().flatten();
    let saved = checkpoints.flatten().any(|entry| CheckpointState::is_in(&entry.path()));
    match saved {
        true => format!("go on with: {}", again(args, "--resume")),
        false => format!("nothing was saved yet; start again with: {}", again(args, "--overwrite")),
    }
}

/// The command line of an interrupted run, with another `option`.
fn again(args: impl Iterator<Item = String>, option: &str) -> String {
    let args = args.filter(|word| word != "--overwrite" && word != "--resume");
    output::command_line(args.chain([option.to_string()]))
}

/// The result in a few lines.
pub fn summary(report: &RunReport, folder: &str) -> String {
    let mut rows = Vec::new();
    let compressed = report.method.is_some();
    let trained = if compressed { "compressed (masked)" } else { "fine-tuned" };
    let baseline = report.baseline.as_ref().map(|baseline| &baseline.metrics);
    for (name, splits) in [
        ("as given", &report.starting),
        ("dense, fine-tuned", baseline.unwrap_or(&Vec::new())),
        (trained, &report.trained),
        ("compacted", &report.compacted),
    ] {
        for split in splits {
            rows.push(vec![name.into(), split.split.clone(), split.metrics.to_string()]);
        }
    }
    let mut lines = vec![output::table(&["model", "split", "metrics"], &[], &rows)];
    if report.starting.is_empty() {
        lines.push("(no figure before: the head was new)".into());
    }
    if let Some(evaluations) = report.training.best_of.filter(|count| *count > 1) {
        lines.push(format!("(the best of {evaluations} evaluations on this same data)"));
    }
    if compressed {
        lines.push(format!(
            "weights of compressed layers: {} of dense; whole model: {}",
            percent(report.account.linear_ratio()),
            percent(report.account.whole_ratio())
        ));
    }
    if let Some(bytes) = report.bytes {
        lines.push(format!("on disk: {} bytes", thousands(bytes)));
    }
    if let Some(latency) = &report.latency {
        let times = latency.contestants.iter();
        let times: Vec<String> =
            times.map(|row| format!("{} {:.2} ms", row.name, row.median_ms)).collect();
        lines.push(format!(
            "a batch of {} × {} tokens: {}",
            latency.batch,
            latency.length,
            times.join(", ")
        ));
    }
    let took = output::duration(report.training.seconds);
    lines.push(format!("trained for {took}; all of it in {folder}/report.md"));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_to_go_on_is_the_same_with_resume_or_overwrite() {
        let words =
            ["/usr/bin/losparse", "compress", "my model", "--overwrite", "--layers", "!*.a"];
        let words = || words.into_iter().map(String::from);
        let folder = tempfile::tempdir().unwrap();
        let start_again = "nothing was saved yet; start again with: losparse compress 'my model' \
                           --layers '!*.a' --overwrite";
        assert_eq!(advice(words(), folder.path()), start_again);
        let checkpoint = folder.path().join("checkpoints/step-00000004");
        std::fs::create_dir_all(&checkpoint).unwrap();
        assert_eq!(advice(words(), folder.path()), start_again);
        std::fs::write(checkpoint.join("state.json"), "{}").unwrap();
        let go_on = "go on with: losparse compress 'my model' --layers '!*.a' --resume";
        assert_eq!(advice(words(), folder.path()), go_on);
    }

    #[test]
    fn only_untouched_settings_are_the_sources() {
        let published = Recipe { provenance: Some("published".into()), ..Recipe::default() };
        let mut own = Recipe { model: Some("my-bert".into()), ..published.clone() };
        own.task.data = Some("my-data".into());
        assert!(same_settings(&published, &own));
        own.training.epochs = Some(7);
        assert!(!same_settings(&published, &own));
    }

    #[test]
    fn a_run_needs_a_model_and_data() {
        let here = Some(PathBuf::from(env!("CARGO_MANIFEST_DIR")));
        let mut recipe = Recipe::default();
        let message = |recipe: &Recipe| check(recipe).unwrap_err().to_string();
        assert!(message(&recipe).starts_with("option MODEL: missing"));
        recipe.model = Some("no/such/folder".into());
        assert!(message(&recipe).contains("no/such/folder: no such folder"));
        recipe.model = here;
        assert!(message(&recipe).starts_with("option task: missing"));
        recipe.task.name = "nothing".into();
        assert!(message(&recipe).contains("is not a GLUE task"));
        recipe.task.name = "sst2".into();
        assert!(message(&recipe).starts_with("option data: missing"));
        recipe.task.data = Some("glue".into());
        check(&recipe).unwrap();
    }
}
