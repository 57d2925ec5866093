//! Recognises equal runs: recipes with the same settings, however they are written.

use std::collections::{BTreeMap, BTreeSet};

use super::planned_run::{PlannedRun, is_seed};
use crate::Result;
use crate::train::FOLLOW;
use crate::train::{Method, MethodRecipe, Recipe, TaskRecipe, TrainingRecipe};

/// Settings by path, as text.
pub(super) type Settings = BTreeMap<String, String>;

/// The settings of `recipe` that differ from their defaults. An older recipe has the settings of later
/// versions at their defaults, so they make no difference.
///
/// # Errors
/// If the recipe cannot be written as TOML.
pub(super) fn settings(recipe: &Recipe) -> Result<Settings> {
    let recipe = match recipe.method {
        Some(_) => recipe.resolved(),
        None => recipe.fine_tuning().resolved(),
    };
    let task = TaskRecipe {
        name: recipe.task.name.clone(),
        document: recipe.task.document.clone(),
        summary: recipe.task.summary.clone(),
        ..TaskRecipe::default()
    };
    let method = recipe.method.as_ref().map(|_| MethodRecipe::default());
    let training = TrainingRecipe {
        // Without a value they depend on data or model.
        epochs: Some(EARLIER_EPOCHS),
        learning_rate: Some(EARLIER_RATE),
        ..TrainingRecipe::default()
    };
    let default = Recipe { task, method, training, ..Recipe::default() }.resolved();
    let mut default = default.settings()?;
    default.insert("method.interval".into(), EARLIER_INTERVAL.into());
    let mut settings = recipe.settings()?;
    for (path, given) in [
        ("training.epochs", recipe.training.epochs.is_some()),
        ("training.learning_rate", recipe.training.learning_rate.is_some()),
    ] {
        if !given {
            settings.insert(path.into(), "by default".into());
        }
    }
    settings.retain(|path, value| {
        // The ratio shows that there is a method.
        matches!(path.as_str(), "task.name" | "method.ratio") || default.get(path) != Some(value)
    });
    Ok(settings)
}

/// Defaults of the first version, which wrote them out. They are left out here, so that runs' folders
/// keep their names. The default interval is this one unless the training is short.
const EARLIER_EPOCHS: usize = 3;
const EARLIER_RATE: f64 = 5e-5;
const EARLIER_INTERVAL: &str = "10";

/// Whether `done` is the recipe that a run of `planned` saves.
///
/// # Errors
/// As [`settings`].
pub(super) fn is_run_of(planned: &Recipe, done: &Recipe) -> Result<bool> {
    let mut done = done.with_paths_as_in(planned);
    // A run writes out the default rate for its model.
    done.training.learning_rate =
        done.training.learning_rate.filter(|_| planned.training.learning_rate.is_some());
    let (planned, mut done) = (settings(planned)?, settings(&done)?);
    done.retain(|path, _| planned.contains_key(path) || !FOLLOW.contains(&path.as_str()));
    Ok(planned == done)
}

/// The settings that the runs of a cell share: all but the seed.
fn of_cell(recipe: &Recipe) -> Result<Settings> {
    let mut settings = recipe.settings()?;
    settings.remove("training.seed");
    Ok(settings)
}

/// The folder of a run, determined by its settings: `rte-minilm-l6-losparse-0.1-s42-1f2e3d4c`.
///
/// # Errors
/// As [`settings`].
pub(super) fn folder(recipe: &Recipe) -> Result<String> {
    let model = recipe.model.as_ref().and_then(|model| model.file_name());
    let model = model.map(|name| name.to_string_lossy().into_owned());
    let method = match &recipe.method {
        None => "dense".to_string(),
        Some(method) => format!("{}-{}", Method::of(method).name(), method.ratio),
    };
    let task = Some(recipe.task.name.clone()).filter(|name| !name.is_empty());
    let seed = format!("s{}", recipe.training.seed);
    let parts = [task, model, Some(method), Some(seed)];
    let name = parts.into_iter().flatten().collect::<Vec<_>>().join("-");
    let name = file_name(&name, 80);
    // FNV-1a: short, and the same on every machine and in every version.
    let text = settings(recipe)?.into_iter().map(|(path, value)| format!("{path}={value}\n"));
    let hash = text.collect::<String>().bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    Ok(format!("{}-{:08x}", name.trim_start_matches('.'), hash >> 32))
}

/// At most `longest` characters of a name, with dashes in place of those that file systems may not take.
pub(super) fn file_name(name: &str, longest: usize) -> String {
    let safe = |c: char| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '-' };
    name.chars().map(safe).take(longest).collect()
}

/// Adds to the task's name the settings that distinguish runs which agree on every axis, as tables of
/// tasks may differ in anything.
///
/// # Errors
/// As [`settings`].
pub(super) fn tell_apart(runs: &mut [PlannedRun], axes: &mut Vec<String>) -> Result<()> {
    let on_axes = |run: &PlannedRun| -> Vec<(String, String)> {
        run.settings.iter().filter(|(axis, _)| !is_seed(axis)).cloned().collect()
    };
    let places: Vec<_> = runs.iter().map(on_axes).collect();
    let all: Vec<Settings> = runs.iter().map(|run| of_cell(&run.recipe)).collect::<Result<_>>()?;
    // Runs at a place mostly differ in the seed alone.
    let mut at_place: BTreeMap<_, BTreeSet<&Settings>> = BTreeMap::new();
    for (place, settings) in places.iter().zip(&all) {
        at_place.entry(place).or_default().insert(settings);
    }
    for at in 0..runs.len() {
        let alike = &at_place[&places[at]];
        let mut paths: Vec<&String> = alike.iter().flat_map(|settings| settings.keys()).collect();
        paths.sort();
        paths.dedup();
        paths.retain(|path| alike.iter().any(|other| other.get(*path) != all[at].get(*path)));
        if paths.is_empty() {
            continue;
        }
        let told = paths.iter().map(|path| {
            let name = path.rsplit('.').next().unwrap_or_default().replace('_', " ");
            let value = all[at].get(*path).map_or("–", |value| value.trim_matches('"'));
            format!("{name} {value}")
        });
        let told = told.collect::<Vec<_>>().join(", ");
        let run = &mut runs[at];
        let task = format!("{} ({told})", run.recipe.task.name);
        match run.settings.iter_mut().find(|(axis, _)| axis == "task") {
            Some((_, name)) => *name = task,
            None => run.settings.insert(0, ("task".to_string(), task)),
        }
        if !axes.iter().any(|axis| axis == "task") {
            axes.insert(0, "task".to_string());
        }
    }
    Ok(())
}
