//! Training with Burn's `SupervisedTraining`: fine-tuning, and pruning while fine-tuning.
//!
//! ```text
//! Recipe ─► pipeline ─► Training::launch ─► SupervisedTraining
//!                         │ TrainLoader: segment after segment of a seeded stream of batches
//!                         │ CompressingModel: model + Pruner; `optimize` = AdamW, importance, masks
//!                         │ Follow: metric, best, early stop ─► CheckpointStore: whole or not at all
//!                         └► Trained ─► compact ─► bundle + report
//! ```

pub mod checkpoints;
pub mod data;
mod launch;
pub mod lr;
pub mod metric;
pub mod model;
mod observer;
mod recipe;
mod renderer;
mod strategy;
mod trainable;

pub use launch::{Interrupt, Trained, Training};
pub use observer::{Event, Observer, Silent};
pub use recipe::{Keep, LrDecay, MethodRecipe, Recipe, TaskRecipe, TrainingRecipe};
pub use trainable::{ClassifierEvaluator, ClassifierOutput, Evaluator, TrainableModel};
