//! Replays a run from dense weights to the last update, and compares each quantity.

use std::collections::{BTreeMap, BTreeSet};

use burn::module::{ModuleMapper, Param};
use burn::optim::{AdamWConfig, GradientsParams};
use burn::tensor::{Device, Tensor};
use losparse::decompose::{DecomposeConfig, Rank, decompose};
use losparse::linear::{CompressibleLinear, LayerSelection};
use losparse::models::{AnySeq2Seq, AnySequenceClassifier};
use losparse::pruning::{Pruner, PruningConfig, Reduction, Structure};

use super::compare::{Replay, absolute, largest, relative};
use super::run::{Replayed, Run, Step, Tensors, is_key_bias, own_name};

type Outcome = Result<(), Box<dyn std::error::Error>>;

/// Replays `run` on `device` and records every deviation.
///
/// # Errors
/// If the run cannot be replayed to its end.
pub fn replay(run: &Run, device: &Device, found: &mut Replay) -> Outcome {
    match run.encoder_decoder {
        true => replay_as::<AnySeq2Seq>(run, device, found),
        false => replay_as::<AnySequenceClassifier>(run, device, found),
    }
}

fn replay_as<M: Replayed>(run: &Run, device: &Device, found: &mut Replay) -> Outcome {
    decomposition::<M>(run, device, found)?;
    training::<M>(run, &device.clone().autodiff(), found)
}

/// Compares the SVD of the dense weights: `L·R` and `S`, since signs of singular vectors are
/// arbitrary.
fn decomposition<M: Replayed>(run: &Run, device: &Device, found: &mut Replay) -> Outcome {
    let model: M = run.initial(device)?;
    let selection = LayerSelection::new(run.trace.compressed_layers.clone());
    let rank = Rank::Budget(run.trace.method.low_rank_parameter_ratio);
    let (model, layers) = decompose(model, &selection, DecomposeConfig::new(rank))?;
    let decomposed: BTreeSet<&String> = layers.iter().map(|layer| &layer.name).collect();
    let listed: BTreeSet<&String> = run.trace.compressed_layers.iter().collect();
    found.note(
        "names",
        decomposed.symmetric_difference(&listed).count() as f64,
        "decomposed layers",
    );

    let (own, recorded) = (Replayed::tensors(&model)?, run.tensors("decomposed")?);
    for layer in layers {
        let name = layer.name;
        let (own_rank, own_product) = product(&own, &name);
        let (rank, product) = product(&recorded, &name);
        let another = own_rank != rank || layer.rank != rank;
        found.note("rank", f64::from(u8::from(another)), &name);
        found.note("L·R", relative(&own_product, &product), &name);
        let sparse = format!("{name}.sparse");
        found.note("S", relative(values(&own, &sparse)?, values(&recorded, &sparse)?), &sparse);
    }
    Ok(())
}

/// Rank and `L·R: [out, in]` of a layer; empty at rank 0.
fn product(tensors: &Tensors, layer: &str) -> (usize, Vec<f32>) {
    let part = |suffix: &str| tensors.get(&format!("{layer}.{suffix}"));
    let (Some((left_shape, left)), Some((right_shape, right))) = (part("left"), part("right"))
    else {
        return (0, Vec::new());
    };
    let (d_output, rank, d_input) = (left_shape[0], left_shape[1], right_shape[1]);
    let entry = |at: usize| -> f32 {
        let (row, column) = (at / d_input, at % d_input);
        let terms = (0..rank)
            .map(|k| f64::from(left[row * rank + k]) * f64::from(right[k * d_input + column]));
        terms.sum::<f64>() as f32
    };
    (rank, (0..d_output * d_input).map(entry).collect())
}

/// Replays all updates from the recorded decomposition, so that signs of singular vectors agree.
fn training<M: Replayed>(run: &Run, device: &Device, found: &mut Replay) -> Outcome {
    let trace = &run.trace;
    let config = trace.method.pruning()?;
    let settings = &trace.optimizer;
    if settings.name != "AdamW" {
        return Err(format!("trace.json: unknown optimizer `{}`", settings.name).into());
    }
    let mut optimizer = AdamWConfig::new()
        .with_beta_1(settings.betas[0])
        .with_beta_2(settings.betas[1])
        .with_epsilon(settings.eps)
        .with_weight_decay(settings.weight_decay)
        .init();
    let mut model: M = run.decomposed(device)?;
    let mut pruner = config.init(&model)?;
    let batches = run.open_tensors("batches")?;
    let observed = run.tensors("observed")?;

    for (t, step) in trace.steps.iter().enumerate() {
        let place = format!("step {t}");
        let batch = run.batch(&batches, &t.to_string(), device)?;
        let (logits, loss) = model.logits_and_loss(batch, &batches)?;
        let gradients = GradientsParams::from_grads(loss.backward(), &model);
        found.note("loss", loss_deviation(scalar(loss), step.loss), &place);
        if t == 0 {
            found.note("logits", relative(&logits, values(&observed, "logits.step0")?), &place);
            compare_gradients(&model, &gradients, &observed, found)?;
        }
        let done;
        (model, done) = pruner.optimize(model, &mut optimizer, step.lr, gradients)?;
        found.note("keep", done.keep_ratio - step.keep_ratio, &place);
        let threshold = match (done.threshold, step.mask_threshold) {
            (None, None) => 0.0,
            (Some(own), Some(recorded)) => (f64::from(own) - recorded) / recorded,
            _ => f64::INFINITY,
        };
        found.note("thresh", threshold, &place);
        // With columns or single entries pruned, every row keeps something.
        if config.structure == Structure::Neurons {
            compare_rows(&Pruner::kept(&model), step, &place, found);
        }
    }

    compare_weights(&Replayed::tensors(&model)?, &run.tensors("final")?, found)?;
    compare_importance(&model, &pruner, &observed, found)?;
    let model = model.valid();
    let device = &device.clone().without_autodiff();
    let batch = run.batch(&batches, "eval", device)?;
    let (logits, loss) = model.logits_and_loss(batch, &batches)?;
    found.note("e.logits", relative(&logits, values(&observed, "logits.eval")?), "eval");
    found.note("e.loss", loss_deviation(scalar(loss), trace.eval_loss), "eval");
    Ok(())
}

fn compare_gradients<M: Replayed>(
    model: &M,
    gradients: &GradientsParams,
    observed: &Tensors,
    found: &mut Replay,
) -> Outcome {
    // As a model, so that gradients get the names and orientation of their parameters.
    let own = model.clone().map(&mut ToGradients { gradients }).tensors()?;
    let recorded: BTreeMap<String, &Vec<f32>> = observed
        .iter()
        .filter_map(|(name, (_, values))| {
            Some((own_name(name.strip_prefix("grad.step0.")?), values))
        })
        .collect();
    for (name, recorded) in &recorded {
        let own = values(&own, name)?;
        match is_key_bias(name) {
            true => found.note("key grad", largest(own.iter().map(|g| f64::from(*g))), name),
            false => found.note("grads", relative(own, recorded), name),
        }
    }
    // A tensor without a recorded gradient is no parameter there, so it must have none here.
    for (name, (_, values)) in own.iter().filter(|(name, _)| !recorded.contains_key(*name)) {
        found.note("names", values.iter().filter(|g| **g != 0.0).count() as f64, name);
    }
    Ok(())
}

/// Replaces each parameter by its gradient, or by zeros without one.
struct ToGradients<'a> {
    gradients: &'a GradientsParams,
}

impl ModuleMapper for ToGradients<'_> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let gradient = self.gradients.get::<D>(param.id);
        let gradient = gradient.unwrap_or_else(|| param.val().inner().zeros_like());
        Param::initialized(param.id, gradient)
    }
}

fn compare_rows(
    kept: &[losparse::pruning::LayerKept],
    step: &Step,
    place: &str,
    found: &mut Replay,
) {
    let own: BTreeMap<&String, usize> = kept.iter().map(|l| (&l.name, l.kept)).collect();
    let recorded: BTreeMap<&String, usize> = step.kept_rows.iter().map(|(n, k)| (n, *k)).collect();
    let names: BTreeSet<&&String> = own.keys().chain(recorded.keys()).collect();
    let differ = names.iter().filter(|name| own.get(**name) != recorded.get(**name)).count();
    found.note("rows", differ as f64, place);
}

fn compare_weights(own: &Tensors, recorded: &Tensors, found: &mut Replay) -> Outcome {
    let extra = own.keys().filter(|name| !recorded.contains_key(*name)).count();
    found.note("names", extra as f64, "tensors that the recorded model has not");
    for (name, (_, recorded)) in recorded {
        let own = values(own, name)?;
        match is_key_bias(name) {
            true => found.note("key bias", absolute(own, recorded), name),
            false => found.note("weights", relative(own, recorded), name),
        }
        if name.ends_with(".sparse") {
            let differ = own.iter().zip(recorded).filter(|(a, b)| (**a == 0.0) != (**b == 0.0));
            found.note("zeros", differ.count() as f64, name);
        }
    }
    Ok(())
}

/// `Ī` is recorded for every entry, `[out, in]`; the library keeps it per neuron if that suffices.
fn compare_importance<M: Replayed>(
    model: &M,
    pruner: &Pruner,
    observed: &Tensors,
    found: &mut Replay,
) -> Outcome {
    let mut names = Vec::new();
    model.for_each_linear(&mut |name, linear| {
        if let CompressibleLinear::LowRankSparse(layer) = linear
            && layer.sparse.is_some()
        {
            names.push((name.to_string(), layer.dims()));
        }
    });
    found.note("names", names.len().abs_diff(pruner.importance().len()) as f64, "pruned layers");
    for ((layer, dims), state) in names.iter().zip(pruner.importance()) {
        let recorded = values(observed, &format!("importance.{layer}.sparse"))?;
        let smoothed = state.smoothed.val();
        let recorded = oriented(recorded, *dims, smoothed.dims(), pruner.config());
        let own: Vec<f32> = smoothed.into_data().iter::<f32>().collect();
        found.note("import.", relative(&own, &recorded), layer);
    }
    Ok(())
}

/// Recorded entries `[out, in]` in the shape of the library's state: `[in, out]`, `[1, out]` or
/// `[in, 1]`.
fn oriented(
    recorded: &[f32],
    [d_input, d_output]: [usize; 2],
    shape: [usize; 2],
    config: &PruningConfig,
) -> Vec<f32> {
    let (along_input, along_output) = (shape[0] == 1, shape[1] == 1);
    let mut sums = vec![0f64; shape[0] * shape[1]];
    for input in 0..d_input {
        for output in 0..d_output {
            let row = if along_input { 0 } else { input };
            let column = if along_output { 0 } else { output };
            sums[row * shape[1] + column] += f64::from(recorded[output * d_input + input]);
        }
    }
    let reduced = (d_input * d_output / sums.len()) as f64;
    let divisor = if config.reduction == Reduction::Sum { 1.0 } else { reduced };
    sums.into_iter().map(|sum| (sum / divisor) as f32).collect()
}

fn values<'a>(tensors: &'a Tensors, name: &str) -> Result<&'a [f32], String> {
    let tensor = tensors.get(name).ok_or_else(|| format!("there is no tensor `{name}`"))?;
    Ok(&tensor.1)
}

/// `|found − recorded| / max(1, |recorded|)`, since a large loss has no more digits than a small
/// one.
fn loss_deviation(found: f64, recorded: f64) -> f64 {
    (found - recorded) / recorded.abs().max(1.0)
}

fn scalar(loss: Tensor<1>) -> f64 {
    f64::from(loss.into_scalar::<f32>())
}
