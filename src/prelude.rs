//! Everything needed to compress a Burn module: `use losparse::prelude::*`.
//!
//! | step | items |
//! |---|---|
//! | build | [`CompressibleLinear`] in place of `Linear`, [`Compressible`] to name the layers |
//! | decompose | [`decompose()`], [`DecomposeConfig`], [`Rank`], [`LayerSelection`] |
//! | train and prune | [`Pruner`], [`PruningConfig`], [`Schedule`] |
//! | compact | [`compact()`] |
//! | save and load as Burn records | [`layer_forms`], [`restore_forms`] |
//! | save and load Hugging Face folders | [`save_pretrained`], [`load_pretrained`], [`SaveOptions`], [`LoadOptions`] |

pub use crate::checkpoint::{LoadOptions, SaveOptions, load_pretrained, save_pretrained};
pub use crate::compact::{compact, layer_forms, restore_forms};
pub use crate::decompose::{DecomposeConfig, Rank, decompose};
pub use crate::linear::{Compressible, CompressibleLinear, LayerSelection};
pub use crate::pruning::{Pruner, PruningConfig, Schedule};
