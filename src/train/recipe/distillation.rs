//! A recipe's `[distillation]`: the teacher of a compression.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// How a compression learns from a dense teacher.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DistillationRecipe {
    /// Folder of the teacher, a model trained for the task. By default the model that is compressed, once
    /// it is: one without a head for the task is fine-tuned first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub teacher: Option<PathBuf>,
    /// Weight of the distance from the teacher's answers, beside the loss on the labels; 0: no teacher.
    pub weight: f64,
    /// Temperature `T` of the distance between answers that are classes or positions.
    pub temperature: f64,
}

impl Default for DistillationRecipe {
    fn default() -> Self {
        Self { teacher: None, weight: 1.0, temperature: 2.0 }
    }
}

/// Answers at higher temperatures are all alike.
const HOTTEST: f64 = 100.0;

impl DistillationRecipe {
    /// The same with the model in `teacher` as the teacher, or without any.
    #[must_use]
    pub fn with_teacher(&self, teacher: Option<PathBuf>) -> Self {
        let weight = match (&teacher, self.is_on()) {
            (None, _) => 0.0,
            (Some(_), true) => self.weight,
            (Some(_), false) => Self::default().weight,
        };
        Self { teacher, weight, ..self.clone() }
    }

    /// Whether there is a teacher.
    pub fn is_on(&self) -> bool {
        self.weight > 0.0
    }

    /// Checks every setting.
    ///
    /// # Errors
    /// Names the first impossible setting.
    pub fn validate(&self) -> Result<()> {
        if !(self.weight >= 0.0 && self.weight.is_finite()) {
            let message = format!("{} is not 0 or a positive number", self.weight);
            return Err(Error::option("distillation.weight", message));
        }
        if !(self.temperature > 0.0 && self.temperature <= HOTTEST) {
            let message = format!("{} is not within 0 to {HOTTEST} (0 excluded)", self.temperature);
            return Err(Error::option("distillation.temperature", message));
        }
        if let (Some(teacher), false) = (&self.teacher, self.is_on()) {
            let message = format!("{} would teach nothing: weight is 0", teacher.display());
            return Err(Error::option("teacher", message));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_teacher_is_named_left_out_and_named_again() {
        let own = DistillationRecipe { weight: 0.5, temperature: 4.0, teacher: None };
        let named = own.with_teacher(Some("teacher".into()));
        assert_eq!(named, DistillationRecipe { teacher: Some("teacher".into()), ..own.clone() });
        let none = named.with_teacher(None);
        assert!(!none.is_on() && none.teacher.is_none());
        none.validate().unwrap();
        let again = none.with_teacher(Some("teacher".into()));
        assert_eq!(again, DistillationRecipe { weight: 1.0, ..named });
    }
}
