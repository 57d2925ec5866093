//! Weights in other numbers, for inference.

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{FloatDType, Tensor};

use super::Compressible;
use crate::precision::Precision;

/// Gives the weights of the compressible layers of `model` the numbers of `precision`, for inference: less
/// memory, and no rounding at each product. Biases stay in `f32`. In 8-bit integers, word embeddings are
/// kept, too.
pub fn round_weights<M: Compressible>(mut model: M, precision: Precision) -> M {
    model.for_each_linear_mut(&mut |_, linear| {
        let layer = linear.clone();
        *linear = match (precision, precision.half()) {
            (Precision::Int8, _) => layer.quantize(),
            (_, Some(half)) => layer.dequantize().map(&mut Rounding(half)),
            (_, None) => layer.dequantize(),
        };
    });
    model.for_each_embedding_mut(&mut |_, embedding| {
        let words = embedding.clone();
        *embedding = match precision {
            Precision::Int8 => words.quantize(),
            _ => words.dequantize(),
        };
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
