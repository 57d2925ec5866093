//! Pruning of whole neurons of `S` by importance, on a cubic schedule.
//!
//! ```text
//! gradient of S ─► Importance (window mean, β₁, β₂) ─► scores ─► selection (one threshold over the
//! optimizer step ─► weights ─┘                          whole model) ─► S ← S ∘ mask
//! ```
//! Begin with [`PruningConfig`]. [`Pruner`] is all of it in one step; the parts are usable alone:
//! [`equations`], [`Schedule`], [`threshold`].

/// Writes `with_*` methods, one for each setting.
macro_rules! setters {
    ($($with:ident $field:ident: $type:ty, $doc:literal;)*) => {$(
        #[doc = $doc]
        #[must_use]
        pub fn $with(self, $field: $type) -> Self {
            Self { $field, ..self }
        }
    )*};
}

mod config;
mod counters;
mod derived;
pub mod equations;
#[cfg(all(test, feature = "flex"))]
mod frozen_tests;
mod importance;
mod norm;
mod pruner;
#[cfg(test)]
mod pruner_bounds_tests;
#[cfg(test)]
mod pruner_record_tests;
#[cfg(test)]
mod pruner_reference;
#[cfg(test)]
mod pruner_skipped_tests;
#[cfg(test)]
mod pruner_tests;
mod schedule;
mod scores;
mod selection;
mod sparse;

pub use config::{Importance, PruningConfig, Reduction, Regrowth, Structure};
pub use importance::LayerImportance;
pub use norm::{gradient_norm, scale_gradients};
pub use pruner::{PruneStep, Pruner};
pub use schedule::{Curve, Phase, Schedule};
#[cfg(feature = "train")]
pub(crate) use schedule::{WARMUP_SHARES, share_of};
pub use scores::{LayerKept, LayerScores};
pub use selection::{Group, threshold};
use selection::{NEVER_KEPT, above_never_kept, bound, cap_at, kept_share};
