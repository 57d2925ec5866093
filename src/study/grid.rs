//! The grid: a base recipe and lists of settings, multiplied out into runs.

use std::path::Path;

use serde::Deserialize;
use toml::{Table, Value};

use crate::train::{Method, Recipe};
use crate::{Error, Result};

/// A study as planned.
#[derive(Debug, Clone, PartialEq)]
pub struct Study {
    /// Whether finished runs keep their model folder and checkpoints.
    pub keep_models: bool,
    /// Names of the grid's settings, in the order of the table's columns.
    pub axes: Vec<String>,
    /// The runs, in the order in which they are done.
    pub runs: Vec<PlannedRun>,
}

/// One run of a study.
#[derive(Debug, Clone, PartialEq)]
pub struct PlannedRun {
    /// Its place on each axis; an axis without meaning for it (`ratio` for `dense`) is absent.
    pub settings: Vec<(String, String)>,
    /// Every setting.
    pub recipe: Recipe,
    /// Its folder within the study's: named by its settings, and by a hash of the whole recipe, so
    /// that a run belongs to a grid if and only if it was made with the same settings.
    pub folder: String,
}

/// The file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StudyFile {
    #[serde(default)]
    keep_models: bool,
    base: Table,
    grid: Table,
}

/// What a grid's key sets.
enum Target {
    Method,
    /// The low-rank part as a share of the ratio.
    LowRankShare,
    /// A task's name, or a table of its settings.
    Task,
    /// A setting of the recipe, by its path.
    Path(Vec<String>),
}

struct GridAxis {
    name: String,
    target: Target,
    values: Vec<Value>,
}

/// Axes that come first in this order; the others follow by name, seeds last.
const FIRST: [&str; 5] = ["task", "model", "method", "ratio", "learning_rate"];

impl Study {
    /// Reads a study's file.
    ///
    /// # Errors
    /// If it cannot be read, is no study, or names a setting that recipes do not have.
    pub fn read(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let text = std::fs::read_to_string(path).map_err(|e| Error::io(path, e))?;
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
        let axes: Vec<GridAxis> = file
            .grid
            .into_iter()
            .map(|(name, values)| axis(name, values))
            .collect::<Result<_>>()?;
        let mut axes = axes;
        axes.sort_by_key(|axis| {
            let first = FIRST.iter().position(|name| *name == axis.name);
            (is_seed(&axis.name), first.unwrap_or(FIRST.len()), axis.name.clone())
        });
        let mut runs: Vec<PlannedRun> = Vec::new();
        let count = axes.iter().map(|axis| axis.values.len()).product();
        for number in 0..count {
            let run = planned(&file.base, &axes, number)?;
            // Settings that a method does not have make the same run several times.
            if !runs.iter().any(|known| known.folder == run.folder) {
                runs.push(run);
            }
        }
        let axes = axes.into_iter().map(|axis| axis.name).collect();
        Ok(Self { keep_models: file.keep_models, axes, runs })
    }
}

/// Whether an axis only repeats runs.
pub(super) fn is_seed(axis: &str) -> bool {
    matches!(axis, "seed" | "training.seed")
}

fn recipe_of(table: &Table) -> Result<Recipe, String> {
    table.clone().try_into().map_err(|e: toml::de::Error| e.to_string().trim_end().to_string())
}

fn axis(name: String, values: Value) -> Result<GridAxis> {
    let option = format!("grid.{name}");
    let Value::Array(values) = values else {
        return Err(Error::option(option, "must be a list of values, as in [1, 2]"));
    };
    let Some(example) = values.first() else {
        return Err(Error::option(option, "is an empty list"));
    };
    let target = match name.as_str() {
        "method" => Target::Method,
        "low_rank_share" => Target::LowRankShare,
        "task" => Target::Task,
        _ => Target::Path(find_setting(&name, example)?),
    };
    Ok(GridAxis { name, target, values })
}

/// The path of a setting in a recipe: as given if it is dotted, else in whichever part has it.
fn find_setting(name: &str, example: &Value) -> Result<Vec<String>> {
    let as_given: Vec<String> = name.split('.').map(String::from).collect();
    let mut candidates = vec![as_given.clone()];
    if as_given.len() == 1 {
        candidates.extend(
            ["method", "training", "task"].map(|part| vec![part.to_string(), name.to_string()]),
        );
    }
    for path in candidates {
        let mut table = Table::new();
        set(&mut table, &path, example.clone());
        match recipe_of(&table) {
            Err(message) if message.contains("unknown field") => {}
            Err(message) => return Err(Error::option(format!("grid.{name}"), message)),
            Ok(_) => return Ok(path),
        }
    }
    Err(Error::option(format!("grid.{name}"), "recipes have no such setting"))
}

fn set(table: &mut Table, path: &[String], value: Value) {
    match path {
        [] => {}
        [last] => {
            table.insert(last.clone(), value);
        }
        [first, rest @ ..] => {
            let inner = table.entry(first.clone()).or_insert_with(|| Table::new().into());
            if let Value::Table(inner) = inner {
                set(inner, rest, value);
            }
        }
    }
}

fn get<'a>(table: &'a Table, path: &[String]) -> Option<&'a Value> {
    let (first, rest) = path.split_first()?;
    let value = table.get(first)?;
    match rest {
        [] => Some(value),
        _ => get(value.as_table()?, rest),
    }
}

/// The run with this number: the last axis turns fastest.
fn planned(base: &Table, axes: &[GridAxis], mut number: usize) -> Result<PlannedRun> {
    let mut chosen = Vec::new();
    for axis in axes.iter().rev() {
        chosen.push((axis, &axis.values[number % axis.values.len()]));
        number /= axis.values.len();
    }
    chosen.reverse();
    let mut table = base.clone();
    let mut named = None;
    let mut share = None;
    for (axis, value) in &chosen {
        let wrong = |what: &str| Error::option(format!("grid.{}", axis.name), what);
        match (&axis.target, value) {
            (Target::Path(path), value) => set(&mut table, path, (*value).clone()),
            (Target::Task, Value::Table(settings)) => {
                for (name, value) in settings {
                    set(&mut table, &["task".to_string(), name.clone()], value.clone());
                }
            }
            (Target::Task, value) => {
                set(&mut table, &["task", "name"].map(String::from), (*value).clone());
            }
            (Target::Method, Value::String(name)) => named = Some(name.replace('-', "_")),
            (Target::Method, _) => return Err(wrong("must be names: dense, losparse, itp, …")),
            (Target::LowRankShare, value) => match number_of(value) {
                Some(value) => share = Some(value),
                None => return Err(wrong("must be shares of the ratio, 0 to 1")),
            },
        }
    }
    let mut recipe =
        recipe_of(&table).map_err(|message| Error::option("grid", message))?.resolved();
    if let Some(share) = share {
        let method = recipe.method.get_or_insert_default();
        method.rank = None;
        method.low_rank_ratio = share * method.ratio;
    }
    match named.as_deref() {
        None => {}
        Some("dense" | "finetune") => recipe.method = None,
        Some(name) => {
            let value = serde_json::Value::from(name);
            let method: Method = serde_json::from_value(value)
                .map_err(|e| Error::option("grid.method", format!("{e}; or `dense`")))?;
            method.apply(recipe.method.get_or_insert_default());
        }
    }
    let settings = settings(&chosen, &recipe, named.as_deref())?;
    let folder = folder(&settings, &recipe);
    Ok(PlannedRun { settings, recipe, folder })
}

fn number_of(value: &Value) -> Option<f64> {
    value.as_float().or_else(|| value.as_integer().map(|value| value as f64))
}

/// What the recipe holds in the end on each axis: a method may have its own mind.
fn settings(
    chosen: &[(&GridAxis, &Value)],
    recipe: &Recipe,
    named: Option<&str>,
) -> Result<Vec<(String, String)>> {
    let table = Table::try_from(recipe).map_err(|e| Error::option("grid", e.to_string()))?;
    let mut settings = Vec::new();
    for (axis, value) in chosen {
        let value = match &axis.target {
            Target::Method => Some(named.unwrap_or_default().replace('_', "-")),
            Target::Task => Some(recipe.task.name.clone()),
            Target::LowRankShare => recipe.method.as_ref().map(|method| {
                let share = method.low_rank_ratio / method.ratio;
                shown(&Value::Float((share * 1e6).round() / 1e6))
            }),
            Target::Path(path) if path[0] == "method" && recipe.method.is_none() => None,
            Target::Path(path) => Some(shown(get(&table, path).unwrap_or(value))),
        };
        settings.extend(value.map(|value| (axis.name.clone(), value)));
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

/// `losparse_ratio-0.1_seed-1-1f2e3d4c`
fn folder(settings: &[(String, String)], recipe: &Recipe) -> String {
    let part = |(axis, value): &(String, String)| {
        let value = match axis.as_str() {
            "model" => value.trim_end_matches('/').rsplit('/').next().unwrap_or_default(),
            _ => value,
        };
        match axis.as_str() {
            "method" | "task" | "model" => value.to_string(),
            _ => format!("{}-{value}", axis.rsplit('.').next().unwrap_or_default()),
        }
    };
    let name = settings.iter().map(part).collect::<Vec<_>>().join("_");
    let safe = |c: char| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '-' };
    let name: String = name.chars().map(safe).take(100).collect();
    // FNV-1a: short, and the same on every machine and in every version.
    let hash = recipe.to_toml().bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    format!("{}-{:08x}", name.trim_start_matches('.'), hash >> 32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pruning::Importance;

    const BASE: &str = "[base]\nmodel = 'm'\n[base.task]\nname = 'rte'\ndata = 'glue'\n\
        [base.method]\nlow_rank_ratio = 0.02\n";

    fn parse(grid: &str) -> Result<Study> {
        Study::parse(&format!("{BASE}[grid]\n{grid}"))
    }

    fn setting<'a>(run: &'a PlannedRun, axis: &str) -> Option<&'a str> {
        run.settings.iter().find(|(name, _)| name == axis).map(|(_, value)| value.as_str())
    }

    #[test]
    fn a_grid_is_multiplied_out_and_says_each_run_once() {
        let grid = "method = ['dense', 'losparse', 'low-rank', 'movement']\nratio = [0.2, 0.1]\n\
            seed = [1, 2]\nlearning_rate = [1e-4, 5e-5]\n'method.beta1' = [0.5]\n";
        let study = parse(grid).unwrap();
        assert_eq!(study.axes, ["method", "ratio", "learning_rate", "method.beta1", "seed"]);
        // Dense has no ratio.
        assert_eq!(study.runs.len(), 4 + 3 * 2 * 2 * 2);
        let dense = &study.runs[0];
        assert!(dense.recipe.method.is_none());
        assert_eq!((setting(dense, "ratio"), setting(dense, "seed")), (None, Some("1")));
        let method = |name: &str| {
            let run = study.runs.iter().find(|run| setting(run, "method") == Some(name)).unwrap();
            run.recipe.method.clone().unwrap()
        };
        assert_eq!((method("losparse").low_rank_ratio, method("losparse").beta1), (0.02, 0.5));
        assert_eq!(method("low-rank").low_rank_ratio, 0.2);
        assert_eq!(method("movement").importance, Importance::Movement);
        let folders: std::collections::HashSet<_> = study.runs.iter().map(|r| &r.folder).collect();
        assert_eq!(folders.len(), study.runs.len());
        assert!(
            study.runs[4].folder.starts_with("losparse_ratio-0.2_learning_rate-1e-4_beta1-0.5")
        );
        assert_eq!(parse(grid).unwrap(), study);
    }

    #[test]
    fn tasks_may_be_tables_and_the_low_rank_part_a_share() {
        let study = parse(
            "task = [{name = 'rte'}, {name = 'own', train = 't.csv', dev = 'd.csv'}]\n\
             low_rank_share = [0.5]\nratio = [0.1]\nmax_length = [64]\n",
        )
        .unwrap();
        assert_eq!(study.runs.len(), 2);
        let run = &study.runs[1];
        assert_eq!(run.recipe.method.as_ref().unwrap().low_rank_ratio, 0.05);
        assert_eq!(run.recipe.task.max_length, Some(64));
        assert_eq!(run.recipe.task.train.as_deref(), Some(Path::new("t.csv")));
        assert_eq!(
            (setting(run, "task"), setting(run, "low_rank_share")),
            (Some("own"), Some("0.5"))
        );
    }

    #[test]
    fn other_settings_make_other_folders() {
        let one = Study::parse(&format!("{BASE}[grid]\nseed = [1]")).unwrap();
        let longer = format!("{BASE}[base.training]\nepochs = 9\n[grid]\nseed = [1]");
        let other = Study::parse(&longer).unwrap();
        assert_eq!(one.runs[0].settings, other.runs[0].settings);
        assert_ne!(one.runs[0].folder, other.runs[0].folder);
    }

    #[test]
    fn mistakes_are_named() {
        for (grid, part) in [
            ("sed = [1]", "grid.sed"),
            ("seed = 1", "grid.seed"),
            ("seed = []", "grid.seed"),
            ("seed = ['x']", "grid.seed"),
            ("method = ['best']", "grid.method"),
            ("'training.sed' = [1]", "grid.training.sed"),
        ] {
            let message = parse(grid).unwrap_err().to_string();
            assert!(message.contains(part), "{grid}: {message}");
        }
        let message = Study::parse("[base]\nmodl = 'x'\n[grid]\n").unwrap_err().to_string();
        assert!(message.contains("base") && message.contains("modl"), "{message}");
    }
}
