//! A pruner that goes on from a record.

use burn::module::Module;

use super::pruner_skipped_tests::skipped;
use super::pruner_tests::{config, model, sparse, step};
use super::{LayerImportance, PruningConfig, Regrowth};
use crate::linear::to_vec;

/// Values of everything that a layer's importance remembers.
fn state(layer: &LayerImportance) -> Vec<Vec<f32>> {
    let mut state = vec![to_vec(layer.window.val()), to_vec(layer.smoothed.val())];
    state.extend(layer.uncertainty.iter().map(|uncertainty| to_vec(uncertainty.val())));
    state.extend(layer.mask.iter().map(|mask| to_vec(mask.param().val())));
    state
}

#[test]
fn a_pruner_from_a_record_goes_on_exactly() {
    for (beta2, regrowth) in [(1.0, Regrowth::Allowed), (0.9, Regrowth::Frozen)] {
        let config = PruningConfig { beta2, regrowth, ..config() };
        let mut original = model(7);
        let mut pruner = config.init(&original).unwrap();
        // To the middle of a window, one update of it skipped.
        for _ in 0..9 {
            (original, _) = step(&mut pruner, original, 7);
        }
        (original, _) = skipped(&mut pruner, original).unwrap();

        let mut resumed = original.clone();
        let mut loaded = config.init(&resumed).unwrap();
        // Counters were read before the record came.
        assert_eq!(loaded.step(), 0);
        loaded = loaded.try_load_record(pruner.clone().into_record()).unwrap();
        assert_eq!((loaded.step(), loaded.skipped()), (10, 1));
        for _ in 10..20 {
            let (done, again);
            (original, done) = step(&mut pruner, original, 7);
            (resumed, again) = step(&mut loaded, resumed, 7);
            assert_eq!(done, again);
            assert_eq!(sparse(&original), sparse(&resumed));
        }
        for (a, b) in pruner.importance().iter().zip(loaded.importance()) {
            assert_eq!(state(a), state(b));
        }
    }
}

/// As Burn's learner loads it.
#[test]
fn a_fresh_pruner_has_the_step_of_the_record_loaded_into_it() {
    let mut original = model(8);
    let mut pruner = config().init(&original).unwrap();
    for _ in 0..6 {
        (original, _) = step(&mut pruner, original, 8);
    }
    let fresh = config().init(&original).unwrap();
    let loaded = fresh.try_load_record(pruner.into_record()).unwrap();
    assert_eq!(loaded.step(), 6);
}
