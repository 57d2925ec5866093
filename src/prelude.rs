//! Everything needed to compress a Burn module: `use losparse::prelude::*`.
//!
//! | step | items |
//! |---|---|
//! | build | [`CompressibleLinearConfig`] in place of `LinearConfig`, [`compressible!`] to name the layers |
//! | decompose | [`decompose()`], [`DecomposeConfig`], [`Rank`], [`LayerSelection`] |
//! | … to keep the outputs on examples | [`Calibration`], [`decompose_for_inputs`] |
//! | … and leave it at that, without training | [`decompose_in_order`], [`SequentialConfig`] |
//! | train and prune | [`PruningConfig`], [`Schedule`], [`Pruner`], [`AdamWConfig`] |
//! | compact | [`compact()`] |
//! | save and load as Burn records | [`layer_specs`], [`restore_layers`] |
//! | save and load Hugging Face folders | [`save_pretrained`], [`load_pretrained`], [`SaveOptions`], [`LoadOptions`] |

pub use crate::checkpoint::{LoadOptions, SaveOptions, load_pretrained, save_pretrained};
pub use crate::compact::compact;
pub use crate::compressible;
pub use crate::decompose::{Calibration, DecomposeConfig, Rank, decompose, decompose_for_inputs};
pub use crate::decompose::{SequentialConfig, decompose_in_order};
pub use crate::linear::{Compressible, CompressibleLinear, CompressibleLinearConfig};
pub use crate::linear::{LayerSelection, layer_specs, restore_layers};
pub use crate::optim::AdamWConfig;
pub use crate::pruning::{Pruner, PruningConfig, Schedule};
