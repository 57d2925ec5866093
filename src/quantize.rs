//! Models in 8-bit integers: which layers can be, and how far the model's answers move.
//!
//! [`quantize`] measures every layer alone on examples of the caller, and leaves those in floats that move
//! answers too far. [`crate::linear::round_weights`] does the same to all layers without a look.

use serde::Serialize;

use crate::linear::{Compressible, CompressibleLinear, round_weights};
use crate::precision::Precision;
use crate::{Error, Result};

/// A quantization, as measured.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Quantization {
    /// The layers that could be in 8-bit integers, in the model's order.
    pub layers: Vec<QuantizedLayer>,
    /// How far the answers of the result are from those in floats: `‖y − y′‖ / ‖y‖`.
    pub moved: f64,
}

/// A layer that could be in 8-bit integers.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct QuantizedLayer {
    /// Its full name.
    pub name: String,
    /// How far the model's answers move if this layer alone is in them.
    pub moved: f64,
    /// Whether it is; otherwise it stays in floats.
    pub int8: bool,
}

/// Gives a model's layers and word embeddings weights of 8-bit integers. Layers that alone move its answers
/// by more than `most` of their length stay in floats.
///
/// # Errors
/// Those of `answers`, if the model is on a backend that does not compute in 8-bit integers, and if an answer in floats is not finite.
pub fn quantize<M: Compressible>(
    model: M,
    most: f64,
    mut answers: impl FnMut(&M) -> Result<Vec<f32>>,
) -> Result<(M, Quantization)> {
    let model = round_weights(model, Precision::F32);
    let exact = answers(&model)?;
    let mut layers = movements(&model, &exact, &mut answers)?;
    layers.iter_mut().for_each(|layer| layer.int8 = layer.moved <= most);
    let result = quantize_layers(model, &layers);
    let moved = distance(&exact, &answers(&result)?);
    Ok((result, Quantization { layers, moved }))
}

/// How far each layer of a model in floats, if it alone is in 8-bit integers, moves the answers from the
/// `exact` ones. None is said to be in them.
pub(crate) fn movements<M: Compressible>(
    model: &M,
    exact: &[f32],
    answers: &mut impl FnMut(&M) -> Result<Vec<f32>>,
) -> Result<Vec<QuantizedLayer>> {
    if exact.iter().any(|value| !value.is_finite()) {
        let message = "its answers to the examples are not finite; the model is damaged";
        return Err(Error::option("MODEL", message));
    }
    let mut layers = Vec::new();
    for name in candidates(model) {
        let alone = with_quantized(model.clone(), &|layer| layer == name);
        if candidates(&alone).contains(&name) {
            let message = "only flex, the CPU, quantizes; any runs the result";
            return Err(Error::option("device", message));
        }
        let moved = distance(exact, &answers(&alone)?);
        layers.push(QuantizedLayer { name, moved, int8: false });
    }
    Ok(layers)
}

/// Gives the layers that are said to be in 8-bit integers, and word embeddings, such weights.
pub(crate) fn quantize_layers<M: Compressible>(model: M, layers: &[QuantizedLayer]) -> M {
    let chosen = |name: &str| layers.iter().any(|layer| layer.int8 && layer.name == name);
    let mut result = with_quantized(model, &chosen);
    result.for_each_embedding_mut(&mut |_, words| *words = words.clone().quantize());
    result
}

/// Checks the variable `LOSPARSE_INT8_PATH`, by which tests choose the instructions of integer products.
///
/// # Errors
/// [`Error::Option`], if it names none that this processor has.
pub fn check_path() -> Result<()> {
    #[cfg(feature = "flex")]
    crate::kernels::block::check_int8_path()
        .map_err(|message| Error::option("LOSPARSE_INT8_PATH", message))?;
    Ok(())
}

/// Whether any layer computes in 8-bit integers.
pub(crate) fn computes_in_int8<M: Compressible>(model: &M) -> bool {
    let mut found = false;
    model.for_each_linear(&mut |_, linear| {
        found |= matches!(linear, CompressibleLinear::Quantized(_));
    });
    found
}

/// Names of the layers that have a form in 8-bit integers.
pub(crate) fn candidates<M: Compressible>(model: &M) -> Vec<String> {
    let mut names = Vec::new();
    model.for_each_linear(&mut |name, linear| {
        if matches!(linear, CompressibleLinear::Dense(_) | CompressibleLinear::Compact(_)) {
            names.push(name.to_string());
        }
    });
    names
}

fn with_quantized<M: Compressible>(mut model: M, chosen: &dyn Fn(&str) -> bool) -> M {
    model.for_each_linear_mut(&mut |name, linear| {
        if chosen(name) {
            *linear = linear.clone().quantize();
        }
    });
    model
}

/// `‖y − y′‖ / ‖y‖`; infinite if a value of `y′` is not finite.
fn distance(exact: &[f32], other: &[f32]) -> f64 {
    let square = |value: f64| value * value;
    let off = exact.iter().zip(other).map(|(a, b)| square(f64::from(*a) - f64::from(*b)));
    let off: f64 = off.sum();
    let length: f64 = exact.iter().map(|value| square(f64::from(*value))).sum();
    match off.is_finite() {
        true if off == 0.0 => 0.0,
        true => (off / length).sqrt(),
        false => f64::INFINITY,
    }
}
