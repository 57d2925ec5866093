//! Norm of a model's whole gradient: for clipping, and to skip updates that are not finite.

use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::Tensor;

struct SquaredSum<'a> {
    gradients: &'a GradientsParams,
    /// Sum of what was squared on the host.
    host: Option<f64>,
    device: Option<Tensor<1>>,
}

impl ModuleVisitor for SquaredSum<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let Some(gradient) = self.gradients.get::<D>(param.id) else { return };
        #[cfg(feature = "flex")]
        if let Some(squares) = crate::kernels::passes::squared_sum(&gradient) {
            self.host = Some(self.host.unwrap_or(0.0) + squares);
            return;
        }
        let squares = gradient.square().sum();
        self.device = Some(match self.device.take() {
            // Layers may lie on several devices.
            Some(sum) => {
                let squares = squares.to_device(&sum.device());
                sum + squares
            }
            None => squares,
        });
    }
}

/// Euclidean norm over the gradients of all parameters; not finite if any gradient is not.
/// `None` when no parameter has a gradient.
pub fn gradient_norm<M: Module>(model: &M, gradients: &GradientsParams) -> Option<f64> {
    let mut visitor = SquaredSum { gradients, host: None, device: None };
    model.visit(&mut visitor);
    let device = visitor.device.map(|sum| f64::from(sum.into_scalar::<f32>()));
    let sums = [visitor.host, device];
    sums.iter().flatten().copied().reduce(|a, b| a + b).map(f64::sqrt)
}

struct Scale<'a> {
    gradients: &'a mut GradientsParams,
    factor: f64,
}

impl ModuleVisitor for Scale<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(gradient) = self.gradients.remove::<D>(param.id) {
            self.gradients.register(param.id, gradient * self.factor);
        }
    }
}

/// Multiplies every gradient by `factor`.
pub fn scale_gradients<M: Module>(model: &M, gradients: &mut GradientsParams, factor: f64) {
    model.visit(&mut Scale { gradients, factor });
}
