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
mod evaluate;
mod launch;
pub mod lr;
pub mod metric;
pub mod model;
mod observer;
mod pipeline;
mod plan;
mod prepare;
mod recipe;
mod renderer;
mod strategy;
mod task_data;
mod trainable;

pub use evaluate::{evaluate_model, predict_logits, score};
pub use launch::{Interrupt, Trained, Training};
pub use observer::{Event, Observer, Silent};
pub use pipeline::{RunOptions, compress, contestant, finetune, keep_ratio};
pub use plan::{Plan, PlannedLayer, PlannedPattern, plan};
pub use prepare::Prepared;
pub use recipe::{Keep, LrDecay, MethodRecipe, Recipe, TaskRecipe, TrainingRecipe};
pub use task_data::{TaskData, label_config, load_task_data, table_options};
pub use trainable::{ClassifierEvaluator, ClassifierOutput, Evaluator, TrainableModel};
