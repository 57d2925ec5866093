//! Layers, ranks, updates and pruning schedule of a run, derived from its recipe, the shapes of the
//! model's layers and the number of examples. Runs and dry runs begin here; no weight is read.

use serde::Serialize;

use crate::decompose::{Calibration, DecomposeConfig, Decomposed, RankedLayer};
use crate::decompose::{decompose_for_inputs, decompose_shapes, ranked_layers};
use crate::inspect::SIZE_TOLERANCE;
use crate::linear::Compressible;
use crate::pruning::PruningConfig;
use crate::train::recipe::Compressed;
use crate::train::{Approximate, MethodRecipe, Recipe, Segments};
use crate::{Error, Result};

/// Layers, updates and pruning schedule of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct Outline {
    /// Layers matched by each pattern; empty in plain fine-tuning.
    pub patterns: Vec<PlannedPattern>,
    /// Layers to compress, in the model's order.
    pub layers: Vec<RankedLayer>,
    /// How the training is cut into updates.
    pub segments: Segments,
    /// Largest learning rate.
    pub learning_rate: f64,
    /// Settings of the pruner; absent without a sparse part.
    pub pruning: Option<PruningConfig>,
}

/// A pattern and the number of layers it matches.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PlannedPattern {
    /// The pattern.
    pub pattern: String,
    /// Number of layers.
    pub layers: usize,
}

/// Derives what a run of `recipe` does with `model`, not yet decomposed, and a number of training
/// examples (for question answering: windows).
///
/// # Errors
/// If a pattern matches nothing, or rank, ratio, batches or schedule are impossible.
pub fn outline<M: Compressible>(recipe: &Recipe, model: &M, examples: usize) -> Result<Outline> {
    let training = &recipe.training;
    let segments = training.segments(examples)?;
    if let Some(warmup) = training.lr_warmup_steps.filter(|steps| *steps > segments.total_steps) {
        let message =
            format!("{warmup} updates are more than the training's {}", segments.total_steps);
        return Err(Error::option("lr_warmup_steps", message));
    }
    let Some(method) = &recipe.method else {
        return Ok(Outline {
            patterns: Vec::new(),
            layers: Vec::new(),
            segments,
            learning_rate: training.learning_rate(None),
            pruning: None,
        });
    };
    let matches = method.selection().dry_run(model)?;
    let patterns = matches
        .into_iter()
        .map(|m| PlannedPattern { pattern: m.pattern, layers: m.layers.len() })
        .collect();
    let layers = |sparse| ranked_layers(model, &method.selection(), decomposition(method, sparse));
    let keep = keep_ratio(method, &layers(true)?)?;
    // Without a sparse part, a layer of rank 0 would be empty.
    let layers = layers(keep.is_some())?;
    let pruning = keep.map(|keep| PruningConfig {
        seed: training.seed,
        ..method.pruning(segments.total_steps, keep)
    });
    if let Some(config) = &pruning {
        method.check_length(&config.schedule, segments.epochs)?;
        config.validate()?;
    }
    let widths = layers.iter().map(|layer| layer.d_input.min(layer.d_output));
    // A model that is its own teacher is fine-tuned, or will be first.
    let tuned = recipe.teaching().is_some_and(|teaching| teaching.teacher.is_none());
    let compressed = widths.max().map(|width| Compressed { width, tuned });
    let learning_rate = training.learning_rate(compressed);
    Ok(Outline { patterns, layers, segments, learning_rate, pruning })
}

/// Decomposes the layers of `model` that the recipe selects, for the inputs that `calibration` has seen.
/// Without it they only get their shape, for a checkpoint to fill. Returns the layers and the settings of
/// the pruner.
///
/// # Errors
/// As [`outline`], and if an SVD fails.
pub(super) fn decompose_selected<M: Compressible>(
    model: M,
    recipe: &Recipe,
    examples: usize,
    calibration: Option<&Calibration>,
) -> Result<(M, Vec<Decomposed>, Option<PruningConfig>)> {
    let Some(method) = &recipe.method else { return Ok((model, Vec::new(), None)) };
    let pruning = outline(recipe, &model, examples)?.pruning;
    let config = decomposition(method, pruning.is_some());
    let selection = method.selection();
    let (model, done) = match calibration {
        Some(calibration) => decompose_for_inputs(model, &selection, config, calibration)?,
        None => decompose_shapes(model, &selection, config)?,
    };
    Ok((model, done, pruning))
}

/// How layers are decomposed, with a sparse part or without.
fn decomposition(method: &MethodRecipe, sparse: bool) -> DecomposeConfig {
    DecomposeConfig { rank: method.rank(), sparse }
}

/// Share of `S` to keep, so that the low-rank part and `S` together have the ratio; `None` if the
/// low-rank part alone has it. Where rounding ranks up adds much, in small layers, less of `S` is kept.
fn keep_ratio(method: &MethodRecipe, layers: &[RankedLayer]) -> Result<Option<f64>> {
    let dense: usize = layers.iter().map(|l| l.d_input * l.d_output).sum();
    let low_rank: usize = layers.iter().map(|l| l.rank * (l.d_input + l.d_output)).sum();
    let low_rank = low_rank as f64 / dense.max(1) as f64;
    let share = match method.rank {
        None => method.low_rank_ratio(),
        Some(_) => low_rank,
    };
    let keep = method.ratio - share;
    if keep < -1e-9 {
        return Err(Error::option(
            "rank",
            format!(
                "its low-rank part alone is {share:.3} of the weights, above the ratio {}",
                method.ratio
            ),
        ));
    }
    let sparse = keep > 1e-9;
    let most = SIZE_TOLERANCE * method.ratio;
    if low_rank >= most {
        let message = format!(
            "{} is less than low-rank parts of these layers take, {:.1}% of the weights{}; ask for more",
            method.ratio,
            100.0 * low_rank,
            if sparse { ", with nothing left for the sparse part" } else { "" },
        );
        return Err(Error::option("ratio", message));
    }
    // Ranks that keep outputs are rounded down: neurons have the rest.
    let rest = match (method.rank, method.approximate) {
        (None, Approximate::Outputs) => method.ratio - low_rank,
        _ => keep,
    };
    Ok(sparse.then(|| keep.max(rest).min(most - low_rank)))
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;
    use crate::models::bert::{BertConfig, BertForSequenceClassification};
    use crate::pruning::Importance;
    use crate::train::TrainingRecipe;

    fn config() -> BertConfig {
        BertConfig {
            vocab_size: 16,
            hidden_size: 16,
            num_hidden_layers: 1,
            num_attention_heads: 2,
            intermediate_size: 64,
            max_position_embeddings: 16,
            ..BertConfig::default()
        }
    }

    fn of(method: MethodRecipe) -> Result<Outline> {
        let model = BertForSequenceClassification::new(&config(), &Device::default());
        let recipe = Recipe { method: Some(method), ..Recipe::default() };
        outline(&recipe, &model, 200)
    }

    #[test]
    fn a_training_too_short_to_prune_in_names_its_epochs() {
        let recipe = Recipe { method: Some(MethodRecipe::default()), ..Recipe::default() };
        let training = TrainingRecipe { epochs: Some(1), ..TrainingRecipe::default() };
        let recipe = Recipe { training, ..recipe };
        let model = BertForSequenceClassification::new(&config(), &Device::default());
        let error = outline(&recipe, &model, 33).unwrap_err().to_string();
        assert!(
            error.starts_with("option epochs: 1 epoch of this data: only 2 updates"),
            "{error}"
        );
        assert_eq!(outline(&recipe, &model, 65).unwrap().pruning.unwrap().schedule.interval, 1);
    }

    #[test]
    fn a_rate_that_would_rise_beyond_the_end_is_refused() {
        let training =
            TrainingRecipe { lr_warmup_steps: Some(106), epochs: Some(15), ..Default::default() };
        let recipe = Recipe { training, ..Recipe::default() };
        let model = BertForSequenceClassification::new(&config(), &Device::default());
        let error = outline(&recipe, &model, 200).unwrap_err().to_string();
        assert!(error.starts_with("option lr_warmup_steps: 106 updates are more"), "{error}");
    }

    #[test]
    fn a_rank_counts_towards_the_ratio() {
        let fixed = MethodRecipe { ratio: 0.5, rank: Some(2), ..MethodRecipe::default() };
        let outline = of(fixed.clone()).unwrap();
        assert!(outline.layers.iter().all(|layer| layer.rank == 2) && outline.layers.len() == 6);
        // 2·(4·32 + 2·80) of 4·256 + 2·1024 weights.
        let keep = outline.pruning.unwrap().schedule.final_keep_ratio;
        assert!((keep - (0.5 - 576.0 / 3072.0)).abs() < 1e-12, "{keep}");
        // 15 epochs of 7 updates.
        assert_eq!((outline.segments.total_steps, outline.learning_rate), (105, 2e-4));
        let error = of(MethodRecipe { ratio: 0.1, ..fixed }).unwrap_err().to_string();
        assert!(error.starts_with("option rank: its low-rank part alone is 0.188"), "{error}");
    }

    /// 1 of 16 × 16 is 12.5% of its weights, and of 16 × 64 7.8%.
    #[test]
    fn ranks_that_keep_outputs_are_within_the_ratio_and_neurons_have_the_rest() {
        let method = MethodRecipe {
            ratio: 0.2,
            approximate: Approximate::Outputs,
            ..MethodRecipe::default()
        };
        let outline = of(method.clone()).unwrap();
        let ranks: Vec<usize> = outline.layers.iter().map(|layer| layer.rank).collect();
        assert_eq!(ranks, [1, 1, 1, 1, 1, 1]);
        let keep = outline.pruning.unwrap().schedule.final_keep_ratio;
        assert!((keep - (0.2 - (4.0 * 32.0 + 2.0 * 80.0) / 3072.0)).abs() < 1e-12, "{keep}");
        let alone = MethodRecipe { low_rank_ratio: Some(0.2), ..method };
        assert_eq!(of(alone).unwrap().pruning, None);
    }

    #[test]
    fn what_cannot_be_is_said_before_anything_is_computed() {
        let alone =
            |ratio| MethodRecipe { ratio, low_rank_ratio: Some(ratio), ..Default::default() };
        assert_eq!(of(alone(0.375)).unwrap().pruning, None);
        // Ranks that are rounded up come to 29% of these small matrices.
        let error = of(alone(0.25)).unwrap_err().to_string();
        assert!(error.starts_with("option ratio: 0.25 is less than low-rank parts"), "{error}");
        let error = |method| of(method).unwrap_err().to_string();
        let nothing = MethodRecipe { rank: Some(0), ratio: 1e-10, ..MethodRecipe::default() };
        assert!(error(nothing).contains("would be empty"));
        let long = MethodRecipe { final_warmup_steps: Some(105), ..MethodRecipe::default() };
        assert!(error(long).starts_with("option final_warmup_steps: the schedule is longer than"));
        let early = MethodRecipe { initial_warmup_steps: Some(70), ..MethodRecipe::default() };
        assert!(error(early).starts_with("option initial_warmup_steps: the schedule is longer"));
        let rare = MethodRecipe { interval: Some(70), ..MethodRecipe::default() };
        assert!(error(rare).starts_with("option interval: no importance is known"));
        let by_size = MethodRecipe {
            interval: Some(70),
            importance: Importance::Magnitude,
            ..MethodRecipe::default()
        };
        of(by_size).unwrap();
        let nowhere = MethodRecipe { layers: vec!["decoder.*".into()], ..MethodRecipe::default() };
        assert!(error(nowhere).contains("matches no layer"));
    }
}
