use std::path::Path;

use burn::module::Module;
use burn::tensor::{Device, Distribution, Tensor};
use nalgebra::DMatrix;
use safetensors::SafeTensors;

use super::*;
use crate::linear::CompressibleLinearConfig;

/// Numbers without a pattern, in −1..1.
fn noise(rows: usize, columns: usize, seed: u64) -> DMatrix<f64> {
    DMatrix::from_fn(rows, columns, |i, j| {
        let bits = crate::random::split_mix_64(seed, (i * columns + j) as u64);
        bits as f64 / u64::MAX as f64 * 2.0 - 1.0
    })
}

/// A `[rows, columns]` matrix with these singular values, row by row.
fn with_values(rows: usize, columns: usize, values: impl Fn(usize) -> f64) -> Vec<f32> {
    let side = rows.min(columns);
    let u = noise(rows, side, 1).qr().q();
    let v = noise(columns, side, 2).qr().q();
    let scaled = DMatrix::from_fn(rows, side, |i, k| u[(i, k)] * values(k));
    (scaled * v.transpose()).transpose().iter().map(|value| *value as f32).collect()
}

/// Singular values of a matrix given row by row, largest first, by nalgebra.
fn oracle(weight: &[f32], rows: usize, columns: usize) -> Vec<f64> {
    let matrix = DMatrix::from_row_slice(rows, columns, weight).cast::<f64>();
    let mut values = matrix.singular_values().as_slice().to_vec();
    values.sort_by(|a, b| b.total_cmp(a));
    values
}

/// Checks all that is promised of a decomposition, given the matrix's singular values.
fn check(case: &str, weight: &[f32], [rows, columns]: [usize; 2], rank: usize, values: &[f64]) {
    let case = format!("{case}, {rows}×{columns}, rank {rank}");
    let f = decompose_matrix("w", weight, rows, columns, rank).unwrap();
    let norm = values.iter().map(|s| s * s).sum::<f64>().sqrt();
    let optimum = values[rank..].iter().map(|s| s * s).sum::<f64>().sqrt();
    // L, R and S are f32: each of the `rank` products that make up an entry is off by 2⁻²³ of it.
    let rounding = 1.2e-7 * norm * (1.0 + (rank as f64).sqrt());
    assert!(
        f.residual * norm <= optimum * 1.0001 + rounding,
        "{case}: {} > {optimum}",
        f.residual * norm
    );
    let matrix = |v: &[f32], r, c| DMatrix::from_row_slice(r, c, v).cast::<f64>();
    let (right, left) = (matrix(&f.right, rows, rank), matrix(&f.left, rank, columns));
    let sum = &right * &left + matrix(&f.sparse, rows, columns);
    let off = (sum - matrix(weight, rows, columns)).norm();
    assert!(off <= rounding, "{case}: the parts are {off} off the weight");
    let (a, b) = (right.transpose() * &right, &left * left.transpose());
    assert!((a - b).amax() <= 1e-5 * values[0], "{case}: RᵀR and LLᵀ are both Σ_r");
}

/// As [`check`], against nalgebra's singular values, also of the transpose.
fn check_ranks(case: &str, weight: &[f32], [rows, columns]: [usize; 2], ranks: &[usize]) {
    let values = oracle(weight, rows, columns);
    let matrix = DMatrix::from_row_slice(rows, columns, weight);
    for &rank in ranks {
        check(case, weight, [rows, columns], rank, &values);
        // Column by column is the transpose row by row.
        check(case, matrix.as_slice(), [columns, rows], rank, &values);
    }
}

#[test]
fn small_matrices_are_decomposed_as_well_as_can_be() {
    for ([rows, columns], rank) in [([24, 24], 5), ([16, 40], 7), ([40, 16], 16), ([8, 8], 1)] {
        let weight: Vec<f32> = noise(rows, columns, 3).iter().map(|v| *v as f32).collect();
        check_ranks("noise", &weight, [rows, columns], &[rank]);
    }
}

#[test]
fn large_matrices_are_decomposed_as_well_as_can_be() {
    let shape = [300, 420];
    let spectrum = |values: fn(usize) -> f64| with_values(shape[0], shape[1], values);
    let ranks = [1, 6, 15, 150];
    check_ranks("slow decay", &spectrum(|k| (1.0 + k as f64).powf(-0.3)), shape, &ranks);
    check_ranks("hardly any decay", &spectrum(|k| 1.0 - k as f64 / 3000.0), shape, &ranks);
    check_ranks("fast decay", &spectrum(|k| 0.8f64.powi(k as i32)), shape, &ranks);
    let outlier = |k| if k == 0 { 1000.0 } else { 1.0 / k as f64 };
    check_ranks("an outlier", &spectrum(outlier), shape, &ranks);
    // The rank cuts clusters of equal values.
    let clusters = |k| [3.0, 2.0, 1.0][usize::from(k >= 4) + usize::from(k >= 30)];
    check_ranks("clusters", &spectrum(clusters), shape, &ranks);
    let near = |k| [3.0, 2.0, 1.0][usize::from(k >= 4) + usize::from(k >= 30)] - 1e-5 * k as f64;
    check_ranks("near clusters", &spectrum(near), shape, &ranks);
}

/// Matrices like those of models do not fall back on all eigenvectors.
#[test]
fn a_few_eigenvectors_are_found_by_themselves() {
    let weight = with_values(420, 300, |k| (1.0 + k as f64).powf(-0.3));
    let matrix = DMatrix::from_row_slice(420, 300, &weight).cast::<f64>();
    let gram = matrix.transpose() * &matrix;
    let gram = faer::Mat::from_fn(300, 300, |i, j| gram[(i, j)]);
    for rank in [1, 3, 8] {
        let vectors = lanczos::leading(gram.as_ref(), rank).expect("a few of 300");
        assert_eq!((vectors.nrows(), vectors.ncols()), (300, rank));
    }
    assert!(lanczos::leading(gram.as_ref(), 30).is_none(), "not worth it");
}

#[test]
fn matrices_of_low_rank_leave_nothing_and_zero_stays_zero() {
    let shape = [300, 420];
    let weight =
        with_values(shape[0], shape[1], |k| if k < 5 { 2.0 - k as f64 / 4.0 } else { 0.0 });
    check_ranks("rank 5", &weight, shape, &[5, 7, 15, 150]);
    for rank in [5, 7, 15] {
        let f = decompose_matrix("w", &weight, shape[0], shape[1], rank).unwrap();
        assert!(f.residual < 1e-6, "rank {rank}: {}", f.residual);
    }
    for rank in [0, 3, 150] {
        let zero = decompose_matrix("w", &[0.0; 300 * 420], 300, 420, rank).unwrap();
        assert_eq!(zero, Factors::zeros(300, 420, rank));
        let small = decompose_matrix("w", &[0.0; 20 * 30], 20, 30, rank.min(20)).unwrap();
        assert_eq!(small, Factors::zeros(20, 30, rank.min(20)));
    }
    let mut identity = vec![0f32; 300 * 300];
    (0..300).for_each(|i| identity[i * 301] = 1.0);
    for rank in [5, 15] {
        check("identity", &identity, [300, 300], rank, &[1.0; 300]);
    }
}

#[test]
fn rank_zero_keeps_everything_sparse_and_full_rank_nothing() {
    let weight: Vec<f32> = noise(6, 9, 3).iter().map(|v| *v as f32).collect();
    assert_eq!(decompose_matrix("w", &weight, 6, 9, 0).unwrap().sparse, weight);
    assert!(decompose_matrix("w", &weight, 6, 9, 6).unwrap().residual < 1e-6);
}

#[test]
fn sizes_that_cannot_be_name_the_layer() {
    for (values, rank, part) in [(53, 2, "53 values"), (54, 7, "rank 7")] {
        let error = decompose_matrix("encoder.key", &vec![0.5; values], 6, 9, rank).unwrap_err();
        let message = error.to_string();
        assert!(message.contains("encoder.key") && message.contains(part), "{message}");
    }
}

#[test]
fn a_value_that_is_not_finite_names_the_layer() {
    for side in [4, 300] {
        let mut weight = vec![0.5; side * side];
        weight[side + 2] = f32::NAN;
        let error = decompose_matrix("encoder.query", &weight, side, side, 2).unwrap_err();
        let message = error.to_string();
        assert!(message.contains("encoder.query: weight[2, 1] is NaN"), "{message}");
    }
}

/// The weights of `minilm-l6` in the folder that `LOSPARSE_MODELS` names, against faer's SVD.
#[test]
fn real_weights_are_decomposed_as_well_as_can_be() {
    let Some(models) = std::env::var_os("LOSPARSE_MODELS") else {
        crate::say_skipped("LOSPARSE_MODELS names no folder of models");
        return;
    };
    let file = Path::new(&models).join("minilm-l6/model.safetensors");
    let bytes = std::fs::read(&file).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let mut matrices = 0;
    for (name, tensor) in tensors.tensors() {
        let &[rows, columns] = tensor.shape() else { continue };
        if !name.contains("layer.0.") && !name.contains("layer.5.") {
            continue;
        }
        let bytes = tensor.data().as_chunks::<4>().0;
        let weight: Vec<f32> = bytes.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
        let matrix = faer::MatRef::from_row_major_slice(&weight, rows, columns);
        let matrix = faer::Mat::from_fn(rows, columns, |i, j| f64::from(matrix[(i, j)]));
        let values = matrix.singular_values().unwrap();
        for rank in [1, 10, 16, 60] {
            check(&name, &weight, [rows, columns], rank, &values);
        }
        matrices += 1;
    }
    assert_eq!(matrices, 12);
}

#[derive(Module, Debug)]
struct Two {
    large: CompressibleLinear,
    small: CompressibleLinear,
}

crate::compressible!(Two { large, small });

fn two() -> Two {
    let device = Device::default();
    Two {
        large: CompressibleLinearConfig::new(300, 280).init(&device),
        small: CompressibleLinearConfig::new(20, 30).init(&device),
    }
}

#[test]
fn the_result_does_not_depend_on_the_number_of_threads() {
    let model = two();
    let config = DecomposeConfig::new(Rank::Budget(0.1));
    let decomposed = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let all = LayerSelection::all();
        let done = pool.install(|| decompose(model.clone(), &all, config));
        let (model, done) = done.unwrap();
        let mut values = Vec::new();
        model.for_each_linear(&mut |_, linear| {
            let CompressibleLinear::LowRankSparse(layer) = linear else { panic!("not decomposed") };
            let low_rank = layer.low_rank.as_ref().unwrap();
            values.push(to_vec(low_rank.right.val()));
            values.push(to_vec(low_rank.left.val()));
            values.push(to_vec(layer.sparse.as_ref().unwrap().val()));
        });
        (done, values)
    };
    assert_eq!(decomposed(1), decomposed(3));
}

#[test]
fn shapes_are_those_of_a_decomposition_and_take_its_values() {
    for (rank, sparse) in
        [(Rank::Budget(0.1), true), (Rank::Fixed(3), false), (Rank::Fixed(0), true)]
    {
        let config = DecomposeConfig { rank, sparse };
        let all = LayerSelection::all();
        let (whole, done) = decompose(two(), &all, config).unwrap();
        let (shapes, made) = decompose_shapes(two(), &all, config).unwrap();
        let about = |of: &[Decomposed]| -> Vec<(String, [usize; 3])> {
            of.iter().map(|d| (d.name.clone(), [d.d_input, d.d_output, d.rank])).collect()
        };
        assert_eq!(about(&done), about(&made));
        let filled = shapes.try_load_record(whole.clone().into_record()).unwrap();
        let x = Tensor::<2>::random([4, 300], Distribution::Default, &Device::default());
        let (expected, found) = (whole.large.forward(x.clone()), filled.large.forward(x));
        assert_eq!(to_vec(expected), to_vec(found));
    }
    // What cannot be decomposed has no such shape either.
    let config = DecomposeConfig::new(Rank::Fixed(0)).with_sparse(false);
    assert!(decompose_shapes(two(), &LayerSelection::all(), config).is_err());
    let nowhere = LayerSelection::new(["nowhere"]);
    let config = DecomposeConfig::new(Rank::Fixed(1));
    assert!(decompose_shapes(two(), &nowhere, config).is_err());
}
