use super::*;

/// Values that look random, in `[-1, 1]`.
fn random(count: usize, seed: usize) -> Vec<f32> {
    let mut state = 0x9E37_79B9_7F4A_7C15u64.wrapping_mul(seed as u64 + 1);
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / 8_388_608.0 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

/// The parts of one head, as tests make them.
struct Case {
    length: usize,
    size: usize,
    scale: f32,
    /// Queries, keys and values: `[length, size]` each.
    parts: [Vec<f32>; 3],
    mask: Option<(Vec<f32>, usize)>,
    /// Tables of position keys and queries, `[2·length − 1, size]`.
    tables: [Option<Vec<f32>>; 2],
    rows: Vec<usize>,
}

impl Case {
    fn new(length: usize, size: usize) -> Self {
        let parts = [1, 2, 3].map(|seed| random(length * size, seed));
        let rows = (0..2 * length - 1).collect();
        let scale = 1.0 / (size as f32).sqrt();
        Self { length, size, scale, parts, mask: None, tables: [None, None], rows }
    }

    fn row(&self, part: usize, at: usize) -> &[f32] {
        &self.parts[part][at * self.size..][..self.size]
    }

    /// Rows are three values longer than a head; those must stay.
    fn attend(&self, scratch: &mut Scratch) -> Vec<f32> {
        let table = |values: &'_ Option<Vec<f32>>| {
            let rows = self.rows.as_slice();
            values.as_ref().map(|values| HeadTable {
                values: unsafe { std::slice::from_raw_parts(values.as_ptr(), values.len()) },
                stride: self.size,
                rows,
            })
        };
        let [keys, queries] = [table(&self.tables[0]), table(&self.tables[1])];
        let relative =
            (keys.is_some() || queries.is_some()).then_some(HeadRelative { keys, queries });
        let stride = self.size + 3;
        let mut output = vec![7.0; self.length * stride];
        let head = Head {
            length: self.length,
            head_size: self.size,
            scale: self.scale,
            mask: self.mask.as_ref().map(|(mask, stride)| (mask.as_slice(), *stride)),
            relative,
            row: |part, at| self.row(part, at),
        };
        let target = Target { values: output.as_mut_ptr(), stride };
        // SAFETY: `output` has room, and the processor is asked for.
        unsafe { head.attend(scratch, target) };
        let rows = output.chunks_exact(stride);
        assert!(rows.clone().all(|row| row[self.size..] == [7.0; 3]), "written beyond a row");
        rows.flat_map(|row| row[..self.size].to_vec()).collect()
    }

    /// In 64-bit floats.
    fn exact(&self) -> Vec<f64> {
        let dot = |a: &[f32], b: &[f32]| -> f64 {
            a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
        };
        let scale = f64::from(self.scale);
        let position = |table: usize, vector: &[f32], difference: usize| {
            let table = self.tables[table].as_ref();
            table.map_or(0.0, |values| {
                dot(vector, &values[self.rows[difference] * self.size..][..self.size])
            })
        };
        let score = |i: usize, j: usize| {
            let (query, key) = (self.row(0, i), self.row(1, j));
            let content = dot(query, key) + position(0, query, j + self.length - 1 - i);
            let mask = self.mask.as_ref();
            let mask = mask.map_or(0.0, |(mask, stride)| f64::from(mask[i * stride + j]));
            scale * content + position(1, key, i + self.length - 1 - j) + mask
        };
        (0..self.length)
            .flat_map(|i| {
                let scores: Vec<f64> = (0..self.length).map(|j| score(i, j)).collect();
                let most = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                let weights: Vec<f64> = scores.iter().map(|s| (s - most).exp()).collect();
                let sum: f64 = weights.iter().sum();
                let value = |at: usize| {
                    let values = (0..self.length).map(|j| f64::from(self.row(2, j)[at]));
                    values.zip(&weights).map(|(value, weight)| value * weight).sum::<f64>() / sum
                };
                (0..self.size).map(value).collect::<Vec<f64>>()
            })
            .collect()
    }

    /// How far rounding can move a context: all values are in `[-1, 1]`.
    fn bound(&self) -> f64 {
        let (size, length) = (self.size as f64, self.length as f64);
        let most = (2f64.powi(31) / size).sqrt().min(32767.0).floor() - 1.0;
        // Half a step of either side of each product.
        let product = size / most + 1e-5;
        let tables = self.tables.iter().flatten().count() as f64;
        let score =
            f64::from(self.scale) * product + tables * product * f64::from(self.scale.max(1.0));
        // Half a step of every probability, of which there are 32,767 levels each or 250,000 together, and of a value.
        2.0 * score + 0.5 * length / 32767f64.max(250_000.0 / length) + 0.5 / 8191.0 + 1e-5
    }

    fn check(&self, scratch: &mut Scratch, name: &str) {
        let (found, exact) = (self.attend(scratch), self.exact());
        let off = found.iter().zip(&exact).map(|(a, b)| (f64::from(*a) - b).abs());
        let worst = off.fold(0.0, |most, x| if x > most || x.is_nan() { x } else { most });
        println!("{name}, {} x {}: off by {worst:.1e}", self.length, self.size);
        assert!(worst <= self.bound(), "{name}: {worst} > {}", self.bound());
    }
}

fn available() -> bool {
    let available = has_int16();
    if !available {
        println!("not run, since this processor lacks it: avx512-vnni");
    }
    available
}

const SHAPES: [(usize, usize); 9] =
    [(1, 64), (2, 1), (5, 32), (16, 8), (17, 33), (48, 64), (100, 48), (128, 64), (133, 128)];

#[test]
fn contexts_are_as_exact_as_the_levels_allow() {
    if !available() {
        return;
    }
    let mut scratch = Scratch::default();
    for (length, size) in SHAPES {
        let mut case = Case::new(length, size);
        case.check(&mut scratch, "plain");
        let mut mask = vec![0.0; length];
        mask[length / 2..].fill(f32::MIN);
        mask[0] = 0.0;
        case.mask = Some((mask, 0));
        case.check(&mut scratch, "one row of a mask");
        case.mask = Some((random(length * length, 9), length));
        case.check(&mut scratch, "a row of a mask for each query");
        case.mask = Some((vec![f32::MIN; length], 0));
        case.check(&mut scratch, "all masked");
    }
}

#[test]
fn positions_count_as_keys_and_as_queries() {
    if !available() {
        return;
    }
    let mut scratch = Scratch::default();
    for (length, size) in SHAPES {
        let mut case = Case::new(length, size);
        let table = |seed| Some(random((2 * length - 1) * size, seed));
        for tables in [[table(4), None], [None, table(5)], [table(4), table(5)]] {
            case.tables = tables;
            case.check(&mut scratch, "positions");
        }
        // As with buckets: several differences have one row.
        case.rows.iter_mut().for_each(|row| *row /= 2);
        case.check(&mut scratch, "shared positions");
    }
}

#[test]
fn great_and_tiny_values_are_rounded_with_scales_of_their_own() {
    if !available() {
        return;
    }
    let mut case = Case::new(20, 32);
    for (at, value) in case.parts[1].iter_mut().enumerate() {
        *value *= [1e-20, 1.0, 30.0, 0.0][at / 32 % 4];
    }
    case.scale /= 30.0;
    case.check(&mut Scratch::default(), "keys of different sizes");
}

/// All levels at their ends: the greatest sums there can be.
#[test]
fn sums_of_equal_values_do_not_overflow() {
    if !available() {
        return;
    }
    for size in [1, 2, 8, 32, 128] {
        let mut case = Case::new(40, size);
        case.parts[0].fill(-3.0);
        case.parts[1].fill(3.0);
        // The first two keys get scores unlike the others'.
        case.parts[1][..2 * size].fill(-3.0);
        case.scale = 0.3 / size as f32;
        case.check(&mut Scratch::default(), "equal values");
        case.parts[2].fill(1.0);
        case.check(&mut Scratch::default(), "all equal");
    }
}

#[test]
fn what_is_not_finite_becomes_nan() {
    if !available() {
        return;
    }
    let mut scratch = Scratch::default();
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        for part in 0..3 {
            let mut case = Case::new(20, 32);
            case.parts[part][3 * 32 + 5] = bad;
            let output = case.attend(&mut scratch);
            let is_nan = |row: &[f32]| row.iter().all(|value| value.is_nan());
            for (at, row) in output.chunks_exact(32).enumerate() {
                assert_eq!(is_nan(row), part > 0 || at == 3, "{bad} in part {part}, row {at}");
            }
        }
    }
    Case::new(20, 32).check(&mut scratch, "afterwards");
}

/// Products of two matrices against those in 64-bit floats, by a bound from the steps of both.
#[test]
fn products_of_a_training_are_as_exact_as_the_levels_allow() {
    if !available() {
        return;
    }
    for (rows, d_input, d_output) in
        [(1, 1, 1), (3, 7, 20), (40, 33, 17), (50, 600, 70), (1100, 48, 33), (97, 1537, 64)]
    {
        let x = random(rows * d_input, 1);
        let weight = random(d_input * d_output, 2);
        let bias = random(d_output, 3);
        let grad = random(rows * d_output, 4);
        let at = |matrix: &[f32], width: usize, row: usize, column: usize| {
            f64::from(matrix[row * width + column])
        };
        let check = |name: &str,
                     found: Vec<f32>,
                     depth: usize,
                     width: usize,
                     exact: &dyn Fn(usize, usize) -> f64| {
            // Half a step of either factor.
            let bound = depth as f64 / 2047.0 + 1e-5 * depth as f64;
            let mut worst = 0.0;
            for (i, value) in found.iter().enumerate() {
                let off = (f64::from(*value) - exact(i / width, i % width)).abs();
                assert!(off <= bound, "{name} {rows} x {d_input} x {d_output}: {off} > {bound}");
                worst = off.max(worst);
            }
            println!("{name}, {rows} x {d_input} x {d_output}: off by {worst:.1e}");
        };
        let found = training::forward(&x, &weight, &bias);
        check("forward", found, d_input, d_output, &|row, column| {
            let products =
                (0..d_input).map(|k| at(&x, d_input, row, k) * at(&weight, d_output, k, column));
            products.sum::<f64>() + f64::from(bias[column])
        });
        let found = training::input_gradient(&grad, &weight, d_output);
        check("input", found, d_output, d_input, &|row, column| {
            (0..d_output)
                .map(|k| at(&grad, d_output, row, k) * at(&weight, d_output, column, k))
                .sum()
        });
        let found = training::weight_gradient(&x, &grad, d_output);
        check("weight", found, rows, d_output, &|row, column| {
            (0..rows).map(|k| at(&x, d_input, k, row) * at(&grad, d_output, k, column)).sum()
        });
    }
}

#[test]
fn a_factor_that_is_not_finite_makes_its_products_nan_and_no_others() {
    if !available() {
        return;
    }
    let (x, weight) = (random(20 * 40, 1), random(40 * 24, 2));
    for bad in [f32::NAN, f32::INFINITY] {
        let mut row = x.clone();
        row[3 * 40 + 39] = bad;
        let output = training::forward(&row, &weight, &[0.0; 24]);
        let is_nan = |at: usize| output[at].is_nan();
        assert!((0..20 * 24).all(|at| is_nan(at) == (at / 24 == 3)));
        let mut column = weight.clone();
        column[39 * 24 + 20] = bad;
        let output = training::forward(&x, &column, &[0.0; 24]);
        assert!((0..20 * 24).all(|at| output[at].is_nan() == (at % 24 == 20)));
        let output = training::weight_gradient(&row, &random(20 * 24, 5), 24);
        assert!((0..40 * 24).all(|at| output[at].is_nan() == (at / 24 == 39)));
    }
}
