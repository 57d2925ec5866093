//! A planned run of a study.

use crate::train::Recipe;

/// One run of a study.
#[derive(Debug, Clone, PartialEq)]
pub struct PlannedRun {
    /// Its value on each axis; an axis without meaning for it (`ratio` for `dense`) is absent.
    pub settings: Vec<(String, String)>,
    /// Every setting.
    pub recipe: Recipe,
    /// Its folder within the study's: a readable name, and a hash of the settings that differ from
    /// their defaults.
    pub folder: String,
}

/// Whether an axis varies the seed.
pub(super) fn is_seed(axis: &str) -> bool {
    matches!(axis, "seed" | "training.seed")
}
