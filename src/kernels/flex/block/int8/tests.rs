use super::*;

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
            let steps = (0..rows).map(|row| Step { scale: 1.0, zero: [255, 0, 97][row % 3] });
            let quantized = Quantized { values: input, steps: steps.collect() };
            let mut output = vec![f32::NAN; rows * d_output];
            let block = Block {
                path,
                quantized: &quantized,
                weight: &weight,
                bias: None,
                epilogue: Epilogue::Identity,
                output: Target { values: output.as_mut_ptr(), stride: d_output },
            };
            // SAFETY: `output` has room for all rows and neurons.
            unsafe { block.run(0..block.pairs()) };
            for (at, sum) in output.into_iter().enumerate() {
                let (row, neuron) = (at / d_output, at % d_output);
                let product = |at: usize| {
                    let level = i64::from(quantized.values[row * width + at]);
                    (level - i64::from(quantized.steps[row].zero))
                        * i64::from(matrix[at * d_output + neuron])
                };
                let expected: i64 = (0..d_input).map(product).sum();
                // The 32-bit sum is converted to the nearest float.
                assert_eq!(sum, expected as f32, "{name}, row {row}, neuron {neuron}");
            }
        }
    }
}

#[test]
fn rows_become_the_same_levels_on_all_paths() {
    let mut numbers = Numbers(88_172_645_463_325_252);
    for width in [1, 15, 16, 17, 63, 64, 65, 200, 768] {
        for offset in [0.0, -3.0, 0.7] {
            let uniform = |random: u64| (random >> 40) as f32 / 8_388_608.0 - 1.0 + offset;
            let input: Vec<f32> = (0..3 * width).map(|_| uniform(numbers.next())).collect();
            let weight = QuantizedWeight::new(&vec![1; width], vec![1.0], width);
            let run = |path: Path| {
                let mut quantized = Quantized { values: vec![7; 3 * width], steps: Vec::new() };
                let (input, quantized_rows) = (view(&input, width), &mut quantized);
                let rows = QuantizeRows { path, input, weight: &weight, quantized: quantized_rows };
                Arch::new().dispatch(rows);
                (quantized.values, quantized.steps)
            };
            for (_, path) in Path::ALL.into_iter().filter(|(_, path)| path.is_available()) {
                assert_eq!(run(path), run(Path::Portable), "{path:?}, {width}, {offset}");
            }
        }
    }
}

/// [`quantize`] with the processor's best instructions.
fn quantized(row: &[f32], levels: &mut [u8]) -> Step {
    struct Row<'a>(&'a [f32], &'a mut [u8]);
    impl WithSimd for Row<'_> {
        type Output = Step;
        fn with_simd<S: Simd>(self, simd: S) -> Step {
            quantize(simd, self.0, self.1)
        }
    }
    Arch::new().dispatch(Row(row, levels))
}

#[test]
fn rows_are_quantized_to_half_a_step() {
    let rows: [&[f32]; 8] = [
        &[0.0; 5],
        &[1e-44, -1e-44, 0.0],
        &[1e-30, 1e-31, 5e-31],
        &[-1.0, -0.5, -0.001],
        &[-0.17, 3.0, 1.5, 0.0, 0.7],
        &[3e38, -3e38, 1e38],
        &[f32::MAX, f32::MIN, 0.0],
        &[0.1; 37],
    ];
    for row in rows {
        let mut levels = [7; 40];
        let Step { scale, zero } = quantized(row, &mut levels);
        assert!((0..=255).contains(&zero));
        for (&value, &level) in row.iter().zip(&levels) {
            let back = f64::from(i32::from(level) - zero) * f64::from(scale);
            let off = (back - f64::from(value)).abs();
            // Half a step of the value, half of the zero point.
            assert!(off <= 1.0001 * f64::from(scale), "{value} became {back} (step {scale})");
        }
        assert!(levels[row.len()..].iter().all(|&level| i32::from(level) == zero));
        let exact = row.iter().position(|value| *value == 0.0);
        assert!(exact.is_none_or(|at| i32::from(levels[at]) == zero), "zero is exact");
    }
}

fn view(values: &[f32], stride: usize) -> Rows<'_> {
    Rows { values, stride, rows: values.len() / stride }
}

#[test]
fn products_equal_those_of_levels_in_64_bits() {
    let mut numbers = Numbers(88_172_645_463_325_252);
    let mut uniform = || (numbers.next() >> 40) as f32 / 8_388_608.0 - 1.0;
    for (rows, d_input, d_output) in SIZES {
        let input: Vec<f32> = (0..rows * d_input).map(|_| uniform() * 3.0 + 1.0).collect();
        let matrix: Vec<i8> = (0..d_input * d_output).map(|_| (uniform() * 127.0) as i8).collect();
        let scales: Vec<f32> = (0..d_output).map(|_| uniform().abs() / 127.0).collect();
        let bias: Vec<f32> = (0..d_output).map(|_| uniform()).collect();
        let weight = QuantizedWeight::new(&matrix, scales.clone(), d_input);
        let mut output = vec![f32::NAN; rows * (d_output + 3)];
        let target = RowsMut { values: &mut output, stride: d_output + 3 };
        product(view(&input, d_input), &weight, Some(&bias), Epilogue::Relu, target);
        let mut shared = vec![f32::NAN; rows * (d_output + 3)];
        let target = RowsMut { values: &mut shared, stride: d_output + 3 };
        product_shared(view(&input, d_input), &weight, Some(&bias), Epilogue::Relu, target);
        for (row, input) in input.chunks_exact(d_input).enumerate() {
            let mut levels = vec![0; weight.width()];
            let Step { scale, zero } = quantized(input, &mut levels);
            for neuron in 0..d_output {
                let product = |at: usize| {
                    i64::from(i32::from(levels[at]) - zero)
                        * i64::from(matrix[at * d_output + neuron])
                };
                let sum = (0..d_input).map(product).sum::<i64>() as f64;
                let expected = sum * f64::from(scale) * f64::from(scales[neuron]);
                let expected = (expected + f64::from(bias[neuron])).max(0.0);
                let found = output[row * (d_output + 3) + neuron];
                let off = (f64::from(found) - expected).abs();
                assert!(off <= 1e-6 * (1.0 + expected.abs()), "{found} for {expected}");
                assert_eq!(found, shared[row * (d_output + 3) + neuron]);
            }
        }
    }
}

#[test]
fn a_row_with_a_value_that_is_not_finite_becomes_nan_and_others_do_not() {
    let weight = QuantizedWeight::new(&[1; 21 * 3], vec![0.5, 0.0, 1.0], 21);
    for (bad, at) in [(f32::NAN, 0), (f32::INFINITY, 15), (f32::NEG_INFINITY, 16), (f32::NAN, 20)] {
        let mut input = [1.0; 42];
        input[at] = bad;
        let mut output = [0.0; 6];
        let target = RowsMut { values: &mut output, stride: 3 };
        product(view(&input, 21), &weight, Some(&[0.0, 2.0, 0.0]), Epilogue::Identity, target);
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
