//! Every parameter of a module under its Hugging Face name.

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Int, Tensor, TensorData};

use crate::Result;

/// One parameter that is not part of a [`crate::linear::CompressibleLinear`] and not in integers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NamedParam {
    /// Hugging Face name.
    pub name: String,
    /// Shape in the file: PyTorch's `[out, in]` for the weight of a linear layer.
    pub shape: Vec<usize>,
    /// Whether the file holds the transpose of the parameter in Burn.
    pub transposed: bool,
}

/// Position of a traversal: field names and the types that contain them.
#[derive(Default)]
struct Place {
    /// `(field, container)` of every level.
    parts: Vec<(String, String)>,
    /// Depth of nested containers that are [`APART`].
    apart: usize,
}

/// Containers whose parameters are not visited: layers and embeddings in integers have names of their own.
const APART: [&str; 2] = ["Enum:CompressibleLinear", "Struct:Int8Rows"];

impl Place {
    fn enter(&mut self, name: &str, container: &str) {
        self.apart += usize::from(APART.contains(&container));
        self.parts.push((name.to_string(), container.to_string()));
    }

    fn exit(&mut self, container: &str) {
        self.apart -= usize::from(APART.contains(&container));
        self.parts.pop();
    }

    /// The parameter here, unless its container is [`APART`].
    fn param(&self, rename: &dyn Fn(&str) -> String, shape: &[usize]) -> Option<NamedParam> {
        if self.apart > 0 {
            return None;
        }
        let (field, container) = self.parts.last()?;
        let field = match (container.as_str(), field.as_str()) {
            ("Struct:LayerNorm", "gamma") => "weight",
            ("Struct:LayerNorm", "beta") => "bias",
            (_, field) => field,
        };
        // Variant names of enums enter Burn's path, not Hugging Face's.
        let parents = &self.parts[..self.parts.len() - 1];
        let mut path: Vec<&str> = parents
            .iter()
            .filter(|(_, container)| !container.starts_with("Enum:"))
            .map(|(name, _)| name.as_str())
            .collect();
        path.push(field);
        let transposed = container == "Struct:Linear" && shape.len() == 2;
        let mut shape = shape.to_vec();
        if transposed {
            shape.reverse();
        }
        Some(NamedParam { name: rename(&path.join(".")), shape, transposed })
    }
}

/// All float parameters outside compressible layers, in the module's order.
pub(crate) fn named_params<M: Module>(
    module: &M,
    rename: &dyn Fn(&str) -> String,
) -> Vec<NamedParam> {
    let mut params = Vec::new();
    visit_params(module, rename, &mut |param, _| params.push(param));
    params
}

/// Calls `f` with every float parameter outside compressible layers, and a closure that reads its values
/// in Burn's orientation.
pub(crate) fn visit_params<M: Module>(
    module: &M,
    rename: &dyn Fn(&str) -> String,
    f: &mut dyn FnMut(NamedParam, &dyn Fn() -> TensorData),
) {
    struct Visitor<'a> {
        place: Place,
        rename: &'a dyn Fn(&str) -> String,
        f: &'a mut dyn FnMut(NamedParam, &dyn Fn() -> TensorData),
    }
    impl ModuleVisitor for Visitor<'_> {
        fn enter_module(&mut self, name: &str, container: &str) {
            self.place.enter(name, container);
        }
        fn exit_module(&mut self, _name: &str, container: &str) {
            self.place.exit(container);
        }
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if let Some(named) = self.place.param(self.rename, param.lazy_shape().as_slice()) {
                (self.f)(named, &|| param.val().into_data());
            }
        }
        fn visit_int<const D: usize>(&mut self, _param: &Param<Tensor<D, Int>>) {}
    }
    module.visit(&mut Visitor { place: Place::default(), rename, f });
}

/// Replaces every float parameter outside compressible layers for which `values` returns some, in the
/// orientation of the file.
///
/// # Errors
/// The first error of `values`.
pub(crate) fn set_params<M: Module>(
    module: M,
    rename: &dyn Fn(&str) -> String,
    values: &dyn Fn(&NamedParam) -> Result<Option<Vec<f32>>>,
) -> Result<M> {
    struct Mapper<'a> {
        place: Place,
        rename: &'a dyn Fn(&str) -> String,
        values: &'a dyn Fn(&NamedParam) -> Result<Option<Vec<f32>>>,
        result: Result<()>,
    }
    impl ModuleMapper for Mapper<'_> {
        fn enter_module(&mut self, name: &str, container: &str) {
            self.place.enter(name, container);
        }
        fn exit_module(&mut self, _name: &str, container: &str) {
            self.place.exit(container);
        }
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            let shape = param.lazy_shape();
            let named = self.place.param(self.rename, shape.as_slice());
            let (Some(named), Ok(())) = (named, &self.result) else { return param };
            match (self.values)(&named) {
                Ok(Some(values)) => {
                    let values = match named.transposed {
                        true => transpose(&values, named.shape[0], named.shape[1]),
                        false => values,
                    };
                    let device = param.lazy_device();
                    Param::from_data(TensorData::new(values, shape), &device)
                }
                Ok(None) => param,
                Err(error) => {
                    self.result = Err(error);
                    param
                }
            }
        }
    }
    let mut mapper = Mapper { place: Place::default(), rename, values, result: Ok(()) };
    let module = module.map(&mut mapper);
    mapper.result.map(|()| module)
}

/// `[rows, columns]` → `[columns, rows]`, in tiles that stay in cache.
pub(crate) fn transpose<T: Copy + Default>(values: &[T], rows: usize, columns: usize) -> Vec<T> {
    const TILE: usize = 32;
    let mut transposed = vec![T::default(); values.len()];
    for row in (0..rows).step_by(TILE) {
        for column in (0..columns).step_by(TILE) {
            for r in row..rows.min(row + TILE) {
                for c in column..columns.min(column + TILE) {
                    transposed[c * rows + r] = values[r * columns + c];
                }
            }
        }
    }
    transposed
}
