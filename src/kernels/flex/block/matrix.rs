//! Weights of layers, packed in the numbers that they are given in.

use std::borrow::Cow;

use super::int8::{self, QuantizedWeight};
use super::product::{self, Epilogue, Rows, RowsMut};
use super::weight::PackedWeight;

/// A matrix, row-major.
#[derive(Clone, Copy)]
pub enum MatrixSource<'a> {
    /// 32-bit floats.
    Float(&'a [f32]),
    /// 8-bit integers.
    Int8 {
        /// Row-major.
        values: &'a [i8],
        /// Scale of every column.
        scales: &'a [f32],
    },
}

/// A packed matrix.
#[derive(Debug)]
pub enum Weight {
    /// 32-bit floats.
    Float(PackedWeight),
    /// 8-bit integers; inputs are quantized as they come.
    Int8(QuantizedWeight),
}

impl Default for Weight {
    fn default() -> Self {
        Self::Float(PackedWeight::default())
    }
}

impl<'a> MatrixSource<'a> {
    fn as_floats(self) -> Cow<'a, [f32]> {
        match self {
            Self::Float(values) => Cow::Borrowed(values),
            Self::Int8 { values, scales } => {
                let rows = values.chunks_exact(scales.len().max(1));
                let scaled = |(value, scale): (&i8, &f32)| f32::from(*value) * scale;
                Cow::Owned(rows.flat_map(|row| row.iter().zip(scales).map(scaled)).collect())
            }
        }
    }

    fn as_int8(self) -> Option<(&'a [i8], &'a [f32])> {
        match self {
            Self::Float(_) => None,
            Self::Int8 { values, scales } => Some((values, scales)),
        }
    }
}

impl Weight {
    /// Packs matrices with as many rows each and the given numbers of columns side by side. `order` says
    /// which row stands at each place; `None`: all in order. Matrices of different numbers are all
    /// computed with in 32-bit floats.
    pub fn side_by_side(
        parts: &[(MatrixSource<'_>, usize)],
        rows: usize,
        order: Option<&[usize]>,
    ) -> Self {
        let width = parts.iter().map(|(_, width)| width).sum();
        let integers: Option<Vec<_>> = parts.iter().map(|(part, _)| part.as_int8()).collect();
        let widths = parts.iter().map(|(_, width)| *width);
        if let Some(integers) = integers.filter(|parts| !parts.is_empty()) {
            let values = integers.iter().map(|(values, _)| *values).zip(widths);
            let matrix = joined(&values.collect::<Vec<_>>(), rows, order);
            let scales = integers.iter().flat_map(|(_, scales)| scales.iter().copied()).collect();
            return Self::Int8(QuantizedWeight::new(&matrix, scales, rows));
        }
        let floats: Vec<_> = parts.iter().map(|(part, _)| part.as_floats()).collect();
        let values: Vec<_> = floats.iter().map(|values| &**values).zip(widths).collect();
        Self::float(&joined(&values, rows, order), rows, width)
    }

    /// Packs a matrix of `width` columns, of which those of `source` stand at `places` and the others are
    /// zero.
    pub fn scattered(
        source: MatrixSource<'_>,
        rows: usize,
        places: &[usize],
        width: usize,
    ) -> Self {
        match source {
            MatrixSource::Float(values) => {
                Self::float(&spread(values, rows, places, width), rows, width)
            }
            MatrixSource::Int8 { values, scales } => {
                let scales = spread(scales, 1, places, width);
                let matrix = spread(values, rows, places, width);
                Self::Int8(QuantizedWeight::new(&matrix, scales, rows))
            }
        }
    }

    fn float(matrix: &[f32], rows: usize, width: usize) -> Self {
        let row = |at: usize| &matrix[at * width..][..width];
        Self::Float(PackedWeight::new(width, (0..rows).map(row)))
    }

    /// Number of columns.
    pub fn d_output(&self) -> usize {
        match self {
            Self::Float(weight) => weight.d_output(),
            Self::Int8(weight) => weight.d_output,
        }
    }

    /// `output = epilogue(input · weight + bias)`, on this thread.
    ///
    /// # Panics
    /// If a slice is too short.
    pub fn product(
        &self,
        input: Rows<'_>,
        bias: Option<&[f32]>,
        epilogue: Epilogue,
        output: RowsMut<'_>,
    ) {
        match self {
            Self::Float(weight) => product::product(input, weight, bias, epilogue, output),
            Self::Int8(weight) => int8::product(input, weight, bias, epilogue, output),
        }
    }

    /// [`Weight::product`] by all threads, each with some of the columns: for few rows.
    ///
    /// # Panics
    /// If a slice is too short.
    pub fn product_shared(
        &self,
        input: Rows<'_>,
        bias: Option<&[f32]>,
        epilogue: Epilogue,
        output: RowsMut<'_>,
    ) {
        match self {
            Self::Float(weight) => product::product_shared(input, weight, bias, epilogue, output),
            Self::Int8(weight) => int8::product_shared(input, weight, bias, epilogue, output),
        }
    }
}

/// Matrices with their numbers of columns, side by side; rows in `order`.
fn joined<T: Copy>(parts: &[(&[T], usize)], rows: usize, order: Option<&[usize]>) -> Vec<T> {
    let width: usize = parts.iter().map(|(_, width)| width).sum();
    let mut matrix = Vec::with_capacity(rows * width);
    for at in 0..rows {
        let row = order.map_or(at, |order| order[at]);
        parts.iter().for_each(|(part, width)| matrix.extend(&part[row * width..][..*width]));
    }
    matrix
}

/// A matrix whose columns go to `places` among `width`.
fn spread<T: Copy + Default>(values: &[T], rows: usize, places: &[usize], width: usize) -> Vec<T> {
    let mut matrix = vec![T::default(); rows * width];
    for row in 0..rows {
        let values = &values[row * places.len()..][..places.len()];
        let row = &mut matrix[row * width..][..width];
        places.iter().zip(values).for_each(|(&place, &value)| row[place] = value);
    }
    matrix
}
