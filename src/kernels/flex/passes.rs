//! Passes of an update over all weights: optimizer, norm, importance, mask. Each is one reading of
//! memory on all cores where Burn's operations are many on one.

use burn::backend::{BackendTensor, DispatchTensorKind};
use burn::tensor::{Tensor, TensorData};
use pulp::Arch;
use rayon::prelude::*;

use super::active_neurons::ActiveNeurons;
use super::adamw::{AdamWStep, AdamWTensors, ROWS};
use super::lanes::total;
use super::slices::{contiguous, plain};

/// Elements a task takes; fixed, so that sums do not depend on the number of threads.
const CHUNK: usize = 64 * 1024;

/// Whether a tensor can be updated in place: of 32-bit floats, row-major, with nothing else in its
/// storage.
pub(crate) fn is_whole<const D: usize>(tensor: &Tensor<D>) -> bool {
    plain(tensor).is_some_and(|tensor| {
        tensor.is_contiguous()
            && tensor.storage::<f32>().len() == tensor.layout().shape().num_elements()
    })
}

/// Lets `f` change an [`is_whole`] tensor's values: in place if nothing else holds them, else a copy's.
fn change<const D: usize>(tensor: Tensor<D>, f: impl FnOnce(&mut [f32])) -> Tensor<D> {
    let mut dispatch = tensor.into_dispatch();
    if let DispatchTensorKind::Flex(BackendTensor::Float(tensor)) = &mut dispatch.kind {
        f(tensor.storage_mut::<f32>());
    }
    Tensor::from_dispatch(dispatch)
}

/// Options of [`adamw`].
#[derive(Clone, Copy, Default)]
pub(crate) struct AdamWTask<'a> {
    /// The only columns that are updated; gradient and moments have no others.
    pub columns: Option<&'a ActiveNeurons>,
    /// Whether `Σᵢ |w[i, j] · g[i, j]|` is wanted of every updated column, with the new weights.
    pub sums: bool,
}

/// The result of [`adamw`].
pub(crate) struct AdamWDone<const D: usize> {
    /// Weights and both moments.
    pub tensors: [Tensor<D>; 3],
    /// Empty unless asked for.
    pub sums: Vec<f32>,
}

/// [`AdamWStep`] on `[weights, first moment, second moment]`; the tensors as they are where that is
/// not possible.
#[allow(clippy::result_large_err)] // The tensors themselves, given back.
pub(crate) fn adamw<const D: usize>(
    tensors: [Tensor<D>; 3],
    gradient: &Tensor<D>,
    step: AdamWStep,
    task: AdamWTask<'_>,
) -> Result<AdamWDone<D>, [Tensor<D>; 3]> {
    let weights = tensors[0].dims();
    let mut updated = weights;
    if let Some(columns) = task.columns {
        updated[D - 1] = columns.active.len();
    }
    let fits = tensors.iter().all(is_whole)
        && gradient.dims() == updated
        && tensors[1..].iter().all(|tensor| tensor.dims() == updated)
        && task.columns.is_none_or(|columns| columns.width() == weights[D - 1]);
    let Some(gradient) = contiguous(gradient).filter(|_| fits) else { return Err(tensors) };
    let gradient: &[f32] = gradient.as_slice().unwrap_or_default();
    let [weights, first, second] = tensors;
    let width = if D == 0 { 1 } else { weights.dims()[D - 1] };
    let active = task.columns.map(|columns| &columns.active[..]);
    let mut done = None;
    let weights = change(weights, |weights| {
        let mut second_out = None;
        let mut sums = Vec::new();
        let first = change(first, |moment_1| {
            second_out = Some(change(second, |moment_2| {
                let tensors = AdamWTensors { weights, gradient, moment_1, moment_2 };
                match task.sums || active.is_some() {
                    true => sums = step.apply_rows(tensors, width, active),
                    false => step.apply(tensors),
                }
            }));
        });
        done = second_out.map(|second| (first, second, sums));
    });
    match done {
        Some((first, second, sums)) => {
            let sums = if task.sums { sums } else { Vec::new() };
            Ok(AdamWDone { tensors: [weights, first, second], sums })
        }
        None => unreachable!("a whole tensor is changed"),
    }
}

/// The sum of all squares.
pub(crate) fn squared_sum<const D: usize>(tensor: &Tensor<D>) -> Option<f64> {
    let tensor = contiguous(tensor)?;
    let values: &[f32] = tensor.as_slice()?;
    let chunk = |chunk: &[f32]| {
        Arch::new().dispatch(
            #[inline(always)]
            || f64::from(total(chunk, |_, value| value * value)),
        )
    };
    let sums: Vec<f64> = values.par_chunks(CHUNK).map(chunk).collect();
    Some(sums.iter().sum())
}

/// `Σᵢ |a[i, j] · b[i, j]|: [1, columns]`.
pub(crate) fn absolute_product_sums(a: &Tensor<2>, b: &Tensor<2>) -> Option<Tensor<2>> {
    let [rows, columns] = a.dims();
    let (a_values, b_values) = (contiguous(a)?, contiguous(b)?);
    if b.dims() != [rows, columns] || columns == 0 {
        return None;
    }
    let (a_values, b_values) = (a_values.as_slice::<f32>()?, b_values.as_slice::<f32>()?);
    let chunks = a_values.par_chunks(ROWS * columns).zip(b_values.par_chunks(ROWS * columns));
    let chunk = |(a, b): (&[f32], &[f32])| {
        let mut sums = vec![0.0; columns];
        Arch::new().dispatch(
            #[inline(always)]
            || {
                for (a, b) in a.chunks_exact(columns).zip(b.chunks_exact(columns)) {
                    let values = sums.iter_mut().zip(a).zip(b);
                    values.for_each(|((sum, a), b)| *sum += (a * b).abs());
                }
            },
        );
        sums
    };
    let parts: Vec<Vec<f32>> = chunks.map(chunk).collect();
    let mut sums = vec![0.0f32; columns];
    for part in parts {
        sums.iter_mut().zip(part).for_each(|(sum, value)| *sum += value);
    }
    Some(Tensor::from_data(TensorData::new(sums, [1, columns]), &a.device()))
}

/// `tensor ∘ mask` for a mask `[1, columns]`; the tensor as it is where that is not possible.
#[allow(clippy::result_large_err)] // The tensor itself, given back.
pub(crate) fn mask_columns(tensor: Tensor<2>, mask: &Tensor<2>) -> Result<Tensor<2>, Tensor<2>> {
    let columns = tensor.dims()[1];
    let fits = mask.dims() == [1, columns] && columns > 0 && is_whole(&tensor);
    let Some(mask) = contiguous(mask).filter(|_| fits) else { return Err(tensor) };
    let mask: &[f32] = mask.as_slice().unwrap_or_default();
    Ok(change(tensor, |values| {
        values.par_chunks_mut(ROWS * columns).for_each(|rows| {
            Arch::new().dispatch(
                #[inline(always)]
                || {
                    for row in rows.chunks_exact_mut(columns) {
                        row.iter_mut().zip(mask).for_each(|(value, mask)| *value *= mask);
                    }
                },
            );
        });
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{Device, Distribution, Tolerance};

    fn random<const D: usize>(shape: [usize; D]) -> Tensor<D> {
        Tensor::random(shape, Distribution::Normal(0.0, 1.0), &Device::flex())
    }

    fn assert_close<const D: usize>(actual: Tensor<D>, expected: Tensor<D>) {
        let tolerance = Tolerance::relative(1e-5).set_absolute(1e-6);
        actual.into_data().assert_approx_eq::<f32>(&expected.into_data(), tolerance);
    }

    #[test]
    fn passes_equal_the_composed_form() {
        for shape in [[1, 1], [70, 33], [130, 768], [65, 1030]] {
            let (a, b) = (random(shape), random(shape));
            let sums = absolute_product_sums(&a, &b).unwrap();
            assert_close(sums, (a.clone() * b.clone()).abs().sum_dim(0));
            let squares: f32 = a.clone().square().sum().into_scalar();
            let sum = squared_sum(&a).unwrap() as f32;
            assert!((sum - squares).abs() <= 1e-4 * squares, "{sum}, {squares}");
            let mask = random([1, shape[1]]).greater_elem(0.0).float();
            let before = a.clone().into_data();
            let masked = mask_columns(a.clone(), &mask).unwrap();
            assert_close(masked, a.clone() * mask);
            a.into_data().assert_eq(&before, true);
        }
    }

    #[test]
    fn views_and_values_that_are_not_finite() {
        let a = random([70, 40]);
        let view = a.clone().swap_dims(0, 1);
        let (b, mask) = (random([40, 70]), Tensor::ones([1, 70], &Device::flex()));
        let sums = absolute_product_sums(&view, &b).unwrap();
        assert_close(sums, (view.clone() * b.clone()).abs().sum_dim(0));
        assert!(mask_columns(view, &mask).is_err());
        assert!(!squared_sum(&(b.clone() / 0.0)).unwrap().is_finite());
        assert_eq!(squared_sum(&b.autodiff()), None);
    }
}
