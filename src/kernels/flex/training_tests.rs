//! Operations of training, and their gradients, against Burn's own operations.

use std::sync::Arc;

use burn::tensor::activation::softmax;
use burn::tensor::module::linear;
use burn::tensor::{Device, Distribution, Int, Tensor, TensorData, Tolerance};

use super::operation::apply;
use super::operations::{ActiveDense, ComposedWeight};
use super::*;

fn random<const D: usize>(shape: [usize; D]) -> Tensor<D> {
    Tensor::random(shape, Distribution::Normal(0.0, 1.0), &Device::flex())
}

fn leaf<const D: usize>(tensor: &Tensor<D>) -> Tensor<D> {
    Tensor::from_inner(tensor.clone()).require_grad()
}

fn assert_close<const D: usize>(what: &str, actual: Tensor<D>, expected: Tensor<D>) {
    let size = expected.clone().abs().max().into_scalar::<f32>().max(1.0);
    let largest = (actual - expected).abs().max().into_scalar::<f32>();
    assert!(largest <= 2e-5 * size, "{what}: off by {largest}, values up to {size}");
}

/// The masks as a tensor of factors: `rows` of `columns`.
fn factors(mask: DropoutMask, rows: usize, columns: usize) -> Tensor<2> {
    let values: Vec<f32> = (0..rows)
        .flat_map(|row| (0..columns).map(move |column| mask.row(row).factor(column)))
        .collect();
    Tensor::from_data(TensorData::new(values, [rows, columns]), &Device::flex())
}

#[test]
fn dense_equals_the_composed_form() {
    // Rows, inputs and outputs: small, ragged, more than a block, deeper than one part.
    for [rows, d_input, d_output] in
        [[16, 256, 256], [37, 200, 130], [300, 64, 49], [130, 1700, 33], [257, 96, 1200]]
    {
        let x = random([rows, d_input]);
        let (weight, bias) = (random([d_input, d_output]), random([d_output]));
        let outer = random([rows, d_output]);
        let plain = fused::dense(&x, &weight, Some(&bias)).unwrap();
        assert_close("plain", plain, linear(x.clone(), weight.clone(), Some(bias.clone())));
        let run = |fused: bool| {
            let (x, weight, bias) = (leaf(&x), leaf(&weight), leaf(&bias));
            let output = match fused {
                true => fused::dense(&x, &weight, Some(&bias)).unwrap(),
                false => linear(x.clone(), weight.clone(), Some(bias.clone())),
            };
            let grads = (output.clone() * Tensor::from_inner(outer.clone())).sum().backward();
            let gradients = (x.grad(&grads), weight.grad(&grads), bias.grad(&grads));
            (output.inner(), gradients.0.unwrap(), gradients.1.unwrap(), gradients.2.unwrap())
        };
        let (ours, burns) = (run(true), run(false));
        assert_close("output", ours.0, burns.0);
        assert_close("input", ours.1, burns.1);
        assert_close("weight", ours.2, burns.2);
        assert_close("bias", ours.3, burns.3);
    }
}

#[test]
fn sums_do_not_depend_on_the_number_of_threads() {
    let (rows, d_input, d_output) = (21, 1700, 40);
    let values = |tensor: Tensor<2>| tensor.try_into_vec_as::<f32>().unwrap();
    let (x, weight) = (values(random([rows, d_input])), values(random([d_input, d_output])));
    let (grad, bias) = (values(random([rows, d_output])), vec![0.5; d_output]);
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            [
                products::forward(&x, &weight, &bias),
                products::input_gradient(&grad, &weight, d_output),
                products::weight_gradient(&x, &grad, d_output),
                products::column_sums(&grad, d_output),
            ]
        })
    };
    let one = run(1);
    for threads in [2, 3, 7] {
        assert!(run(threads) == one, "{threads} threads");
    }
}

#[test]
fn what_dense_leaves_to_burn() {
    let (x, weight, bias) = (random([64, 64]), random([64, 128]), random([128]));
    assert!(fused::dense(&x, &weight, Some(&bias)).is_some());
    assert!(fused::dense(&x, &weight, None).is_none());
    let few = x.clone().narrow(0, 0, 8);
    assert!(fused::dense(&few, &weight, Some(&bias)).is_none());
    assert!(fused::dense(&leaf(&x), &weight, Some(&bias)).is_none());
}

#[test]
fn active_columns_equal_the_composed_form() {
    // Rows, inputs, outputs, rank, and every how many columns one is active.
    for ([rows, d_input, d_output, rank], every) in [
        ([40, 90, 120, 5], 7),
        ([33, 64, 100, 0], 3),
        ([130, 200, 70, 12], 1000),
        ([64, 50, 300, 3], 2),
        ([33, 64, 100, 0], 1000),
        ([20, 60, 80, 4], 1),
    ] {
        let x = random([rows, d_input]);
        let (right, left) = (random([d_input, rank]), random([rank, d_output]));
        let (bias, outer) = (random([d_output]), random([rows, d_output]));
        let mask: Vec<f32> =
            (0..d_output).map(|column| f32::from(column % every == every - 1)).collect();
        let columns = ActiveNeurons::of_mask(&mask);
        let mask = Tensor::<2>::from_data(TensorData::new(mask, [1, d_output]), &x.device());
        let sparse = random([d_input, d_output]) * mask.clone();
        assert_eq!(columns.active.len(), d_output / every);
        assert_eq!(columns.width(), d_output);
        let inputs = [&x, &sparse, &right, &left];
        let run = |form: Form| {
            let [x, sparse, right, left] = inputs.map(leaf);
            let bias = leaf(&bias);
            let output = form.output([&x, &sparse, &right, &left], &bias, &columns, &mask);
            let grads = (output.clone() * Tensor::from_inner(outer.clone())).sum().backward();
            let matrices = [&x, &sparse, &right, &left].map(|input| input.grad(&grads));
            (output.inner(), matrices, bias.grad(&grads).unwrap())
        };
        let [masked, whole] = [run(Form::Burns(true)), run(Form::Burns(false))];
        let gradients = [SparseGradient::Active, SparseGradient::Gathered, SparseGradient::Whole];
        let forms = gradients.map(|gradient| [Form::Active(gradient), Form::Composed(gradient)]);
        for (gradient, form) in gradients.iter().zip(forms).flat_map(|(g, all)| all.map(|f| (g, f)))
        {
            let gathered = *gradient == SparseGradient::Gathered;
            let burns = if *gradient == SparseGradient::Whole { &whole } else { &masked };
            let ours = run(form);
            assert_close("output", ours.0, burns.0.clone());
            assert_close("bias", ours.2, burns.2.clone());
            let pairs = ours.1.into_iter().zip(burns.1.clone());
            for (name, (ours, burns)) in ["x", "S", "R", "L"].iter().zip(pairs) {
                if rank == 0 && matches!(*name, "R" | "L") {
                    continue;
                }
                let (ours, mut burns) = (ours.unwrap(), burns.unwrap());
                if *name == "S" && gathered {
                    assert_eq!(ours.dims(), [d_input, columns.active.len()]);
                    if columns.active.is_empty() {
                        continue;
                    }
                    let active: Vec<i64> = columns.active.iter().map(|&c| c as i64).collect();
                    let count = active.len();
                    let active = Tensor::<1, Int>::from_data(
                        TensorData::new(active, [count]),
                        &burns.device(),
                    );
                    burns = burns.select(1, active);
                }
                assert_close(name, ours, burns);
            }
        }
    }
}

/// Ways to compute a layer of which some columns are not zero.
#[derive(Clone, Copy)]
enum Form {
    /// Whether the others have no gradient.
    Burns(bool),
    Active(SparseGradient),
    Composed(SparseGradient),
}

impl Form {
    fn output(
        self,
        [x, sparse, right, left]: [&Tensor<2>; 4],
        bias: &Tensor<1>,
        columns: &ActiveNeurons,
        mask: &Tensor<2>,
    ) -> Tensor<2> {
        let columns = |gradient| Arc::new(ActiveNeurons { gradient, ..columns.clone() });
        let dispatch = |tensor: &Tensor<2>| tensor.clone().into_dispatch();
        let weight = match self {
            Self::Active(gradient) => {
                return Tensor::from_dispatch(
                    apply(
                        ActiveDense(columns(gradient)),
                        [
                            dispatch(x),
                            dispatch(sparse),
                            dispatch(right),
                            dispatch(left),
                            bias.clone().into_dispatch(),
                        ],
                    )
                    .unwrap(),
                );
            }
            Self::Composed(gradient) => Tensor::from_dispatch(
                apply(
                    ComposedWeight(Some(columns(gradient))),
                    [dispatch(right), dispatch(left), dispatch(sparse)],
                )
                .unwrap(),
            ),
            Self::Burns(masked) => {
                let active = match masked {
                    true => sparse.clone() * Tensor::from_inner(mask.clone()),
                    false => sparse.clone(),
                };
                match right.dims()[1] {
                    0 => active,
                    _ => right.clone().matmul(left.clone()) + active,
                }
            }
        };
        linear(x.clone(), weight, Some(bias.clone()))
    }
}

/// With more rows than a block, with a ragged end, and with one row.
#[test]
fn a_weight_composed_in_one_pass_equals_the_sum() {
    for [d_input, d_output, rank] in [[1, 5, 2], [130, 768, 38], [65, 33, 1]] {
        let (right, left) = (random([d_input, rank]), random([rank, d_output]));
        let sparse = random([d_input, d_output]);
        let before = sparse.to_data();
        let factors = Some([right.clone(), left.clone()]);
        let weight = fused::composed_weight(&sparse, factors, None).unwrap();
        assert_close("weight", weight, right.matmul(left) + sparse.clone());
        sparse.into_data().assert_eq(&before, true);
    }
}

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

#[test]
fn residual_norm_equals_the_composed_form() {
    for (rows, d, probability) in [(3, 16, 0.0), (130, 50, 0.0), (70, 384, 0.2), (64, 7, 0.5)] {
        let (x, residual) = (random([rows, d]), random([rows, d]));
        let (gamma, beta) = (random([d]), random([d]));
        let outer = random([rows, d]);
        let dropout = DropoutMask::new(probability, 5);
        let epsilon = 1e-3;
        let run = |fused: bool| {
            let (x, residual) = (leaf(&x), leaf(&residual));
            let (gamma, beta) = (leaf(&gamma), leaf(&beta));
            let output: Tensor<2> = if fused {
                Tensor::from_dispatch(
                    apply(
                        NormSettings { epsilon: epsilon as f32, dropout },
                        [
                            x.clone().into_dispatch(),
                            residual.clone().into_dispatch(),
                            gamma.clone().into_dispatch(),
                            beta.clone().into_dispatch(),
                        ],
                    )
                    .unwrap(),
                )
            } else {
                let factors = Tensor::from_inner(factors(dropout, rows, d));
                let sum = x.clone() * factors + residual.clone();
                let centred = sum.clone() - sum.mean_dim(1);
                let variance = centred.clone().square().mean_dim(1);
                let normalised = centred / (variance + epsilon).sqrt();
                normalised * gamma.clone().unsqueeze() + beta.clone().unsqueeze()
            };
            let grads = (output.clone() * Tensor::from_inner(outer.clone())).sum().backward();
            let rows = [x, residual].map(|input| input.grad(&grads).unwrap());
            let vectors = [gamma, beta].map(|input| input.grad(&grads).unwrap());
            (output.inner(), rows, vectors)
        };
        let (ours, burns) = (run(true), run(false));
        assert_close("output", ours.0, burns.0);
        for ((name, ours), burns) in ["x", "residual"].iter().zip(ours.1).zip(burns.1) {
            assert_close(name, ours, burns);
        }
        for ((name, ours), burns) in ["gamma", "beta"].iter().zip(ours.2).zip(burns.2) {
            assert_close(name, ours, burns);
        }
    }
}

/// Dropout acts in training only, as often as asked, otherwise each time, and by the device's seed.
#[test]
fn dropout_follows_the_devices_seed() {
    let dropout = burn::nn::DropoutConfig::new(0.3).init();
    let norm = burn::nn::LayerNormConfig::new(32).init(&Device::flex().autodiff());
    let (x, residual) = (random([2, 9, 32]), random([2, 9, 32]) * 0.01);
    let run = || {
        let (x, residual) = (leaf(&x), leaf(&residual));
        fused::residual_norm(&x, &residual, &dropout, (&norm, 1e-5)).unwrap().inner().into_data()
    };
    let device = Device::flex();
    let seeded = || {
        device.seed(3);
        run()
    };
    // Other tests draw from the same numbers meanwhile, so not every time.
    assert!((0..20).any(|_| seeded() == seeded()));
    assert_ne!(run(), run());
    let norm = burn::module::Module::valid(&norm);
    let plain = fused::residual_norm(&x, &residual, &dropout, (&norm, 1e-5)).unwrap();
    let composed = norm.forward(x + residual);
    let tolerance = Tolerance::absolute(1e-5);
    plain.into_data().assert_approx_eq::<f32>(&composed.into_data(), tolerance);
}
