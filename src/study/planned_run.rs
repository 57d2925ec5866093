//! A planned run of a study.

use crate::train::Recipe;
use crate::{Error, Result};

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

impl PlannedRun {
    /// Checks all settings that can be checked without data.
    ///
    /// # Errors
    /// Names the run and its first impossible setting.
    pub(super) fn check(&self) -> Result<()> {
        self.recipe.validate().map_err(|error| match error {
            Error::Option { option, message } => {
                Error::option(option, format!("{message} (in the run {})", self.folder))
            }
            other => other,
        })
    }
}

/// Whether an axis varies the seed.
pub(super) fn is_seed(axis: &str) -> bool {
    matches!(axis, "seed" | "training.seed")
}
