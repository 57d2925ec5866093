//! A parameter with a value that is derived from it.

use std::fmt::Debug;
use std::sync::OnceLock;

use burn::module::{Content, Module, ModuleDisplay, ModuleDisplayDefault, ModuleMapper};

use crate::optim::delegate_to_inner_module;

/// A module of one parameter, under whose path it is in records, and a value on the host that is derived
/// from it on demand. Whatever changes the parameter, such as loading a record, drops the value.
#[derive(Debug, Clone)]
pub(super) struct Derived<P, T> {
    param: P,
    value: OnceLock<T>,
}

impl<P, T> Derived<P, T> {
    pub fn new(param: P) -> Self {
        Self { param, value: OnceLock::new() }
    }

    /// The parameter.
    pub fn param(&self) -> &P {
        &self.param
    }

    fn with(self, f: impl FnOnce(P) -> P) -> Self {
        Self::new(f(self.param))
    }

    /// The value, by `derive` if it is not known yet.
    pub fn get(&self, derive: impl FnOnce(&P) -> T) -> &T {
        self.value.get_or_init(|| derive(&self.param))
    }
}

impl<P: Module, T: Clone + Send + Debug> Module for Derived<P, T> {
    delegate_to_inner_module!(param);

    fn map<Mapper: ModuleMapper>(self, mapper: &mut Mapper) -> Self {
        self.with(|param| param.map(mapper))
    }
}

impl<P: ModuleDisplayDefault, T> ModuleDisplayDefault for Derived<P, T> {
    fn content(&self, content: Content) -> Option<Content> {
        self.param.content(content)
    }
}

impl<P: ModuleDisplayDefault, T> ModuleDisplay for Derived<P, T> {}
