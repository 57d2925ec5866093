//! LoSparse: `W ≈ L·R + S` compression of transformers, on Burn.
#![deny(missing_docs)]

#[cfg(feature = "flex")]
#[doc(hidden)]
pub mod bench;
pub mod checkpoint;
pub mod compact;
pub mod decompose;
pub mod device;
pub mod error;
pub mod files;
pub mod generation;
pub mod inspect;
pub mod kernels;
pub mod linear;
pub mod models;
mod ops;
pub mod optim;
#[cfg(feature = "plots")]
pub mod plots;
pub mod precision;
pub mod pruning;
mod random;
#[cfg(feature = "plots")]
pub mod study;
#[cfg(feature = "train")]
pub mod tasks;
#[cfg(feature = "train")]
pub mod train;

pub use error::{Error, Result};

/// Says that a test is skipped, aloud: libtest keeps what is printed otherwise.
#[cfg(test)]
pub(crate) fn say_skipped(why: &str) {
    use std::io::Write;
    writeln!(std::io::stderr(), "SKIPPED: {why}").expect("stderr can be written to");
}
