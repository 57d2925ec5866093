//! One run of a study as planned.

use crate::train::Recipe;

/// One run of a study.
#[derive(Debug, Clone, PartialEq)]
pub struct PlannedRun {
    /// Its place on each axis; an axis without meaning for it (`ratio` for `dense`) is absent.
    pub settings: Vec<(String, String)>,
    /// Every setting.
    pub recipe: Recipe,
    /// Its folder within the study's: a name to read, and a hash of all settings that are not left
    /// at their defaults, so that the same settings are the same run.
    pub folder: String,
}

/// Whether an axis only repeats runs.
pub(super) fn is_seed(axis: &str) -> bool {
    matches!(axis, "seed" | "training.seed")
}
