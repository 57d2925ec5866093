//! A recipe's `[method]`: how the model is compressed, and the methods that the literature names.

use serde::{Deserialize, Serialize};

use crate::decompose::Rank;
use crate::linear::LayerSelection;
use crate::pruning::{Curve, Importance, PruningConfig, Reduction, Regrowth, Schedule, Structure};
use crate::pruning::{WARMUP_SHARES, share_of};
use crate::{Error, Result};

/// The compression.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MethodRecipe {
    /// Share of the compressed layers' weights that is left: low-rank part plus kept neurons.
    pub ratio: f64,
    /// Share of the weights in the low-rank part, within `ratio`; 0 is ITP. By default 0.05, as
    /// published, or half of a ratio below 0.1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub low_rank_ratio: Option<f64>,
    /// The rank outright, in place of `low_rank_ratio`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rank: Option<usize>,
    /// Patterns of the layers to compress.
    pub layers: Vec<String>,
    /// What an entry of `S` is worth.
    pub importance: Importance,
    /// Smoothing of the importance; by default 0.85, for SNIP-momentum 0.9.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub beta1: Option<f64>,
    /// Smoothing of its uncertainty; 1: none.
    pub beta2: f64,
    /// How a neuron's entries become one score.
    pub reduction: Reduction,
    /// What is pruned as one.
    pub structure: Structure,
    /// Whether pruned neurons may come back.
    pub regrowth: Regrowth,
    /// Share of all updates before pruning begins; by default an eighth.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub initial_warmup_share: Option<f64>,
    /// The same as a number of updates, in place of the share.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub initial_warmup_steps: Option<usize>,
    /// Share of all updates at the final ratio, 2 at least; by default three eighths.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub final_warmup_share: Option<f64>,
    /// The same as a number of updates, in place of the share.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub final_warmup_steps: Option<usize>,
    /// Updates between prunings; by default 10, fewer in a short training (see
    /// [`Schedule::fitting_interval`]).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interval: Option<usize>,
    /// How the kept share falls between the warmups.
    pub curve: Curve,
    /// Share of every layer's neurons that is kept, whatever they score.
    pub min_kept: f64,
    /// Share of every layer's neurons beyond which none is kept.
    pub max_kept: f64,
}

impl Default for MethodRecipe {
    fn default() -> Self {
        Self {
            ratio: 0.2,
            low_rank_ratio: None,
            rank: None,
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

/// A way to compress, as the literature names it: what sets it apart, for comparisons in the same
/// training.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// Low-rank + structured sparse (Li et al. 2023).
    #[default]
    Losparse,
    /// Iterative structured pruning alone: no low-rank part.
    Itp,
    /// Low-rank alone: the whole ratio goes into the rank.
    #[serde(alias = "low-rank")]
    LowRank,
    /// Structured movement pruning (Sanh et al. 2020) alone.
    Movement,
    /// Pruning by magnitude alone and at once, then fine-tuning what is left.
    #[serde(alias = "one-shot")]
    OneShot,
}

impl Method {
    /// Its name as users write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Losparse => "losparse",
            Self::Itp => "itp",
            Self::LowRank => "low-rank",
            Self::Movement => "movement",
            Self::OneShot => "one-shot",
        }
    }

    /// Gives `recipe` the settings that set the method apart; its ratio and the rest stay, for
    /// LoSparse also the rank or the low-rank part's share.
    pub fn apply(self, recipe: &mut MethodRecipe) {
        if self != Self::Losparse {
            recipe.rank = None;
            recipe.low_rank_ratio = Some(match self {
                Self::LowRank => recipe.ratio,
                _ => 0.0,
            });
        }
        recipe.importance = match self {
            Self::Movement => Importance::Movement,
            Self::OneShot => Importance::Magnitude,
            _ => recipe.importance,
        };
        if self == Self::OneShot {
            recipe.curve = Curve::OneShot;
            recipe.regrowth = Regrowth::Frozen;
        }
    }

    /// The method that the settings of `recipe` amount to.
    pub fn of(recipe: &MethodRecipe) -> Self {
        let low_rank = match recipe.rank {
            Some(rank) => rank > 0,
            None if recipe.low_rank_ratio() >= recipe.ratio => return Self::LowRank,
            None => recipe.low_rank_ratio() > 0.0,
        };
        let once = recipe.curve == Curve::OneShot && recipe.regrowth == Regrowth::Frozen;
        match recipe.importance {
            _ if low_rank => Self::Losparse,
            Importance::Movement => Self::Movement,
            Importance::Magnitude if once => Self::OneShot,
            _ => Self::Itp,
        }
    }

    /// Checks that `recipe`, of which it is said to be this method, is; LoSparse has both parts. How
    /// much a rank given outright takes only the model says.
    ///
    /// # Errors
    /// Names the setting that makes it another.
    pub fn check(self, recipe: &MethodRecipe) -> Result<()> {
        if self != Self::Losparse {
            return self.check_name(recipe);
        }
        let no_low_rank = |option: &str| {
            Err(Error::option(
                option,
                "0 leaves out the low-rank part, which `losparse` has; give more, or call the \
                 method `itp`",
            ))
        };
        let (share, ratio) = (recipe.low_rank_ratio(), recipe.ratio);
        match recipe.rank {
            Some(0) => no_low_rank("rank"),
            Some(_) => Ok(()),
            None if share == 0.0 => no_low_rank("low_rank_ratio"),
            None if share >= ratio => Err(Error::option(
                "low_rank_ratio",
                format!(
                    "{share} leaves nothing of the ratio {ratio} for the sparse part, which \
                     `losparse` has; give less than the ratio (half of it, say), or call the method \
                     `low-rank`"
                ),
            )),
            None => Ok(()),
        }
    }

    /// [`Method::check`] of the others.
    fn check_name(self, recipe: &MethodRecipe) -> Result<()> {
        let found = Self::of(recipe);
        if found == self {
            return Ok(());
        }
        let parts = [self, found].iter().any(|m| matches!(m, Self::Losparse | Self::LowRank));
        let option = match self {
            _ if parts && recipe.rank.is_some() => "rank",
            _ if parts => "low_rank_ratio",
            Self::OneShot if recipe.importance != Importance::Magnitude => "importance",
            Self::OneShot if recipe.curve != Curve::OneShot => "curve",
            Self::OneShot => "regrowth",
            _ => "importance",
        };
        let (found, named) = (found.name(), self.name());
        let message = format!(
            "with this the method is `{found}`, not `{named}`; leave it out, or call the method \
             `{found}`"
        );
        Err(Error::option(option, message))
    }
}

/// The low-rank part's share of the weights as LoSparse's runs on MNLI have it.
const PUBLISHED_LOW_RANK_RATIO: f64 = 0.05;

impl MethodRecipe {
    /// The low-rank part's share of the weights where no rank is given outright.
    pub fn low_rank_ratio(&self) -> f64 {
        self.low_rank_ratio.unwrap_or(PUBLISHED_LOW_RANK_RATIO.min(self.ratio / 2.0))
    }

    /// Smoothing of the importance.
    pub fn beta1(&self) -> f64 {
        self.beta1.unwrap_or(match self.importance {
            Importance::SnipMomentum => 0.9,
            _ => 0.85,
        })
    }

    /// Shares of the updates before pruning begins and at the final ratio.
    fn warmup_shares(&self) -> [f64; 2] {
        let [first, last] = WARMUP_SHARES;
        [self.initial_warmup_share.unwrap_or(first), self.final_warmup_share.unwrap_or(last)]
    }

    /// Checks that the schedule leaves updates to prune in.
    ///
    /// # Errors
    /// Names the setting that was given, or the epochs if none was.
    pub(super) fn check_length(&self, schedule: &Schedule) -> Result<()> {
        let Schedule { initial_warmup_steps: first, final_warmup_steps: last, .. } = *schedule;
        if first + last < schedule.total_steps {
            return Ok(());
        }
        let option = match (self.initial_warmup_steps, self.final_warmup_steps) {
            (Some(_), None) => "initial_warmup_steps",
            (_, Some(_)) => "final_warmup_steps",
            (None, None) if self.final_warmup_share.is_some_and(|share| share > 0.5) => {
                "final_warmup_share"
            }
            _ => "epochs",
        };
        let message = format!(
            "the schedule is longer than the training: {first} updates before pruning and {last} at \
             the final ratio leave nothing of {} to prune in; train longer{}",
            schedule.total_steps,
            if option == "epochs" { "" } else { " or shorten them" }
        );
        Err(Error::option(option, message))
    }

    /// The same with the settings written out that otherwise depend on others, and without those
    /// that another stands in place of. What follows from the length of the training stays a share
    /// of it.
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
    /// Names the first impossible one.
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
        // What a rank given outright leaves for `S`, and so its bounds, only the model says.
        let (keep, bounds) = match self.rank {
            Some(_) => (self.ratio, (0.0, 1.0)),
            None => (self.ratio - share, (self.min_kept, self.max_kept)),
        };
        let pruning = self.pruning(usize::MAX / 8, keep);
        PruningConfig { min_kept: bounds.0, max_kept: bounds.1, ..pruning }.validate()
    }

    /// How ranks are chosen.
    pub fn rank(&self) -> Rank {
        self.rank.map_or(Rank::Budget(self.low_rank_ratio()), Rank::Fixed)
    }

    /// Which layers are compressed.
    pub fn selection(&self) -> LayerSelection {
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
    fn methods_differ_in_what_sets_them_apart() {
        let with = |method: Method| {
            let mut recipe = MethodRecipe { ratio: 0.1, ..MethodRecipe::default() };
            method.apply(&mut recipe);
            recipe.validate().unwrap();
            method.check(&recipe).unwrap();
            assert_eq!(Method::of(&recipe), method);
            assert_eq!(Method::of(&recipe.resolved()), method);
            recipe
        };
        assert_eq!(with(Method::Losparse), MethodRecipe { ratio: 0.1, ..MethodRecipe::default() });
        assert_eq!(with(Method::Itp).low_rank_ratio, Some(0.0));
        assert_eq!(with(Method::LowRank).low_rank_ratio, Some(0.1));
        assert_eq!(with(Method::Movement).importance, Importance::Movement);
        let once = with(Method::OneShot).pruning(800, 0.1);
        assert_eq!((once.schedule.keep_ratio(100), once.schedule.keep_ratio(101)), (1.0, 0.1));
        assert_eq!((once.importance, once.regrowth), (Importance::Magnitude, Regrowth::Frozen));
    }

    #[test]
    fn losparse_keeps_a_rank_that_is_given() {
        let given = MethodRecipe { rank: Some(8), ..MethodRecipe::default() };
        let with = |method: Method| {
            let mut recipe = given.clone();
            method.apply(&mut recipe);
            recipe
        };
        assert_eq!(with(Method::Losparse).rank, Some(8));
        assert_eq!(with(Method::Losparse).resolved().low_rank_ratio, None);
        assert_eq!((with(Method::Itp).rank, with(Method::LowRank).rank), (None, None));
    }

    #[test]
    fn low_rank_parts_default_to_a_twentieth_but_leave_half_of_a_small_ratio() {
        let share = |ratio| {
            let recipe = MethodRecipe { ratio, ..MethodRecipe::default() };
            recipe.validate().unwrap();
            Method::Losparse.check(&recipe).unwrap();
            recipe.low_rank_ratio()
        };
        assert_eq!([0.5, 0.2, 0.1, 0.05, 0.02].map(share), [0.05, 0.05, 0.05, 0.025, 0.01]);
    }

    #[test]
    fn losparse_without_one_of_its_parts_is_an_error() {
        let message =
            |recipe: MethodRecipe| Method::Losparse.check(&recipe).unwrap_err().to_string();
        let with = |low_rank_ratio, rank| MethodRecipe {
            ratio: 0.05,
            low_rank_ratio: Some(low_rank_ratio),
            rank,
            ..MethodRecipe::default()
        };
        let found = message(with(0.05, None));
        assert!(
            found.contains("option low_rank_ratio: 0.05 leaves nothing of the ratio"),
            "{found}"
        );
        assert!(message(with(0.0, None)).starts_with("option low_rank_ratio: 0 leaves out"));
        assert!(message(with(0.02, Some(0))).starts_with("option rank: 0 leaves out"));
        Method::LowRank.check(&with(0.05, None)).unwrap();
        Method::Itp.check(&with(0.0, None)).unwrap();
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
