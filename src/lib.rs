//! LoSparse: `W ≈ L·R + S` compression of transformers, on Burn.
#![deny(missing_docs)]

pub mod error;
pub mod linear;

pub use error::{Error, Result};
