//! Attention in training, and its gradients, against Burn's own operations and the definition.

use std::sync::Arc;

use burn::tensor::activation::softmax;
use burn::tensor::{Device, Tensor, TensorData};

use super::operation::apply;
use super::training_tests::{assert_close, factors, leaf, random};
use super::*;

struct Case {
    batch: usize,
    heads: usize,
    queries: usize,
    keys: usize,
    width: usize,
    mask: Option<[usize; 4]>,
    bias: bool,
    dropout: f64,
}

#[test]
fn attention_equals_the_composed_form() {
    let case = |batch, heads, queries, keys, width| Case {
        batch,
        heads,
        queries,
        keys,
        width,
        mask: None,
        bias: false,
        dropout: 0.0,
    };
    for case in [
        case(2, 3, 17, 17, 8),
        Case { mask: Some([2, 1, 1, 33]), ..case(2, 2, 33, 33, 16) },
        Case { mask: Some([1, 1, 9, 40]), ..case(3, 2, 9, 40, 20) },
        Case { bias: true, dropout: 0.25, ..case(2, 2, 20, 20, 12) },
        Case { mask: Some([3, 2, 50, 21]), bias: true, dropout: 0.1, ..case(3, 2, 50, 21, 32) },
    ] {
        attention_case(&case);
    }
}

fn attention_case(case: &Case) {
    let Case { batch, heads, queries, keys, width, .. } = *case;
    let size = heads * width;
    let inputs =
        [random([batch, queries, size]), random([batch, keys, size]), random([batch, keys, size])];
    let bias = random([batch, heads, queries, keys]);
    let mask = case.mask.map(|dims| random(dims).lower_elem(0.0).float() * -1e4);
    let outer = random([batch, queries, size]);
    let scale = 1.0 / (width as f64).sqrt();
    let dropout = DropoutMask::new(case.dropout, 11);
    let run = |fused: bool| {
        let [query, key, value] = inputs.each_ref().map(leaf);
        let bias = leaf(&bias);
        let output = if fused {
            let mask = mask.as_ref().map(|mask| {
                Arc::new(AttentionMask {
                    dims: mask.dims(),
                    values: mask.clone().try_into_vec_as().unwrap(),
                    replaces: false,
                })
            });
            let settings =
                AttentionSettings { heads, scale: scale as f32, mask, dropout, sequences: None };
            let bias = match case.bias {
                true => bias.clone(),
                false => Tensor::zeros([0, 0, 0, 0], &bias.device()),
            };
            Tensor::from_dispatch(
                apply(
                    settings,
                    [
                        query.clone().into_dispatch(),
                        key.clone().into_dispatch(),
                        value.clone().into_dispatch(),
                        bias.into_dispatch(),
                    ],
                )
                .unwrap(),
            )
        } else {
            let split = |rows: &Tensor<3>| {
                let [batch, length, _] = rows.dims();
                rows.clone().reshape([batch, length, heads, width]).swap_dims(1, 2)
            };
            let mut scores = split(&query).matmul(split(&key).transpose()) * scale;
            if let Some(mask) = &mask {
                scores = scores + Tensor::from_inner(mask.clone());
            }
            if case.bias {
                scores = scores + bias.clone();
            }
            let rows = batch * heads * queries;
            let factors = factors(dropout, rows, keys).reshape([batch, heads, queries, keys]);
            let kept = softmax(scores, 3) * Tensor::from_inner(factors);
            kept.matmul(split(&value)).swap_dims(1, 2).reshape([batch, queries, size])
        };
        let grads = (output.clone() * Tensor::from_inner(outer.clone())).sum().backward();
        let gradients = [query, key, value].map(|input| input.grad(&grads).unwrap());
        (output.inner(), gradients, bias.grad(&grads))
    };
    let (ours, burns) = (run(true), run(false));
    assert_close("output", ours.0, burns.0);
    for ((name, ours), burns) in ["query", "key", "value"].iter().zip(ours.1).zip(burns.1) {
        assert_close(name, ours, burns);
    }
    if case.bias {
        assert_close("bias", ours.2.unwrap(), burns.2.unwrap());
    }
}

/// By the definition, entry by entry; on any number of threads to the last bit.
#[test]
fn position_scores_are_those_of_the_definition() {
    let (batch, heads, length, width) = (3, 2, 21, 8);
    let (size, scale) = (heads * width, 0.3f32);
    let rows = [random::<3>([batch, length, size]), random([batch, length, size])];
    let tables = [random::<2>([2 * length, size]), random([2 * length, size])];
    let outer = random([batch, heads, length, length]);
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let ([query, key], [keys, queries]) =
                (rows.each_ref().map(leaf), tables.each_ref().map(leaf));
            let scores = Tensor::<4>::from_dispatch(
                apply(
                    PositionSettings { heads, scale, sequences: None },
                    [
                        query.clone().into_dispatch(),
                        key.clone().into_dispatch(),
                        keys.clone().into_dispatch(),
                        queries.clone().into_dispatch(),
                    ],
                )
                .unwrap(),
            );
            let grads = (scores.clone() * Tensor::from_inner(outer.clone())).sum().backward();
            let host = |values: Tensor<1>| values.try_into_vec_as::<f32>().unwrap();
            let mut all = vec![host(scores.inner().flatten(0, 3))];
            all.extend([query, key].map(|t| host(t.grad(&grads).unwrap().flatten(0, 2))));
            all.extend([keys, queries].map(|t| host(t.grad(&grads).unwrap().flatten(0, 1))));
            all
        })
    };
    let found = run(1);
    assert_eq!(found, run(3));
    let host3 = rows.map(|rows| rows.try_into_vec_as::<f32>().unwrap());
    let host2 = tables.map(|table| table.try_into_vec_as::<f32>().unwrap());
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
    for (at, found) in found[0].iter().enumerate() {
        let (i, j) = (at / length % length, at % length);
        let (item, head) = (at / length / length / heads, at / length / length % heads);
        let row = |values: &[f32], row: usize| -> Vec<f32> {
            values[row * size + head * width..][..width].to_vec()
        };
        let of_query = dot(&row(&host3[0], item * length + i), &row(&host2[0], j + length - 1 - i));
        let of_key = dot(&row(&host3[1], item * length + j), &row(&host2[1], i + length - 1 - j));
        let expected = scale * of_query + of_key;
        assert!((found - expected).abs() < 1e-4, "{at}: {found}, {expected}");
    }
}

/// A query that may look at nothing attends to all keys alike, whatever it and they are; what flows
/// back depends on whether the mask stands in the place of scores or is added to them.
#[test]
fn rows_that_are_masked_whole_have_the_gradients_of_their_kind_of_mask() {
    [true, false].into_iter().for_each(rows_masked_whole);
}

fn rows_masked_whole(mask_replaces: bool) {
    let (length, size) = (6, 8);
    let inputs = [(); 3].map(|_| random([1, length, size]));
    let masked = |row: usize, column: usize| row >= 4 || column >= 4;
    let values: Vec<f32> = (0..length * length)
        .map(|at| if masked(at / length, at % length) { f32::MIN } else { 0.0 })
        .collect();
    let added = TensorData::new(values, [1, 1, length, length]);
    let added = Tensor::<4>::from_data(added, &Device::flex());
    let dropout = burn::nn::DropoutConfig::new(0.0).init();
    let heads = fused::HeadSettings {
        count: 2,
        scale: 0.5,
        dropout: &dropout,
        mask_replaces,
        sequences: None,
    };
    let outer = random([1, length, size]);
    let run = |fused: bool| {
        let [query, key, value] = inputs.each_ref().map(leaf);
        let output = if fused {
            fused::attention([&query, &key, &value], Some(&added), None, heads).unwrap()
        } else {
            let split = |rows: &Tensor<3>| rows.clone().reshape([1, length, 2, 4]).swap_dims(1, 2);
            let scores = split(&query).matmul(split(&key).transpose()) * 0.5;
            let added = Tensor::<4>::from_inner(added.clone()).expand([1, 2, length, length]);
            let scores = match mask_replaces {
                true => scores.mask_fill(added.lower_elem(0.0), f32::MIN),
                false => scores + added,
            };
            softmax(scores, 3).matmul(split(&value)).swap_dims(1, 2).reshape([1, length, size])
        };
        let grads = (output.clone() * Tensor::from_inner(outer.clone())).sum().backward();
        (output.inner(), [query, key, value].map(|input| input.grad(&grads).unwrap()))
    };
    let (ours, burns) = (run(true), run(false));
    assert_close("output", ours.0, burns.0);
    for ((name, ours), burns) in ["query", "key", "value"].iter().zip(ours.1).zip(burns.1) {
        assert_close(name, ours, burns);
    }
}
