//! One compressible layer in a file: the state that its tensors make, and the layer read from them.

use burn::tensor::{Device, Tensor, TensorData};

use super::names::transpose;
use crate::linear::{CompressibleLinear, Int8Matrix, LayerState, QuantizedLinear};
use crate::{Error, Result};

/// Suffixes that a compressible layer's tensors can have.
pub(crate) const SUFFIXES: [&str; 8] =
    ["weight", "left", "right", "sparse", "kept_weight", "kept_columns", "order", "bias"];

/// The tensors of one layer in a checkpoint; names are suffixes from [`SUFFIXES`].
pub(crate) trait LayerTensors {
    /// Shape of a tensor of this layer, if the file has it.
    fn shape(&self, suffix: &str) -> Option<Vec<usize>>;
    /// Values as stored.
    fn read(&self, suffix: &str) -> Result<Vec<f32>>;
    /// Integers as stored.
    fn read_int(&self, suffix: &str) -> Result<Vec<i64>>;
    /// 8-bit integers as stored, with the scales of rows; `None` for other numbers.
    fn read_int8(&self, suffix: &str) -> Result<Option<(Vec<i8>, Vec<f32>)>>;
}

/// Decides the state of layer `name` from its tensors and checks every shape against `dims`
/// (`[d_input, d_output]`).
///
/// # Errors
/// If a tensor is missing, misshapen or of another state, naming it with expected and found shapes.
pub(crate) fn plan(
    name: &str,
    tensors: &dyn LayerTensors,
    [d_input, d_output]: [usize; 2],
    bias: bool,
) -> Result<LayerState> {
    let size = |suffix: &str, axis: usize| -> usize {
        tensors.shape(suffix).and_then(|shape| shape.get(axis).copied()).unwrap_or(0)
    };
    let has = |suffix: &str| tensors.shape(suffix).is_some();
    let mut expected: Vec<(&str, Vec<usize>)> = Vec::new();
    let state = if has("kept_weight") {
        let (kept, rank) = (size("kept_weight", 0).min(d_output), size("right", 0));
        expected.push(("kept_weight", vec![kept, d_input]));
        if rank > 0 && kept == d_output {
            let message = "has no place: every neuron is kept; the file is damaged";
            return Err(Error::layer(format!("{name}.right"), message));
        }
        if rank > 0 {
            expected.push(("left", vec![d_output - kept, rank]));
            expected.push(("right", vec![rank, d_input]));
        }
        // If some neurons are kept and others not, only the order says which.
        let ordered = has("order") || (kept > 0 && kept < d_output);
        if ordered {
            expected.push(("order", vec![d_output]));
        }
        LayerState::Compact { kept, rank, ordered }
    } else if has("kept_columns") {
        let (kept, rank) = (size("kept_columns", 1).min(d_input), size("right", 0));
        expected.push(("kept_columns", vec![d_output, kept]));
        if (rank > 0 && kept == d_input) || kept + rank == 0 {
            let message = format!(
                "{kept} of {d_input} inputs are kept beside rank {rank}, which no layer has; the \
                 file is damaged"
            );
            return Err(Error::layer(format!("{name}.kept_columns"), message));
        }
        if rank > 0 {
            expected.push(("left", vec![d_output, rank]));
            expected.push(("right", vec![rank, d_input - kept]));
        }
        expected.push(("order", vec![d_input]));
        LayerState::InputCompact { kept, rank }
    } else if has("sparse") || has("left") || has("right") {
        let (rank, sparse) = (size("right", 0), has("sparse"));
        if rank > 0 || !sparse {
            expected.push(("left", vec![d_output, rank]));
            expected.push(("right", vec![rank, d_input]));
        }
        if sparse {
            expected.push(("sparse", vec![d_output, d_input]));
        }
        LayerState::LowRankSparse { rank, sparse }
    } else {
        expected.push(("weight", vec![d_output, d_input]));
        LayerState::Dense
    };
    if bias {
        expected.push(("bias", vec![d_output]));
    }
    check_shapes(name, tensors, expected).map(|()| state)
}

/// Checks that a layer has the `expected` tensors and no others.
fn check_shapes(
    name: &str,
    tensors: &dyn LayerTensors,
    expected: Vec<(&str, Vec<usize>)>,
) -> Result<()> {
    let has = |suffix: &str| tensors.shape(suffix).is_some();
    let stray = |suffix: &str| has(suffix) && expected.iter().all(|(name, _)| *name != suffix);
    if let Some(suffix) = SUFFIXES.into_iter().find(|suffix| stray(suffix)) {
        let others: Vec<&str> = expected.iter().map(|(name, _)| *name).collect();
        let message = format!(
            "has no place beside the layer's {}: a layer is stored in one state; the file is damaged",
            others.join(", ")
        );
        return Err(Error::layer(format!("{name}.{suffix}"), message));
    }
    for (suffix, expected) in expected {
        match tensors.shape(suffix) {
            None => return Err(missing(&format!("{name}.{suffix}"), &expected)),
            Some(found) if found != expected => {
                return Err(misshapen(&format!("{name}.{suffix}"), &expected, &found));
            }
            Some(_) => {}
        }
    }
    Ok(())
}

/// Reads a layer that [`plan`] has checked: if `int8`, one that is stored in 8-bit integers computes in them.
pub(crate) fn read(
    name: &str,
    tensors: &dyn LayerTensors,
    state: LayerState,
    dims: [usize; 2],
    bias: bool,
    int8: bool,
    device: &Device,
) -> Result<CompressibleLinear> {
    let bias = match bias {
        true => {
            let data = TensorData::new(tensors.read("bias")?, [dims[1]]);
            Some(Tensor::from_data(data, device))
        }
        false => None,
    };
    let (state, order) = match state {
        LayerState::Compact { kept, rank, ordered: true } => {
            let order = read_order(name, tensors, dims[1])?;
            (LayerState::Compact { kept, rank, ordered: !order.is_sorted() }, Some(order))
        }
        LayerState::InputCompact { .. } => (state, Some(read_order(name, tensors, dims[0])?)),
        _ => (state, None),
    };
    if int8 && let Some((first, left)) = int8_matrices(tensors, state, dims, device)? {
        let order = order.filter(|order| !order.is_sorted());
        let kept = if state == LayerState::Dense { dims[1] } else { state.kept() };
        return Ok(QuantizedLinear::new(first, left, bias, order, [kept, dims[1]]).on_backend());
    }
    // `[columns, rows]` in the file.
    state.build(dims, bias, order, &|suffix, [rows, columns]| {
        let values = transpose(&tensors.read(suffix)?, columns, rows);
        Ok(Tensor::from_data(TensorData::new(values, [rows, columns]), device))
    })
}

/// `[K; R]ᵀ` and `L′ᵀ` of a dense or compact layer; `None` if not all of it is stored in 8-bit integers.
fn int8_matrices(
    tensors: &dyn LayerTensors,
    state: LayerState,
    [d_input, _]: [usize; 2],
    device: &Device,
) -> Result<Option<(Int8Matrix, Option<Int8Matrix>)>> {
    let (first, left): (&[&str], &[&str]) = match state {
        LayerState::Dense => (&["weight"], &[]),
        LayerState::Compact { rank: 0, .. } => (&["kept_weight"], &[]),
        LayerState::Compact { .. } => (&["kept_weight", "right"], &["left"]),
        _ => return Ok(None),
    };
    // Rows of the file, one part's behind another's, are the columns here.
    let matrix = |parts: &[&str], rows: usize| -> Result<Option<Int8Matrix>> {
        let (mut levels, mut scales) = (Vec::new(), Vec::new());
        for part in parts {
            let Some((more, of_rows)) = tensors.read_int8(part)? else { return Ok(None) };
            levels.extend(more);
            scales.extend(of_rows);
        }
        let levels = transpose(&levels, scales.len(), rows);
        Ok(Some(Int8Matrix::new(levels, rows, scales, device)))
    };
    let Some(first) = matrix(first, d_input)? else { return Ok(None) };
    match state.rank() {
        0 => Ok(Some((first, None))),
        rank => Ok(matrix(left, rank)?.map(|left| (first, Some(left)))),
    }
}

/// Reads an order and checks that it is a permutation.
fn read_order(name: &str, tensors: &dyn LayerTensors, entries: usize) -> Result<Vec<i64>> {
    let values = tensors.read_int("order")?;
    let mut seen = vec![false; entries];
    for &value in &values {
        let slot = usize::try_from(value).ok().and_then(|at| seen.get_mut(at));
        match slot {
            Some(slot) if !*slot => *slot = true,
            _ => {
                let message = format!("is not a permutation: {value} is double or too large");
                return Err(Error::layer(format!("{name}.order"), message));
            }
        }
    }
    Ok(values)
}

/// A tensor that should be there.
pub(crate) fn missing(name: &str, expected: &[usize]) -> Error {
    Error::layer(name, format!("missing from the checkpoint (expected shape {expected:?})"))
}

/// A tensor of another shape.
pub(crate) fn misshapen(name: &str, expected: &[usize], found: &[usize]) -> Error {
    Error::layer(name, format!("expected shape {expected:?}, found {found:?}"))
}
