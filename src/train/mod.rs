//! Fine-tuning, and pruning while fine-tuning, with Burn's `SupervisedTraining`.
//!
//! ```text
//! recipe/       every setting of a run, as TOML                       begin with recipe/mod.rs
//! job/          the kinds of task: their model, batches and scores
//! checkpoints/  a training's state on disk, whole or not at all
//! learner/      one training through Burn: loaders, optimizer step, learning rate, metric
//! run/          data in, small model and report out                   begin with run/mod.rs
//! untrained.rs  compression of a model on texts, without training
//! ```
//!
//! A run goes through them one way:
//!
//! ```text
//! Recipe ─► run ─► Job::prepare ─► Training::launch ─► SupervisedTraining
//!                                   │ TrainLoader: segments of a seeded stream of batches
//!                                   │ CompressingModel: model + Pruner; `optimize` prunes
//!                                   │ AfterSegment: best model, early stop ─► CheckpointStore
//!                                   └► Trained ─► compact ─► bundle + report
//! ```
//!
//! Each folder uses only those above it in the list, and `events`, `interrupt` and `segments`.

pub mod checkpoints;
mod events;
mod interrupt;
mod job;
mod learner;
mod recipe;
mod run;
mod segments;
mod untrained;

pub use self::events::{Event, Observer, Silent};
pub use self::interrupt::Interrupt;
pub use self::job::{
    Evaluator, StoredColumns, TextGenerator, TrainableModel, answer_questions, check_memory,
    evaluate_model, label_config, model_tokenizer, predict_logits, read_split, speed_note,
    table_options,
};
pub use self::recipe::{
    Approximate, Difference, DistillationRecipe, JobKind, Keep, LrDecay, Method, MethodRecipe,
    Recipe, Storage, TaskRecipe, TextGenerationRecipe, TrainingRecipe,
};
#[cfg(feature = "plots")]
pub use self::run::{CheckpointAnalysis, analyse_checkpoint};
pub use self::run::{
    FineTuning, Outline, Plan, PlannedPattern, RunOptions, compress, evaluate_checkpoint, finetune,
    outline, plan,
};
pub use self::segments::Segments;
pub use self::untrained::{Untrained, UntrainedReport};
#[cfg(feature = "plots")]
pub(crate) use self::{recipe::FOLLOW, run::lock};
pub use crate::inspect::{contestant, token_ids};
