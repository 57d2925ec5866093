//! LoSparse: `W ≈ L·R + S` compression of transformers, on Burn.
#![deny(missing_docs)]

pub mod compact;
pub mod decompose;
pub mod error;
pub mod linear;
pub mod pruning;
#[cfg(feature = "train")]
pub mod tasks;

pub use error::{Error, Result};
