//! Settings of the pruner.

use serde::{Deserialize, Serialize};

use super::Schedule;
use crate::{Error, Result};

/// Criterion for the importance of an entry of `S`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Importance {
    /// `|s · ∂loss/∂s|`, smoothed over steps (Zhang et al. 2022, PLATON; LoSparse eq. 5–7).
    #[default]
    Sensitivity,
    /// `|s|`.
    Magnitude,
    /// `−s · ∂loss/∂s`, summed over all steps: high where training moves a weight away from zero
    /// (Sanh et al. 2020, movement pruning).
    Movement,
    /// `β₁ Ī + |s · ∂loss/∂s|` at every step, without windows: SNIP with momentum, after Intel's
    /// neural-compressor, which has β₁ 0.9 and takes `s` from before the optimizer's step; here, as
    /// for all criteria, it is the one from after it.
    #[serde(alias = "snip-momentum")]
    SnipMomentum,
    /// A number drawn once for every neuron: the baseline that every criterion must beat.
    Random,
}

impl Importance {
    /// Whether it is computed from gradients.
    pub fn needs_gradients(self) -> bool {
        !matches!(self, Self::Magnitude | Self::Random)
    }
}

/// How the entries of a neuron become one score.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reduction {
    /// Mean of the entries (LoSparse).
    #[default]
    Mean,
    /// Sum of the entries.
    Sum,
    /// Largest entry.
    Max,
    /// Smallest entry.
    Min,
}

/// The unit that is pruned as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Structure {
    /// Neurons (outputs); written `rows`, as they are in the paper's orientation `[out, in]`.
    #[default]
    #[serde(alias = "rows")]
    Neurons,
    /// Inputs; written `columns`.
    #[serde(alias = "columns")]
    Inputs,
    /// Single entries.
    Unstructured,
}

/// Whether a pruned neuron may come back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Regrowth {
    /// Pruned entries are zeroed and go on being trained, as in the published code.
    #[default]
    Allowed,
    /// Once pruned, always zero.
    Frozen,
}

/// Settings of a [`super::Pruner`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct PruningConfig {
    /// When and how far to prune.
    pub schedule: Schedule,
    /// Criterion for the importance of an entry.
    pub importance: Importance,
    /// Smoothing of the importance, `0 ≤ β₁ < 1` (`Ī ← β₁ Ī + (1 − β₁) w`).
    pub beta1: f64,
    /// Smoothing of its uncertainty; 1 leaves it out (LoSparse), below 1 scores are `Ī·Ū` (PLATON).
    pub beta2: f64,
    /// How a neuron's entries become one score.
    pub reduction: Reduction,
    /// The unit that is pruned as a whole.
    pub structure: Structure,
    /// Whether a pruned neuron may come back.
    pub regrowth: Regrowth,
    /// Share of the neurons of every layer that is kept whatever they score; 0: no floor.
    #[serde(default)]
    pub min_kept: f64,
    /// Largest share of the neurons of every layer that is kept in the end; 1: no cap. Until then the cap
    /// falls from 1 as the kept share does.
    #[serde(default = "one")]
    pub max_kept: f64,
    /// Seed of random importance.
    #[serde(default)]
    pub seed: u64,
    /// Keep importance per entry of `S` even where one number a neuron is enough.
    #[serde(default)]
    pub per_entry: bool,
    /// Number of updates in a row with a gradient that is not finite that ends the training.
    pub max_skipped_in_a_row: usize,
}

fn one() -> f64 {
    1.0
}

impl PruningConfig {
    /// LoSparse's settings (β₁ 0.85, β₂ 1, mean over a neuron, regrowth allowed) on `schedule`.
    pub fn new(schedule: Schedule) -> Self {
        Self {
            schedule,
            importance: Importance::default(),
            beta1: 0.85,
            beta2: 1.0,
            reduction: Reduction::default(),
            structure: Structure::default(),
            regrowth: Regrowth::default(),
            min_kept: 0.0,
            max_kept: 1.0,
            seed: 0,
            per_entry: false,
            max_skipped_in_a_row: 20,
        }
    }

    setters! {
        with_importance importance: Importance, "Sets the criterion.";
        with_beta1 beta1: f64, "Sets the smoothing of the importance, `0 ≤ β₁ < 1`.";
        with_beta2 beta2: f64, "Sets the smoothing of its uncertainty, `0 ≤ β₂ ≤ 1`.";
        with_reduction reduction: Reduction, "Sets how a neuron's entries become one score.";
        with_structure structure: Structure, "Sets the unit that is pruned as a whole.";
        with_regrowth regrowth: Regrowth, "Sets whether a pruned neuron may come back.";
        with_min_kept min_kept: f64, "Sets the share of every layer's neurons that is kept in any case.";
        with_max_kept max_kept: f64, "Sets the largest share of every layer's neurons that is kept.";
        with_seed seed: u64, "Sets the seed of random importance.";
        with_per_entry per_entry: bool, "Sets whether importance is kept per entry of `S` in any case.";
        with_max_skipped_in_a_row max_skipped_in_a_row: usize,
            "Sets the number of skipped updates in a row that ends the training.";
    }

    /// Whether scores include uncertainty.
    pub fn uses_uncertainty(&self) -> bool {
        self.importance == Importance::Sensitivity && self.beta2 > 0.0 && self.beta2 < 1.0
    }

    /// Whether layers have a floor or a cap.
    pub fn bounds_layers(&self) -> bool {
        self.min_kept > 0.0 || self.max_kept < 1.0
    }

    /// Whether state is kept per entry of `S`. With mean or sum and `β₂ = 1` the reduction commutes
    /// with the averages, and one number a neuron is enough.
    pub fn needs_entries(&self) -> bool {
        self.per_entry
            || self.structure == Structure::Unstructured
            || self.uses_uncertainty()
            || matches!(self.reduction, Reduction::Max | Reduction::Min)
    }

    /// Checks every setting.
    ///
    /// # Errors
    /// Names the first impossible one.
    pub fn validate(&self) -> Result<()> {
        self.schedule.validate()?;
        if self.importance == Importance::Sensitivity {
            self.schedule.check_windows()?;
        }
        if !(0.0..1.0).contains(&self.beta1) {
            return Err(Error::option("beta1", format!("{} is not in 0 ≤ β₁ < 1", self.beta1)));
        }
        if !(0.0..=1.0).contains(&self.beta2) {
            return Err(Error::option("beta2", format!("{} is not in 0 ≤ β₂ ≤ 1", self.beta2)));
        }
        let keep = self.schedule.final_keep_ratio;
        // As exact as shares that were subtracted from each other.
        let slack = 1e-9;
        let shown = (keep * 1e6).round() / 1e6;
        if !(0.0..=keep + slack).contains(&self.min_kept) {
            let message = format!(
                "{} is not within 0 and the {shown} of S that are kept in the end; a floor above \
                 that cannot be met",
                self.min_kept
            );
            return Err(Error::option("min_kept", message));
        }
        if !(keep - slack..=1.0).contains(&self.max_kept) {
            let message = format!(
                "{} is not within the {shown} of S that are kept in the end and 1; a cap below \
                 that cannot be met",
                self.max_kept
            );
            return Err(Error::option("max_kept", message));
        }
        Ok(())
    }
}
