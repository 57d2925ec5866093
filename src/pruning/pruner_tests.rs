//! The pruner step by step: against the method written out entry by entry, and at its edges.

use burn::module::Module;
use burn::optim::{GradientsParams, ModuleOptimizer, SgdConfig};
use burn::tensor::{Device, Tensor, TensorData};

use super::pruner_reference::Reference;
use super::{
    Curve, Importance, PruneStep, Pruner, PruningConfig, Reduction, Regrowth, Schedule, Structure,
};
use crate::linear::{Compressible, CompressibleLinear, LowRankSparseLinear, leaf, to_vec};

const LR: f64 = 0.5;
/// `[d_input, d_output]` of the layers.
pub(super) const SHAPES: [[usize; 2]; 2] = [[6, 8], [8, 5]];

#[derive(Module, Debug)]
pub(super) struct Mlp {
    pub(super) up: CompressibleLinear,
    pub(super) down: CompressibleLinear,
}

crate::compressible!(Mlp { up, down });

/// Numbers in `(-1, 1)`, other ones for every seed.
fn numbers(count: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0xD1B5_4A32_D192_ED03;
    let mut next = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

fn weights(seed: u64) -> Vec<Vec<f32>> {
    let layers = SHAPES.iter().enumerate();
    layers.map(|(i, [a, b])| numbers(a * b, seed * 1000 + i as u64)).collect()
}

pub(super) fn gradients(seed: u64, step: usize) -> Vec<Vec<f32>> {
    weights(seed * 100 + step as u64 + 7)
}

pub(super) fn model(seed: u64) -> Mlp {
    let device = Device::default().autodiff();
    let mut layers = weights(seed).into_iter().zip(SHAPES).map(|(values, shape)| {
        CompressibleLinear::LowRankSparse(LowRankSparseLinear::new(
            None,
            Some(leaf(Tensor::from_data(TensorData::new(values, shape), &device))),
            None,
        ))
    });
    Mlp { up: layers.next().unwrap(), down: layers.next().unwrap() }
}

pub(super) fn schedule(interval: usize) -> Schedule {
    Schedule {
        initial_keep_ratio: 1.0,
        final_keep_ratio: 0.3,
        initial_warmup_steps: 3,
        final_warmup_steps: 5,
        total_steps: 20,
        interval,
        curve: Curve::Cubic,
    }
}

pub(super) fn config() -> PruningConfig {
    PruningConfig::new(schedule(4))
}

/// `S` of every layer.
pub(super) fn sparse(model: &Mlp) -> Vec<Vec<f32>> {
    let mut values = Vec::new();
    model.for_each_linear(&mut |_, linear| values.push(to_vec(linear.effective_weight())));
    values
}

pub(super) fn optimizer() -> ModuleOptimizer {
    SgdConfig::new().init()
}

/// One update with the given gradients of `S`; `None`: the layer has no gradient.
pub(super) fn update(
    pruner: &mut Pruner,
    model: Mlp,
    optimizer: &mut ModuleOptimizer,
    values: &[Option<Vec<f32>>],
) -> crate::Result<(Mlp, PruneStep)> {
    let mut gradients = GradientsParams::new();
    let mut at = 0;
    model.for_each_linear(&mut |_, linear| {
        let CompressibleLinear::LowRankSparse(layer) = linear else { panic!("not decomposed") };
        if let Some(values) = values[at].clone() {
            let data = TensorData::new(values, SHAPES[at]);
            let gradient: Tensor<2> = Tensor::from_data(data, &Device::default());
            gradients.register(layer.sparse.as_ref().unwrap().id, gradient);
        }
        at += 1;
    });
    pruner.optimize(model, optimizer, LR, gradients)
}

pub(super) fn step(pruner: &mut Pruner, model: Mlp, seed: u64) -> (Mlp, PruneStep) {
    let values: Vec<_> = gradients(seed, pruner.step()).into_iter().map(Some).collect();
    update(pruner, model, &mut optimizer(), &values).unwrap()
}

fn zeros(layers: &[Vec<f32>]) -> Vec<Vec<bool>> {
    layers.iter().map(|layer| layer.iter().map(|s| *s == 0.0).collect()).collect()
}

pub(super) fn assert_close(found: &[f32], expected: impl IntoIterator<Item = f64>, what: &str) {
    let expected: Vec<f64> = expected.into_iter().collect();
    assert_eq!(found.len(), expected.len(), "{what}");
    for (at, (a, b)) in found.iter().zip(expected).enumerate() {
        let bound = 2e-6 * b.abs().max(1.0);
        assert!((f64::from(*a) - b).abs() <= bound, "{what}[{at}]: {a}, expected {b}");
    }
}

/// Settings in all combinations.
fn all_settings() -> Vec<PruningConfig> {
    let mut all = Vec::new();
    for structure in [Structure::Neurons, Structure::Inputs, Structure::Unstructured] {
        for reduction in [Reduction::Mean, Reduction::Sum, Reduction::Max, Reduction::Min] {
            for (importance, beta2) in [
                (Importance::Sensitivity, 1.0),
                (Importance::Sensitivity, 0.95),
                (Importance::Magnitude, 1.0),
                (Importance::Movement, 1.0),
                (Importance::SnipMomentum, 1.0),
            ] {
                for regrowth in [Regrowth::Allowed, Regrowth::Frozen] {
                    let settings = config();
                    all.push(PruningConfig {
                        structure,
                        reduction,
                        importance,
                        beta2,
                        regrowth,
                        ..settings
                    });
                }
            }
        }
    }
    all
}

#[test]
fn every_setting_does_what_the_method_says_entry_by_entry() {
    for (seed, config) in all_settings().into_iter().enumerate() {
        let seed = seed as u64;
        let mut model = model(seed);
        let mut pruner = config.init(&model).unwrap();
        let mut reference = Reference::new(config, &SHAPES, weights(seed));
        let mut prunings = 0;
        for t in 0..config.schedule.total_steps {
            let expected = reference.step(&gradients(seed, t), LR as f32);
            let done;
            (model, done) = step(&mut pruner, model, seed);
            let place = format!("{config:?}, step {t}");
            match (done.threshold, expected) {
                (None, None) => {}
                (Some(found), Some(expected)) => {
                    prunings += 1;
                    assert_close(&[found], [expected], &place);
                }
                (found, expected) => panic!("{place}: threshold {found:?}, expected {expected:?}"),
            }
            let found = sparse(&model);
            assert_eq!(zeros(&found), zeros(&reference.sparse), "{place}");
            for (found, expected) in found.iter().zip(&reference.sparse) {
                assert_close(found, expected.iter().map(|s| f64::from(*s)), &place);
            }
        }
        // Steps 4, 8, 12 and the last four.
        assert_eq!(prunings, 7, "{config:?}");
        for (layer, expected) in pruner.importance().iter().zip(reference.smoothed_scores()) {
            assert_close(&to_vec(layer.smoothed.val()), expected, &format!("{config:?}"));
        }
    }
}

/// Runs all steps with gradients of `seed`; which neurons ended pruned, and the thresholds.
fn trained(config: PruningConfig, seed: u64) -> (Vec<Vec<bool>>, Vec<Option<f32>>) {
    let mut model = model(seed);
    let mut pruner = config.init(&model).unwrap();
    let mut thresholds = Vec::new();
    for _ in 0..config.schedule.total_steps {
        let done;
        (model, done) = step(&mut pruner, model, seed);
        thresholds.push(done.threshold);
    }
    (zeros(&sparse(&model)), thresholds)
}

#[test]
fn random_importance_depends_on_its_seed_alone() {
    let random = |seed| PruningConfig { importance: Importance::Random, seed, ..config() };
    let (a, thresholds) = trained(random(1), 5);
    assert_eq!(a, trained(random(1), 6).0, "other weights and gradients, same neurons");
    assert_ne!(a, trained(random(2), 5).0);
    let last = thresholds[19];
    assert!(last.is_some() && thresholds[17..].iter().all(|t| *t == last), "drawn once");
    let pruned: usize = a.iter().flatten().filter(|zero| **zero).count();
    assert!((48..=61).contains(&pruned), "{pruned} of 88 entries for 70%");
}

#[test]
fn one_shot_pruning_keeps_to_its_one_choice() {
    let schedule = Schedule { curve: Curve::OneShot, ..schedule(4) };
    let config = PruningConfig {
        schedule,
        importance: Importance::Magnitude,
        regrowth: Regrowth::Frozen,
        ..config()
    };
    let mut model = model(3);
    let mut pruner = config.init(&model).unwrap();
    let mut chosen = Vec::new();
    for t in 0..20 {
        (model, _) = step(&mut pruner, model, 3);
        let pruned = zeros(&sparse(&model));
        match t {
            0..=3 => assert!(pruned.iter().flatten().all(|zero| !zero), "step {t}"),
            4 => chosen = pruned,
            _ => assert_eq!(pruned, chosen, "step {t}"),
        }
    }
    assert!(chosen.iter().flatten().any(|zero| *zero));
}

/// With mean or sum and `β₂ = 1` the reduction commutes with the averages.
#[test]
fn state_per_entry_and_per_neuron_prune_the_same() {
    for seed in 0..8 {
        for structure in [Structure::Neurons, Structure::Inputs] {
            for reduction in [Reduction::Mean, Reduction::Sum] {
                let interval = 2 + seed as usize % 4;
                let neurons = PruningConfig {
                    structure,
                    reduction,
                    ..PruningConfig::new(schedule(interval))
                };
                let entries = PruningConfig { per_entry: true, ..neurons };
                assert!(entries.needs_entries() && !neurons.needs_entries());
                let (mut a, mut b) = (model(seed), model(seed));
                let mut by_neuron = neurons.init(&a).unwrap();
                let mut by_entry = entries.init(&b).unwrap();
                for t in 0..20 {
                    let (done_a, done_b);
                    (a, done_a) = step(&mut by_neuron, a, seed);
                    (b, done_b) = step(&mut by_entry, b, seed);
                    let place = format!("{neurons:?}, seed {seed}, step {t}");
                    assert_eq!(sparse(&a), sparse(&b), "{place}");
                    assert_eq!(done_a.threshold.is_some(), done_b.threshold.is_some(), "{place}");
                    if let (Some(a), Some(b)) = (done_a.threshold, done_b.threshold) {
                        assert_close(&[a], [f64::from(b)], &place);
                    }
                }
                for (a, b) in by_neuron.importance().iter().zip(by_entry.importance()) {
                    let dim = usize::from(structure == Structure::Inputs);
                    let entries = b.smoothed.val();
                    let reduced = match reduction {
                        Reduction::Sum => entries.sum_dim(dim),
                        _ => entries.mean_dim(dim),
                    };
                    let reduced = to_vec(reduced).into_iter().map(f64::from);
                    assert_close(&to_vec(a.smoothed.val()), reduced, &format!("{neurons:?}"));
                }
            }
        }
    }
}

#[test]
fn keep_ratio_0_prunes_everything_and_1_nothing() {
    for (final_keep_ratio, share) in [(0.0, 0), (1.0, 1)] {
        for structure in [Structure::Neurons, Structure::Inputs, Structure::Unstructured] {
            let schedule = Schedule { final_keep_ratio, ..schedule(4) };
            let config = PruningConfig { structure, ..PruningConfig::new(schedule) };
            let mut model = model(5);
            let mut pruner = config.init(&model).unwrap();
            for _ in 0..20 {
                (model, _) = step(&mut pruner, model, 5);
            }
            let kept = Pruner::kept(&model);
            let names: Vec<&str> = kept.iter().map(|l| l.name.as_str()).collect();
            assert_eq!(names, ["up", "down"]);
            assert!(kept.iter().all(|l| l.kept == l.neurons * share), "{kept:?}");
            let entries = sparse(&model).into_iter().flatten();
            assert!(entries.into_iter().all(|s| (s != 0.0) == (share == 1)));
        }
    }
}

#[test]
fn what_is_pruned_comes_back_unless_it_is_frozen() {
    for structure in [Structure::Neurons, Structure::Inputs, Structure::Unstructured] {
        for regrowth in [Regrowth::Allowed, Regrowth::Frozen] {
            let config = PruningConfig { structure, regrowth, ..config() };
            let mut model = model(6);
            let mut pruner = config.init(&model).unwrap();
            let mut was_zero = zeros(&sparse(&model));
            let mut returned = 0;
            for _ in 0..20 {
                (model, _) = step(&mut pruner, model, 6);
                let is_zero = zeros(&sparse(&model));
                let pairs = was_zero.iter().flatten().zip(is_zero.iter().flatten());
                returned += pairs.filter(|(was, is)| **was && !**is).count();
                was_zero = is_zero;
            }
            assert!(was_zero.iter().flatten().any(|zero| *zero));
            assert_eq!(returned > 0, regrowth == Regrowth::Allowed, "{structure:?} {regrowth:?}");
        }
    }
}

#[test]
fn a_pruner_that_could_never_prune_is_refused() {
    let refused = |schedule: Schedule| PruningConfig::new(schedule).init(&model(1));
    let short = Schedule { interval: 10, ..Schedule::new(0.3, 6) };
    let error = refused(short).unwrap_err().to_string();
    assert!(error.starts_with("option interval: no importance is known"), "{error}");
    // Its default prunes to the ratio in as few steps.
    let schedule = Schedule::new(0.3, 6);
    let mut pruner = refused(schedule).unwrap();
    let (mut model, mut optimizer) = (model(1), optimizer());
    let mut kept = None;
    for step in 0..6 {
        let values: Vec<_> = gradients(1, step).into_iter().map(Some).collect();
        let done;
        (model, done) = update(&mut pruner, model, &mut optimizer, &values).unwrap();
        assert_eq!(done.kept.is_some(), schedule.prunes(step), "{step}");
        kept = done.kept.or(kept);
    }
    let left = sparse(&model).concat();
    let left = left.iter().filter(|value| **value != 0.0).count() as f64 / left.len() as f64;
    assert_eq!(kept, Some(left), "counted as it is");
    // 88 entries; the neuron at the threshold, of 8 at most, stays.
    assert!((0.3..0.3 + 8.0 / 88.0).contains(&left), "{left}");
}
