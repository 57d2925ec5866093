//! LoSparse: `W ≈ L·R + S` compression of transformers, on Burn.
#![deny(missing_docs)]

pub mod error;
pub mod linear;
pub mod models;

pub use error::{Error, Result};
