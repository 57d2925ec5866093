//! From and to Burn's tensors on `flex`.

use burn::backend::flex::FlexTensor;
use burn::backend::{BackendTensor, DispatchTensorKind};
use burn::tensor::{Int, Tensor, TensorData};

use super::int8::QuantizedWeight;
use super::matrix::{MatrixSource, Weight};
use super::packed_layers::LayerSource;
use super::{EncoderBlock, LinearsAlone, Mask, Norm, PackedWeight, Relative, Table};
use crate::kernels::flex::slices::{contiguous, contiguous_int8, plain, row_major, slice};
use crate::kernels::{LayerWeights, Matrix, RelativeScores};

/// The parameters of a linear layer that can be packed.
#[derive(Debug)]
pub(crate) struct LinearParts {
    first: Stored,
    left: Option<Stored>,
    bias: Option<FlexTensor>,
    order: Option<Vec<i64>>,
    d_input: usize,
    d_output: usize,
    kept: usize,
    rank: usize,
}

/// A [`Matrix`] on `flex`, row-major.
#[derive(Debug)]
enum Stored {
    Float(FlexTensor),
    Int8 { values: FlexTensor, scales: FlexTensor },
}

impl Stored {
    /// `None` unless it is on `flex`, without autodiff, in 32-bit floats or 8-bit integers with `count`
    /// scales.
    fn of(matrix: &Matrix, count: usize) -> Option<Self> {
        Some(match matrix {
            Matrix::Int8 { scales, .. } if scales.dims() != [count] => return None,
            Matrix::Float(matrix) => Self::Float(contiguous(matrix)?),
            Matrix::Int8 { values, scales } => {
                Self::Int8 { values: contiguous_int8(values)?, scales: contiguous(scales)? }
            }
        })
    }

    fn source(&self) -> MatrixSource<'_> {
        match self {
            Self::Float(matrix) => MatrixSource::Float(slice(matrix)),
            Self::Int8 { values, scales } => MatrixSource::Int8 {
                values: values.as_slice().expect("a contiguous tensor of 8-bit integers"),
                scales: slice(scales),
            },
        }
    }
}

/// Rows of word embeddings, one for every word.
#[derive(Debug)]
pub(crate) struct WordRows {
    matrix: Stored,
    count: usize,
    size: usize,
}

impl WordRows {
    /// `None` as for [`LinearParts::new`].
    ///
    /// # Shapes
    /// - `matrix`: `[count, size]`; of integers, with a scale for every row
    pub(crate) fn of(matrix: &Matrix) -> Option<Self> {
        let [count, size] = matrix.dims();
        Some(Self { matrix: Stored::of(matrix, count)?, count, size })
    }

    /// Appends the row of `word` times `factor`.
    pub(crate) fn push(&self, word: usize, factor: f32, values: &mut Vec<f32>) {
        let row = word * self.size..(word + 1) * self.size;
        match self.matrix.source() {
            MatrixSource::Float(matrix) => values.extend(matrix[row].iter().map(|x| x * factor)),
            MatrixSource::Int8 { values: levels, scales } => {
                let factor = scales[word] * factor;
                values.extend(levels[row].iter().map(|&level| f32::from(level) * factor));
            }
        }
    }

    /// The rows as columns, packed: a language model's head.
    pub(crate) fn head(&self) -> Weight {
        match self.matrix.source() {
            MatrixSource::Float(matrix) => {
                Weight::Float(PackedWeight::transposed(matrix, self.size, self.count))
            }
            MatrixSource::Int8 { values, scales } => {
                Weight::Int8(QuantizedWeight::transposed(values, scales.to_vec(), self.size))
            }
        }
    }
}

impl LinearParts {
    /// A layer of `kept` dense neurons and `d_output − kept` low-rank ones (a dense layer keeps
    /// all); `None` unless all of it is in 32-bit floats or 8-bit integers on `flex`, without autodiff,
    /// and fits.
    pub(crate) fn new(weights: &LayerWeights) -> Option<Self> {
        if crate::precision::is_reduced() {
            return None;
        }
        let LayerWeights { first, left, order, bias, kept, d_output } = weights;
        let (kept, d_output) = (*kept, *d_output);
        let [d_input, width] = first.dims();
        let (rank, others) = (width.checked_sub(kept)?, d_output.checked_sub(kept)?);
        let stored = left.as_ref().map_or([0, others], |left| left.dims());
        // A rank without others is not stored, nor are others without a rank.
        if others > 0 && stored != [rank, others] {
            return None;
        }
        let order = order.as_ref().map(|order| order.to_data().iter::<i64>().collect());
        let order: Option<Vec<i64>> = order;
        if order.as_ref().is_some_and(|order| !is_permutation(order, d_output)) {
            return None;
        }
        if bias.as_ref().is_some_and(|bias| bias.dims() != [d_output]) {
            return None;
        }
        let left = match left {
            Some(left) => Some(Stored::of(left, others)?),
            None => None,
        };
        let bias = match bias {
            Some(bias) => Some(contiguous(bias)?),
            None => None,
        };
        let first = Stored::of(first, width)?;
        Some(Self { first, left, bias, order, d_input, d_output, kept, rank })
    }

    pub(crate) fn source(&self) -> LayerSource<'_> {
        LayerSource {
            first: self.first.source(),
            left: self.left.as_ref().map(Stored::source),
            order: self.order.as_deref(),
            bias: self.bias.as_ref().map(slice),
            d_input: self.d_input,
            d_output: self.d_output,
            kept: self.kept,
            rank: self.rank,
        }
    }
}

/// The values of a tensor, row-major.
#[derive(Debug)]
pub(crate) struct Values(FlexTensor);

impl Values {
    /// `None` unless they are 32-bit floats on `flex`, without autodiff.
    pub(crate) fn of<const D: usize>(tensor: &Tensor<D>) -> Option<Self> {
        contiguous(tensor).map(Self)
    }

    pub(crate) fn as_slice(&self) -> &[f32] {
        slice(&self.0)
    }
}

/// A tensor of 32-bit floats on `flex` that `write` has filled: `last`, in place, if it has this shape
/// and nothing else holds it, so that no memory is asked for.
pub(crate) fn refill(
    last: Option<Tensor<2>>,
    shape: [usize; 2],
    write: impl FnOnce(&mut [f32]),
) -> Tensor<2> {
    let length = shape[0] * shape[1];
    if let Some(last) = last.filter(|last| last.dims() == shape && plain(last).is_some()) {
        let mut dispatch = last.into_dispatch();
        if let DispatchTensorKind::Flex(BackendTensor::Float(tensor)) = &mut dispatch.kind
            && tensor.is_contiguous()
            && let Some(values) = tensor.try_storage_mut::<f32>().filter(|v| v.len() == length)
        {
            write(values);
            return Tensor::from_dispatch(dispatch);
        }
    }
    let mut values = vec![0.0; length];
    write(&mut values);
    Tensor::from_data(TensorData::new(values, shape), &burn::tensor::Device::flex())
}

impl LinearsAlone {
    /// Applies the layers to `input: [.., d_input]`; `None` unless that is of 32-bit floats on `flex`,
    /// without autodiff.
    pub(crate) fn apply<const D: usize>(&self, input: &Tensor<D>) -> Option<Tensor<D>> {
        let mut shape = input.dims();
        let input = contiguous(input)?;
        let rows = shape[..D - 1].iter().product::<usize>();
        let mut output = vec![0.0; rows * self.layers.d_output()];
        self.forward(slice(&input), &mut output);
        shape[D - 1] = self.layers.d_output();
        Some(Tensor::from_data(TensorData::new(output, shape), &burn::tensor::Device::flex()))
    }
}

impl Norm {
    /// From a normalisation's parameters `[d]`; `None` as for [`LinearParts::new`].
    pub(crate) fn from_tensors(
        gamma: &Tensor<1>,
        beta: Option<&Tensor<1>>,
        epsilon: f64,
    ) -> Option<Self> {
        let gamma = slice(&contiguous(gamma)?).to_vec();
        let beta = match beta {
            Some(beta) => slice(&contiguous(beta)?).to_vec(),
            None => vec![0.0; gamma.len()],
        };
        (beta.len() == gamma.len()).then_some(Self { gamma, beta, epsilon: epsilon as f32 })
    }
}

impl EncoderBlock {
    /// Applies the layer, in place if nothing else holds the tensor.
    ///
    /// Gives the states back as they are where this is not possible: in other precisions, under
    /// autodiff and on other backends, or if shapes do not fit.
    ///
    /// # Shapes
    /// - `states`, output: `[batch, length, hidden_size]`
    /// - `mask`: `[batch or 1, heads or 1, length or 1, length]`, added to the scores
    #[allow(clippy::result_large_err)] // The states themselves, given back.
    pub(crate) fn apply(
        &self,
        states: Tensor<3>,
        mask: Option<&Tensor<4>>,
        relative: Option<&RelativeScores>,
    ) -> Result<Tensor<3>, Tensor<3>> {
        let [batch, length, size] = states.dims();
        let mask = match mask {
            Some(mask) => {
                let dims = mask.dims();
                let full = [batch, self.heads, length, length];
                let fits = |axis: usize| dims[axis] == full[axis] || (dims[axis] == 1 && axis < 3);
                match contiguous(mask) {
                    Some(mask) if (0..4).all(fits) => Some((mask, dims)),
                    _ => return Err(states),
                }
            }
            None => None,
        };
        let relative = match relative {
            Some(relative) => {
                match (table(&relative.keys, length, size), table(&relative.queries, length, size))
                {
                    (Some(keys), Some(queries)) => Some((keys, queries)),
                    _ => return Err(states),
                }
            }
            None => None,
        };
        if size != self.attention_norm.gamma.len() || plain(&states).is_none() {
            return Err(states);
        }
        let mut dispatch = states.into_dispatch();
        let DispatchTensorKind::Flex(BackendTensor::Float(tensor)) = dispatch.kind else {
            unreachable!("checked above");
        };
        let mask = mask.as_ref().map(|(mask, dims)| Mask { values: slice(mask), dims: *dims });
        let relative = relative.as_ref().map(|(keys, queries)| Relative {
            keys: keys.as_ref().map(|(table, rows)| Table { values: slice(table), rows }),
            queries: queries.as_ref().map(|(table, rows)| Table { values: slice(table), rows }),
        });
        let mut tensor = row_major(tensor);
        let whole = tensor.storage::<f32>().len() == batch * length * size;
        match tensor.try_storage_mut::<f32>() {
            Some(values) if whole => self.forward(values, [batch, length], mask, relative),
            _ => {
                let mut values = slice(&tensor).to_vec();
                self.forward(&mut values, [batch, length], mask, relative);
                let data = TensorData::new(values, [batch, length, size]);
                tensor = FlexTensor::from_data(data);
            }
        }
        dispatch.kind = DispatchTensorKind::Flex(BackendTensor::Float(tensor));
        Ok(Tensor::from_dispatch(dispatch))
    }
}

/// A table of [`RelativeScores`] with its rows, if there is one; `None` if it does not fit.
#[allow(clippy::type_complexity)] // Used here only.
fn table(
    scores: &Option<(Tensor<2>, Tensor<1, Int>)>,
    length: usize,
    size: usize,
) -> Option<Option<(FlexTensor, Vec<usize>)>> {
    let Some((table, rows)) = scores else { return Some(None) };
    let rows: Vec<usize> = rows.to_data().iter::<i64>().map(|row| row as usize).collect();
    let [count, width] = table.dims();
    let fits = width == size && rows.iter().all(|&row| row < count);
    let whole = rows.len() >= (2 * length).saturating_sub(1);
    let table = contiguous(table).filter(|_| fits && whole)?;
    Some(Some((table, rows)))
}

fn is_permutation(order: &[i64], count: usize) -> bool {
    let mut seen = vec![false; count];
    let fresh = |&at: &i64| {
        let slot = usize::try_from(at).ok().and_then(|at| seen.get_mut(at));
        slot.is_some_and(|slot| !std::mem::replace(slot, true))
    };
    order.len() == count && order.iter().all(fresh)
}
