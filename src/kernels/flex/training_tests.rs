//! Operations of training, and their gradients, against Burn's own operations. Attention has a file
//! of its own.

use std::sync::Arc;

use burn::tensor::module::linear;
use burn::tensor::{Device, Distribution, Int, Tensor, TensorData, Tolerance};

use super::operation::apply;
use super::operations::{ActiveDense, ComposedWeight};
use super::*;

pub(super) fn random<const D: usize>(shape: [usize; D]) -> Tensor<D> {
    Tensor::random(shape, Distribution::Normal(0.0, 1.0), &Device::flex())
}

pub(super) fn leaf<const D: usize>(tensor: &Tensor<D>) -> Tensor<D> {
    Tensor::from_inner(tensor.clone()).require_grad()
}

pub(super) fn assert_close<const D: usize>(what: &str, actual: Tensor<D>, expected: Tensor<D>) {
    let size = expected.clone().abs().max().into_scalar::<f32>().max(1.0);
    let largest = (actual - expected).abs().max().into_scalar::<f32>();
    assert!(largest <= 2e-5 * size, "{what}: off by {largest}, values up to {size}");
}

/// The masks as a tensor of factors: `rows` of `columns`.
pub(super) fn factors(mask: DropoutMask, rows: usize, columns: usize) -> Tensor<2> {
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
