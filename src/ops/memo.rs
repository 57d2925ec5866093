//! Memoised results: inference computes them anew only once the parameters that they come from have
//! changed.

use std::sync::RwLock;

#[cfg(any(feature = "flex", feature = "_gpu"))]
use burn::backend::BackendTensor;
use burn::backend::DispatchTensorKind;
#[cfg(feature = "flex")]
use burn::backend::flex::FlexTensor;
#[cfg(feature = "_gpu")]
use burn::backend::{BackendTypes, Cube};
use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Int, Tensor};

#[cfg(feature = "flex")]
use crate::kernels::Matrix;

/// Tensors that results come from. They are held: as long as they are, none of them is changed in
/// place and none's identity is given to another, so the same sources mean the same values.
#[derive(Clone, Default)]
pub(crate) struct Sources {
    tensors: Vec<Source>,
}

#[derive(Clone)]
enum Source {
    /// The same while its storage is.
    #[cfg(feature = "flex")]
    Flex(FlexTensor),
    /// The same while its number in the lazy graph is.
    #[cfg(feature = "_gpu")]
    Gpu(Box<<Cube as BackendTypes>::FloatTensorPrimitive>),
}

impl Source {
    /// `None` under autodiff and on backends whose tensors have no identity.
    fn of(tensor: DispatchTensorKind) -> Option<Self> {
        match tensor {
            #[cfg(feature = "flex")]
            DispatchTensorKind::Flex(BackendTensor::Float(tensor) | BackendTensor::Int(tensor)) => {
                Some(Self::Flex(tensor))
            }
            #[cfg(feature = "_gpu")]
            DispatchTensorKind::Cube(BackendTensor::Float(tensor) | BackendTensor::Int(tensor)) => {
                Some(Self::Gpu(Box::new(tensor)))
            }
            _ => None,
        }
    }

    /// Whether every handle to this tensor is the same source, in every thread.
    fn is_stored(&self) -> bool {
        match self {
            #[cfg(feature = "flex")]
            Self::Flex(_) => true,
            #[allow(unreachable_patterns)] // On `flex` alone.
            _ => false,
        }
    }

    fn same(&self, other: &Self) -> bool {
        match (self, other) {
            #[cfg(feature = "flex")]
            (Self::Flex(a), Self::Flex(b)) => {
                std::sync::Arc::ptr_eq(&a.data_arc(), &b.data_arc())
                    && a.layout() == b.layout()
                    && a.dtype() == b.dtype()
            }
            #[cfg(feature = "_gpu")]
            (Self::Gpu(a), Self::Gpu(b)) => a.id == b.id,
            #[allow(unreachable_patterns)] // With one kind of backend, or none.
            _ => false,
        }
    }
}

impl Sources {
    /// These and a tensor; `None` under autodiff and on `ndarray`.
    pub(crate) fn and_tensor<const D: usize>(self, tensor: &Tensor<D>) -> Option<Self> {
        self.and_source(Source::of(tensor.clone().into_dispatch().kind))
    }

    /// These and a tensor of integers; `None` as for [`Sources::and_tensor`].
    #[cfg(feature = "flex")]
    pub(crate) fn and_int<const D: usize>(self, tensor: &Tensor<D, Int>) -> Option<Self> {
        self.and_source(Source::of(tensor.clone().into_dispatch().kind))
    }

    /// These and a matrix; `None` as for [`Sources::and_tensor`].
    #[cfg(feature = "flex")]
    pub(crate) fn and_matrix(self, matrix: &Matrix) -> Option<Self> {
        match matrix {
            Matrix::Float(matrix) => self.and_tensor(matrix),
            Matrix::Int8 { values, scales } => self.and_int(values)?.and_tensor(scales),
        }
    }

    /// These and the parameters of a module; `None` under autodiff, on `ndarray`, and on a GPU in
    /// another thread than the one that made them, where each use of a parameter is a new tensor.
    pub(crate) fn and<M: Module>(self, module: &M) -> Option<Self> {
        let mut visitor = Visitor { sources: Some(self) };
        module.visit(&mut visitor);
        visitor.sources
    }

    fn and_source(mut self, source: Option<Source>) -> Option<Self> {
        self.tensors.push(source?);
        Some(self)
    }

    fn same(&self, other: &Self) -> bool {
        self.tensors.len() == other.tensors.len()
            && self.tensors.iter().zip(&other.tensors).all(|(a, b)| a.same(b))
    }
}

struct Visitor {
    sources: Option<Sources>,
}

impl Visitor {
    /// Adds what `value` gives, if that is the same each time.
    fn add(&mut self, value: impl Fn() -> Option<Source>) {
        self.sources = self.sources.take().and_then(|sources| {
            let source = value()?;
            let lasts = source.is_stored() || value().is_some_and(|again| again.same(&source));
            sources.and_source(lasts.then_some(source))
        });
    }
}

impl ModuleVisitor for Visitor {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.add(|| Source::of(param.val().into_dispatch().kind));
    }

    fn visit_int<const D: usize>(&mut self, param: &Param<Tensor<D, Int>>) {
        self.add(|| Source::of(param.val().into_dispatch().kind));
    }
}

/// The last result and its sources. Clones begin with the same result.
pub(crate) struct Memo<T> {
    last: RwLock<Option<Last<T>>>,
}

#[derive(Clone)]
struct Last<T> {
    sources: Sources,
    result: T,
    /// How often results that could be kept were computed.
    computed: usize,
}

impl<T: Clone> Memo<T> {
    /// The last result, if it was computed from the same sources, or else the result of `compute`;
    /// without sources always the latter.
    pub(crate) fn get(&self, sources: Option<Sources>, compute: impl FnOnce() -> T) -> T {
        let Some(sources) = sources else { return compute() };
        if let Ok(last) = self.last.read()
            && let Some(last) = &*last
            && last.sources.same(&sources)
        {
            return last.result.clone();
        }
        let result = compute();
        if let Ok(mut last) = self.last.write() {
            let computed = last.as_ref().map_or(0, |last| last.computed) + 1;
            *last = Some(Last { sources, result: result.clone(), computed });
        }
        result
    }
}

impl<T> Default for Memo<T> {
    fn default() -> Self {
        Self { last: RwLock::new(None) }
    }
}

impl<T: Clone> Clone for Memo<T> {
    fn clone(&self) -> Self {
        Self { last: RwLock::new(self.last.read().ok().and_then(|last| last.clone())) }
    }
}

impl<T> std::fmt::Debug for Memo<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let computed = self.last.read().ok().and_then(|last| Some(last.as_ref()?.computed));
        f.debug_struct("Memo").field("computed", &computed.unwrap_or(0)).finish()
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use burn::nn::{Linear, LinearConfig};
    use burn::tensor::Device;

    /// Computes the sum of a layer's weights through `memo`; also whether it was computed anew.
    fn sum(memo: &Memo<f32>, linear: &Linear) -> (f32, bool) {
        let mut anew = false;
        let sum = memo.get(Sources::default().and(linear), || {
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
        let memo = Memo::default();
        let linear = filled(1.0);
        assert_eq!(sum(&memo, &linear), (6.0, true));
        assert_eq!(sum(&memo, &linear), (6.0, false));
        assert_eq!(sum(&memo.clone(), &linear.clone()), (6.0, false));
        assert_eq!(format!("{memo:?}"), "Memo { computed: 1 }");
    }

    /// Also where the change could have been made in place, had the storage not been held.
    #[test]
    fn computed_anew_once_a_parameter_has_changed() {
        let memo = Memo::default();
        let mut linear = filled(1.0);
        assert_eq!(sum(&memo, &linear), (6.0, true));
        linear.weight = linear.weight.map(|weight| weight * 2.0);
        assert_eq!(sum(&memo, &linear), (12.0, true));
        assert_eq!(sum(&memo, &filled(2.0)), (12.0, true));
    }

    #[test]
    fn never_kept_under_autodiff() {
        let device = Device::flex().autodiff();
        let linear: Linear = LinearConfig::new(2, 3).init(&device);
        assert!(Sources::default().and(&linear).is_none());
    }
}
