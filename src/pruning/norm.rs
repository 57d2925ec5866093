//! Norm of a model's whole gradient: for clipping, and to skip updates that are not finite.

use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::Tensor;

struct SquaredSum<'a> {
    gradients: &'a GradientsParams,
    sum: Option<Tensor<1>>,
}

impl ModuleVisitor for SquaredSum<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(gradient) = self.gradients.get::<D>(param.id) {
            let squares = gradient.square().sum();
            self.sum = Some(match self.sum.take() {
                Some(sum) => sum + squares,
                None => squares,
            });
        }
    }
}

/// Euclidean norm over the gradients of all parameters; not finite if any gradient is not.
/// `None` when no parameter has a gradient.
pub fn gradient_norm<M: Module>(model: &M, gradients: &GradientsParams) -> Option<f64> {
    let mut visitor = SquaredSum { gradients, sum: None };
    model.visit(&mut visitor);
    let sum: f32 = visitor.sum?.into_scalar();
    Some(f64::from(sum).sqrt())
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
