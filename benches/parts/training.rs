//! Parts of an update beside forward and backward pass, and an update of two layers.

use std::cell::Cell;

use burn::optim::{GradientsParams, ModuleOptimizer};
use losparse::models::ForwardContext;
use losparse::models::bert::{BertConfig, BertModel};
use losparse::optim::AdamWConfig;
use losparse::pruning::{Group, PruningConfig, Schedule, threshold};

use super::*;

/// Share of the weights in kept neurons.
const KEEP: f64 = RATIO as f64 / 100.0 - LOW_RANK;

/// 82,944 neurons, as many as BERT-base has.
#[divan::bench]
fn selection(bencher: Bencher<'_, '_>) {
    let number = |at: usize| (at * 7919 % 82_943) as f32;
    let group = |layer: usize| {
        let [d_input, d_output] =
            [[768, 768], [768, 3072], [3072, 768]][(layer % 6) / 4 + layer % 6 / 5];
        let scores = (0..d_output).map(|neuron| number(layer * 3072 + neuron)).collect();
        Group { scores, entries: d_input }
    };
    let groups: Vec<Group> = (0..72).map(group).collect();
    assert_eq!(groups.iter().map(|group| group.scores.len()).sum::<usize>(), 82_944);
    bencher.bench_local(|| threshold(black_box(&groups), KEEP));
}

/// AdamW on 9.4 million weights, without pruning.
#[divan::bench(sample_size = 1)]
fn optimizer_step(bencher: Bencher<'_, '_>) {
    let device = device().autodiff();
    let layers = (0..4).map(|_| CompressibleLinearConfig::new(768, 3072).init(&device)).collect();
    let model = Cell::new(Some(Stack { layers }));
    let mut optimizer = optimizer();
    let inputs = || {
        let stack = model.take().expect("the model");
        let gradients = gradients(&stack);
        (stack, gradients)
    };
    bencher.with_inputs(inputs).bench_local_values(|(stack, gradients)| {
        model.set(Some(optimizer.step(1e-5, stack, gradients)));
    });
}

fn optimizer() -> ModuleOptimizer {
    AdamWConfig::new().init()
}

fn gradients(stack: &Stack) -> GradientsParams {
    let loss = stack.layers.iter().map(|layer| layer.effective_weight().sum()).reduce(|a, b| a + b);
    GradientsParams::from_grads(loss.expect("layers").backward(), stack)
}

/// Forward, backward, optimizer and pruning of two layers, 16 sequences of 128 tokens.
#[divan::bench(sample_count = 5)]
fn step_of_two_layers_16x128(bencher: Bencher<'_, '_>) {
    let device = device().autodiff();
    let config = BertConfig { num_hidden_layers: 2, ..BertConfig::default() };
    let model = in_training_form(BertModel::new(&config, false, &device));
    let mut optimizer = optimizer();
    let schedule = Schedule::new(KEEP, 1000);
    let mut pruner = PruningConfig::new(schedule).init(&model).expect("a pruner");
    let x = random([16, 128, 768], &device);
    let (mut taken, context) = (Some(model), ForwardContext::default());
    bencher.bench_local(|| {
        let Some(current) = taken.take() else { return };
        let output = current.encoder.forward(x.clone(), &context, |_, _| {});
        let gradients = GradientsParams::from_grads(output.mean().backward(), &current);
        let done = pruner.optimize(current, &mut optimizer, 1e-5, gradients);
        taken = Some(done.expect("an update").0);
    });
}
