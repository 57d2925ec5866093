//! Progress of a pruner.

use burn::module::{Param, ParamId};
use burn::tensor::{Device, Int, Tensor, TensorData};

use super::derived::Derived;

/// Steps done and updates skipped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Counters {
    pub step: usize,
    /// Valid samples in the window.
    pub window: usize,
    /// Skipped updates.
    pub skipped: usize,
    /// Updates skipped since the last one that was not.
    pub in_a_row: usize,
}

/// Counters as checkpoints carry them, `[step, window, skipped, in_a_row]`.
pub(super) type StoredCounters = Derived<Param<Tensor<1, Int>>, Counters>;

impl Counters {
    pub fn to_stored(self, id: ParamId, device: &Device) -> StoredCounters {
        let values = [self.step, self.window, self.skipped, self.in_a_row].map(|v| v as i64);
        let stored = Tensor::from_data(TensorData::from(values), device);
        let stored = Derived::new(Param::initialized(id, stored));
        stored.get(|_| self);
        stored
    }

    pub fn of(stored: &StoredCounters) -> Self {
        *stored.get(|param| {
            let data = param.val().into_data().convert::<i64>();
            let values: Vec<i64> = data.try_into_vec().unwrap_or_default();
            let at = |i: usize| values.get(i).map_or(0, |v| *v as usize);
            Self { step: at(0), window: at(1), skipped: at(2), in_a_row: at(3) }
        })
    }
}
