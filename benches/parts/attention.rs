//! Attention without its projections: 12 heads of 64.

use burn::tensor::activation::softmax;
use losparse::bench;

use super::*;

const HEADS: usize = 12;
const SIZE: usize = 768;
/// BERT's dropout in training.
const DROPOUT: f64 = 0.1;

/// In inference.
fn forward(bencher: Bencher<'_, '_>, shape: &Shape<2>, positions: bool) {
    let [batch, length] = shape.0;
    let attention = bench::Attention::new(HEADS, SIZE);
    let table = positions.then(|| weights(2 * length - 1, SIZE));
    let mut projected = weights(batch * length, 3 * SIZE);
    bencher.bench_local(|| {
        attention.forward(black_box(&mut projected), length, table.as_deref());
    });
}

#[divan::bench(args = BATCHES.map(Shape))]
fn heads(bencher: Bencher<'_, '_>, shape: &Shape<2>) {
    forward(bencher, shape, false);
}

/// Disentangled attention: content to content, content to position, position to content.
#[divan::bench(args = BATCHES.map(Shape))]
fn disentangled_heads(bencher: Bencher<'_, '_>, shape: &Shape<2>) {
    forward(bencher, shape, true);
}

/// The same, composed of Burn's operations.
#[divan::bench(args = BATCHES.map(Shape))]
fn composed(bencher: Bencher<'_, '_>, shape: &Shape<2>) {
    let [batch, length] = shape.0;
    let device = device();
    let inputs = [(); 3].map(|()| random([batch, length, SIZE], &device));
    let split = |rows: &Tensor<3>| {
        rows.clone().reshape([batch, length, HEADS, SIZE / HEADS]).swap_dims(1, 2)
    };
    let scale = 1.0 / ((SIZE / HEADS) as f64).sqrt();
    bencher.bench_local(|| {
        let [query, key, value] = black_box(&inputs).each_ref().map(split);
        let probabilities = softmax(query.matmul(key.transpose()) * scale, 3);
        probabilities.matmul(value).swap_dims(1, 2).reshape([batch, length, SIZE])
    });
}

/// In training, with dropout. `bias` adds position scores, as disentangled attention does.
fn trained(shape: &Shape<2>, bias: bool) -> impl Fn() -> Tensor<3> {
    let [batch, length] = shape.0;
    let device = device().autodiff();
    let [query, key, value] =
        [(); 3].map(|()| random([batch, length, SIZE], &device).require_grad());
    let bias = bias.then(|| random([batch, HEADS, length, length], &device).require_grad());
    move || bench::attention([&query, &key, &value], bias.as_ref(), HEADS, DROPOUT)
}

#[divan::bench(args = BATCHES.map(Shape))]
fn trained_heads(bencher: Bencher<'_, '_>, shape: &Shape<2>) {
    bencher.bench_local(trained(shape, false));
}

/// Includes the backward pass of a sum, which takes little time.
#[divan::bench(args = BATCHES.map(Shape))]
fn backward(bencher: Bencher<'_, '_>, shape: &Shape<2>) {
    let output = trained(shape, false);
    bencher.with_inputs(|| output().sum()).bench_local_values(|loss| loss.backward());
}

#[divan::bench(args = BATCHES.map(Shape))]
fn backward_with_bias(bencher: Bencher<'_, '_>, shape: &Shape<2>) {
    let output = trained(shape, true);
    bencher.with_inputs(|| output().sum()).bench_local_values(|loss| loss.backward());
}
