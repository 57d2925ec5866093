//! The methods that the literature names, as settings of a recipe's `[method]`.

use serde::{Deserialize, Serialize};

use super::MethodRecipe;
use crate::pruning::{Curve, Importance, Regrowth};
use crate::{Error, Result};

/// A compression method by its name in the literature.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// Low-rank plus structured sparse (Li et al. 2023).
    #[default]
    Losparse,
    /// Iterative structured pruning, without a low-rank part.
    Itp,
    /// Low-rank alone; the whole ratio goes into the rank.
    #[serde(alias = "low-rank")]
    LowRank,
    /// Structured movement pruning (Sanh et al. 2020) alone.
    Movement,
    /// Pruning by magnitude in one step, then fine-tuning.
    #[serde(alias = "one-shot")]
    OneShot,
}

impl Method {
    /// The name as users write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Losparse => "losparse",
            Self::Itp => "itp",
            Self::LowRank => "low-rank",
            Self::Movement => "movement",
            Self::OneShot => "one-shot",
        }
    }

    /// Sets what distinguishes the method in `recipe`. The ratio and all else stay; for LoSparse, so do
    /// the rank and the low-rank share.
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

    /// Checks that `recipe` is of this method; LoSparse needs both parts. Whether a set rank leaves
    /// anything for the sparse part depends on the model and is not checked here.
    ///
    /// # Errors
    /// Names the setting that makes it another method.
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

    /// [`Method::check`] for all methods but LoSparse.
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
}
