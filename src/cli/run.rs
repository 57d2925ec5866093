//! What compressing and fine-tuning have in common.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::builder::Resettable;
use losparse::Error;
use losparse::checkpoint::StorageDtype;
use losparse::inspect::{RunReport, percent, thousands};
use losparse::train::{Difference, Interrupt, JobKind, Recipe, RunOptions};
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
    /// Go on from the last checkpoint in the output folder, whose recipe has every setting
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
    /// The recipe of the run that is resumed; nothing if none is, or its folder has no recipe but
    /// the command line may have one.
    ///
    /// # Errors
    /// If there is no run, or its recipe cannot be read.
    pub fn begun(&self) -> losparse::Result<Option<Recipe>> {
        let Some(output) = self.output.as_ref().filter(|_| self.resume) else { return Ok(None) };
        let file = output.join("recipe.toml");
        if file.is_file() {
            return Recipe::read(file).map(Some);
        }
        if self.model.is_none() && self.recipe.is_none() {
            let message = "holds no run to resume (no recipe.toml); start it without --resume";
            return Err(Error::format(output, message));
        }
        Ok(None)
    }

    /// Checks that a run that is resumed was begun by this command; `compresses` says which it is.
    ///
    /// # Errors
    /// Names the other command.
    pub fn check_command(&self, recipe: &Recipe, compresses: bool) -> losparse::Result<()> {
        let own = self.recipe.is_none() && self.begun()?.is_some();
        if own && recipe.method.is_some() != compresses {
            let command = if compresses { "finetune" } else { "compress" };
            let message = format!("holds a run of `losparse {command}`; resume it with that");
            return Err(Error::format(self.output.clone().unwrap_or_default(), message));
        }
        Ok(())
    }

    /// Checks that a run that is resumed has the settings it was begun with.
    fn check_settings(&self, recipe: &Recipe) -> losparse::Result<()> {
        let Some(begun) = self.begun()? else { return Ok(()) };
        let now = recipe.resolved().with_absolute_paths();
        let Some(difference) = begun.with_absolute_paths().difference(&now) else { return Ok(()) };
        let Difference { setting, first, second } = difference;
        let value = |value: Option<String>| value.unwrap_or_else(|| "none".to_string());
        let (first, second) = (value(first), value(second));
        let option = setting.rsplit('.').next().unwrap_or_default();
        let folder = self.output.clone().unwrap_or_default();
        let message = format!(
            "{second}, but the run in {} was started with {first}; leave the option out to go on \
             with it, or start another run",
            folder.display()
        );
        Err(Error::option(option, message))
    }

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
        recipe.model = Some(check(&recipe)?);
        recipe.validate()?;
        self.check_settings(&recipe)?;
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
                false => {
                    plan.notes.iter().for_each(|note| machine.note(note));
                    let plan = losparse::train::Plan { notes: Vec::new(), ..plan };
                    Ok(output::print(&output::describe(&serde_json::to_value(&plan)?))?)
                }
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
            command: output::command_line(std::env::args_os()),
            observer: Arc::new(Progress::new(machine.quiet || tui, machine.json)),
            interrupt,
        };
        let report = match pipeline(&recipe, &options) {
            Err(error @ Error::Interrupted(_)) => {
                output::note(&advice(std::env::args_os(), &options.output, &recipe));
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

/// Checks that there is something to run; the model's folder.
fn check(recipe: &Recipe) -> losparse::Result<PathBuf> {
    let Some(model) = &recipe.model else {
        return Err(Error::option("MODEL", "missing; give the folder of the model to start from"));
    };
    let model = super::model::find(model)?;
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

/// A second signal within this time is the first once more: a terminal that is closed sends several.
const SAME_SIGNAL: Duration = Duration::from_millis(500);

/// The first Ctrl-C, or signal that asks a process to end (SIGTERM, SIGHUP), stops the run cleanly;
/// the second at once.
pub fn stop_on_ctrl_c(interrupt: Interrupt) -> anyhow::Result<()> {
    let mut first = None;
    let handler = move || {
        let again = first.get_or_insert_with(Instant::now).elapsed() > SAME_SIGNAL;
        match (interrupt.stopped(), again) {
            (true, true) => std::process::exit(super::INTERRUPTED.into()),
            (true, false) => return,
            (false, _) => {}
        }
        interrupt.stop("by Ctrl-C, or a signal to end");
        output::note("stopping after this batch; press Ctrl-C again to stop at once");
    };
    let ignored = hangup_is_ignored();
    ctrlc::set_handler(handler).context("cannot listen for Ctrl-C")?;
    if ignored {
        ignore_hangup();
    }
    Ok(())
}

/// Whether this process was told to outlive its terminal (`nohup`).
#[cfg(unix)]
fn hangup_is_ignored() -> bool {
    // SAFETY: a null action changes nothing; the present one is written to `now`, for which zeros are
    // a valid value.
    unsafe {
        let mut now: libc::sigaction = std::mem::zeroed();
        libc::sigaction(libc::SIGHUP, std::ptr::null(), &raw mut now) == 0
            && now.sa_sigaction == libc::SIG_IGN
    }
}

#[cfg(not(unix))]
fn hangup_is_ignored() -> bool {
    false
}

fn ignore_hangup() {
    // SAFETY: to ignore a signal runs no code of ours.
    #[cfg(unix)]
    unsafe {
        libc::signal(libc::SIGHUP, libc::SIG_IGN);
    }
}

/// How to go on after an interruption: the run of `recipe` in `output`, if that was begun.
fn advice(args: impl Iterator<Item = OsString>, output: &Path, recipe: &Recipe) -> String {
    let now = recipe.resolved().with_absolute_paths();
    let begun = Recipe::read(output.join("recipe.toml"));
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
        // An earlier run, which this one did not get to replace.
        let file = folder.path().join("recipe.toml");
        std::fs::write(&file, Recipe::default().to_toml()).unwrap();
        assert_eq!(advice(), start_again);
        std::fs::write(&file, recipe.resolved().with_absolute_paths().to_toml()).unwrap();
        let go_on = "go on with: losparse compress 'my model' --layers '!*.a' --resume";
        assert_eq!(advice(), go_on);
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
