//! The axes of a grid: each a setting of the recipe and the values it takes.

use toml::{Table, Value};

use super::planned_run::is_seed;
use crate::train::Recipe;
use crate::{Error, Result};

/// The setting that a grid's key stands for.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Target {
    Method,
    /// The low-rank part as a share of the ratio.
    LowRankShare,
    /// A task's name, or a table of its settings and of any others.
    Task,
    /// A setting of the recipe, by its path.
    Path(Vec<String>),
}

/// A setting that a grid varies.
#[derive(Debug)]
pub(super) struct GridAxis {
    /// Its name in errors: `grid.seed`.
    pub(super) option: String,
    pub(super) name: String,
    pub(super) target: Target,
    pub(super) values: Vec<Value>,
}

/// The first axes, in this order; the others follow by name, seeds last.
const FIRST: [&str; 5] = ["task", "model", "method", "ratio", "learning_rate"];

/// The axes of each grid, slowest first.
pub(super) fn grids(grid: Value) -> Result<Vec<Vec<GridAxis>>> {
    let axes = |table: Table, option: &str| -> Result<Vec<GridAxis>> {
        let axes = table.into_iter().map(|(name, values)| axis(option, name, values));
        let mut axes: Vec<GridAxis> = axes.collect::<Result<_>>()?;
        axes.sort_by_key(|axis| rank(&axis.name));
        Ok(axes)
    };
    let wrong = || Error::option("grid", "must be lists of settings: [grid], or several [[grid]]");
    match grid {
        Value::Table(table) => Ok(vec![axes(table, "grid")?]),
        Value::Array(tables) => {
            let tables = tables.into_iter().enumerate().map(|(at, table)| match table {
                Value::Table(table) => axes(table, &format!("grid[{at}]")),
                _ => Err(wrong()),
            });
            tables.collect()
        }
        _ => Err(wrong()),
    }
}

/// Sort key of an axis.
fn rank(name: &str) -> (bool, usize, String) {
    let first = FIRST.iter().position(|first| *first == name);
    (is_seed(name), first.unwrap_or(FIRST.len()), name.to_string())
}

/// The columns of the table: the settings that any grid varies.
pub(super) fn columns(grids: &[Vec<GridAxis>]) -> Vec<(String, Target)> {
    let mut columns: Vec<(String, Target)> = Vec::new();
    for axis in grids.iter().flatten() {
        if !columns.iter().any(|(_, target)| *target == axis.target) {
            columns.push((axis.name.clone(), axis.target.clone()));
        }
    }
    columns.sort_by_key(|(name, _)| rank(name));
    columns
}

/// Reads one line of a grid.
fn axis(grid: &str, name: String, values: Value) -> Result<GridAxis> {
    let option = format!("{grid}.{name}");
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
        _ => Target::Path(find_setting(&option, &name, example, &["method", "training", "task"])?),
    };
    Ok(GridAxis { option, name, target, values })
}

/// The path of a setting in a recipe: as given if recipes have it, else within the first of `parts`
/// that has it.
pub(super) fn find_setting(
    option: &str,
    name: &str,
    example: &Value,
    parts: &[&str],
) -> Result<Vec<String>> {
    let as_given: Vec<String> = name.split('.').map(String::from).collect();
    let mut candidates = vec![as_given.clone()];
    if as_given.len() == 1 {
        candidates.extend(parts.iter().map(|part| vec![part.to_string(), name.to_string()]));
    }
    for path in candidates {
        let mut table = Table::new();
        set(&mut table, &path, example.clone());
        match recipe_of(&table) {
            Err(message) if message.contains("unknown field") => {}
            Err(message) => return Err(Error::option(option, message)),
            Ok(_) => return Ok(path),
        }
    }
    Err(Error::option(option, "recipes have no such setting"))
}

/// Reads a recipe; `Err` is what is wrong with it.
pub(super) fn recipe_of(table: &Table) -> Result<Recipe, String> {
    table.clone().try_into().map_err(|e: toml::de::Error| e.to_string().trim_end().to_string())
}

/// Sets the value at `path`; tables are merged.
pub(super) fn set(table: &mut Table, path: &[String], value: Value) {
    match (path, value) {
        ([], _) => {}
        ([last], Value::Table(values)) if matches!(table.get(last), Some(Value::Table(_))) => {
            for (name, value) in values {
                set(table, &[last.clone(), name], value);
            }
        }
        ([last], value) => {
            table.insert(last.clone(), value);
        }
        ([first, rest @ ..], value) => {
            let inner = table.entry(first.clone()).or_insert_with(|| Table::new().into());
            if let Value::Table(inner) = inner {
                set(inner, rest, value);
            }
        }
    }
}

/// Returns the value at `path`.
pub(super) fn get<'a>(table: &'a Table, path: &[String]) -> Option<&'a Value> {
    let (first, rest) = path.split_first()?;
    let value = table.get(first)?;
    match rest {
        [] => Some(value),
        _ => get(value.as_table()?, rest),
    }
}
