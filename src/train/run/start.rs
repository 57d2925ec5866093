//! The start of a run: reads model, data and teacher, checks that they fit the output folder, and only then
//! writes to it. A dense model that has no head for the task is fine-tuned here first, in a run of its own.

use std::path::PathBuf;

use super::folder::MODEL;
use super::layers_and_schedule::{Outline, outline};
use super::lock::Claim;
use super::{Run, RunOptions, resume, teacher};
use crate::inspect::{Baseline, Inputs, RunReport};
use crate::train::checkpoints::CheckpointState;
use crate::train::job::{Job, sum_of_teacher};
use crate::train::{Event, Recipe, Silent};
use crate::{Error, Result};

/// Reads model and data, claims the output folder, writes the recipe there, and runs.
pub(super) fn start<J: Job>(given: &Recipe, options: &RunOptions) -> Result<RunReport> {
    given.validate()?;
    let (output, device) = (&options.output, &options.device);
    let observer = options.observer.as_ref();
    options.check_output(given.model.as_deref())?;
    options.check_replaced(given.teaching().and_then(|own| own.teacher.as_deref()))?;
    let early = output.is_dir().then(|| options.claim()).transpose()?;
    let state = match options.resume {
        true => resume::last_state(&options.checkpoints())?,
        false => None,
    };
    observer.event(&Event::Stage { name: "Reading model and data".to_string() });
    let (mut model, mut prepared) = J::prepare(given, device, observer)?;
    let Outline { segments, learning_rate, .. } =
        outline(given, &model, prepared.train.lengths.len())?;
    let mut recipe = given.clone();
    recipe.training.learning_rate = Some(learning_rate);
    let patience = recipe.training.early_stopping_patience;
    let teacher = match state.as_ref().is_some_and(|state| state.is_done(&segments, patience)) {
        true => None,
        false => teacher::load_named::<J>(given, &prepared, device, observer)?,
    };
    let tuned_first = teacher::is_fine_tuned_first::<J>(given, &prepared);
    let read = prepared.inputs(&recipe)?;
    let mut inputs = read.clone();
    if tuned_first && state.is_some() {
        inputs.teacher = sum_of_teacher(&teacher::dense_model(output))?;
    }
    let kept_baseline = || state.as_ref().and_then(|state| state.baseline.clone());
    let baseline_path = options.baseline.clone().or_else(kept_baseline);
    let baseline = baseline_path.as_ref();
    let mut baseline =
        baseline.map(|path| Baseline::read(path, &prepared.task, &inputs)).transpose()?;
    if let Some(message) = baseline.as_ref().and_then(Baseline::note) {
        observer.event(&Event::Note { message });
    }
    // The saved recipe keeps shares: their numbers of updates hold for this length only.
    let kept = recipe.with_absolute_paths();
    let found = resume::Found { recipe: &kept, inputs: &inputs, segments: &segments };
    check_resumed(options, state.as_ref(), &found, tuned_first)?;
    let _claim = claim(options, early, given)?;
    options.prepare_output(&kept, tuned_first)?;
    let mut dense_seconds = None;
    if tuned_first {
        // Only its files are needed: training must not hold a second model.
        drop((model, prepared));
        let (tuned, report) = fine_tune::<J>(given, &read, options)?;
        dense_seconds = Some(report.training.seconds);
        inputs.teacher = sum_of_teacher(&teacher::dense_model(output))?;
        (model, prepared) = J::prepare(&tuned, device, &Silent)?;
        if baseline.is_none() {
            let run = teacher::dense_folder(output);
            baseline = Some(Baseline::read(&run, &prepared.task, &read)?);
        }
    }
    let resumed = state.is_some();
    let from = state.unwrap_or_else(|| first_state(&kept, &inputs, baseline_path));
    let recipe = recipe.resolved_for(segments);
    let inputs = Some(inputs);
    let run = Run::<J>::new(&recipe, options, prepared, segments);
    Run { inputs, baseline, dense_seconds, resumed, ..run }.run(model, teacher, from)
}

/// Checks that a run to resume, from `state` or from its beginning, is the one that was `found`.
fn check_resumed(
    options: &RunOptions,
    state: Option<&CheckpointState>,
    found: &resume::Found<'_>,
    tuned_first: bool,
) -> Result<()> {
    match state {
        Some(state) => resume::check(state, found, &options.checkpoints()),
        None if options.resume => {
            options.check_begun(found.recipe)?;
            if !tuned_first {
                let message = "no checkpoint yet: the run starts from its beginning".to_string();
                options.observer.event(&Event::Note { message });
            }
            Ok(())
        }
        None => Ok(()),
    }
}

/// Claims the output folder, unless that was done early because it was there already.
fn claim(options: &RunOptions, early: Option<Claim>, recipe: &Recipe) -> Result<Claim> {
    let output = &options.output;
    std::fs::create_dir_all(output).map_err(|e| Error::io(output, e))?;
    if let Some(claim) = early {
        return Ok(claim);
    }
    let claim = options.claim()?;
    // Another process may have been faster.
    options.check_output(recipe.model.as_deref())?;
    Ok(claim)
}

/// The state before the first update.
fn first_state(recipe: &Recipe, inputs: &Inputs, baseline: Option<PathBuf>) -> CheckpointState {
    // JSON cannot hold a path that is not UTF-8; it has to be given again on resuming.
    let baseline = baseline.and_then(|path| std::path::absolute(path).ok());
    let baseline = baseline.filter(|path| path.to_str().is_some());
    let (recipe, inputs) = (recipe.to_toml(), inputs.clone());
    CheckpointState { recipe, inputs, baseline, ..CheckpointState::default() }
}

/// Fine-tunes the dense model within the output folder and returns `recipe` with it as the start, and its
/// report; takes a finished or interrupted fine-tuning of the same settings and data as it is there.
///
/// # Errors
/// As a run's; and if its result is spoilt, so has nothing to teach.
fn fine_tune<J: Job>(
    recipe: &Recipe,
    inputs: &Inputs,
    options: &RunOptions,
) -> Result<(Recipe, RunReport)> {
    let dense = teacher::dense_recipe(recipe);
    let output = teacher::dense_folder(&options.output);
    let same = Recipe::read(output.join(Recipe::FILE)).is_ok_and(|begun| {
        // Whether moved files are the same, their checksums tell.
        let (begun, now) = (begun.with_absolute_paths(), dense.with_absolute_paths());
        begun.with_paths_of(&now).difference(&now).is_none()
    });
    let file = output.join(RunReport::FILE);
    let whole = output.join(MODEL).join("config.json").is_file();
    let finished = RunReport::read(&file)
        .ok()
        .filter(|report| same && whole && report.inputs.as_ref() == Some(inputs));
    let tell = |event| options.observer.event(&event);
    let report = match finished {
        Some(report) => {
            let message = format!("the dense model is fine-tuned already: {}", output.display());
            tell(Event::Note { message });
            report
        }
        None => {
            tell(Event::Stage { name: "Fine-tuning the dense model first".to_string() });
            let resume = same && options.resume && !file.is_file();
            let baseline = None;
            let output = output.clone();
            let options =
                RunOptions { output, resume, overwrite: !resume, baseline, ..options.clone() };
            start::<J>(&dense, &options)?
        }
    };
    for warning in &report.warnings {
        tell(Event::Note { message: format!("{}: {}", output.display(), warning.message) });
    }
    if report.is_spoilt() {
        let message = format!(
            "the fine-tuning of the dense model in {} went wrong, so it cannot teach: see its report; \
             mend the data or settings, or train without it (--teacher none)",
            output.display()
        );
        return Err(Error::Training(message));
    }
    tell(Event::Stage { name: "Compressing the fine-tuned model".to_string() });
    let tuned = Recipe { model: Some(output.join(MODEL)), new_head: false, ..recipe.clone() };
    Ok((tuned, report))
}
