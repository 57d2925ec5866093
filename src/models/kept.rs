//! Results that inference keeps while the parameters that they come from stay the same.

use std::sync::RwLock;

#[cfg(feature = "flex")]
use burn::backend::{BackendTensor, DispatchTensorKind, flex::FlexTensor};
use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Int, Tensor};

/// Where tensors are stored on `flex`. They are held: as long as they are, their storage can be
/// neither changed in place nor reused, so the same storage means the same values.
#[derive(Clone, Default)]
pub(crate) struct Sources {
    #[cfg(feature = "flex")]
    tensors: Vec<FlexTensor>,
}

impl Sources {
    /// These and a tensor; `None` under autodiff and on other backends.
    pub(crate) fn and_tensor<const D: usize>(self, tensor: &Tensor<D>) -> Option<Self> {
        #[cfg(feature = "flex")]
        if let DispatchTensorKind::Flex(BackendTensor::Float(tensor)) =
            tensor.clone().into_dispatch().kind
        {
            let mut sources = self;
            sources.tensors.push(tensor);
            return Some(sources);
        }
        let _ = tensor;
        None
    }

    /// These and the parameters of a module; `None` under autodiff and on other backends.
    pub(crate) fn and<M: Module>(self, module: &M) -> Option<Self> {
        let mut visitor = Visitor { sources: Some(self) };
        module.visit(&mut visitor);
        visitor.sources
    }

    fn and_ints<const D: usize>(self, tensor: &Tensor<D, Int>) -> Option<Self> {
        #[cfg(feature = "flex")]
        if let DispatchTensorKind::Flex(BackendTensor::Int(tensor)) =
            tensor.clone().into_dispatch().kind
        {
            let mut sources = self;
            sources.tensors.push(tensor);
            return Some(sources);
        }
        let _ = tensor;
        None
    }

    #[cfg(feature = "flex")]
    fn same(&self, other: &Self) -> bool {
        let same = |(a, b): (&FlexTensor, &FlexTensor)| {
            std::sync::Arc::ptr_eq(&a.data_arc(), &b.data_arc())
                && a.layout() == b.layout()
                && a.dtype() == b.dtype()
        };
        self.tensors.len() == other.tensors.len()
            && self.tensors.iter().zip(&other.tensors).all(same)
    }

    #[cfg(not(feature = "flex"))]
    fn same(&self, _: &Self) -> bool {
        false
    }
}

struct Visitor {
    sources: Option<Sources>,
}

impl ModuleVisitor for Visitor {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.sources = self.sources.take().and_then(|sources| sources.and_tensor(&param.val()));
    }

    fn visit_int<const D: usize>(&mut self, param: &Param<Tensor<D, Int>>) {
        self.sources = self.sources.take().and_then(|sources| sources.and_ints(&param.val()));
    }
}

/// The last result and what it was computed from. Clones start with what is kept.
pub(crate) struct Kept<T> {
    last: RwLock<Option<(Sources, T)>>,
}

impl<T: Clone> Kept<T> {
    /// What was computed from the same sources, or else what `compute` gives now; without sources
    /// always that.
    pub(crate) fn get(&self, sources: Option<Sources>, compute: impl FnOnce() -> T) -> T {
        let Some(sources) = sources else { return compute() };
        if let Ok(last) = self.last.read()
            && let Some((of, kept)) = &*last
            && of.same(&sources)
        {
            return kept.clone();
        }
        let result = compute();
        if let Ok(mut last) = self.last.write() {
            *last = Some((sources, result.clone()));
        }
        result
    }
}

impl<T> Default for Kept<T> {
    fn default() -> Self {
        Self { last: RwLock::new(None) }
    }
}

impl<T: Clone> Clone for Kept<T> {
    fn clone(&self) -> Self {
        Self { last: RwLock::new(self.last.read().ok().and_then(|last| last.clone())) }
    }
}

impl<T> std::fmt::Debug for Kept<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Kept")
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use burn::nn::{Linear, LinearConfig};
    use burn::tensor::Device;

    /// Computes the sum of a layer's weights through `kept`; also whether it was computed anew.
    fn sum(kept: &Kept<f32>, linear: &Linear) -> (f32, bool) {
        let mut anew = false;
        let sum = kept.get(Sources::default().and(linear), || {
            anew = true;
            linear.weight.val().sum().into_scalar()
        });
        (sum, anew)
    }

    fn filled(value: f32) -> Linear {
        let mut linear = LinearConfig::new(2, 3).init(&Device::flex());
        linear.weight = Param::from_tensor(Tensor::full([2, 3], value, &Device::flex()));
        linear
    }

    #[test]
    fn kept_while_parameters_are_the_same() {
        let kept = Kept::default();
        let linear = filled(1.0);
        assert_eq!(sum(&kept, &linear), (6.0, true));
        assert_eq!(sum(&kept, &linear), (6.0, false));
        assert_eq!(sum(&kept.clone(), &linear.clone()), (6.0, false));
    }

    /// Also where the change could have been made in place, had the storage not been held.
    #[test]
    fn computed_anew_once_a_parameter_has_changed() {
        let kept = Kept::default();
        let mut linear = filled(1.0);
        assert_eq!(sum(&kept, &linear), (6.0, true));
        linear.weight = linear.weight.map(|weight| weight * 2.0);
        assert_eq!(sum(&kept, &linear), (12.0, true));
        assert_eq!(sum(&kept, &filled(2.0)), (12.0, true));
    }

    #[test]
    fn never_kept_under_autodiff() {
        let device = Device::flex().autodiff();
        let linear: Linear = LinearConfig::new(2, 3).init(&device);
        assert!(Sources::default().and(&linear).is_none());
    }
}
