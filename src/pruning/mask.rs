//! Neurons that are pruned for good.

use std::sync::{Arc, OnceLock};

use burn::module::{
    Content, Devices, Module, ModuleDisplay, ModuleDisplayDefault, ModuleMapper, ModuleVisitor,
    Param, ParamId,
};
use burn::tensor::{Device, Tensor};

use crate::kernels::{ActiveColumns, SparseGradient};
use crate::linear::to_vec;

/// Mask of one layer under frozen regrowth, of the shape of the scores: 1 where kept so far, 0 where
/// pruned for good.
#[derive(Debug, Clone)]
pub struct Mask {
    param: Param<Tensor<2>>,
    /// Derived from the mask when first asked for, for gradients of either kind.
    active: OnceLock<[Arc<ActiveColumns>; 2]>,
}

impl Mask {
    /// Nothing pruned yet.
    pub(super) fn new(shape: [usize; 2], device: &Device) -> Self {
        Self::from(Param::initialized(ParamId::new(), Tensor::ones(shape, device)))
    }

    /// The values, on the device.
    pub fn val(&self) -> Tensor<2> {
        self.param.val()
    }

    /// Also prunes what `kept` has zeros for.
    pub(super) fn and(&mut self, kept: Tensor<2>) {
        *self = Self::from(self.param.clone().map(|mask| mask * kept));
    }

    /// Neurons that are not pruned for good, of a mask `[1, d_output]`; `gathered`: with gradients of
    /// only those.
    pub(super) fn active(&self, gathered: bool) -> &Arc<ActiveColumns> {
        let derived = self.active.get_or_init(|| {
            let active = ActiveColumns::of_mask(&to_vec(self.val()));
            let gradient = SparseGradient::Gathered;
            [Arc::new(active.clone()), Arc::new(ActiveColumns { gradient, ..active })]
        });
        &derived[usize::from(gathered)]
    }
}

impl From<Param<Tensor<2>>> for Mask {
    fn from(param: Param<Tensor<2>>) -> Self {
        Self { param, active: OnceLock::new() }
    }
}

impl Module for Mask {
    fn collect_devices(&self, devices: Devices) -> Devices {
        self.param.collect_devices(devices)
    }

    fn fork(self, device: &Device) -> Self {
        Self::from(self.param.fork(device))
    }

    fn to_device(self, device: &Device) -> Self {
        Self::from(self.param.to_device(device))
    }

    fn train(self) -> Self {
        Self::from(self.param.train())
    }

    fn valid(&self) -> Self {
        Self::from(self.param.valid())
    }

    fn materialize(self) -> Self {
        Self::from(self.param.materialize())
    }

    fn visit<Visitor: ModuleVisitor>(&self, visitor: &mut Visitor) {
        self.param.visit(visitor);
    }

    fn map<Mapper: ModuleMapper>(self, mapper: &mut Mapper) -> Self {
        Self::from(Module::map(self.param, mapper))
    }
}

impl ModuleDisplayDefault for Mask {
    fn content(&self, content: Content) -> Option<Content> {
        self.param.content(content)
    }
}

impl ModuleDisplay for Mask {}
