//! Training with Burn's `SupervisedTraining`: fine-tuning, and pruning while fine-tuning.

mod observer;
mod recipe;

pub use observer::{Event, Observer, Silent};
pub use recipe::{Keep, LrDecay, MethodRecipe, Recipe, TaskRecipe, TrainingRecipe};
