//! The grid: a base recipe and lists of settings, multiplied out into planned runs.

use std::collections::HashSet;
use std::path::Path;

use serde::Deserialize;
use toml::{Table, Value};

use super::axes::{GridAxis, Target, columns, find_setting, get, grids, recipe_of, set};
use super::identity;
use super::planned_run::PlannedRun;
use crate::train::{Method, Recipe};
use crate::{Error, Result, files};

/// A study as planned.
#[derive(Debug, Clone, PartialEq)]
pub struct Study {
    /// Whether finished runs keep their model folder and checkpoints.
    pub keep_models: bool,
    /// Names of the grids' settings, in the order of the table's columns.
    pub axes: Vec<String>,
    /// The runs in their order, no two with the same settings.
    pub runs: Vec<PlannedRun>,
}

/// Contents of a study's file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StudyFile {
    #[serde(default)]
    keep_models: bool,
    base: Table,
    /// A grid, or a list of them.
    grid: Value,
}

/// Largest number of combinations in a study.
const MAX_RUNS: usize = 10_000;

impl Study {
    /// Reads a study's file.
    ///
    /// # Errors
    /// If it cannot be read, is not a study, or names a setting that recipes lack.
    pub fn read(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let text = files::read_text(path)?;
        Self::parse(&text).map_err(|e| Error::format(path, e.to_string()))
    }

    /// Parses a study.
    ///
    /// # Errors
    /// As [`Study::read`].
    pub fn parse(text: &str) -> Result<Self> {
        let file: StudyFile = toml::from_str(text)
            .map_err(|e| Error::format("study", e.to_string().trim_end().to_string()))?;
        recipe_of(&file.base).map_err(|message| Error::option("base", message))?;
        let grids = grids(file.grid)?;
        let columns = columns(&grids);
        let mut runs: Vec<PlannedRun> = Vec::new();
        let mut known = HashSet::new();
        for (axes, count) in grids.iter().zip(counts(&grids)?) {
            for number in 0..count {
                let run = planned(&file.base, axes, &columns, number)?;
                // Grids may overlap, and settings that a method lacks repeat the same run.
                if known.insert(run.folder.clone()) {
                    runs.push(run);
                }
            }
        }
        dense_first(&mut runs);
        let mut axes = columns.into_iter().map(|(name, _)| name).collect();
        identity::tell_apart(&mut runs, &mut axes)?;
        runs.iter().try_for_each(PlannedRun::check)?;
        Ok(Self { keep_models: file.keep_models, axes, runs })
    }

    /// Finds the runs' folders in `output`. A folder of another name, from an earlier version, belongs
    /// to the run with the same settings.
    ///
    /// # Errors
    /// If a recipe cannot be written as TOML.
    pub(super) fn found_in(&self, output: &Path) -> Result<Self> {
        let mut study = self.clone();
        let new = |run: &&mut PlannedRun| !output.join(&run.folder).exists();
        let mut wanted: Vec<&mut PlannedRun> = study.runs.iter_mut().filter(new).collect();
        let known = |name: &str| self.runs.iter().any(|run| run.folder == name);
        for entry in std::fs::read_dir(output).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if wanted.is_empty() || known(&name) {
                continue;
            }
            let Ok(recipe) = Recipe::read(entry.path().join(Recipe::FILE)) else { continue };
            for at in 0..wanted.len() {
                if identity::is_run_of(&wanted[at].recipe, &recipe)? {
                    wanted.swap_remove(at).folder = name;
                    break;
                }
            }
        }
        Ok(study)
    }
}

/// Number of combinations of each grid.
///
/// # Errors
/// If there are more than [`MAX_RUNS`] in all.
fn counts(grids: &[Vec<GridAxis>]) -> Result<Vec<usize>> {
    let count = |axes: &Vec<GridAxis>| {
        axes.iter().fold(1_usize, |count, axis| count.saturating_mul(axis.values.len()))
    };
    let counts: Vec<usize> = grids.iter().map(count).collect();
    let total = counts.iter().fold(0_usize, |total, count| total.saturating_add(*count));
    if total > MAX_RUNS {
        let many = if total == usize::MAX { "countless".to_string() } else { total.to_string() };
        let longest = grids.iter().flatten().max_by_key(|axis| axis.values.len());
        let longest = longest.map_or(String::new(), |axis| {
            format!("; the longest list, {}, has {}", axis.option, axis.values.len())
        });
        let message =
            format!("{many} combinations are more than the {MAX_RUNS} a study may have{longest}");
        return Err(Error::option("grid", message));
    }
    Ok(counts)
}

/// Puts the dense runs of each task and model before the compressions that are compared with them.
fn dense_first(runs: &mut [PlannedRun]) {
    let mut subjects = Vec::new();
    runs.sort_by_cached_key(|run| {
        let subject = (run.recipe.task.clone(), run.recipe.model.clone());
        let at = subjects.iter().position(|known| *known == subject).unwrap_or_else(|| {
            subjects.push(subject);
            subjects.len() - 1
        });
        (at, run.recipe.method.is_some())
    });
}

/// The run with this number; the last axis varies fastest.
fn planned(
    base: &Table,
    axes: &[GridAxis],
    columns: &[(String, Target)],
    mut number: usize,
) -> Result<PlannedRun> {
    let mut chosen = Vec::new();
    for axis in axes.iter().rev() {
        chosen.push((axis, &axis.values[number % axis.values.len()]));
        number /= axis.values.len();
    }
    chosen.reverse();
    let mut table = base.clone();
    let mut named = None;
    let mut share = None;
    for (axis, value) in chosen {
        let wrong = |what: &str| Error::option(&axis.option, what);
        match (&axis.target, value) {
            (Target::Path(path), value) => {
                let low_rank = ["low_rank_ratio", "rank"].iter().position(|n| path[1..] == [*n]);
                if let (Some(at), Some(Value::Table(method))) = (low_rank, table.get_mut("method"))
                {
                    // The base's other setting of the rank would take precedence.
                    method.remove(["rank", "low_rank_ratio"][at]);
                }
                set(&mut table, path, value.clone());
            }
            (Target::Task, value) => set_task(&mut table, &axis.option, value)?,
            (Target::Method, Value::String(name)) => named = Some(name.replace('-', "_")),
            (Target::Method, _) => return Err(wrong("must be names: dense, losparse, itp, …")),
            (Target::LowRankShare, value) => match number_of(value) {
                Some(value) => share = Some(value),
                None => return Err(wrong("must be shares of the ratio, 0 to 1")),
            },
        }
    }
    let mut recipe = recipe_of(&table).map_err(|message| Error::option("grid", message))?;
    if let Some(share) = share {
        let method = recipe.method.get_or_insert_default();
        method.rank = None;
        method.low_rank_ratio = Some(share * method.ratio);
    }
    match named.as_deref() {
        None => {}
        Some("dense" | "finetune") => recipe.method = None,
        Some(name) => {
            let value = serde_json::Value::from(name);
            let method: Method = serde_json::from_value(value)
                .map_err(|e| Error::option("grid.method", format!("{e}; or `dense`")))?;
            let settings = recipe.method.get_or_insert_default();
            method.apply(settings);
            method.check(settings)?;
        }
    }
    let recipe = recipe.resolved();
    let settings = settings(columns, &recipe, named.as_deref())?;
    let folder = identity::folder(&recipe)?;
    Ok(PlannedRun { settings, recipe, folder })
}

/// Sets a task by its name, or by a table of its settings and any others.
fn set_task(table: &mut Table, option: &str, value: &Value) -> Result<()> {
    let Value::Table(settings) = value else {
        set(table, &["task", "name"].map(String::from), value.clone());
        return Ok(());
    };
    for (name, value) in settings {
        let option = format!("{option}.{name}");
        let in_task = ["task".to_string(), name.clone()];
        let mut alone = Table::new();
        set(&mut alone, &in_task, value.clone());
        let path = match recipe_of(&alone) {
            Ok(_) => in_task.to_vec(),
            Err(_) => find_setting(&option, name, value, &["task", "training", "method"])?,
        };
        set(table, &path, value.clone());
    }
    Ok(())
}

fn number_of(value: &Value) -> Option<f64> {
    value.as_float().or_else(|| value.as_integer().map(|value| value as f64))
}

/// The final value of each column in the recipe, which a method may have changed and a grid need not
/// vary.
fn settings(
    columns: &[(String, Target)],
    recipe: &Recipe,
    named: Option<&str>,
) -> Result<Vec<(String, String)>> {
    let table = Table::try_from(recipe).map_err(|e| Error::option("grid", e.to_string()))?;
    let method = recipe.method.as_ref();
    let mut settings = Vec::new();
    for (name, target) in columns {
        let value = match target {
            Target::Method => Some(match (named, method) {
                (_, None) => "dense".to_string(),
                (Some(name), _) => name.replace('_', "-"),
                (None, Some(method)) => Method::of(method).name().to_string(),
            }),
            Target::Task => Some(recipe.task.name.clone()),
            Target::LowRankShare => method.filter(|method| method.rank.is_none()).map(|method| {
                let share = method.low_rank_ratio() / method.ratio;
                shown(&Value::Float((share * 1e6).round() / 1e6))
            }),
            Target::Path(path) => get(&table, path).map(shown),
        };
        settings.extend(value.map(|value| (name.clone(), value)));
    }
    Ok(settings)
}

fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Float(number) if *number != 0.0 && number.abs() < 1e-3 => format!("{number:e}"),
        Value::Array(items) => items.iter().map(shown).collect::<Vec<_>>().join(","),
        other => other.to_string(),
    }
}

#[cfg(test)]
#[path = "grid_tests.rs"]
mod tests;
