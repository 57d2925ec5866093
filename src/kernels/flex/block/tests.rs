//! Parts of the fused layer against plain double-precision loops; the whole is tested where a model
//! uses it, against the model's own operations.

use super::product::{Rows, RowsMut, product, product_shared};
use super::weight::PackedWeight;
use super::*;

/// Numbers in `[-1, 1)`, the same in every run.
fn numbers(seed: u32, count: usize) -> Vec<f32> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

#[test]
fn products_of_odd_sizes_and_strides() {
    let mut worst = 0.0f64;
    for (rows, d_input, d_output) in [
        (1, 1, 1),
        (13, 37, 53),
        (6, 40, 100),
        (7, 300, 2000),
        (8, 1, 48),
        (21, 770, 64),
        (5, 1601, 17),
        (12, 0, 9),
        (3, 5, 0),
        (0, 5, 9),
    ] {
        for (bias, shared) in [(false, false), (true, false), (true, true), (false, true)] {
            let (from, to) = (d_input + 3, d_output + 5);
            let input = numbers(1, rows * from + 1);
            let weight = numbers(2, d_input * d_output);
            let bias = bias.then(|| numbers(3, d_output));
            let packed = match d_output {
                0 => PackedWeight::new(0, (0..d_input).map(|_| &[][..])),
                _ => PackedWeight::new(d_output, weight.chunks_exact(d_output)),
            };
            let mut output = vec![7.0; rows * to];
            let rows_of = Rows { values: &input, stride: from, rows };
            let target = RowsMut { values: &mut output, stride: to };
            let run = if shared { product_shared } else { product };
            run(rows_of, &packed, bias.as_deref(), Epilogue::Identity, target);
            for row in 0..rows {
                for column in 0..to {
                    let actual = output[row * to + column] as f64;
                    let expected = match column < d_output {
                        true => {
                            let terms = (0..d_input).map(|k| {
                                input[row * from + k] as f64 * weight[k * d_output + column] as f64
                            });
                            let bias = bias.as_ref().map_or(0.0, |bias| bias[column] as f64);
                            terms.sum::<f64>() + bias
                        }
                        false => 7.0,
                    };
                    worst = worst.max((actual - expected).abs());
                }
            }
        }
    }
    println!("products: at most {worst:.1e} off");
    // 1601 terms of up to 1, summed in f32.
    assert!(worst < 5e-5, "{worst}");
}

#[test]
fn transposed_weights_and_reused_room() {
    let matrix = numbers(4, 70 * 10);
    let mut packed = PackedWeight::default();
    for (d_input, d_output) in [(8, 70), (7, 33), (8, 70)] {
        packed.reset(d_input, d_output);
        packed.set_columns(|column| &matrix[column * 10..]);
        let input = numbers(5, 9 * d_input);
        let mut output = vec![0.0; 9 * d_output];
        let rows = Rows { values: &input, stride: d_input, rows: 9 };
        let target = RowsMut { values: &mut output, stride: d_output };
        product(rows, &packed, None, Epilogue::Relu, target);
        for (at, actual) in output.iter().enumerate() {
            let (row, column) = (at / d_output, at % d_output);
            let expected: f32 =
                (0..d_input).map(|k| input[row * d_input + k] * matrix[column * 10 + k]).sum();
            assert!((actual - expected.max(0.0)).abs() < 1e-5);
        }
    }
}

#[test]
fn normalisation_of_sums() {
    for d in [1, 5, 24, 100] {
        let norm = Norm { gamma: numbers(6, d), beta: numbers(7, d), epsilon: 1e-5 };
        let (x, added) = (numbers(8, 3 * d), numbers(9, 3 * (d + 2)));
        let mut actual = x.clone();
        norm.add_and_normalise(&mut actual, Rows { values: &added, stride: d + 2, rows: 3 });
        for row in 0..3 {
            let sum: Vec<f64> =
                (0..d).map(|i| (x[row * d + i] + added[row * (d + 2) + i]) as f64).collect();
            let mean = sum.iter().sum::<f64>() / d as f64;
            let variance = sum.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / d as f64;
            for i in 0..d {
                let scaled = (sum[i] - mean) / (variance + 1e-5).sqrt();
                let expected = scaled * norm.gamma[i] as f64 + norm.beta[i] as f64;
                assert!((actual[row * d + i] as f64 - expected).abs() < 1e-5, "{d}, {i}");
            }
        }
    }
}
