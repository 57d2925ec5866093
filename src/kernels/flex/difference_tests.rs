//! Backward passes against finite differences of the forward passes, along random directions.

use std::sync::Arc;

use burn::tensor::{Device, Distribution, Tensor, TensorData};

use super::operation::apply;
use super::operations::{ActiveDense, Dense};
use super::*;

/// A step along a direction of normally distributed numbers.
const STEP: f64 = 1.0 / 32.0;
/// Relative to the size of a derivative along a random direction. Outputs in f32 are off by some 1e-6 of
/// theirs, so differences over the double step by 2e-5, and extrapolated ones by less than twice that;
/// curvature adds the fourth power of the step, 1e-6. A gradient with one entry in 10⁵ missing is
/// further off.
const TOLERANCE: f64 = 1e-3;

fn random(count: usize, deviation: f64) -> Vec<f32> {
    let values = Tensor::<1>::random([count], Distribution::Normal(0.0, deviation), &flex());
    values.try_into_vec_as().unwrap()
}

fn flex() -> Device {
    Device::flex()
}

fn tensor(values: &[f32]) -> Tensor<1> {
    Tensor::from_data(TensorData::new(values.to_vec(), [values.len()]), &flex())
}

/// Checks all gradients of `Σ w·f(inputs)` for random `w`: `f` reshapes its inputs itself.
fn check(case: &str, inputs: &[(&str, Vec<f32>)], f: &dyn Fn(&[Tensor<1>]) -> Tensor<1>) {
    let plain: Vec<Tensor<1>> = inputs.iter().map(|(_, values)| tensor(values)).collect();
    let count = f(&plain).dims()[0];
    let weights = random(count, 1.0);
    let loss = |inputs: &[Tensor<1>]| -> f64 {
        let output: Vec<f32> = f(inputs).try_into_vec_as().unwrap();
        output.iter().zip(&weights).map(|(y, w)| f64::from(*y) * f64::from(*w)).sum()
    };
    let leaves: Vec<Tensor<1>> =
        plain.iter().map(|values| Tensor::from_inner(values.clone()).require_grad()).collect();
    let grads = (f(&leaves) * Tensor::from_inner(tensor(&weights))).sum().backward();
    for (at, (name, values)) in inputs.iter().enumerate() {
        let gradient: Vec<f32> = leaves[at].grad(&grads).unwrap().try_into_vec_as().unwrap();
        for _ in 0..4 {
            let direction = random(values.len(), 1.0);
            let difference = |step: f64| {
                let ends = [step, -step].map(|step| {
                    let mut inputs = plain.clone();
                    let moved = values.iter().zip(&direction);
                    let moved = moved.map(|(x, v)| (f64::from(*x) + step * f64::from(*v)) as f32);
                    inputs[at] = tensor(&moved.collect::<Vec<f32>>());
                    loss(&inputs)
                });
                (ends[0] - ends[1]) / (2.0 * step)
            };
            let numeric = (4.0 * difference(STEP / 2.0) - difference(STEP)) / 3.0;
            let terms = gradient.iter().zip(&direction);
            let terms = terms.map(|(g, v)| f64::from(*g) * f64::from(*v)).collect::<Vec<f64>>();
            let along: f64 = terms.iter().sum();
            let size = terms.iter().map(|term| term * term).sum::<f64>().sqrt();
            let off = (numeric - along).abs();
            assert!(
                off <= TOLERANCE * size,
                "{case}, {name}: {along} by the backward pass, {numeric} by differences, size {size}"
            );
        }
    }
}

#[test]
fn dense() {
    for [rows, d_input, d_output] in [[37, 40, 50], [130, 900, 33], [16, 64, 97]] {
        let inputs = [
            ("x", random(rows * d_input, 1.0)),
            ("weight", random(d_input * d_output, 1.0)),
            ("bias", random(d_output, 1.0)),
        ];
        check(&format!("{rows}x{d_input}x{d_output}"), &inputs, &|inputs| {
            let [x, weight, bias] = inputs.to_vec().try_into().unwrap();
            let output = apply(
                Dense,
                [
                    x.reshape([rows, d_input]).into_dispatch(),
                    weight.reshape([d_input, d_output]).into_dispatch(),
                    bias.into_dispatch(),
                ],
            )
            .unwrap();
            Tensor::<2>::from_dispatch(output).flatten(0, 1)
        });
    }
}

#[test]
fn active_dense() {
    // Rows, inputs, outputs, rank, and every how many columns one is active.
    for ([rows, d_input, d_output, rank], every) in
        [([40, 30, 60, 5], 7), ([33, 64, 50, 0], 3), ([20, 50, 40, 6], 1000), ([25, 20, 30, 3], 1)]
    {
        let is_active = |at: &usize| at % d_output % every == every - 1;
        let sparse = random(d_input * d_output, 1.0).into_iter().enumerate();
        let sparse: Vec<f32> =
            sparse.map(|(at, value)| if is_active(&at) { value } else { 0.0 }).collect();
        let mask: Vec<f32> = (0..d_output).map(|at| f32::from(is_active(&at))).collect();
        let columns = Arc::new(ActiveNeurons::of_mask(&mask));
        assert_eq!(columns.active.len(), d_output / every);
        // Pruned entries have no gradient and no effect, so all of `S` may be moved.
        let mut inputs = vec![
            ("x", random(rows * d_input, 1.0)),
            ("S", sparse),
            ("bias", random(d_output, 1.0)),
        ];
        if rank > 0 {
            inputs.push(("R", random(d_input * rank, 1.0)));
            inputs.push(("L", random(rank * d_output, 1.0)));
        }
        check(&format!("rank {rank}, every {every}"), &inputs, &|inputs| {
            let x = inputs[0].clone().reshape([rows, d_input]);
            let [right, left]: [Tensor<2>; 2] = match rank {
                0 => [[d_input, 0], [0, d_output]].map(|shape| Tensor::zeros(shape, &x.device())),
                _ => [
                    inputs[3].clone().reshape([d_input, rank]),
                    inputs[4].clone().reshape([rank, d_output]),
                ],
            };
            let output = apply(
                ActiveDense(columns.clone()),
                [
                    x.into_dispatch(),
                    inputs[1].clone().reshape([d_input, d_output]).into_dispatch(),
                    right.into_dispatch(),
                    left.into_dispatch(),
                    inputs[2].clone().into_dispatch(),
                ],
            )
            .unwrap();
            Tensor::<2>::from_dispatch(output).flatten(0, 1)
        });
    }
}

#[test]
fn attention_heads() {
    // Batch, heads, queries, keys and width of a head; with a mask, a bias, dropout.
    for ([batch, heads, queries, keys, width], masked, biased, probability) in [
        ([2, 3, 17, 17, 8], false, false, 0.0),
        ([2, 2, 9, 20, 12], true, false, 0.0),
        ([2, 2, 20, 20, 12], false, true, 0.25),
        ([3, 2, 70, 21, 16], true, true, 0.1),
    ] {
        let size = heads * width;
        let mut inputs = vec![
            ("query", random(batch * queries * size, 1.0)),
            ("key", random(batch * keys * size, 1.0)),
            ("value", random(batch * keys * size, 1.0)),
        ];
        if biased {
            inputs.push(("bias", random(batch * heads * queries * keys, 1.0)));
        }
        let hidden = random(batch * keys, 1.0);
        let mask = masked.then(|| {
            let values = hidden.iter().map(|x| if *x < -0.5 { -1e4 } else { *x }).collect();
            Arc::new(AttentionMask { values, dims: [batch, 1, 1, keys], replaces: false })
        });
        let scale = 1.0 / (width as f32).sqrt();
        let dropout = DropoutMask::new(probability, 11);
        let settings = AttentionSettings { heads, scale, mask, dropout, sequences: None };
        let case = format!("{batch}x{heads}x{queries}x{keys}x{width}");
        check(&case, &inputs, &|inputs| {
            let rows = |at: usize, length: usize| inputs[at].clone().reshape([batch, length, size]);
            let query = rows(0, queries);
            let bias = match inputs.get(3) {
                Some(bias) => bias.clone().reshape([batch, heads, queries, keys]),
                None => Tensor::<4>::zeros([0, 0, 0, 0], &query.device()),
            };
            let output = apply(
                settings.clone(),
                [
                    query.into_dispatch(),
                    rows(1, keys).into_dispatch(),
                    rows(2, keys).into_dispatch(),
                    bias.into_dispatch(),
                ],
            )
            .unwrap();
            Tensor::<3>::from_dispatch(output).flatten(0, 2)
        });
    }
}

#[test]
fn position_scores() {
    // Batch, heads, length and width of a head; with position keys, with position queries.
    for ([batch, heads, length, width], keys, queries) in [
        ([2, 3, 17, 8], true, true),
        ([3, 2, 40, 12], true, false),
        ([1, 4, 9, 16], false, true),
        ([2, 1, 1, 4], true, true),
    ] {
        let size = heads * width;
        let rows = || random(batch * length * size, 1.0);
        let mut inputs = Vec::new();
        let mut tables = [None, None];
        for (at, (is_there, names)) in
            [(keys, ["query", "keys"]), (queries, ["key", "queries"])].into_iter().enumerate()
        {
            if is_there {
                inputs.push((names[0], rows()));
                tables[at] = Some(inputs.len());
                inputs.push((names[1], random(2 * length * size, 1.0)));
            }
        }
        let others = tensor(&rows());
        let settings = PositionSettings { heads, scale: 0.4, sequences: None };
        let case = format!("{batch}x{heads}x{length}x{width}");
        check(&case, &inputs, &|inputs| {
            let device = inputs[0].device();
            let [query, key] = tables.map(|table| {
                let rows = match table {
                    Some(at) => inputs[at - 1].clone(),
                    None if inputs[0].is_autodiff() => Tensor::from_inner(others.clone()),
                    None => others.clone(),
                };
                rows.reshape([batch, length, size]).into_dispatch()
            });
            let [keys, queries] = tables.map(|table| match table {
                Some(at) => inputs[at].clone().reshape([2 * length, size]),
                None => Tensor::<2>::zeros([0, 0], &device),
            });
            let [keys, queries] = [keys, queries].map(Tensor::into_dispatch);
            let output = apply(settings.clone(), [query, key, keys, queries]).unwrap();
            Tensor::<4>::from_dispatch(output).flatten(0, 3)
        });
    }
}

#[test]
fn residual_norm() {
    for (rows, d, probability) in [(3, 16, 0.0), (130, 50, 0.0), (70, 96, 0.2), (64, 24, 0.5)] {
        let inputs = [
            ("x", random(rows * d, 1.0)),
            ("residual", random(rows * d, 1.0)),
            ("gamma", random(d, 1.0)),
            ("beta", random(d, 1.0)),
        ];
        let dropout = DropoutMask::new(probability, 5);
        let settings = NormSettings { epsilon: 1e-5, dropout };
        check(&format!("{rows}x{d}, dropout {probability}"), &inputs, &|inputs| {
            let [x, residual, gamma, beta] = inputs.to_vec().try_into().unwrap();
            let output = apply(
                settings,
                [
                    x.reshape([rows, d]).into_dispatch(),
                    residual.reshape([rows, d]).into_dispatch(),
                    gamma.into_dispatch(),
                    beta.into_dispatch(),
                ],
            )
            .unwrap();
            Tensor::<2>::from_dispatch(output).flatten(0, 1)
        });
    }
}

#[test]
fn gelu() {
    let inputs = [("x", random(3000, 1.5))];
    check("gelu", &inputs, &|inputs| fused::gelu(inputs[0].clone()));
}
