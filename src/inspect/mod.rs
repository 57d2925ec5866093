//! What a model is made of and what a run achieved: accounting, latency, reports.

mod account;
#[cfg(feature = "train")]
mod baseline;
mod escape;
#[cfg(feature = "plots")]
pub mod html;
pub mod latency;
#[cfg(feature = "train")]
mod machine;
#[cfg(feature = "train")]
mod markdown;
#[cfg(feature = "train")]
mod report;
#[cfg(feature = "train")]
mod warning;

pub use account::{LinearAccount, ModelAccount, bytes_on_disk};
#[cfg(feature = "train")]
pub use baseline::Baseline;
#[cfg(feature = "train")]
pub(crate) use escape::{code, markdown as markdown_text};
pub use escape::{visible, visible_lines};
pub use latency::{Latency, LatencyReport};
#[cfg(feature = "train")]
pub use machine::{Machine, now};
#[cfg(feature = "train")]
pub use markdown::{percent, thousands};
#[cfg(all(test, feature = "train"))]
pub(crate) use report::report_for_tests;
#[cfg(feature = "train")]
pub use report::{Agreement, Answers, MethodReport, RunReport, SplitMetrics, TrainingReport};
#[cfg(feature = "train")]
pub(crate) use warning::SIZE_TOLERANCE;
pub use warning::{Expected, Warning, WarningKind, no_better_than_constant};
