//! GELU, and residual with layer normalisation.

use burn::nn::LayerNormConfig;
use losparse::bench;
use losparse::models::Activation;

use super::*;

/// BERT's dropout in training.
const DROPOUT: f64 = 0.1;

#[divan::bench(args = BATCHES.map(Shape))]
fn gelu(bencher: Bencher<'_, '_>, shape: &Shape<2>) {
    let x = random([shape.0[0], shape.0[1], 3072], &device());
    bencher.bench_local(|| Activation::Gelu.forward(black_box(x.clone())));
}

/// Includes the backward pass of a sum, which takes little time.
#[divan::bench(args = BATCHES.map(Shape))]
fn gelu_backward(bencher: Bencher<'_, '_>, shape: &Shape<2>) {
    let x = random([shape.0[0], shape.0[1], 3072], &device().autodiff()).require_grad();
    let loss = || Activation::Gelu.forward(x.clone()).sum();
    bencher.with_inputs(loss).bench_local_values(|loss| loss.backward());
}

/// In inference.
#[divan::bench(args = BATCHES.map(Shape))]
fn residual_norm(bencher: Bencher<'_, '_>, shape: &Shape<2>) {
    let (norm, rows) = (bench::Norm::new(768, 1e-12), shape.0[0] * shape.0[1]);
    let (mut x, added) = (weights(rows, 768), weights(rows, 768));
    bencher.bench_local(|| norm.forward(black_box(&mut x), &added));
}

/// The same, composed of Burn's operations.
#[divan::bench(args = BATCHES.map(Shape))]
fn residual_norm_composed(bencher: Bencher<'_, '_>, shape: &Shape<2>) {
    let device = device();
    let norm = LayerNormConfig::new(768).init(&device);
    let [x, residual] = [(); 2].map(|()| random([shape.0[0], shape.0[1], 768], &device));
    bencher.bench_local(|| norm.forward(black_box(x.clone()) + residual.clone()));
}

/// In training, with dropout.
fn trained(shape: &Shape<2>) -> impl Fn() -> Tensor<3> {
    let device = device().autodiff();
    let norm = LayerNormConfig::new(768).init(&device);
    let [x, residual] =
        [(); 2].map(|()| random([shape.0[0], shape.0[1], 768], &device).require_grad());
    move || bench::residual_norm(&x, &residual, &norm, DROPOUT)
}

#[divan::bench(args = BATCHES.map(Shape))]
fn residual_norm_trained(bencher: Bencher<'_, '_>, shape: &Shape<2>) {
    bencher.bench_local(trained(shape));
}

/// Includes the backward pass of a sum, which takes little time.
#[divan::bench(args = BATCHES.map(Shape))]
fn residual_norm_backward(bencher: Bencher<'_, '_>, shape: &Shape<2>) {
    let output = trained(shape);
    bencher.with_inputs(|| output().sum()).bench_local_values(|loss| loss.backward());
}
