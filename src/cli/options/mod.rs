//! Options that several commands share, each group beside the settings of a recipe that it
//! overrides.
//!
//! Begin with [`task::TaskArgs`]. A group is a `clap::Args` whose `apply` changes a recipe. These
//! files use [`values`] and the library, and nothing else of the command line.

pub mod method;
pub mod summaries;
pub mod task;
pub mod training;
pub mod values;
