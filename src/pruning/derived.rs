//! A parameter with a value that is derived from it.

use std::fmt::Debug;
use std::sync::OnceLock;

use burn::module::{
    Content, Devices, Module, ModuleDisplay, ModuleDisplayDefault, ModuleMapper, ModuleVisitor,
};
use burn::tensor::Device;

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

    /// The value, by `derive` if it is not known yet.
    pub fn get(&self, derive: impl FnOnce(&P) -> T) -> &T {
        self.value.get_or_init(|| derive(&self.param))
    }
}

impl<P: Module, T: Clone + Send + Debug> Module for Derived<P, T> {
    fn collect_devices(&self, devices: Devices) -> Devices {
        self.param.collect_devices(devices)
    }

    fn fork(self, device: &Device) -> Self {
        Self::new(self.param.fork(device))
    }

    fn to_device(self, device: &Device) -> Self {
        Self::new(self.param.to_device(device))
    }

    fn train(self) -> Self {
        Self::new(self.param.train())
    }

    fn valid(&self) -> Self {
        Self::new(self.param.valid())
    }

    fn materialize(self) -> Self {
        Self::new(self.param.materialize())
    }

    fn visit<Visitor: ModuleVisitor>(&self, visitor: &mut Visitor) {
        self.param.visit(visitor);
    }

    fn map<Mapper: ModuleMapper>(self, mapper: &mut Mapper) -> Self {
        Self::new(self.param.map(mapper))
    }
}

impl<P: ModuleDisplayDefault, T> ModuleDisplayDefault for Derived<P, T> {
    fn content(&self, content: Content) -> Option<Content> {
        self.param.content(content)
    }
}

impl<P: ModuleDisplayDefault, T> ModuleDisplay for Derived<P, T> {}
