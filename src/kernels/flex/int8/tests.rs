use super::*;
use crate::kernels::flex::int8::quantize::ZERO;

/// Numbers that look random.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

const SIZES: [(usize, usize, usize); 6] =
    [(1, 1, 1), (2, 5, 16), (3, 768, 33), (7, 61, 150), (12, 3072, 32), (25, 130, 80)];

#[test]
fn sums_on_all_paths_equal_those_in_64_bits() {
    let mut numbers = Numbers(88_172_645_463_325_252);
    let fills: [fn(u64) -> (u8, i8); 4] = [
        |_| (255, -128),
        |_| (255, 127),
        |random| (255 * (random & 1) as u8, if random & 2 == 0 { -128 } else { 127 }),
        |random| (random as u8, (random >> 8) as i8),
    ];
    for (name, path) in Path::ALL {
        if !path.is_available() {
            println!("not run, since this processor lacks it: {name}");
            continue;
        }
        for ((rows, d_input, d_output), fill) in
            SIZES.into_iter().flat_map(|size| fills.map(|fill| (size, fill)))
        {
            let width = d_input.div_ceil(4) * 4;
            let input: Vec<u8> = (0..rows * width).map(|_| fill(numbers.next()).0).collect();
            let matrix: Vec<i8> = (0..d_input * d_output).map(|_| fill(numbers.next()).1).collect();
            let weight = QuantizedWeight::new(&matrix, vec![1.0; d_output], d_input);
            let mut output = vec![0; rows * 2 * LANES];
            for panel in (0..weight.panels()).step_by(2) {
                sums(path, &input, rows, &weight, panel, &mut output);
                for (row, neuron) in (0..rows).flat_map(|row| (0..2 * LANES).map(move |n| (row, n)))
                {
                    let column = panel * LANES + neuron;
                    if column < d_output {
                        let product = |at: usize| {
                            i64::from(input[row * width + at])
                                * i64::from(matrix[at * d_output + column])
                        };
                        let expected: i64 = (0..d_input).map(product).sum();
                        let sum = i64::from(output[row * 2 * LANES + neuron]);
                        assert_eq!(sum, expected, "{name}, row {row}, neuron {column}");
                    }
                }
            }
        }
    }
}

#[test]
fn rows_are_quantized_to_half_a_step() {
    for most in [0.0, 1e-44, 1e-30, 1.0, 1e30, 3e38_f32] {
        let row = [most, -most, most / 2.0, 0.0, most / 3.0];
        let mut quantized = [7; 8];
        let step = quantize(&row, &mut quantized);
        for (&value, &level) in row.iter().zip(&quantized) {
            let back = (f32::from(level) - f32::from(ZERO)) * step;
            assert!((back - value).abs() <= 0.5001 * step, "{value} became {back}");
        }
        assert_eq!(quantized[5..], [ZERO; 3]);
    }
}

#[test]
fn a_row_with_a_value_that_is_not_finite_becomes_nan_and_others_do_not() {
    let weight = QuantizedWeight::new(&[1; 21 * 3], vec![0.5, 0.0, 1.0], 21);
    for (bad, at) in [(f32::NAN, 0), (f32::INFINITY, 15), (f32::NEG_INFINITY, 16), (f32::NAN, 20)] {
        let mut input = [1.0; 42];
        input[at] = bad;
        let mut output = [0.0; 6];
        let path = Path::choose(None).unwrap();
        layer(path, &input, &weight, &[0.0, 2.0, 0.0], &mut output);
        assert!(output[..3].iter().all(|value| value.is_nan()), "{output:?}");
        for (value, expected) in output[3..].iter().zip([10.5, 2.0, 21.0]) {
            assert!((value - expected).abs() < 1e-4, "{output:?}");
        }
    }
}

#[test]
fn a_path_that_does_not_exist_is_an_error_that_lists_those_there_are() {
    assert_eq!(Path::choose(Some("portable")), Ok(Path::Portable));
    let error = Path::choose(Some("neon")).unwrap_err();
    assert!(error.contains("\"neon\"") && error.contains("portable"), "{error}");
}
