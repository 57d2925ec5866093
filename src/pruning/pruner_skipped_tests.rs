//! Updates whose gradient is missing or not finite.

use super::pruner_tests::{
    Mlp, SHAPES, assert_close, config, gradients, model, optimizer, sparse, step, update,
};
use super::{PruneStep, Pruner, PruningConfig};
use crate::Error;
use crate::linear::to_vec;

/// One update with a gradient that is not finite.
pub(super) fn skipped(pruner: &mut Pruner, model: Mlp) -> crate::Result<(Mlp, PruneStep)> {
    let mut values: Vec<_> = gradients(1, pruner.step()).into_iter().map(Some).collect();
    values[1].as_mut().unwrap()[3] = f32::NAN;
    update(pruner, model, &mut optimizer(), &values)
}

#[test]
fn a_gradient_that_is_not_finite_skips_the_update_and_closes_the_window() {
    let config = PruningConfig { per_entry: true, ..config() };
    let mut model = model(1);
    let mut pruner = config.init(&model).unwrap();
    let mut mean = vec![0f64; SHAPES[0][0] * SHAPES[0][1]];
    for t in 0..4 {
        (model, _) = step(&mut pruner, model, 1);
        let entries = sparse(&model)[0].clone().into_iter().zip(gradients(1, t)[0].clone());
        mean.iter_mut().zip(entries).for_each(|(m, (s, g))| *m += f64::from((s * g).abs()) / 4.0);
    }
    // Step 4 ends the window of the four before it.
    let before = sparse(&model);
    let (model, done) = skipped(&mut pruner, model).unwrap();
    assert!(done.skipped && done.step == 4 && done.threshold.is_none());
    assert!(!done.gradient_norm.is_finite());
    assert_eq!(sparse(&model), before, "nothing was updated or pruned");
    assert_eq!((pruner.step(), pruner.skipped()), (5, 1));
    let closed = mean.iter().map(|m| m * 0.15);
    assert_close(&to_vec(pruner.importance()[0].smoothed.val()), closed, "smoothed");

    // The next window has the valid samples only.
    let (model, done) = step(&mut pruner, model, 1);
    assert!(!done.skipped && done.step == 5);
    let sample = |s: &Mlp, t: usize| -> Vec<f64> {
        let pairs = sparse(s)[0].clone().into_iter().zip(gradients(1, t)[0].clone());
        pairs.map(|(s, g)| f64::from((s * g).abs())).collect()
    };
    let fifth = sample(&model, 5);
    assert_close(&to_vec(pruner.importance()[0].window.val()), fifth.clone(), "window");
    let (model, _) = skipped(&mut pruner, model).unwrap();
    let (model, _) = step(&mut pruner, model, 1);
    let both = fifth.iter().zip(sample(&model, 7)).map(|(a, b)| (a + b) / 2.0);
    assert_close(&to_vec(pruner.importance()[0].window.val()), both, "window of two");
    assert_eq!(pruner.skipped(), 2);
}

#[test]
fn an_empty_window_leaves_the_importance_as_it_is() {
    let mut model = model(2);
    let mut pruner = config().init(&model).unwrap();
    for _ in 0..4 {
        (model, _) = step(&mut pruner, model, 2);
    }
    // Steps 4 to 7 all fail: step 4 closes a window, step 8 has none to close.
    for _ in 0..4 {
        (model, _) = skipped(&mut pruner, model).unwrap();
    }
    let smoothed = to_vec(pruner.importance()[0].smoothed.val());
    assert!(smoothed.iter().all(|s| *s > 0.0));
    let (_, done) = step(&mut pruner, model, 2);
    assert_eq!(done.step, 8);
    assert_eq!(to_vec(pruner.importance()[0].smoothed.val()), smoothed);
}

#[test]
fn too_many_skipped_in_a_row_end_the_training() {
    let config = PruningConfig { max_skipped_in_a_row: 3, ..config() };
    let mut model = model(3);
    let mut pruner = config.init(&model).unwrap();
    for _ in 0..2 {
        (model, _) = skipped(&mut pruner, model).unwrap();
        (model, _) = skipped(&mut pruner, model).unwrap();
        // A valid update between them starts the count anew.
        (model, _) = step(&mut pruner, model, 3);
    }
    (model, _) = skipped(&mut pruner, model).unwrap();
    (model, _) = skipped(&mut pruner, model).unwrap();
    let error = skipped(&mut pruner, model).map(|_| ()).unwrap_err();
    assert!(matches!(error, Error::Training(_)));
    let message = error.to_string();
    assert!(message.contains("3 updates in a row") && message.contains("step 8"), "{message}");
    assert_eq!(pruner.skipped(), 7);
}

#[test]
fn a_layer_without_a_gradient_counts_as_unimportant_for_that_step() {
    let mut model = model(4);
    let mut pruner = config().init(&model).unwrap();
    for _ in 0..4 {
        (model, _) = step(&mut pruner, model, 4);
    }
    assert!(to_vec(pruner.importance()[1].window.val()).iter().all(|w| *w > 0.0));
    // Step 4 begins a window in which `down` took no part.
    let values = [Some(gradients(4, 4)[0].clone()), None];
    let _ = update(&mut pruner, model, &mut optimizer(), &values).unwrap();
    assert!(to_vec(pruner.importance()[0].window.val()).iter().all(|w| *w > 0.0));
    assert!(to_vec(pruner.importance()[1].window.val()).iter().all(|w| *w == 0.0));
}
