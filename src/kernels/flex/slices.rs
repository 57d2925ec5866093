//! Tensors on `flex` as plain slices.

use burn::backend::flex::FlexTensor;
use burn::backend::{BackendTensor, DispatchTensorKind};
use burn::tensor::{DType, Int, Tensor};

/// The storage of a tensor of 32-bit floats on `flex`, without autodiff.
pub(super) fn plain<const D: usize>(tensor: &Tensor<D>) -> Option<FlexTensor> {
    match tensor.clone().into_dispatch().kind {
        DispatchTensorKind::Flex(BackendTensor::Float(tensor)) if tensor.dtype() == DType::F32 => {
            Some(tensor)
        }
        _ => None,
    }
}

/// A tensor of 8-bit integers on `flex`, row-major.
pub(super) fn contiguous_int8(tensor: &Tensor<2, Int>) -> Option<FlexTensor> {
    match tensor.clone().into_dispatch().kind {
        DispatchTensorKind::Flex(BackendTensor::Int(tensor)) if tensor.dtype() == DType::I8 => {
            Some(row_major(tensor))
        }
        _ => None,
    }
}

/// [`plain`], row-major.
pub(super) fn contiguous<const D: usize>(tensor: &Tensor<D>) -> Option<FlexTensor> {
    plain(tensor).map(row_major)
}

/// The tensor row-major, without a second handle to storage that could be used in place.
pub(super) fn row_major(tensor: FlexTensor) -> FlexTensor {
    if tensor.is_contiguous() { tensor } else { tensor.to_contiguous() }
}

/// The values of a [`row_major`] tensor of 32-bit floats.
///
/// # Panics
/// If it is not one.
pub(super) fn slice(tensor: &FlexTensor) -> &[f32] {
    tensor.as_slice().expect("a contiguous tensor of 32-bit floats")
}

/// Where a tensor of 32-bit floats lies.
#[cfg(test)]
pub(crate) fn float_address(tensor: &Tensor<2>) -> Option<usize> {
    plain(tensor)?.as_slice::<f32>().map(|values| values.as_ptr() as usize)
}
