//! Format of the factors of matrix products: `f32`, or `f16` and `bf16` on devices that multiply those
//! faster, or 16-bit integers for trainings on CPUs. Layers in 8-bit integers ([`Precision::Int8`]) are a matter of each model, not of the process.
//!
//! The format holds for the whole process. As with PyTorch's `autocast`, the factors of the products of
//! compressible layers, attention and vocabulary are rounded to the format, and the results are `f32`
//! again. Parameters, sums, normalisation, softmax, loss, gradients of parameters and the optimizer
//! stay in `f32`. For inference [`crate::linear::round_weights`] rounds the weights once.
//!
//! ```no_run
//! use losparse::linear::round_weights;
//! use losparse::precision::{Precision, set_products};
//! # fn f<M: losparse::linear::Compressible>(model: M) -> losparse::Result<()> {
//! let device = losparse::device::open("cuda")?;
//! set_products(Precision::Bf16, &device)?;
//! let model = round_weights(model, Precision::Bf16);
//! # Ok(())
//! # }
//! ```

use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{AtomicU8, Ordering};

use burn::tensor::module::linear as burn_linear;
use burn::tensor::{DType, Device, FloatDType, Tensor};

use crate::device::{computes_in, is_flex};
use crate::{Error, Result};

/// A format of numbers for the factors of products.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Precision {
    /// IEEE single precision.
    #[default]
    F32,
    /// IEEE half precision: 11 significant bits, up to 65504.
    F16,
    /// `bfloat16`: 8 significant bits, the range of `f32`.
    Bf16,
    /// 8-bit integers: weights with a scale for every neuron, inputs with one for every token. Layers
    /// whose weights are in them compute so ([`crate::linear::QuantizedLinear`]); other products stay in
    /// `f32`.
    Int8,
    /// 16-bit integers, of which 12 are used, with a scale for every row and column: for the layers'
    /// products of a training on the CPU, twice as many at a time as of `f32`. Everything else, evaluations too,
    /// stays in `f32`. Needs AVX512-VNNI.
    Int16,
}

impl Precision {
    const ALL: [Self; 5] = [Self::F32, Self::F16, Self::Bf16, Self::Int8, Self::Int16];

    /// The name: `f32`, `f16`, `bf16`, `int8` or `int16`.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
            Self::Int8 => "int8",
            Self::Int16 => "int16",
        }
    }

    /// Checks that a model can be trained with such products.
    ///
    /// # Errors
    /// [`Error::Option`] for `f16`, in which small gradients vanish, and for `int8`.
    pub fn check_training(self) -> Result<()> {
        match self {
            Self::F16 => Err(Error::option(
                "dtype",
                "small gradients vanish in f16; train in bf16 or f32 and use f16 for inference",
            )),
            Self::Int8 => Err(Error::option(
                "dtype",
                "int8 is for inference; train in f32 and quantize the result",
            )),
            Self::F32 | Self::Bf16 | Self::Int16 => Ok(()),
        }
    }

    /// Checks that a model can be run with such products.
    ///
    /// # Errors
    /// [`Error::Option`] for `int16`.
    pub fn check_inference(self) -> Result<()> {
        match self {
            Self::Int16 => {
                Err(Error::option("dtype", "int16 is for training; run models in int8 or f32"))
            }
            _ => Ok(()),
        }
    }

    /// The format of factors that are floats, unless it is that of parameters.
    pub(crate) fn half(self) -> Option<FloatDType> {
        match self {
            Self::F32 | Self::Int8 | Self::Int16 => None,
            Self::F16 => Some(FloatDType::F16),
            Self::Bf16 => Some(FloatDType::BF16),
        }
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Precision {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|precision| precision.name() == text).ok_or_else(|| {
            Error::option(
                "dtype",
                format!("`{text}` is not a format; give f32, f16, bf16, int8 or int16"),
            )
        })
    }
}

/// 1 + index in [`Precision::ALL`]; 0: none was set.
static PRODUCTS: AtomicU8 = AtomicU8::new(0);

/// The format of the factors of this process's products; `f32` at first.
pub fn products() -> Precision {
    chosen().unwrap_or_default()
}

/// The format that was set; `None`: each model computes in its own.
pub fn chosen() -> Option<Precision> {
    let index = usize::from(PRODUCTS.load(Ordering::Relaxed)).checked_sub(1)?;
    Some(Precision::ALL[index])
}

/// Sets [`products`], after a first such product on `device`.
///
/// # Errors
/// [`Error::Option`], if the device does not compute in that format.
pub fn set_products(precision: Precision, device: &Device) -> Result<()> {
    if let Some(half) = precision.half() {
        computes_in(device, half).map_err(|reason| {
            let message = format!("this device does not multiply in {precision}: {reason}");
            Error::option("dtype", message)
        })?;
    }
    if precision == Precision::Int16 && !(is_flex(device) && has_int16()) {
        let message = "int16 is for CPUs with AVX512-VNNI (`--device flex`); train in f32";
        return Err(Error::option("dtype", message));
    }
    let index = Precision::ALL.iter().position(|&other| other == precision).unwrap_or_default();
    PRODUCTS.store(1 + index as u8, Ordering::Relaxed);
    Ok(())
}

/// Whether this processor multiplies 16-bit integers faster than floats.
pub(crate) fn has_int16() -> bool {
    #[cfg(target_arch = "x86_64")]
    return is_x86_feature_detected!("avx512vnni")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512dq");
    #[cfg(not(target_arch = "x86_64"))]
    return false;
}

/// Whether factors of products are rounded, which no kernel here does.
#[cfg(feature = "flex")]
pub(crate) fn is_reduced() -> bool {
    products().half().is_some()
}

/// The format for a product with `weight`, if it is not `f32`.
fn format_with(weight: DType, products: Precision) -> Option<FloatDType> {
    match weight {
        DType::F16 => Some(FloatDType::F16),
        DType::BF16 => Some(FloatDType::BF16),
        _ => products.half(),
    }
}

/// `input · weight + bias`.
///
/// # Shapes
/// - input: `[.., d_input]`; weight: `[d_input, d_output]`; bias: `[d_output]`
/// - output: `[.., d_output]`
pub(crate) fn linear<const D: usize>(
    input: Tensor<D>,
    weight: Tensor<2>,
    bias: Option<Tensor<1>>,
) -> Tensor<D> {
    match format_with(weight.dtype(), products()) {
        None => burn_linear(input, weight, bias),
        Some(half) => rounded_linear(input, weight, bias, half),
    }
}

fn rounded_linear<const D: usize>(
    input: Tensor<D>,
    weight: Tensor<2>,
    bias: Option<Tensor<1>>,
    half: FloatDType,
) -> Tensor<D> {
    let dtype = input.dtype();
    let output = burn_linear(input.cast(half), weight.cast(half), None).cast(dtype);
    match bias {
        Some(bias) => output + bias.unsqueeze(),
        None => output,
    }
}

/// `a · b` of the last two axes.
pub(crate) fn matmul<const D: usize>(a: Tensor<D>, b: Tensor<D>) -> Tensor<D> {
    match products().half() {
        None => a.matmul(b),
        Some(half) => {
            let dtype = a.dtype();
            a.cast(half).matmul(b.cast(half)).cast(dtype)
        }
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Distribution;

    use super::*;

    #[test]
    fn names_are_read_back_and_others_refused() {
        for precision in Precision::ALL {
            assert_eq!(precision.to_string().parse::<Precision>().unwrap(), precision);
        }
        let error = "fp8".parse::<Precision>().unwrap_err().to_string();
        assert!(
            error.contains("`fp8` is not a format; give f32, f16, bf16, int8 or int16"),
            "{error}"
        );
        assert!(Precision::Bf16.check_training().is_ok());
        let error = Precision::F16.check_training().unwrap_err().to_string();
        assert!(error.contains("train in bf16 or f32"), "{error}");
        assert!(Precision::Int16.check_training().is_ok());
        assert!(Precision::Int16.check_inference().is_err());
    }

    #[test]
    #[cfg(feature = "flex")]
    fn a_rounded_product_is_off_by_its_format_and_no_more() {
        let device = Device::flex();
        let input = Tensor::<3>::random([2, 5, 64], Distribution::Uniform(-1.0, 1.0), &device);
        let weight = Tensor::<2>::random([64, 32], Distribution::Uniform(-1.0, 1.0), &device);
        let bias = Tensor::<1>::random([32], Distribution::Uniform(-1.0, 1.0), &device);
        let exact = burn_linear(input.clone(), weight.clone(), Some(bias.clone()));
        for (format, unit) in [(FloatDType::F16, 2f32.powi(-11)), (FloatDType::BF16, 2f32.powi(-8))]
        {
            let (input, weight, bias) = (input.clone(), weight.clone(), bias.clone());
            let rounded = rounded_linear(input, weight, Some(bias), format);
            assert_eq!(rounded.dtype(), DType::F32);
            let off = (rounded - exact.clone()).abs().max().into_scalar::<f32>();
            // Two factors and, at worst, every partial sum of at most 64 are rounded.
            assert!(off > 0.0 && off < 64.0 * 3.0 * unit, "{format:?}: {off}");
        }
    }

    #[test]
    #[cfg(feature = "flex")]
    fn gradients_pass_a_rounded_product_in_f32() {
        let device = Device::flex().autodiff();
        let input = Tensor::<2>::ones([3, 4], &device).require_grad();
        let weight = Tensor::<2>::full([4, 2], 0.5, &device).require_grad();
        let output = rounded_linear(input.clone(), weight.clone(), None, FloatDType::BF16);
        let gradients = output.sum().backward();
        let of_input = input.grad(&gradients).unwrap();
        let of_weight = weight.grad(&gradients).unwrap();
        assert_eq!((of_input.dtype(), of_weight.dtype()), (DType::F32, DType::F32));
        assert_eq!(of_input.into_data().try_into_vec::<f32>().unwrap(), [1.0; 12]);
        assert_eq!(of_weight.into_data().try_into_vec::<f32>().unwrap(), [3.0; 8]);
    }
}
