//! Activation functions by their Hugging Face names.

use burn::tensor::{Tensor, activation};
use serde::{Deserialize, Serialize};

/// The activation functions of `hidden_act`, named as in Hugging Face's `ACT2FN`.
///
/// <https://github.com/huggingface/transformers/blob/v5.0.0/src/transformers/activations.py>
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// `x Φ(x)`, the exact form with `erf`.
    #[serde(alias = "gelu_python")]
    Gelu,
    /// The `tanh` approximation of GELU.
    GeluNew,
    /// The same function as [`Activation::GeluNew`] under PyTorch's name.
    #[serde(alias = "gelu_python_tanh", alias = "gelu_accurate")]
    GeluPytorchTanh,
    /// The same function again, with the constant `0.7978845608`.
    GeluFast,
    /// `x σ(1.702 x)`.
    QuickGelu,
    /// GELU clipped to `[-10, 10]`.
    #[serde(rename = "gelu_10")]
    Gelu10,
    /// `max(x, 0)`.
    Relu,
    /// `max(x, 0)²`.
    Relu2,
    /// `min(max(x, 0), 6)`.
    Relu6,
    /// `x σ(x)`.
    Silu,
    /// The same function as [`Activation::Silu`] under its other name.
    Swish,
    /// `x tanh(softplus(x))`.
    Mish,
    /// `tanh(x)`.
    Tanh,
    /// `σ(x)`.
    Sigmoid,
    /// `x`.
    Linear,
}

impl Activation {
    /// Applies the function elementwise.
    pub fn forward<const D: usize>(self, x: Tensor<D>) -> Tensor<D> {
        match self {
            Self::Gelu => gelu(x),
            Self::GeluNew | Self::GeluPytorchTanh | Self::GeluFast => gelu_tanh(x),
            Self::QuickGelu => x.clone() * activation::sigmoid(x * 1.702),
            Self::Gelu10 => gelu(x).clamp(-10.0, 10.0),
            Self::Relu => activation::relu(x),
            Self::Relu2 => {
                let x = activation::relu(x);
                x.clone() * x
            }
            Self::Relu6 => x.clamp(0.0, 6.0),
            Self::Silu | Self::Swish => activation::silu(x),
            Self::Mish => x.clone() * activation::softplus(x, 1.0).tanh(),
            Self::Tanh => x.tanh(),
            Self::Sigmoid => activation::sigmoid(x),
            Self::Linear => x,
        }
    }
}

/// `x Φ(x)`, elementwise. On `flex` it is vectorised, runs on all cores, and stays precise in the negative
/// tail.
fn gelu<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    #[cfg(feature = "flex")]
    if crate::kernels::is_flex_f32(&x) {
        return crate::kernels::fused::gelu(x);
    }
    if !x.is_autodiff() {
        return activation::gelu(x);
    }
    // Burn differentiates the `tanh` approximation in its place, up to 9e-4 off.
    let cdf = ((x.clone() * std::f64::consts::FRAC_1_SQRT_2).erf() + 1.0) * 0.5;
    x * cdf
}

/// `½ x (1 + tanh(√(2/π) (x + 0.044715 x³)))`, without the power function Burn's own form calls.
fn gelu_tanh<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    const SQRT_2_OVER_PI: f64 = std::f64::consts::FRAC_2_SQRT_PI * std::f64::consts::FRAC_1_SQRT_2;
    let cubic = x.clone() * x.clone() * 0.044715 + 1.0;
    let inner = (x.clone() * cubic) * SQRT_2_OVER_PI;
    x * 0.5 * (inner.tanh() + 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;
    use burn::tensor::Tolerance;

    fn at(name: &str, x: [f32; 4]) -> burn::tensor::TensorData {
        let activation: Activation = serde_json::from_str(&format!("\"{name}\"")).unwrap();
        activation.forward(Tensor::<1>::from_floats(x, &Device::default())).into_data()
    }

    /// Values of PyTorch 2's functions at −2, −0.5, 0.5 and 30.
    #[test]
    fn values_equal_pytorch() {
        let x = [-2.0, -0.5, 0.5, 30.0];
        let cases: [(&str, [f32; 4]); 15] = [
            ("gelu", [-0.04550028, -0.15426877, 0.34573123, 30.0]),
            ("gelu_10", [-0.04550028, -0.15426877, 0.34573123, 10.0]),
            ("gelu_new", [-0.04540229, -0.154286, 0.345714, 30.0]),
            ("gelu_pytorch_tanh", [-0.04540229, -0.154286, 0.345714, 30.0]),
            ("gelu_fast", [-0.04540229, -0.154286, 0.345714, 30.0]),
            ("quick_gelu", [-0.064341374, -0.14961156, 0.35038844, 30.0]),
            ("relu", [0.0, 0.0, 0.5, 30.0]),
            ("relu2", [0.0, 0.0, 0.25, 900.0]),
            ("relu6", [0.0, 0.0, 0.5, 6.0]),
            ("silu", [-0.23840584, -0.18877034, 0.31122968, 30.0]),
            ("swish", [-0.23840584, -0.18877034, 0.31122968, 30.0]),
            ("mish", [-0.25250146, -0.22074376, 0.37524524, 30.0]),
            ("tanh", [-0.9640276, -0.46211717, 0.46211717, 1.0]),
            ("sigmoid", [0.11920292, 0.37754068, 0.62245935, 1.0]),
            ("linear", [-2.0, -0.5, 0.5, 30.0]),
        ];
        for (name, expected) in cases {
            let expected = burn::tensor::TensorData::from(expected);
            at(name, x).assert_approx_eq::<f32>(&expected, Tolerance::absolute(2e-6));
        }
    }

    /// `Φ(x) + x φ(x)`; the derivative of the `tanh` form is off by 9e-4 at −2.
    #[test]
    fn gelu_has_its_own_derivative_on_every_backend() {
        let expected = burn::tensor::TensorData::from([
            -0.085_231_8_f32,
            0.132_504_88_f32,
            0.867_495_1_f32,
            1.011_945_6_f32,
        ]);
        for (backend, device) in crate::device::available() {
            let Ok(device) = device else { continue };
            let x = Tensor::<1>::from_floats([-2.0, -0.5, 0.5, 3.0], &device.autodiff());
            let x = x.require_grad();
            let gradients = Activation::Gelu.forward(x.clone()).sum().backward();
            let gradient = x.grad(&gradients).unwrap().into_data();
            println!("{backend}: {gradient:?}");
            gradient.assert_approx_eq::<f32>(&expected, Tolerance::absolute(2e-6));
        }
    }

    #[test]
    fn an_unknown_name_is_an_error() {
        let error = serde_json::from_str::<Activation>("\"geglu\"").unwrap_err().to_string();
        assert!(error.contains("geglu") && error.contains("gelu_new"), "{error}");
    }
}
