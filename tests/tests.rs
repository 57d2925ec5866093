//! Whole-pipeline tests. One binary, since each one links Burn again.
//!
//! A file covers one subject, named by its first line. [`place`] makes folders with tiny models and
//! data; [`parity`] compares models with Hugging Face's; [`trace`] replays recorded runs of the
//! published code.

#[cfg(feature = "cli")]
mod architectures;
mod bart_generation;
mod bart_parity;
mod bert_parity;
#[cfg(feature = "cli")]
mod browser;
mod bundles;
mod checkpoint;
#[cfg(feature = "cli")]
mod cli;
mod configs;
mod cross_backend;
mod cross_backend_generation;
mod cross_backend_kept;
mod deberta;
mod deberta_parity;
#[cfg(feature = "train")]
mod differential;
#[cfg(feature = "cli")]
mod distillation;
mod family_parity;
mod found;
#[cfg(feature = "plots")]
mod fuzz_corpus;
#[cfg(all(feature = "cli", feature = "flex"))]
mod int16;
mod int8;
#[cfg(feature = "cli")]
mod labels;
mod layers;
#[cfg(feature = "cli")]
mod methods;
#[cfg(feature = "cli")]
mod mistakes;
#[cfg(feature = "cli")]
mod outcome;
#[cfg(feature = "cli")]
mod output;
mod parity;
#[cfg(feature = "cli")]
mod pictures;
#[cfg(feature = "cli")]
mod place;
#[cfg(feature = "cli")]
mod precision;
#[cfg(feature = "cli")]
mod predict;
#[cfg(feature = "cli")]
mod pronunciation;
#[cfg(feature = "train")]
mod real_models;
#[cfg(feature = "train")]
mod recipes;
#[cfg(feature = "cli")]
mod resume;
#[cfg(feature = "cli")]
mod run_folders;
#[cfg(feature = "cli")]
mod run_processes;
#[cfg(feature = "cli")]
mod squad;
#[cfg(all(feature = "cli", feature = "flex"))]
mod storage;
#[cfg(feature = "cli")]
mod study;
#[cfg(feature = "cli")]
mod summarization;
#[cfg(feature = "cli")]
mod tables;
#[cfg(feature = "cli")]
mod tokenizers;
#[cfg(feature = "train")]
mod torch_file;
mod trace;
#[cfg(feature = "cli")]
mod training;
#[cfg(feature = "cli")]
mod untrained;

/// Reports that a test is skipped. Writes to stderr itself, since libtest captures what is printed.
fn say_skipped(why: &str) {
    use std::io::Write;
    writeln!(std::io::stderr(), "SKIPPED: {why}").expect("stderr can be written to");
}
