//! LoSparse: `W ≈ L·R + S` compression of transformers, on Burn.
#![deny(missing_docs)]

pub mod checkpoint;
pub mod compact;
pub mod decompose;
pub mod device;
pub mod error;
pub mod generation;
pub mod inspect;
pub mod kernels;
pub mod linear;
pub mod models;
pub mod optim;
#[cfg(feature = "plots")]
pub mod plots;
pub mod pruning;
mod random;
#[cfg(feature = "plots")]
pub mod study;
#[cfg(feature = "train")]
pub mod tasks;
#[cfg(feature = "train")]
pub mod train;

pub use error::{Error, Result};
