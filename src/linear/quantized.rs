//! Dense and compact layers in 8-bit integers, for inference.

use burn::module::{Module, Param, ParamId};
use burn::nn::Linear;
use burn::tensor::{DType, Device, Int, Tensor, TensorData, assert_shape};

use super::{CompactLinear, CompressibleLinear, indices, leaf};
use crate::kernels::{LayerWeights, Matrix, is_flex_f32};
use crate::ops::{PackableLinear, PackedLinear};

/// Largest level of a weight.
const MOST: f32 = 127.0;

/// A matrix of 8-bit integers with a scale for every column: `w ≈ scale · level`, where
/// `scale = max |w| / 127` of the column and `level = round(w / scale)`.
#[derive(Module, Debug)]
pub struct Int8Matrix {
    /// `[rows, columns]`, from −127 to 127.
    pub levels: Param<Tensor<2, Int>>,
    /// `[columns]`; 0 where all levels are.
    pub scales: Param<Tensor<1>>,
}

impl Int8Matrix {
    /// `levels: [rows, columns]` with the scales of columns.
    pub(crate) fn new(levels: Vec<i8>, rows: usize, scales: Vec<f32>, device: &Device) -> Self {
        let shape = [rows, scales.len()];
        let (levels, scales) = params(levels, shape, scales, device);
        Self { levels, scales }
    }

    /// Rounds a matrix.
    ///
    /// # Shapes
    /// - `matrix`: `[rows, columns]`
    pub fn quantize(matrix: &Tensor<2>) -> Self {
        let [rows, columns] = matrix.dims();
        let values = super::to_vec(matrix.clone().transpose());
        let (levels, scales) = quantize_rows(&values, columns);
        let row = |row| levels.iter().skip(row).step_by(rows).copied();
        Self::new((0..rows).flat_map(row).collect(), rows, scales, &matrix.device())
    }

    /// The rounded matrix, `[rows, columns]`.
    pub fn dequantize(&self) -> Tensor<2> {
        let scales = self.scales.val();
        if self.dims().contains(&0) {
            // Burn cannot reshape an empty tensor.
            return Tensor::zeros(self.dims(), &scales.device());
        }
        self.levels.val().float().cast(scales.dtype()) * scales.unsqueeze()
    }

    /// Levels row by row, and scales.
    pub(crate) fn to_vecs(&self) -> (Vec<i8>, Vec<f32>) {
        (int8_vec(self.levels.val()), super::to_vec(self.scales.val()))
    }

    /// `[rows, columns]`.
    pub fn dims(&self) -> [usize; 2] {
        self.levels.lazy_shape().dims()
    }

    fn matrix(&self) -> Matrix {
        Matrix::Int8 { values: self.levels.val(), scales: self.scales.val() }
    }
}

/// Rounds a matrix of `rows` with a scale for each: its levels, and the scales.
pub(crate) fn quantize_rows(values: &[f32], rows: usize) -> (Vec<i8>, Vec<f32>) {
    let width = values.len().checked_div(rows).unwrap_or(0).max(1);
    let (mut levels, mut scales) = (Vec::with_capacity(values.len()), vec![0.0; rows]);
    for (row, of_row) in values.chunks(width).zip(&mut scales) {
        *of_row = row.iter().fold(0.0, |most: f32, value| most.max(value.abs())) / MOST;
        // A scale that rounds to zero belongs to values that are zero.
        let inverse = if *of_row > 0.0 { 1.0 / *of_row } else { 0.0 };
        let level = |value: &f32| (value * inverse).round().clamp(-MOST, MOST) as i8;
        levels.extend(row.iter().map(level));
    }
    (levels, scales)
}

/// The levels, row by row.
pub(super) fn int8_vec(levels: Tensor<2, Int>) -> Vec<i8> {
    levels.into_data().iter::<i8>().collect()
}

/// Levels and scales as parameters.
pub(super) fn params(
    levels: Vec<i8>,
    shape: [usize; 2],
    scales: Vec<f32>,
    device: &Device,
) -> (Param<Tensor<2, Int>>, Param<Tensor<1>>) {
    let device = device.clone().without_autodiff();
    let count = scales.len();
    let scales = Tensor::from_data(TensorData::new(scales, [count]), &device);
    let levels = TensorData::new(levels, shape);
    let levels = match is_flex_f32(&scales) {
        true => Tensor::from_data(levels, (&device, DType::I8)),
        // Others may have no integers of 8 bits; there the levels become floats at once.
        false => Tensor::from_data(levels, &device),
    };
    (Param::initialized(ParamId::new(), levels), leaf(scales))
}

/// A [`CompactLinear`] whose matrices are 8-bit integers with a scale for every neuron; one that keeps all
/// neurons stands for a dense layer.
///
/// On `flex`, inference quantizes each token's inputs to 8 bits, too, with a scale and a zero point of its
/// own, and sums products as integers. Elsewhere weights become floats first.
#[derive(Module, Debug)]
pub struct QuantizedLinear {
    /// `[K; R]ᵀ: [d_input, kept + rank]`.
    pub first: Int8Matrix,
    /// `L′ᵀ: [rank, d_output − kept]`; `None` at rank 0 or when every neuron is kept.
    pub left: Option<Int8Matrix>,
    /// `[d_output]`, in the layer's own order of outputs.
    pub bias: Option<Param<Tensor<1>>>,
    /// `[d_output]`: position of each output in `[kept | others]`; `None`: in order already.
    pub order: Option<Param<Tensor<1, Int>>>,
    /// Number of kept neurons.
    pub kept: usize,
    /// Number of outputs.
    pub d_output: usize,
    /// Packed weights that a backend prepares for [`QuantizedLinear::forward`].
    #[module(skip)]
    pub(crate) packed: PackedLinear,
}

impl QuantizedLinear {
    /// A layer of its parts: `bias` and `order` are `[d_output]`.
    pub(crate) fn new(
        first: Int8Matrix,
        left: Option<Int8Matrix>,
        bias: Option<Tensor<1>>,
        order: Option<Vec<i64>>,
        [kept, d_output]: [usize; 2],
    ) -> Self {
        let device = first.scales.lazy_device();
        Self {
            first,
            left,
            bias: bias.map(leaf),
            order: order.map(|order| indices(order, &device)),
            kept,
            d_output,
            packed: PackedLinear::default(),
        }
    }

    /// The layer as its backend computes with it: as it is, or in floats.
    pub(crate) fn on_backend(self) -> CompressibleLinear {
        match is_flex_f32(&self.first.scales.val()) {
            true => CompressibleLinear::Quantized(self),
            false => self.dequantize(),
        }
    }

    /// `[d_input, d_output]`.
    pub fn dims(&self) -> [usize; 2] {
        [self.first.dims()[0], self.d_output]
    }

    /// The rank of the low-rank part, 0 without one.
    pub fn rank(&self) -> usize {
        self.first.dims()[1] - self.kept
    }

    /// Elements of `K`, `R` and `L′`.
    pub fn weight_elements(&self) -> usize {
        let elements = |matrix: &Int8Matrix| matrix.dims().iter().product::<usize>();
        elements(&self.first) + self.left.as_ref().map_or(0, elements)
    }

    /// Applies the layer.
    ///
    /// # Shapes
    /// - input: `[.., d_input]`
    /// - output: `[.., d_output]`
    ///
    /// # Panics
    /// If the last axis of `input` is not `d_input`.
    pub fn forward<const D: usize>(&self, input: Tensor<D>) -> Tensor<D> {
        let [d_input, _] = self.dims();
        assert_shape!(input, [.., d_input]);
        self.packed.forward(self, input, |input| self.dequantize().forward(input))
    }

    /// Whether it stands for a dense layer.
    pub(crate) fn is_dense(&self) -> bool {
        self.kept == self.d_output && self.order.is_none()
    }

    /// The layer in floats.
    pub fn dequantize(&self) -> CompressibleLinear {
        let (first, bias) = (leaf(self.first.dequantize()), self.bias.clone());
        if self.is_dense() {
            return CompressibleLinear::Dense(Linear { weight: first, bias });
        }
        CompressibleLinear::Compact(CompactLinear {
            first,
            left: self.left.as_ref().map(|left| leaf(left.dequantize())),
            bias,
            order: self.order.clone(),
            kept: self.kept,
            d_output: self.d_output,
            cache: Default::default(),
        })
    }
}

impl PackableLinear for QuantizedLinear {
    fn weights(&self) -> Option<LayerWeights> {
        Some(LayerWeights {
            first: self.first.matrix(),
            left: self.left.as_ref().map(Int8Matrix::matrix),
            order: self.order.as_ref().map(|order| order.val()),
            bias: self.bias.as_ref().map(|bias| bias.val()),
            kept: self.kept,
            d_output: self.d_output,
        })
    }
}

impl CompressibleLinear {
    /// The layer in 8-bit integers. On backends that do not compute in them, weights are rounded alike and
    /// stay floats. Layers in training form and after column pruning stay as they are.
    pub fn quantize(self) -> Self {
        let quantized = match &self {
            Self::Dense(linear) => QuantizedLinear {
                first: Int8Matrix::quantize(&linear.weight.val()),
                left: None,
                bias: linear.bias.clone(),
                order: None,
                kept: self.dims()[1],
                d_output: self.dims()[1],
                packed: PackedLinear::default(),
            },
            Self::Compact(linear) => QuantizedLinear {
                first: Int8Matrix::quantize(&linear.first.val()),
                left: linear.left.as_ref().map(|left| Int8Matrix::quantize(&left.val())),
                bias: linear.bias.clone(),
                order: linear.order.clone(),
                kept: linear.kept,
                d_output: linear.d_output,
                packed: PackedLinear::default(),
            },
            Self::LowRankSparse(_) | Self::InputCompact(_) | Self::Quantized(_) => return self,
        };
        quantized.on_backend()
    }

    /// The layer in floats, if it is in 8-bit integers.
    pub fn dequantize(self) -> Self {
        match self {
            Self::Quantized(linear) => linear.dequantize(),
            other => other,
        }
    }
}

#[cfg(all(test, feature = "flex"))]
#[path = "quantized_tests.rs"]
mod tests;
