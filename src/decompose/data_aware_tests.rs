use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};
use nalgebra::DMatrix;

use super::*;
use crate::compressible;
use crate::linear::CompressibleLinearConfig;

fn noise(rows: usize, columns: usize, seed: u64) -> DMatrix<f64> {
    DMatrix::from_fn(rows, columns, |i, j| {
        let bits = crate::random::split_mix_64(seed, (i * columns + j) as u64);
        bits as f64 / u64::MAX as f64 * 2.0 - 1.0
    })
}

fn row_major(matrix: &DMatrix<f64>) -> Vec<f32> {
    matrix.transpose().iter().map(|value| *value as f32).collect()
}

/// Inputs `[n, width]` with directions of very different size, and their moments.
fn inputs(n: usize, width: usize) -> (DMatrix<f64>, Vec<f32>) {
    let scales =
        DMatrix::from_fn(
            width,
            width,
            |i, j| {
                if i == j { (1.0 + i as f64).powf(-1.5) } else { 0.0 }
            },
        );
    let inputs = noise(n, width, 7) * scales * noise(width, width, 8).qr().q();
    let moments = inputs.transpose() * &inputs / n as f64;
    (inputs, row_major(&moments))
}

/// Norm of the outputs that `right · left` misses, and the least that its rank allows.
fn missed(inputs: &DMatrix<f64>, weight: &DMatrix<f64>, found: &Factors) -> [f64; 2] {
    let matrix = |values: &[f32], r, c| DMatrix::from_row_slice(r, c, values).cast::<f64>();
    let low_rank = matrix(&found.right, found.d_input, found.rank)
        * matrix(&found.left, found.rank, found.d_output);
    let mut values = (inputs * weight).singular_values().as_slice().to_vec();
    values.sort_by(|a, b| b.total_cmp(a));
    let least = values[found.rank..].iter().map(|value| value * value).sum::<f64>().sqrt();
    [(inputs * (weight - low_rank)).norm(), least]
}

#[test]
fn outputs_are_kept_as_well_as_the_rank_allows() {
    // Wide and tall, below and above the size that has its SVD at once.
    for ([d_input, d_output], rank) in
        [([24, 40], 5), ([40, 24], 5), ([280, 300], 9), ([300, 280], 9), ([16, 16], 16)]
    {
        let shape = [d_input, d_output];
        let weight = noise(d_input, d_output, 3);
        let (inputs, moments) = inputs(3 * d_input, d_input);
        let flat = row_major(&weight);
        let aware = data_aware::decompose_for_inputs("w", &flat, shape, rank, &moments).unwrap();
        let plain = decompose_matrix("w", &flat, d_input, d_output, rank).unwrap();
        let [error, least] = missed(&inputs, &weight, &aware);
        let all = (&inputs * &weight).norm();
        // The ridge and f32 take a little.
        assert!(error <= 1.01 * least + 2e-6 * all, "{shape:?}: {error}, at best {least}");
        let [plain, _] = missed(&inputs, &weight, &plain);
        assert!(rank == 16 || error < 0.8 * plain, "{shape:?}: {error}, by weights {plain}");
    }
}

#[test]
fn the_parts_add_up_to_the_weight_and_share_their_size() {
    let (shape, rank) = ([30, 50], 6);
    let (_, moments) = inputs(200, 30);
    let weight = row_major(&noise(30, 50, 3));
    let f = data_aware::decompose_for_inputs("w", &weight, shape, rank, &moments).unwrap();
    let matrix = |values: &[f32], r, c| DMatrix::from_row_slice(r, c, values);
    let (right, left) = (matrix(&f.right, 30, rank), matrix(&f.left, rank, 50));
    let sum = &right * &left + matrix(&f.sparse, 30, 50);
    assert!((sum - matrix(&weight, 30, 50)).amax() < 1e-6);
    for k in 0..rank {
        let (right, left) = (right.column(k).norm(), left.row(k).norm());
        assert!((right - left).abs() < 1e-5 * right, "{right} and {left}");
    }
}

/// With fewer inputs than directions, the others are taken as the weights have them.
#[test]
fn directions_without_inputs_are_left_to_the_weights() {
    let weight = row_major(&noise(24, 24, 3));
    let decompose =
        |moments: &[f32]| data_aware::decompose_for_inputs("w", &weight, [24, 24], 5, moments);
    let plain = decompose_matrix("w", &weight, 24, 24, 5).unwrap();
    let none = decompose(&[0.0; 576]).unwrap();
    assert!((none.residual - plain.residual).abs() < 1e-6);
    let (_, few) = inputs(3, 24);
    let few = decompose(&few).unwrap();
    assert!(few.residual < 1.0 && few.sparse.iter().all(|value| value.is_finite()));
}

#[test]
fn inputs_that_are_not_numbers_name_the_layer() {
    let mut moments = inputs(50, 8).1;
    moments[3] = f32::NAN;
    let weight = row_major(&noise(8, 8, 3));
    let error = data_aware::decompose_for_inputs("up", &weight, [8, 8], 2, &moments).unwrap_err();
    assert!(error.to_string().starts_with("layer up: its inputs on the training"), "{error}");
}

#[derive(Module, Debug)]
struct Pair {
    used: crate::linear::CompressibleLinear,
    idle: crate::linear::CompressibleLinear,
}
compressible!(Pair { used, idle });

/// The measured model is a copy, and a layer that it does not apply is decomposed by its weights.
#[test]
fn a_calibration_sees_the_inputs_of_layers_at_work() {
    for device in [Device::default(), Device::default().autodiff()] {
        let layer = || CompressibleLinearConfig::new(24, 20).init(&device);
        let model = Pair { used: layer(), idle: layer() };
        let (all, expected) = inputs(90, 24);
        let given = |from: usize| {
            let rows = row_major(&all.rows(from, 45).into_owned());
            Tensor::<2>::from_data(TensorData::new(rows, [45, 24]), &device).reshape([1, 45, 24])
        };
        let selection = LayerSelection::all();
        let calibration = Calibration::measure(&model, &selection, |model| {
            let outputs = [0, 45].map(|from| model.used.forward::<3>(given(from)));
            assert_eq!(outputs[0].dims(), [1, 45, 20]);
            Ok(())
        })
        .unwrap();
        let found = calibration.moments("used").unwrap();
        for (found, expected) in found.iter().zip(&expected) {
            assert!((found - 2.0 * expected).abs() < 1e-5, "{found}, {expected}");
        }
        assert_eq!(calibration.moments("idle"), None);
        let config = DecomposeConfig::new(Rank::Fixed(4));
        let (by_weights, _) = decompose(model.clone(), &selection, config).unwrap();
        let (by_inputs, report) =
            decompose_for_inputs(model.clone(), &selection, config, &calibration).unwrap();
        assert_eq!(report.len(), 2);
        let low_rank = |layer: &crate::linear::CompressibleLinear| {
            let crate::linear::CompressibleLinear::LowRankSparse(layer) = layer else { panic!() };
            crate::linear::to_vec(layer.low_rank.as_ref().unwrap().product())
        };
        assert_eq!(low_rank(&by_weights.idle), low_rank(&by_inputs.idle));
        assert_ne!(low_rank(&by_weights.used), low_rank(&by_inputs.used));
        let x = given(0);
        let off = (model.used.forward(x.clone()) - by_inputs.used.forward(x)).abs().max();
        assert!(off.into_scalar::<f32>() < 1e-5);
    }
}

#[test]
fn an_error_of_the_examples_is_passed_on() {
    let layer = || CompressibleLinearConfig::new(4, 4).init(&Device::default());
    let model = Pair { used: layer(), idle: layer() };
    let fail = |_: &Pair| Err(Error::option("data", "gone"));
    let error = Calibration::measure(&model, &LayerSelection::all(), fail).unwrap_err();
    assert_eq!(error.to_string(), "option data: gone");
    let none = LayerSelection::new(["nowhere"]);
    assert!(Calibration::measure(&model, &none, |_| Ok(())).is_err());
}

/// Sums in f32 make such moments indefinite, by more than the least ridge.
#[test]
fn moments_of_one_direction_are_not_taken_for_damage() {
    const WIDTH: usize = 48;
    let direction: Vec<f32> = (0..WIDTH).map(|i| 100.0 + i as f32).collect();
    let rounded = |i: usize, j: usize| direction[i] * direction[j] * (1.0 + 1e-4 * symmetric(i, j));
    let moments: Vec<f32> = (0..WIDTH * WIDTH).map(|at| rounded(at / WIDTH, at % WIDTH)).collect();
    let weight: Vec<f32> = (0..WIDTH * 8).map(|at| symmetric(at, 3)).collect();
    let dims = [WIDTH, 8];
    let factors = data_aware::decompose_for_inputs("layer", &weight, dims, 1, &moments).unwrap();
    let energy = |matrix: &[f32]| {
        data_aware::output_energies(matrix, dims, Some(&moments)).iter().sum::<f64>()
    };
    let (missed, all) = (energy(&factors.sparse), energy(&weight));
    assert!(missed < 1e-2 * all, "{missed} of {all}");
}

/// A number from -1 to 1, the same for `(i, j)` and `(j, i)`.
fn symmetric(i: usize, j: usize) -> f32 {
    let seed = crate::random::split_mix_64(7, (i.min(j) * 1000 + i.max(j)) as u64);
    (seed >> 40) as f32 / (1u64 << 23) as f32 - 1.0
}
