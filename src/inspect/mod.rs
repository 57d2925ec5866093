//! Measurements of models and the report of a run: parameters, latency, warnings, Markdown.
//!
//! Begin with [`RunReport`]. Reads models and metrics; knows nothing of training or pictures.

mod account;
#[cfg(feature = "train")]
mod agreement;
#[cfg(feature = "train")]
mod baseline;
mod escape;
#[cfg(feature = "train")]
mod int8;
pub mod latency;
#[cfg(feature = "train")]
mod machine;
#[cfg(feature = "train")]
mod markdown;
mod model_latency;
mod numbers;
#[cfg(feature = "train")]
mod report;
#[cfg(feature = "train")]
mod warning;

pub use account::{LinearAccount, ModelAccount, bytes_on_disk};
#[cfg(feature = "train")]
pub use agreement::{Agreement, Answers};
#[cfg(feature = "plots")]
pub(crate) use escape::{code, markdown as markdown_text};
pub use escape::{visible, visible_lines};
#[cfg(feature = "train")]
pub use int8::Int8Comparison;
pub use latency::{Latency, LatencyReport};
#[cfg(feature = "train")]
pub use machine::Machine;
#[cfg(feature = "train")]
pub(crate) use machine::now;
#[cfg(feature = "plots")]
pub(crate) use markdown::warnings as warnings_markdown;
pub use model_latency::{contestant, token_ids};
pub use numbers::{many, percent, thousands};
#[cfg(all(test, feature = "train"))]
pub(crate) use report::report_for_tests;
#[cfg(feature = "train")]
pub use report::{
    Baseline, Inputs, MethodReport, RunReport, SplitMetrics, TeacherReport, TrainingReport,
    Warning, WarningKind,
};
#[cfg(feature = "train")]
pub use warning::no_better_than_constant;
#[cfg(feature = "train")]
pub(crate) use warning::{Expected, SIZE_TOLERANCE};
