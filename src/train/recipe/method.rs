//! A recipe's `[method]`: ratio, rank, importance and schedule of a compression.

use serde::{Deserialize, Serialize};

use crate::decompose::{Approximate, Rank};
use crate::inspect::many;
use crate::linear::LayerSelection;
use crate::pruning::{Curve, Importance, PruningConfig, Reduction, Regrowth, Schedule, Structure};
use crate::pruning::{WARMUP_SHARES, share_of};
use crate::{Error, Result};

/// The compression.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MethodRecipe {
    /// Share of the compressed layers' weights to keep: low-rank part plus kept neurons.
    pub ratio: f64,
    /// Share of the weights in the low-rank part, within `ratio`; 0 is ITP. By default three quarters of
    /// the ratio if `approximate` is `outputs`, else the published 0.05, or half of a ratio below 0.1.
    pub low_rank_ratio: Option<f64>,
    /// Rank of every layer, in place of `low_rank_ratio`.
    pub rank: Option<usize>,
    /// Target of a layer's low-rank part at the start.
    pub approximate: Approximate,
    /// Patterns of the layers to compress.
    pub layers: Vec<String>,
    /// Importance of an entry of `S`.
    pub importance: Importance,
    /// Smoothing β₁ of the importance; by default 0.85, or 0.9 for SNIP-momentum.
    pub beta1: Option<f64>,
    /// Smoothing β₂ of its uncertainty; 1 leaves out the uncertainty.
    pub beta2: f64,
    /// How the importance of a neuron's entries becomes one score.
    pub reduction: Reduction,
    /// The unit of pruning.
    pub structure: Structure,
    /// Whether pruned neurons may return.
    pub regrowth: Regrowth,
    /// Share of all updates before pruning begins; by default an eighth.
    pub initial_warmup_share: Option<f64>,
    /// Number of these updates, in place of the share.
    pub initial_warmup_steps: Option<usize>,
    /// Share of all updates at the final ratio, at least 2 updates; by default three eighths.
    pub final_warmup_share: Option<f64>,
    /// Number of these updates, in place of the share.
    pub final_warmup_steps: Option<usize>,
    /// Updates between prunings; by default 10, fewer in a short training (see
    /// [`Schedule::fitting_interval`]).
    pub interval: Option<usize>,
    /// Curve of the kept share between the warmups.
    pub curve: Curve,
    /// Least share of neurons kept in every layer, whatever their scores.
    pub min_kept: f64,
    /// Largest share of neurons kept in any layer.
    pub max_kept: f64,
}

impl Default for MethodRecipe {
    fn default() -> Self {
        Self {
            ratio: 0.2,
            low_rank_ratio: None,
            rank: None,
            approximate: Approximate::default(),
            layers: LayerSelection::all().patterns().to_vec(),
            importance: Importance::default(),
            beta1: None,
            beta2: 1.0,
            reduction: Reduction::default(),
            structure: Structure::default(),
            regrowth: Regrowth::default(),
            initial_warmup_share: None,
            initial_warmup_steps: None,
            final_warmup_share: None,
            final_warmup_steps: None,
            interval: None,
            curve: Curve::default(),
            min_kept: 0.0,
            max_kept: 1.0,
        }
    }
}

/// Fewest updates that the default schedule can prune in: one, and two at the final ratio.
const FEWEST_UPDATES: usize = 3;
/// Share of the weights in the low-rank part in the published MNLI runs.
const PUBLISHED_LOW_RANK_RATIO: f64 = 0.05;
/// Share of the ratio in low-rank parts that keep outputs: these are worth more than kept neurons.
const LOW_RANK_SHARE: f64 = 0.75;

impl MethodRecipe {
    /// Share of the weights in the low-rank part, if no rank is set.
    pub fn low_rank_ratio(&self) -> f64 {
        self.low_rank_ratio.unwrap_or(match self.approximate {
            Approximate::Weights => PUBLISHED_LOW_RANK_RATIO.min(self.ratio / 2.0),
            // Without the digits of binary fractions, as recipes are read.
            Approximate::Outputs => (LOW_RANK_SHARE * self.ratio * 1e9).round() / 1e9,
        })
    }

    /// Smoothing β₁ of the importance.
    pub fn beta1(&self) -> f64 {
        self.beta1.unwrap_or(match self.importance {
            Importance::SnipMomentum => 0.9,
            _ => 0.85,
        })
    }

    /// Shares of all updates before pruning and at the final ratio.
    fn warmup_shares(&self) -> [f64; 2] {
        let [first, last] = WARMUP_SHARES;
        [self.initial_warmup_share.unwrap_or(first), self.final_warmup_share.unwrap_or(last)]
    }

    /// Checks that the schedule of a training over so many epochs leaves updates to prune in.
    ///
    /// # Errors
    /// Names the setting that is too long, or the epochs if none is set.
    pub(in crate::train) fn check_length(&self, schedule: &Schedule, epochs: usize) -> Result<()> {
        let Schedule { initial_warmup_steps: first, final_warmup_steps: last, .. } = *schedule;
        if first + last < schedule.total_steps {
            return Ok(());
        }
        let total = schedule.total_steps;
        let [early, late] = self.warmup_shares();
        let option = match (self.initial_warmup_steps, self.final_warmup_steps) {
            (Some(_), None) => "initial_warmup_steps",
            (_, Some(_)) => "final_warmup_steps",
            (None, None) if total < FEWEST_UPDATES => {
                let (passes, updates) = (many(epochs, "epoch"), many(total, "update"));
                let message = format!(
                    "{passes} of this data: only {updates}, and pruning needs {FEWEST_UPDATES} at \
                     least; give more --epochs, or a smaller --batch-size"
                );
                return Err(Error::option("epochs", message));
            }
            (None, None) if early > late => "initial_warmup_share",
            (None, None) => "final_warmup_share",
        };
        let message = format!(
            "the schedule is longer than the training: {first} updates before pruning and {last} at \
             the final ratio leave nothing of {total} to prune in; train longer or shorten them"
        );
        Err(Error::option(option, message))
    }

    /// Writes out the defaults that depend on other settings, and drops settings that another
    /// replaces. What depends on the length of the training stays a share of it.
    pub fn resolved(&self) -> Self {
        let [first, last] = self.warmup_shares();
        Self {
            low_rank_ratio: self.rank.is_none().then(|| self.low_rank_ratio()),
            beta1: Some(self.beta1()),
            initial_warmup_share: self.initial_warmup_steps.is_none().then_some(first),
            final_warmup_share: self.final_warmup_steps.is_none().then_some(last),
            ..self.clone()
        }
    }

    /// Checks every setting.
    ///
    /// # Errors
    /// Names the first impossible setting.
    pub fn validate(&self) -> Result<()> {
        if !(self.ratio > 0.0 && self.ratio <= 1.0) {
            return Err(Error::option(
                "ratio",
                format!(
                    "{} is not a share of the weights; give a number above 0, up to 1",
                    self.ratio
                ),
            ));
        }
        let [first, last] = self.warmup_shares();
        for (option, share) in [("initial_warmup_share", first), ("final_warmup_share", last)] {
            if !(0.0..1.0).contains(&share) {
                let message = format!("{share} is not within 0 to 1 (1 excluded)");
                return Err(Error::option(option, message));
            }
        }
        let (share, ratio) = (self.low_rank_ratio(), self.ratio);
        if !(0.0..=1.0).contains(&share) {
            return Err(Error::option("low_rank_ratio", format!("{share} is not within 0 to 1")));
        }
        if self.rank.is_none() && share > ratio {
            let message = format!("{share} is above the ratio {ratio} it is part of");
            return Err(Error::option("low_rank_ratio", message));
        }
        if self.layers.is_empty() {
            return Err(Error::option("layers", "no pattern given; `**` takes every layer"));
        }
        // The share that a set rank leaves for `S`, and so its bounds, depend on the model.
        let (keep, bounds) = match self.rank {
            Some(_) => (self.ratio, (0.0, 1.0)),
            None => (self.ratio - share, (self.min_kept, self.max_kept)),
        };
        let pruning = self.pruning(usize::MAX / 8, keep);
        PruningConfig { min_kept: bounds.0, max_kept: bounds.1, ..pruning }.validate()
    }

    /// How the layers' ranks are chosen.
    pub(in crate::train) fn rank(&self) -> Rank {
        let share = self.low_rank_ratio();
        match (self.rank, self.approximate) {
            (Some(rank), _) => Rank::Fixed(rank),
            (None, Approximate::Weights) => Rank::Budget(share),
            (None, Approximate::Outputs) => Rank::Within(share),
        }
    }

    /// Whether layers have a low-rank part.
    pub(in crate::train) fn has_low_rank(&self) -> bool {
        !matches!(self.rank(), Rank::Fixed(0) | Rank::Budget(0.0) | Rank::Within(0.0))
    }

    /// The layers to compress.
    pub(in crate::train) fn selection(&self) -> LayerSelection {
        LayerSelection::new(self.layers.clone())
    }

    /// Settings of the pruner for a training of `total_steps` updates that keeps
    /// `final_keep_ratio` of `S`.
    pub fn pruning(&self, total_steps: usize, final_keep_ratio: f64) -> PruningConfig {
        let [first, last] = self.warmup_shares();
        let first = self.initial_warmup_steps.unwrap_or(share_of(first, total_steps));
        let last = self.final_warmup_steps.unwrap_or(share_of(last, total_steps).max(2));
        let schedule = Schedule {
            initial_warmup_steps: first,
            final_warmup_steps: last,
            curve: self.curve,
            ..Schedule::new(final_keep_ratio, total_steps)
        };
        let interval = self.interval.unwrap_or(schedule.fitting_interval());
        PruningConfig {
            importance: self.importance,
            beta1: self.beta1(),
            beta2: self.beta2,
            reduction: self.reduction,
            structure: self.structure,
            regrowth: self.regrowth,
            min_kept: self.min_kept,
            max_kept: self.max_kept,
            ..PruningConfig::new(Schedule { interval, ..schedule })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn low_rank_parts_default_to_a_twentieth_but_leave_half_of_a_small_ratio() {
        let share = |ratio| {
            let recipe = MethodRecipe { ratio, ..MethodRecipe::default() };
            recipe.validate().unwrap();
            super::super::Method::Losparse.check(&recipe).unwrap();
            recipe.low_rank_ratio()
        };
        assert_eq!([0.5, 0.2, 0.1, 0.05, 0.02].map(share), [0.05, 0.05, 0.05, 0.025, 0.01]);
    }

    #[test]
    fn a_schedule_without_room_names_what_is_too_long() {
        let error = |method: MethodRecipe, updates| {
            let schedule = method.pruning(updates, 0.1).schedule;
            method.check_length(&schedule, 1).unwrap_err().to_string()
        };
        // As runs write recipes, with shares that are the defaults.
        let method = MethodRecipe::default().resolved();
        let short = error(method.clone(), 1);
        assert!(short.starts_with("option epochs: 1 epoch of this data: only 1 update, and"));
        assert!(error(method.clone(), 2).contains("only 2 updates, and pruning needs 3 at least"));
        method.check_length(&method.pruning(3, 0.1).schedule, 1).unwrap();
        let early = MethodRecipe { initial_warmup_share: Some(0.7), ..method.clone() };
        assert!(error(early, 100).starts_with("option initial_warmup_share: the schedule is"));
        let late = MethodRecipe { final_warmup_share: Some(0.9), ..method };
        assert!(error(late, 100).starts_with("option final_warmup_share: the schedule is longer"));
    }

    #[test]
    fn words_may_be_joined_by_hyphens_as_on_the_command_line() {
        let parse = |text: &str| toml::from_str::<MethodRecipe>(text).unwrap();
        let hyphens = parse("importance = 'snip-momentum'\ncurve = 'one-shot'");
        assert_eq!(hyphens, parse("importance = 'snip_momentum'\ncurve = 'one_shot'"));
        assert_eq!((hyphens.beta1(), parse("importance = 'movement'").beta1()), (0.9, 0.85));
        assert_eq!(parse("importance = 'snip-momentum'\nbeta1 = 0.5").beta1(), 0.5);
    }
}
