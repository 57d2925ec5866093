//! LoSparse: `W ≈ L·R + S` compression of transformers, on Burn.
#![deny(missing_docs)]

pub mod error;
#[cfg(feature = "train")]
pub mod tasks;

pub use error::{Error, Result};
