//! The extension on `Flex` against Burn's operations, finite differences and the layer.

use burn::tensor::{Device, Distribution, Tensor, Tolerance, activation};

use super::fused::gelu;
use super::*;
use crate::linear::CompactLinear;

fn device() -> Device {
    Device::flex()
}

fn random<const D: usize>(shape: [usize; D]) -> Tensor<D> {
    Tensor::random(shape, Distribution::Normal(0.0, 1.5), &device())
}

fn assert_close<const D: usize>(actual: Tensor<D>, expected: Tensor<D>) {
    let tolerance = Tolerance::absolute(1e-5);
    actual.into_data().assert_approx_eq::<f32>(&expected.into_data(), tolerance);
}

#[test]
fn gelu_equals_the_composed_form() {
    // Shared, unique, transposed, sliced: in place or not, contiguous or not.
    let x = random([3, 70, 101]);
    assert_close(gelu(x.clone()), activation::gelu(x.clone()));
    assert_close(gelu(x.clone() * 2.0), activation::gelu(x.clone() * 2.0));
    let transposed = x.clone().swap_dims(0, 2);
    assert_close(gelu(transposed.clone()), activation::gelu(transposed));
    let sliced = x.clone().narrow(0, 1, 1);
    assert_close(gelu(sliced.clone()), activation::gelu(sliced));
    let before = x.clone().into_data();
    let _ = gelu(x.clone());
    x.into_data().assert_eq(&before, true);
}

#[test]
fn gelu_of_no_elements() {
    assert_eq!(gelu(Tensor::<2>::zeros([0, 4], &device())).dims(), [0, 4]);
}

/// The gradient of `Σ w gelu(x)` with respect to `x`.
fn gradient(x: &Tensor<2>, w: &Tensor<2>, device: &Device) -> Tensor<2> {
    let x = Tensor::<2>::from_data(x.to_data(), device).require_grad();
    let w = Tensor::<2>::from_data(w.to_data(), device);
    let grads = (gelu(x.clone()) * w).sum().backward();
    x.grad(&grads).unwrap()
}

#[test]
fn gradients_equal_finite_differences_and_the_composed_form() {
    let (x, w) = (random([40, 33]), random([40, 33]));
    let device = device().autodiff();
    let actual = gradient(&x, &w, &device);

    let step = 1e-2;
    let difference = activation::gelu(x.clone() + step) - activation::gelu(x.clone() - step);
    let numeric = difference * w.clone() / (2.0 * step);
    let tolerance = Tolerance::absolute(5e-4);
    actual.to_data().assert_approx_eq::<f32>(&numeric.into_data(), tolerance);

    let leaf = Tensor::<2>::from_data(x.to_data(), &device).require_grad();
    let weight = Tensor::<2>::from_data(w.to_data(), &device);
    let grads = (activation::gelu(leaf.clone()) * weight).sum().backward();
    assert_close(actual, leaf.grad(&grads).unwrap());
}

#[test]
fn gradients_under_checkpointing_are_the_same() {
    let (x, w) = (random([8, 5]), random([8, 5]));
    let plain = gradient(&x, &w, &device().autodiff());
    let saving = device().autodiff().gradient_checkpointing();
    // Through more than one operation, so that something is recomputed.
    let leaf = Tensor::<2>::from_data(x.to_data(), &saving).require_grad();
    let weight = Tensor::<2>::from_data(w.to_data(), &saving);
    let grads = (gelu(leaf.clone() * 1.0) * 1.0 * weight).sum().backward();
    assert_close(leaf.grad(&grads).unwrap(), plain);
}

#[test]
fn untracked_values_on_an_autodiff_device() {
    let x = random([4, 4]);
    let on_autodiff = Tensor::<2>::from_data(x.to_data(), &device().autodiff());
    let actual = gelu(on_autodiff).into_data();
    actual.assert_approx_eq::<f32>(&gelu(x).into_data(), Tolerance::absolute(0.0));
}

/// A layer of `kept` neurons spread over its outputs, or its first ones.
fn layer(
    [d_input, d_output]: [usize; 2],
    kept: usize,
    rank: usize,
    spread: bool,
    bias: bool,
) -> CompactLinear {
    let stride = if spread { d_output / kept.max(1) } else { 1 };
    let neurons: Vec<usize> = (0..kept).map(|at| at * stride).collect();
    let low_rank = (rank > 0).then(|| (random([d_input, rank]), random([rank, d_output - kept])));
    let folded = match kept {
        0 => Tensor::zeros([d_input, 0], &device()),
        _ => random([d_input, kept]),
    };
    CompactLinear::new(folded, low_rank, bias.then(|| random([d_output])), &neurons, d_output)
}

fn expected(layer: &CompactLinear, input: Tensor<2>) -> Tensor<2> {
    let output = input.matmul(layer.effective_weight());
    match &layer.bias {
        Some(bias) => output + bias.val().unsqueeze::<2>(),
        None => output,
    }
}

#[test]
fn compact_layers_of_all_kinds() {
    for (sizes, kept, rank) in [
        ([7, 96], 14, 3),
        ([7, 1100], 165, 10),
        ([7, 33], 0, 4),
        ([7, 33], 5, 0),
        ([7, 33], 33, 0),
        ([7, 33], 16, 17),
        ([7, 1], 0, 1),
        ([7, 33], 0, 0),
    ] {
        for (tokens, spread, bias) in
            [(1, true, true), (6, true, false), (83, false, true), (200, true, true)]
        {
            let layer = layer(sizes, kept, rank, spread, bias);
            let input = random([tokens, sizes[0]]) * 0.1;
            let actual = layer.forward(input.clone());
            assert_close(actual, expected(&layer, input));
        }
    }
}

#[test]
fn compact_layers_keep_their_leading_axes() {
    let layer = layer([6, 40], 6, 3, true, true);
    let input = random([2, 3, 5, 6]) * 0.1;
    let actual = layer.forward(input.clone());
    assert_eq!(actual.dims(), [2, 3, 5, 40]);
    assert_close(actual.reshape([30, 40]), expected(&layer, input.reshape([30, 6])));
}

#[test]
fn changed_parameters_are_seen() {
    let mut layer = layer([6, 40], 6, 3, true, true);
    let input = random([4, 6]) * 0.1;
    layer.forward(input.clone());
    layer.left = layer.left.map(|left| left.map(|left| left * 2.0));
    layer.bias = layer.bias.map(|bias| bias.map(|bias| bias + 1.0));
    assert_close(layer.forward(input.clone()), expected(&layer, input.clone()));
    let other = layer.clone();
    layer.left = layer.left.map(|left| left.map(|left| left - 0.5));
    assert_close(layer.forward(input.clone()), expected(&layer, input.clone()));
    assert_close(other.forward(input.clone()), expected(&other, input));
}

#[test]
fn a_compact_layer_still_trains() {
    use burn::module::Module;
    let plain = layer([6, 40], 6, 3, true, true);
    let input = random([4, 6]) * 0.1;
    let expected = plain.forward(input.clone());
    let device = device().autodiff();
    let training = plain.train();
    let input = Tensor::<2>::from_data(input.to_data(), &device);
    let output = training.forward(input);
    assert!(output.is_autodiff());
    output.to_data().assert_approx_eq::<f32>(&expected.into_data(), Tolerance::absolute(1e-5));
    let grads = output.sum().backward();
    assert!(training.left.unwrap().val().grad(&grads).is_some());
}

/// The composed bodies, as any other backend would run them: under autodiff.
#[test]
fn an_order_that_is_none_gives_no_plan() {
    assert!(NeuronPlan::new(None, Some(&[0, 1, 1]), 3, 3).is_none());
    assert!(NeuronPlan::new(None, Some(&[0, 1, 3]), 1, 3).is_none());
    assert!(NeuronPlan::new(None, Some(&[0, -1, 2]), 1, 3).is_none());
    assert!(NeuronPlan::new(None, Some(&[0, 1]), 1, 3).is_none());
    assert!(NeuronPlan::new(Some(&[1.0; 3]), None, 1, 3).is_none());
    assert!(NeuronPlan::new(None, None, 4, 3).is_none());
}
