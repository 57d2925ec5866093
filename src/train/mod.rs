//! Training with Burn's `SupervisedTraining`: fine-tuning, and pruning while fine-tuning.
//!
//! ```text
//! Recipe ─► pipeline ─► Training::launch ─► SupervisedTraining
//!                         │ TrainLoader: segment after segment of a seeded stream of batches
//!                         │ CompressingModel: model + Pruner; `optimize` = AdamW, importance, masks
//!                         │ Follow: metric, best, early stop ─► CheckpointStore: whole or not at all
//!                         └► Trained ─► compact ─► bundle + report
//! ```

mod checkpoint_state;
pub mod checkpoints;
pub(crate) mod claim;
mod classification;
mod columns;
mod contestant;
pub mod data;
mod evaluate;
mod folder;
mod from_checkpoint;
mod hold_out;
#[cfg(feature = "plots")]
mod illustrate;
mod interrupt;
mod job;
mod launch;
pub mod lr;
mod method;
pub mod metric;
pub mod model;
mod observer;
mod outline;
mod pipeline;
mod plan;
mod question_answering;
mod recipe;
pub(crate) mod recipe_paths;
pub mod record;
mod renderer;
mod resume;
mod shared;
mod strategy;
mod summarization;
mod summarization_recipe;
mod task_data;
mod task_recipe;
mod trainable;

pub use classification::{Classification, ClassifierEvaluator, ClassifierOutput};
pub use columns::StoredColumns;
pub use contestant::{contestant, token_ids};
pub use evaluate::{collect_answers, evaluate_model, predict_logits, score};
pub use from_checkpoint::evaluate_checkpoint;
#[cfg(feature = "plots")]
pub use from_checkpoint::{CheckpointAnalysis, analyse_checkpoint};
pub use interrupt::Interrupt;
pub use job::{EvalSplit, Job, Loaded, Prepared, Start, model_tokenizer};
pub use launch::{Trained, Training};
pub use method::{Method, MethodRecipe};
pub use observer::{Event, Observer, Silent};
pub use outline::{Outline, PlannedPattern, outline};
pub use pipeline::{RunOptions, compress, finetune};
pub use plan::{Plan, plan};
pub use question_answering::{
    QaBatch, QaEvaluator, QaOutput, QuestionAnswering, answer_questions, qa_batches, read_split,
};
pub use recipe::{Keep, LrDecay, Recipe, TrainingRecipe};
pub use recipe_paths::Difference;
pub use summarization::{Summarization, Summarizer, SummaryBatch, SummaryEvaluator, SummaryOutput};
pub use summarization::{check_memory, speed_note};
pub use summarization_recipe::SummarizationRecipe;
pub use task_data::{TaskData, label_config, load_task_data, table_options};
pub use task_recipe::{JobKind, TaskRecipe};
pub use trainable::{Evaluator, TrainableModel};
