//! Linear layers that share their input, packed: one first product for all of them.

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::matrix::{MatrixSource, Weight};
use super::product::{Epilogue, Rows, RowsMut, apply};

/// Multiplications behind the first product that are worth more than one thread.
const SHARED: usize = 64 * 1024;

/// A linear layer before packing: kept neurons dense, the others low-rank. A dense layer keeps all.
#[derive(Clone, Copy)]
pub struct LayerSource<'a> {
    /// `[K; R]ᵀ: [d_input, kept + rank]`.
    pub first: MatrixSource<'a>,
    /// `L′ᵀ: [rank, d_output − kept]`; `None` without a low-rank part.
    pub left: Option<MatrixSource<'a>>,
    /// `[d_output]`: position of every output in `[kept | others]`; `None`: in order.
    pub order: Option<&'a [i64]>,
    /// `[d_output]`.
    pub bias: Option<&'a [f32]>,
    /// Number of inputs.
    pub d_input: usize,
    /// Number of outputs.
    pub d_output: usize,
    /// Number of kept neurons.
    pub kept: usize,
    /// Length of the others' code.
    pub rank: usize,
}

/// Layers that share their input, with one first product `[K₁; R₁; K₂; R₂; …]` and outputs side by
/// side.
#[derive(Debug)]
pub struct PackedLayers {
    first: Weight,
    bias: Vec<f32>,
    /// Empty where the first product gives the outputs themselves.
    parts: Vec<Part>,
    d_output: usize,
    epilogue: Epilogue,
}

/// One layer's outputs behind the first product.
#[derive(Debug)]
struct Part {
    /// First of the kept neurons' outputs in the first product; the code follows.
    hidden: usize,
    rank: usize,
    /// First output.
    from: usize,
    d_output: usize,
    /// `[rank, d_output]`, zero at kept neurons; without those that come first if `sorted`.
    spread: Weight,
    /// Output of every kept neuron.
    neurons: Vec<u32>,
    /// Whether kept neurons come first, in order.
    sorted: bool,
}

impl LayerSource<'_> {
    fn position(&self, output: usize) -> usize {
        self.order.map_or(output, |order| order[output] as usize)
    }

    /// The output at every position of `[kept | others]`.
    pub fn outputs(&self) -> Vec<usize> {
        let mut outputs = vec![0; self.d_output];
        (0..self.d_output).for_each(|output| outputs[self.position(output)] = output);
        outputs
    }
}

impl PackedLayers {
    /// Packs layers.
    ///
    /// `inputs` says which input of the layers stands at each position of what they will be given,
    /// `None`: all in order. If `sorted`, outputs are left in the order `[kept | others]`.
    pub fn new(
        sources: &[LayerSource<'_>],
        inputs: Option<&[usize]>,
        sorted: bool,
        epilogue: Epilogue,
    ) -> Self {
        let d_input = sources.first().map_or(0, |source| source.d_input);
        let firsts: Vec<_> =
            sources.iter().map(|source| (source.first, source.kept + source.rank)).collect();
        let first = Weight::side_by_side(&firsts, d_input, inputs);
        let (mut bias, mut parts, mut hidden) = (Vec::new(), Vec::new(), 0);
        for source in sources {
            let outputs = source.outputs();
            let from = bias.len();
            let value = |output: usize| source.bias.map_or(0.0, |bias| bias[output]);
            match sorted {
                true => bias.extend(outputs.iter().map(|&output| value(output))),
                false => bias.extend((0..source.d_output).map(value)),
            }
            parts.push(Part::new(source, &outputs, hidden, from, sorted));
            hidden += source.kept + source.rank;
        }
        let direct =
            |part: &Part| part.sorted && part.rank == 0 && part.neurons.len() == part.d_output;
        if parts.iter().all(direct) {
            parts.clear();
        }
        let d_output = bias.len();
        Self { first, bias, parts, d_output, epilogue }
    }

    /// Number of outputs of all layers.
    pub fn d_output(&self) -> usize {
        self.d_output
    }

    /// Whether the first product is of 8-bit integers.
    pub fn has_integers(&self) -> bool {
        matches!(self.first, Weight::Int8(_))
    }

    /// `output[i] = epilogue(layers(input[i]))`, all rows on this thread. `hidden` is room for the
    /// first product.
    pub fn forward(&self, input: Rows<'_>, hidden: &mut Vec<f32>, output: RowsMut<'_>) {
        if self.parts.is_empty() {
            return self.first.product(input, Some(&self.bias), self.epilogue, output);
        }
        let rows = input.rows;
        let stride = self.hidden(hidden, rows);
        let target = RowsMut { values: hidden, stride };
        self.first.product(input, None, Epilogue::Identity, target);
        self.write(Rows { values: hidden, stride, rows }, output);
    }

    /// [`PackedLayers::forward`] by all threads, which share the weights: for few rows.
    pub fn forward_shared(&self, input: Rows<'_>, hidden: &mut Vec<f32>, output: RowsMut<'_>) {
        if self.parts.is_empty() {
            return self.first.product_shared(input, Some(&self.bias), self.epilogue, output);
        }
        let rows = input.rows;
        let stride = self.hidden(hidden, rows);
        let target = RowsMut { values: hidden, stride };
        self.first.product_shared(input, None, Epilogue::Identity, target);
        let cost: usize = self.parts.iter().map(|part| part.rank * part.d_output).sum();
        let threads = rayon::current_num_threads();
        if rows < 2 || threads < 2 || rows * cost < SHARED {
            return self.write(Rows { values: hidden, stride, rows }, output);
        }
        let height = rows.div_ceil(threads);
        let outputs = output.values.par_chunks_mut(height * output.stride);
        let hidden = hidden[..rows * stride].par_chunks(height * stride);
        outputs.zip(hidden).with_max_len(1).for_each(|(values, hidden)| {
            let rows = Rows { values: hidden, stride, rows: hidden.len() / stride };
            self.write(rows, RowsMut { values, stride: output.stride });
        });
    }

    /// Makes room for the first product; gives the distance of its rows.
    fn hidden(&self, hidden: &mut Vec<f32>, rows: usize) -> usize {
        // Rows begin at multiples of a cache line.
        let stride = self.first.d_output().next_multiple_of(16).max(16);
        grow(hidden, rows * stride);
        stride
    }

    /// All layers' outputs from the first product's.
    fn write(&self, hidden: Rows<'_>, output: RowsMut<'_>) {
        let RowsMut { values: output, stride } = output;
        for part in &self.parts {
            let hidden = Rows { values: &hidden.values[part.hidden..], ..hidden };
            let bias = &self.bias[part.from..][..part.d_output];
            let output = &mut output[part.from..];
            part.write(hidden, bias, self.epilogue, RowsMut { values: output, stride });
        }
    }
}

impl Part {
    fn new(
        source: &LayerSource<'_>,
        outputs: &[usize],
        hidden: usize,
        from: usize,
        sorted: bool,
    ) -> Self {
        let (kept, rank, d_output) = (source.kept, source.rank, source.d_output);
        let others = d_output - kept;
        let in_order = outputs.iter().enumerate().all(|(at, &output)| at == output);
        let sorted = sorted || in_order;
        let spread = match source.left.filter(|_| rank > 0 && others > 0) {
            None => Weight::default(),
            Some(left) if sorted => Weight::side_by_side(&[(left, others)], rank, None),
            Some(left) => Weight::scattered(left, rank, &outputs[kept..], d_output),
        };
        let neurons = match sorted {
            true => (0..kept as u32).collect(),
            false => outputs[..kept].iter().map(|&output| output as u32).collect(),
        };
        Self { hidden, rank, from, d_output, spread, neurons, sorted }
    }

    fn write(&self, hidden: Rows<'_>, bias: &[f32], epilogue: Epilogue, output: RowsMut<'_>) {
        let (kept, rows, stride) = (self.neurons.len(), hidden.rows, output.stride);
        let values = output.values;
        let first = if self.sorted { kept } else { 0 };
        if first < self.d_output && rows > 0 {
            if self.rank == 0 {
                // Nothing but the bias.
                for row in values.chunks_mut(stride).take(rows) {
                    row[first..self.d_output].copy_from_slice(&bias[first..]);
                    Arch::new().dispatch(Apply(epilogue, &mut row[first..self.d_output]));
                }
            } else {
                let code = Rows { values: &hidden.values[kept..], ..hidden };
                let output = RowsMut { values: &mut values[first..], stride };
                // Where kept neurons are not apart, theirs is overwritten below.
                self.spread.product(code, Some(&bias[first..]), epilogue, output);
            }
        }
        Arch::new().dispatch(KeptNeurons { part: self, hidden, bias, epilogue, values, stride });
    }
}

struct Apply<'a>(Epilogue, &'a mut [f32]);

impl WithSimd for Apply<'_> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        apply::<S>(self.0, self.1);
    }
}

/// Writes the kept neurons' outputs.
struct KeptNeurons<'a> {
    part: &'a Part,
    hidden: Rows<'a>,
    bias: &'a [f32],
    epilogue: Epilogue,
    values: &'a mut [f32],
    stride: usize,
}

impl WithSimd for KeptNeurons<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self { part, hidden, bias, epilogue, values, stride } = self;
        let kept = part.neurons.len();
        for at in 0..hidden.rows {
            let hidden = &hidden.values[at * hidden.stride..][..kept];
            let output = &mut values[at * stride..][..part.d_output];
            if part.sorted {
                let (output, bias) = (&mut output[..kept], &bias[..kept]);
                for ((output, hidden), bias) in output.iter_mut().zip(hidden).zip(bias) {
                    *output = hidden + bias;
                }
                apply::<S>(epilogue, output);
            } else {
                for (&neuron, hidden) in part.neurons.iter().zip(hidden) {
                    let neuron = neuron as usize;
                    let mut value = [hidden + bias[neuron]];
                    if epilogue != Epilogue::Identity {
                        apply::<S>(epilogue, &mut value);
                    }
                    output[neuron] = value[0];
                }
            }
        }
    }
}

/// Makes `values` at least `length` long.
pub fn grow(values: &mut Vec<f32>, length: usize) {
    if values.len() < length {
        values.resize(length, 0.0);
    }
}
