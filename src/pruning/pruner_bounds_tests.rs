//! Floors and caps of what each layer keeps, step by step.

use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};

use super::pruner_tests::{SHAPES, config, model, optimizer, schedule, update};
use super::selection::prune_count;
use super::{Curve, Importance, Pruner, PruningConfig, Regrowth, Schedule, cap_at};
use crate::linear::{Compressible, CompressibleLinear, LinearVisitor, LowRankSparseLinear, leaf};

#[test]
fn a_floor_and_a_cap_bound_what_each_layer_keeps() {
    let kept = |config: PruningConfig| -> Vec<usize> {
        let mut model = model(2);
        // The second layer's weights say little: alone by magnitude it would lose everything.
        model.down = match model.down {
            CompressibleLinear::LowRankSparse(mut layer) => {
                layer.sparse = layer.sparse.map(|s| leaf(s.val().detach() * 0.01));
                CompressibleLinear::LowRankSparse(layer)
            }
            other => other,
        };
        let mut pruner = config.init(&model).unwrap();
        for t in 0..20 {
            let still = SHAPES.map(|[a, b]| Some(vec![0.0; a * b])).to_vec();
            (model, _) = update(&mut pruner, model, &mut optimizer(), &still).unwrap();
            assert_eq!(pruner.step(), t + 1);
        }
        Pruner::kept(&model).iter().map(|layer| layer.kept).collect()
    };
    let magnitude = PruningConfig { importance: Importance::Magnitude, ..config() };
    let [up, down] = kept(magnitude)[..] else { panic!() };
    assert!(up >= 4 && down == 0, "{up}, {down}");
    let [up, down] = kept(PruningConfig { min_kept: 0.3, ..magnitude })[..] else { panic!() };
    assert!(up >= 2 && down == 2, "{up}, {down}: 0.3 of 5 neurons are 2");
    let [up, _] = kept(PruningConfig { max_kept: 0.4, ..magnitude })[..] else { panic!() };
    assert_eq!(up, 3, "0.4 of 8 neurons are 3");
}

#[test]
fn a_floor_or_cap_that_cannot_be_met_is_an_error() {
    let error = |config: PruningConfig| config.validate().unwrap_err().to_string();
    assert!(error(PruningConfig { min_kept: 0.4, ..config() }).contains("min_kept"));
    assert!(error(PruningConfig { max_kept: 0.2, ..config() }).contains("max_kept"));
    assert!(error(PruningConfig { min_kept: f64::NAN, ..config() }).contains("min_kept"));
}

/// Two layers of 100 neurons with 8 inputs each; the second's weights are a hundredth of the first's.
#[derive(Module, Debug)]
struct Wide {
    large: CompressibleLinear,
    small: CompressibleLinear,
}

impl Compressible for Wide {
    fn for_each_linear_mut(&mut self, f: LinearVisitor<'_>) {
        f("large", &mut self.large);
        f("small", &mut self.small);
    }
}

fn wide() -> Wide {
    let layer = |scale: f32| {
        // No two neurons alike.
        let value = |at: usize| scale * (1.0 + (at % 100 * 37 % 101) as f32);
        let values: Vec<f32> = (0..800).map(value).collect();
        let data = TensorData::new(values, [8, 100]);
        CompressibleLinear::LowRankSparse(LowRankSparseLinear::new(
            None,
            Some(leaf(Tensor::from_data(data, &Device::default().autodiff()))),
            None,
        ))
    };
    Wide { large: layer(1.0), small: layer(0.01) }
}

/// Neurons kept in both layers after each step, by magnitude; `None` where the step did not prune.
fn kept_by_step(config: PruningConfig) -> Vec<Option<[usize; 2]>> {
    let config = PruningConfig { importance: Importance::Magnitude, ..config };
    let mut model = wide();
    let mut pruner = config.init(&model).unwrap();
    let steps = (0..config.schedule.total_steps).map(|_| {
        let done = pruner.update(&mut model, &[]);
        let kept: Vec<usize> = Pruner::kept(&model).iter().map(|layer| layer.kept).collect();
        done.threshold.map(|_| [kept[0], kept[1]])
    });
    steps.collect()
}

#[test]
fn a_cap_is_kept_to_at_every_step_and_nothing_falls_off_a_cliff() {
    for curve in [Curve::Cubic, Curve::Linear, Curve::Cosine, Curve::OneShot] {
        for (max_kept, regrowth) in
            [(0.3, Regrowth::Allowed), (0.4, Regrowth::Allowed), (0.4, Regrowth::Frozen)]
        {
            let schedule = Schedule { curve, interval: 1, ..schedule(1) };
            let config = PruningConfig { max_kept, regrowth, ..PruningConfig::new(schedule) };
            let mut prunings = 0;
            for (t, kept) in kept_by_step(config).into_iter().enumerate() {
                let Some([large, small]) = kept else { continue };
                prunings += 1;
                let place = format!("{config:?}, step {t}: {large}, {small}");
                let keep = schedule.keep_ratio(t);
                let cap = (100.0 * cap_at(keep, 0.3, max_kept) + 1e-6).floor() as usize;
                assert_eq!(large, cap, "{place}");
                // The second layer keeps the rest of the kept neurons; the boundary neuron survives.
                let pruned = prune_count(1600, keep).div_ceil(8) - 1;
                assert_eq!(small, (200 - pruned - cap).min(cap), "{place}");
            }
            assert!(prunings >= 16, "{config:?}: {prunings}");
        }
    }
}

#[test]
fn a_cap_at_the_ratio_itself_keeps_that_of_every_layer() {
    for keep in [0.1, 0.3, 0.7] {
        let schedule = Schedule { final_keep_ratio: keep, ..schedule(4) };
        let config =
            PruningConfig { min_kept: keep, max_kept: keep, ..PruningConfig::new(schedule) };
        config.validate().unwrap();
        let share = (100.0 * keep).round() as usize;
        for max_only in [config, PruningConfig { min_kept: 0.0, ..config }] {
            assert_eq!(kept_by_step(max_only)[19], Some([share, share]), "{max_only:?}");
        }
    }
}
