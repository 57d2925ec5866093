//! Which columns (neurons) of a sparse part are trained where pruned ones are pruned for good.

/// The active columns of a layer's sparse part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActiveColumns {
    /// In ascending order.
    pub active: Vec<usize>,
    /// The others, in ascending order.
    pub others: Vec<usize>,
    /// Whether the gradient of `S` is that of the active columns alone, side by side,
    /// `[d_input, active]`. Only an optimizer that is told of it can take that: see
    /// [`crate::pruning::Pruner::with_adamw`].
    pub gathered: bool,
}

impl ActiveColumns {
    /// Those whose value of `mask: [d_output]` is not zero; gradients keep the shape of `S`.
    pub fn of_mask(mask: &[f32]) -> Self {
        let (active, others) = (0..mask.len()).partition(|&column| mask[column] != 0.0);
        Self { active, others, gathered: false }
    }

    /// The number of all columns.
    pub fn width(&self) -> usize {
        self.active.len() + self.others.len()
    }

    /// `[d_output]`: 1 where a column is active, else 0.
    pub(crate) fn mask(&self) -> Vec<f32> {
        self.spread(&vec![1.0; self.active.len()])
    }

    /// The active columns' values at their places, zeros at the others'.
    pub(crate) fn spread(&self, values: &[f32]) -> Vec<f32> {
        let mut spread = vec![0.0; self.width()];
        self.active.iter().zip(values).for_each(|(&column, value)| spread[column] = *value);
        spread
    }

    /// Where each active column stands among those of `other`; `None` if one is not there.
    pub(crate) fn positions_in(&self, other: &Self) -> Option<Vec<i64>> {
        let find = |column| other.active.binary_search(column).ok().map(|at| at as i64);
        self.active.iter().map(find).collect()
    }

    /// Whether a layer `[d_input, d_output]` of `rank` takes fewer operations by its active columns
    /// than composed: `k·in + r·(in + out − k)` against `in·out`.
    #[cfg(feature = "flex")]
    pub(crate) fn pays(&self, d_input: usize, rank: usize) -> bool {
        let (k, others) = (self.active.len(), self.others.len());
        let folded = k * d_input + rank * (d_input + others);
        // Gathering and scattering columns takes its part.
        4 * folded < 3 * d_input * (k + others)
    }
}
