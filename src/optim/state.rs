//! State of AdamW about one parameter.

use std::sync::Arc;

use burn::optim::{AdaptiveMomentumState, RecordState, StateSink, StateSource, join_path};
use burn::tensor::{Device, Int, Tensor, TensorData};

use crate::kernels::ActiveNeurons;

/// State of one parameter: as Burn's, but with moments of only some columns if only those are trained.
#[derive(Clone)]
pub struct AdamWState<const D: usize> {
    /// Steps done and both moments: of the parameter's shape, or `[.., active]`.
    pub momentum: AdaptiveMomentumState<D>,
    /// The columns that have moments; `None`: all.
    pub columns: Option<Arc<ActiveNeurons>>,
}

/// Name of the columns in records.
const COLUMNS: &str = "columns";

impl<const D: usize> RecordState for AdamWState<D> {
    /// Moments under the names in Burn's state; with columns, their mask.
    fn state_flatten(&self, prefix: &str, out: &mut StateSink) {
        self.momentum.state_flatten(&join_path(prefix, "momentum"), out);
        if let Some(columns) = &self.columns {
            let mask = TensorData::new(columns.mask(), [columns.width()]);
            out.push_tensor(prefix, COLUMNS, mask);
        }
    }

    fn state_unflatten(prefix: &str, src: &mut StateSource, device: &Device) -> Option<Self> {
        let momentum = RecordState::state_unflatten(&join_path(prefix, "momentum"), src, device)?;
        let mask = src.take_tensor(prefix, COLUMNS);
        let mask = mask.map(|mask| mask.convert::<f32>().iter::<f32>().collect::<Vec<_>>());
        let columns = mask.map(|mask| Arc::new(ActiveNeurons::of_mask(&mask)));
        Some(Self { momentum, columns })
    }
}

impl<const D: usize> AdamWState<D> {
    /// The state for an update of `columns` (`None`: all). A column without moments starts with zeros.
    pub(super) fn fit(self, columns: Option<&Arc<ActiveNeurons>>) -> Self {
        let same = match (&self.columns, columns) {
            (None, None) => true,
            (Some(old), Some(new)) => old.active == new.active && old.width() == new.width(),
            _ => false,
        };
        if same {
            return self;
        }
        let Self { mut momentum, columns: old } = self;
        let refit = |moments: Tensor<D>| match (&old, columns) {
            (None, Some(new)) => take(moments, new),
            (Some(old), None) => spread(moments, old),
            (Some(old), Some(new)) => match new.positions_in(old) {
                Some(positions) => select(moments, positions),
                None => take(spread(moments, old), new),
            },
            (None, None) => moments,
        };
        momentum.moment_1 = refit(momentum.moment_1);
        momentum.moment_2 = refit(momentum.moment_2);
        momentum.max_moment_2 = momentum.max_moment_2.map(refit);
        Self { momentum, columns: columns.cloned() }
    }
}

fn select<const D: usize>(tensor: Tensor<D>, columns: Vec<i64>) -> Tensor<D> {
    let count = columns.len();
    let mut dims = tensor.dims();
    if count == 0 {
        dims[D - 1] = 0;
        return Tensor::zeros(dims, (&tensor.device(), tensor.dtype()));
    }
    let columns = TensorData::new(columns, [count]);
    let columns = Tensor::<1, Int>::from_data(columns, &tensor.device());
    tensor.select(D - 1, columns)
}

/// The active columns side by side.
pub(super) fn take<const D: usize>(tensor: Tensor<D>, columns: &ActiveNeurons) -> Tensor<D> {
    select(tensor, columns.active.iter().map(|&column| column as i64).collect())
}

/// The active columns at their places among others that are zero.
pub(crate) fn spread<const D: usize>(tensor: Tensor<D>, columns: &ActiveNeurons) -> Tensor<D> {
    let mut dims = tensor.dims();
    dims[D - 1] = columns.others.len();
    let others = Tensor::zeros(dims, (&tensor.device(), tensor.dtype()));
    join(tensor, others, columns)
}

/// Active and other columns at their places.
pub(super) fn join<const D: usize>(
    active: Tensor<D>,
    others: Tensor<D>,
    columns: &ActiveNeurons,
) -> Tensor<D> {
    let all = match (columns.active.len(), columns.others.len()) {
        (0, _) => return others,
        (_, 0) => return active,
        _ => Tensor::cat(vec![active, others], D - 1),
    };
    let mut places = vec![0; columns.width()];
    let order = columns.active.iter().chain(&columns.others);
    order.enumerate().for_each(|(at, &column)| places[column] = at as i64);
    select(all, places)
}
