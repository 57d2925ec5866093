//! Options of the compression method, those of a recipe's `[method]`.

use losparse::pruning::{Curve, Importance, Reduction, Regrowth, Structure};
use losparse::train::{Approximate, Method, MethodRecipe};

use super::values::{default_word, override_settings, share, shown, word};

/// Options of the compression method.
#[derive(clap::Args)]
#[command(next_help_heading = "Compression")]
pub struct MethodArgs {
    #[arg(long, value_name = "losparse|itp|low-rank|movement|one-shot", value_parser = word::<Method>,
        help = "Compress by another method, to compare methods in the same training")]
    method: Option<Method>,
    #[arg(long, value_name = "SHARE", value_parser = share, help = shown(
        "Share of the layers' weights to keep, in low-rank and sparse part",
        MethodRecipe::default().ratio
    ))]
    ratio: Option<f64>,
    #[arg(long, value_name = "SHARE", value_parser = share, help = shown(
        "Share of the weights in the low-rank part, out of the ratio; 0: no low-rank part (ITP)",
        "three quarters of the ratio; if weights are approximated 0.05, or half of a ratio below 0.1"
    ))]
    low_rank_ratio: Option<f64>,
    /// Rank of the low-rank part, in place of --low-rank-ratio
    #[arg(long, value_name = "N", conflicts_with = "low_rank_ratio")]
    rank: Option<usize>,
    /// Target of low-rank parts at the start: the layers' outputs on training examples, or their weights
    /// [default: outputs; in a recipe weights, as published]
    #[arg(long, value_name = "outputs|weights", value_parser = word::<Approximate>)]
    approximate: Option<Approximate>,
    #[arg(long, value_name = "PATTERN", value_delimiter = ',', help = shown(
        "Layers to compress, by the end of their names; * and ** are wildcards, ! excludes; repeatable \
         (`losparse inspect --layers` shows matches)",
        MethodRecipe::default().layers.join(",")
    ))]
    layers: Option<Vec<String>>,
    #[arg(long, value_name = "CRITERION", value_parser = word::<Importance>,
        help = shown("Importance of a weight: sensitivity, magnitude, movement, snip-momentum or \
            random", default_word::<Importance>()))]
    importance: Option<Importance>,
    #[arg(long, value_name = "BETA", help = shown(
        "Smoothing of the importance (moving average)", "0.85, snip-momentum 0.9"
    ))]
    beta1: Option<f64>,
    #[arg(long, value_name = "BETA", help = shown(
        "Smoothing of the importance's uncertainty; 1: uncertainty is not used", MethodRecipe::default().beta2
    ))]
    beta2: Option<f64>,
    #[arg(long, value_name = "mean|sum|max|min", value_parser = word::<Reduction>,
        help = shown("How the scores of a neuron's weights are combined into one", default_word::<Reduction>()))]
    reduction: Option<Reduction>,
    #[arg(long, value_name = "neurons|inputs|unstructured", value_parser = word::<Structure>,
        help = shown("What is pruned together: neurons, inputs, or single weights", default_word::<Structure>()))]
    structure: Option<Structure>,
    #[arg(long, value_name = "allowed|frozen", value_parser = word::<Regrowth>,
        help = shown("Whether pruned neurons may come back during training", default_word::<Regrowth>()))]
    regrowth: Option<Regrowth>,
    /// Updates before pruning begins [default: 1/8 of all]
    #[arg(long, value_name = "N")]
    initial_warmup_steps: Option<usize>,
    /// Updates at the final ratio, after pruning has ended [default: 3/8 of all]
    #[arg(long, value_name = "N")]
    final_warmup_steps: Option<usize>,
    /// Updates between prunings [default: 10, fewer in short trainings]
    #[arg(long, value_name = "N")]
    interval: Option<usize>,
    #[arg(long, value_name = "cubic|linear|cosine|one-shot", value_parser = word::<Curve>,
        help = shown("How the kept share falls over the updates", default_word::<Curve>()))]
    curve: Option<Curve>,
    #[arg(long, value_name = "SHARE", value_parser = share, help = shown(
        "Keep at least this share of every layer's neurons, whatever their scores",
        MethodRecipe::default().min_kept
    ))]
    min_kept: Option<f64>,
    #[arg(long, value_name = "SHARE", value_parser = share, help = shown(
        "Keep at most this share of any layer's neurons", MethodRecipe::default().max_kept
    ))]
    max_kept: Option<f64>,
}

impl MethodArgs {
    /// Overrides the settings of `method` by the options that were given.
    ///
    /// # Errors
    /// If the method, named by an option or the recipe's own, is LoSparse and loses one of its
    /// parts.
    pub fn apply(&self, method: &mut MethodRecipe) -> losparse::Result<()> {
        let before = Method::of(method);
        // A share that is only the default of other settings, as runs save it, is the default of these.
        let open = MethodRecipe { low_rank_ratio: None, ..method.clone() };
        let by_default = method.low_rank_ratio == Some(open.low_rank_ratio());
        if by_default && (self.ratio.is_some() || self.approximate.is_some()) {
            method.low_rank_ratio = None;
        }
        if let Some(ratio) = self.ratio {
            method.ratio = ratio;
        }
        if let Some(named) = self.method {
            named.apply(method);
        }
        if self.low_rank_ratio.is_some() {
            method.rank = None;
        }
        override_settings!(self => &mut *method;
            ratio, approximate, layers, importance, beta2, reduction, structure, regrowth, curve, min_kept,
            max_kept;
            optional low_rank_ratio, rank, beta1, initial_warmup_steps, final_warmup_steps, interval);
        // A new ratio alone must not turn the recipe's method into another one unnoticed.
        let same = self.low_rank_ratio.is_none() && self.rank.is_none();
        match self.method {
            Some(named) => named.check(method),
            None if same && self.ratio.is_some_and(|ratio| ratio > 0.0) => before.check(method),
            None => Ok(()),
        }
    }
}
