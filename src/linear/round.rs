//! Weights in half precision, for inference.

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{FloatDType, Tensor};

use super::Compressible;
use crate::precision::Precision;

/// Rounds the weights of the compressible layers of `model` to `precision`: half the memory, and no
/// rounding at each product. For inference; biases stay in `f32`.
pub fn round_weights<M: Compressible>(mut model: M, precision: Precision) -> M {
    let Some(half) = precision.half() else { return model };
    model.for_each_linear_mut(&mut |_, linear| {
        *linear = linear.clone().map(&mut Rounding(half));
    });
    model
}

/// Rounds matrices.
struct Rounding(FloatDType);

impl ModuleMapper for Rounding {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        match D {
            2 => param.map(|tensor| tensor.cast(self.0)),
            _ => param,
        }
    }
}
