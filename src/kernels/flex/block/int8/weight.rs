//! Weights in eight bits, packed for sums.

/// Neurons in a panel.
pub(super) const LANES: usize = 16;
/// More inputs than this could overflow a sum of 32 bits, or of 16 bits the 128th part of a sum of weights.
const MOST_INPUTS: usize = i16::MAX as usize;
/// Neurons of two panels, whose sums are made together.
pub(super) const PAIR: usize = 2 * LANES;
/// Bytes of a panel's group: four inputs of each neuron.
pub(super) const GROUP: usize = 4 * LANES;

/// Weights to ask for meanwhile: they are in the second-level cache when their turn comes.
#[derive(Clone, Copy)]
pub(super) struct Ahead {
    /// The first line; it may lie behind the weight.
    pub(super) start: *const i8,
    /// Number of lines.
    pub(super) lines: usize,
}

/// A matrix `[d_input, d_output]` in panels of neurons, each in groups of four inputs; missing
/// inputs and neurons are 0.
#[derive(Debug, Clone)]
pub(crate) struct QuantizedWeight {
    pub(in super::super) d_input: usize,
    pub(in super::super) d_output: usize,
    /// Groups of four inputs.
    pub(super) groups: usize,
    /// `[panels, groups, LANES, 4]`.
    pub(super) values: Vec<i8>,
    /// Sum of each neuron's weights, of whole pairs of panels.
    pub(super) column_sums: Vec<[i32; PAIR]>,
    /// One step of each neuron's weights, as above.
    pub(super) scales: Vec<[f32; PAIR]>,
}

impl QuantizedWeight {
    /// Packs `matrix[input · d_output + output]`.
    ///
    /// # Panics
    /// If a neuron has more than 32,767 inputs.
    pub(crate) fn new(matrix: &[i8], scales: Vec<f32>, d_input: usize) -> Self {
        let d_output = scales.len();
        Self::pack(d_input, scales, |input, output| matrix[input * d_output + output])
    }

    /// Packs the transpose of `matrix: [d_output, d_input]`.
    ///
    /// # Panics
    /// As [`QuantizedWeight::new`].
    pub(crate) fn transposed(matrix: &[i8], scales: Vec<f32>, d_input: usize) -> Self {
        Self::pack(d_input, scales, |input, output| matrix[output * d_input + input])
    }

    /// Packs the weights that `at` gives by input and output.
    fn pack(d_input: usize, scales: Vec<f32>, at: impl Fn(usize, usize) -> i8) -> Self {
        assert!(d_input <= MOST_INPUTS, "{d_input} inputs could overflow a sum");
        let d_output = scales.len();
        let (groups, panels) = (d_input.div_ceil(4), d_output.div_ceil(LANES));
        let mut values = vec![0; panels * groups * GROUP];
        let mut column_sums = vec![[0; PAIR]; d_output.div_ceil(PAIR)];
        let mut padded = vec![[0.0; PAIR]; column_sums.len()];
        padded.as_flattened_mut()[..d_output].copy_from_slice(&scales);
        for (output, sum) in column_sums.as_flattened_mut()[..d_output].iter_mut().enumerate() {
            for input in 0..d_input {
                let value = at(input, output);
                let group = output / LANES * groups + input / 4;
                values[group * GROUP + output % LANES * 4 + input % 4] = value;
                *sum += i32::from(value);
            }
        }
        Self { d_input, d_output, groups, values, column_sums, scales: padded }
    }

    /// Bytes of a row of levels.
    pub(super) fn width(&self) -> usize {
        self.groups * 4
    }

    pub(super) fn panels(&self) -> usize {
        self.d_output.div_ceil(LANES)
    }
}
