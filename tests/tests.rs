//! Whole-pipeline tests, one binary since each links Burn again.

mod bart_generation;
mod bart_parity;
mod bert_parity;
#[cfg(feature = "cli")]
mod browser;
mod checkpoint;
#[cfg(feature = "cli")]
mod cli;
mod cross_backend;
mod deberta;
mod deberta_parity;
mod family_parity;
#[cfg(feature = "train")]
mod recipes;
#[cfg(feature = "cli")]
mod resume;
#[cfg(feature = "cli")]
mod squad;
#[cfg(feature = "cli")]
mod study;
#[cfg(feature = "cli")]
mod summarization;
mod trace;
