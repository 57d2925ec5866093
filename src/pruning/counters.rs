//! Where a pruner is in its schedule.

use burn::module::{Param, ParamId};
use burn::tensor::{Device, Int, Tensor, TensorData};

/// Mirrored on the host; on the device for checkpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Counters {
    pub step: usize,
    /// Valid samples in the window.
    pub window: usize,
    /// Skipped updates.
    pub skipped: usize,
    /// Of these, the last ones without another between.
    pub in_a_row: usize,
}

impl Counters {
    pub fn to_tensor(self, device: &Device) -> Tensor<1, Int> {
        let values = [self.step, self.window, self.skipped, self.in_a_row].map(|v| v as i64);
        Tensor::from_data(TensorData::from(values), device)
    }

    pub fn to_param(self, device: &Device) -> Param<Tensor<1, Int>> {
        Param::initialized(ParamId::new(), self.to_tensor(device))
    }

    pub fn from_param(param: &Param<Tensor<1, Int>>) -> Self {
        let data = param.val().into_data().convert::<i64>();
        let values: Vec<i64> = data.try_into_vec().unwrap_or_default();
        let at = |i: usize| values.get(i).map_or(0, |v| *v as usize);
        Self { step: at(0), window: at(1), skipped: at(2), in_a_row: at(3) }
    }
}
