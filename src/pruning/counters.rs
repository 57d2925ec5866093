//! Progress of a pruner.

use burn::module::{
    Content, Devices, Module, ModuleDisplay, ModuleDisplayDefault, ModuleMapper, ModuleVisitor,
    Param, ParamId,
};
use burn::tensor::{Device, Int, Tensor, TensorData};

/// Steps done and updates skipped. Kept on the host; records hold one tensor, made when they are
/// written and read when they are loaded.
#[derive(Debug, Clone)]
pub(super) struct Counters {
    id: ParamId,
    device: Device,
    pub step: usize,
    /// Valid samples in the window.
    pub window: usize,
    /// Skipped updates.
    pub skipped: usize,
    /// Updates skipped since the last one that was not.
    pub in_a_row: usize,
}

impl Counters {
    /// Step 0 on a plain (not autodiff) device.
    pub fn new(device: &Device) -> Self {
        let (id, device) = (ParamId::new(), device.clone());
        Self { id, device, step: 0, window: 0, skipped: 0, in_a_row: 0 }
    }

    /// `[step, window, skipped, in_a_row]`.
    fn to_param(&self) -> Param<Tensor<1, Int>> {
        let values = [self.step, self.window, self.skipped, self.in_a_row].map(|v| v as i64);
        let tensor = Tensor::from_data(TensorData::from(values), &self.device);
        Param::initialized(self.id, tensor)
    }
}

impl Module for Counters {
    fn collect_devices(&self, devices: Devices) -> Devices {
        self.to_param().collect_devices(devices)
    }

    fn fork(self, device: &Device) -> Self {
        self.to_device(device)
    }

    fn to_device(self, device: &Device) -> Self {
        Self { device: device.clone().without_autodiff(), ..self }
    }

    fn train(self) -> Self {
        self
    }

    fn valid(&self) -> Self {
        self.clone()
    }

    fn materialize(self) -> Self {
        self
    }

    fn visit<Visitor: ModuleVisitor>(&self, visitor: &mut Visitor) {
        self.to_param().visit(visitor);
    }

    fn map<Mapper: ModuleMapper>(self, mapper: &mut Mapper) -> Self {
        let param = Module::map(self.to_param(), mapper);
        let values: Vec<i64> =
            param.val().into_data().convert::<i64>().try_into_vec().unwrap_or_default();
        let at = |i: usize| values.get(i).map_or(0, |value| *value as usize);
        let [step, window, skipped, in_a_row] = [at(0), at(1), at(2), at(3)];
        Self { id: param.id, device: self.device, step, window, skipped, in_a_row }
    }
}

impl ModuleDisplayDefault for Counters {
    fn content(&self, content: Content) -> Option<Content> {
        content.add("step", &self.step).add("skipped", &self.skipped).optional()
    }
}

impl ModuleDisplay for Counters {}
