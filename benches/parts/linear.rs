//! One linear layer, forward and backward.

use losparse::bench::PackedLinear;

use super::*;

const SHAPES: [[usize; 3]; 4] =
    [[768, 768, 128], [768, 3072, 128], [768, 3072, 2048], [3072, 768, 2048]];

fn forward(
    bencher: Bencher<'_, '_>,
    [d_input, d_output, tokens]: [usize; 3],
    form: fn(Stack) -> Stack,
) {
    let device = device();
    let stack =
        Stack { layers: vec![CompressibleLinearConfig::new(d_input, d_output).init(&device)] };
    let layer = form(stack).layers.remove(0);
    let x = random([tokens, d_input], &device);
    bencher.bench_local(|| layer.forward(black_box(x.clone())));
}

#[divan::bench(args = SHAPES.map(Shape))]
fn dense(bencher: Bencher<'_, '_>, shape: &Shape<3>) {
    forward(bencher, shape.0, |stack| stack);
}

#[divan::bench(args = SHAPES.map(Shape))]
fn compact(bencher: Bencher<'_, '_>, shape: &Shape<3>) {
    forward(bencher, shape.0, |stack| compacted(stack, Some(RATIO)));
}

#[divan::bench(args = SHAPES.map(Shape))]
fn training_form(bencher: Bencher<'_, '_>, shape: &Shape<3>) {
    forward(bencher, shape.0, in_training_form);
}

fn backward(
    bencher: Bencher<'_, '_>,
    [d_input, d_output, tokens]: [usize; 3],
    form: fn(Stack) -> Stack,
) {
    let device = device().autodiff();
    let stack =
        Stack { layers: vec![CompressibleLinearConfig::new(d_input, d_output).init(&device)] };
    let layer = form(stack).layers.remove(0);
    let x = random([tokens, d_input], &device).require_grad();
    bencher.bench_local(|| layer.forward(black_box(x.clone())).sum().backward());
}

#[divan::bench(args = SHAPES.map(Shape))]
fn dense_and_backward(bencher: Bencher<'_, '_>, shape: &Shape<3>) {
    backward(bencher, shape.0, |stack| stack);
}

#[divan::bench(args = SHAPES.map(Shape))]
fn training_form_and_backward(bencher: Bencher<'_, '_>, shape: &Shape<3>) {
    backward(bencher, shape.0, in_training_form);
}

/// Computes like an encoder layer in inference: packed weights, bias, no tensors in between.
fn packed(
    bencher: Bencher<'_, '_>,
    [d_input, d_output, tokens]: [usize; 3],
    form: fn(Stack) -> Stack,
) {
    let stack =
        Stack { layers: vec![CompressibleLinearConfig::new(d_input, d_output).init(&device())] };
    let layer = PackedLinear::new(&form(stack).layers.remove(0)).expect("a layer on flex");
    let (x, mut y) = (weights(tokens, d_input), vec![0.0; tokens * d_output]);
    bencher.bench_local(|| layer.forward(black_box(&x), &mut y));
}

#[divan::bench(args = SHAPES.map(Shape))]
fn packed_dense(bencher: Bencher<'_, '_>, shape: &Shape<3>) {
    packed(bencher, shape.0, |stack| stack);
}

#[divan::bench(args = SHAPES.map(Shape))]
fn packed_compact(bencher: Bencher<'_, '_>, shape: &Shape<3>) {
    packed(bencher, shape.0, |stack| compacted(stack, Some(RATIO)));
}
