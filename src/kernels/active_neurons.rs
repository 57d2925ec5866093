//! Which neurons of a sparse part are not zero: a column each of `S: [d_input, d_output]`.

/// The form of the gradient of a sparse part of which neurons are zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SparseGradient {
    /// That of the active neurons, zeros at the others' places: those are pruned for good.
    #[default]
    Active,
    /// That of the active neurons alone, side by side, `[d_input, active]`. Only an optimizer that is told
    /// of it can take that: see [`crate::pruning::Pruner::optimize`].
    Gathered,
    /// All of it: the others are zero now, but may come back.
    Whole,
}

/// The active neurons of a layer's sparse part; the others are zero.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActiveNeurons {
    /// In ascending order.
    pub active: Vec<usize>,
    /// The others, in ascending order.
    pub others: Vec<usize>,
    /// The form of the gradient of `S`.
    pub gradient: SparseGradient,
}

impl ActiveNeurons {
    /// Those whose value of `mask: [d_output]` is not zero; the others are pruned for good, and
    /// gradients keep the shape of `S`.
    pub fn of_mask(mask: &[f32]) -> Self {
        let (active, others) = (0..mask.len()).partition(|&column| mask[column] != 0.0);
        Self { active, others, gradient: SparseGradient::Active }
    }

    /// Those of `sparse: [d_input, width]` that are not zero, if they are few enough for a layer of
    /// `rank` to be faster by them; all are trained. Dense rows soon tell that they are not.
    #[cfg(feature = "flex")]
    pub(crate) fn of_sparse(sparse: &[f32], width: usize, rank: usize) -> Option<Self> {
        /// Rows after which to see how many columns have something.
        const ROWS: usize = 8;
        let d_input = sparse.len().checked_div(width)?;
        let mut found = vec![0u32; width];
        for rows in sparse.chunks(ROWS * width) {
            for row in rows.chunks_exact(width) {
                // Zero, or minus zero, has no bit but the sign.
                let bits = found.iter_mut().zip(row);
                bits.for_each(|(found, value)| *found |= value.to_bits() & (u32::MAX >> 1));
            }
            let active = found.iter().filter(|&&found| found != 0).count();
            if !pays([d_input, width], active, rank) {
                return None;
            }
        }
        let (active, others) = (0..width).partition(|&column| found[column] != 0);
        Some(Self { active, others, gradient: SparseGradient::Whole })
    }

    /// Whether the gradient is that of the active neurons alone.
    pub fn gathered(&self) -> bool {
        self.gradient == SparseGradient::Gathered
    }

    /// The number of all neurons.
    pub fn width(&self) -> usize {
        self.active.len() + self.others.len()
    }

    /// `[d_output]`: 1 where a neuron is active, else 0.
    pub(crate) fn mask(&self) -> Vec<f32> {
        self.spread(&vec![1.0; self.active.len()])
    }

    /// The active neurons' values at their places, zeros at the others'.
    pub(crate) fn spread(&self, values: &[f32]) -> Vec<f32> {
        let mut spread = vec![0.0; self.width()];
        self.active.iter().zip(values).for_each(|(&column, value)| spread[column] = *value);
        spread
    }

    /// Where each active neuron stands among those of `other`; `None` if one is not there.
    pub(crate) fn positions_in(&self, other: &Self) -> Option<Vec<i64>> {
        let find = |column| other.active.binary_search(column).ok().map(|at| at as i64);
        self.active.iter().map(find).collect()
    }

    /// Whether a layer of `rank` and so many inputs takes fewer operations of many rows by its active
    /// columns than composed.
    #[cfg(feature = "flex")]
    pub(crate) fn pays(&self, d_input: usize, rank: usize) -> bool {
        pays([d_input, self.width()], self.active.len(), rank)
    }
}

/// Whether `k·in + r·(in + out − k)` operations a row are enough fewer than `in·out`.
#[cfg(feature = "flex")]
fn pays([d_input, d_output]: [usize; 2], active: usize, rank: usize) -> bool {
    let folded = active * d_input + rank * (d_input + d_output - active);
    // Gathering and scattering columns takes its part.
    4 * folded < 3 * d_input * d_output
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;

    #[test]
    fn columns_of_zeros_are_found() {
        let mut sparse = vec![0.0; 20 * 4];
        // Seen late, in one row, and only by its sign, which is not seen.
        (sparse[19 * 4 + 1], sparse[2], sparse[3]) = (1e-40, f32::NAN, -0.0);
        let found = ActiveNeurons::of_sparse(&sparse, 4, 0).unwrap();
        assert_eq!((&found.active[..], &found.others[..]), (&[1, 2][..], &[0, 3][..]));
        assert_eq!(found.gradient, SparseGradient::Whole);
        // 2·20 + 1·(20 + 2) operations of 80, and 2·20 + 0.
        assert!(ActiveNeurons::of_sparse(&sparse, 4, 1).is_none());
        // Three columns of four do not pay.
        sparse[0] = 1.0;
        assert_eq!(ActiveNeurons::of_sparse(&sparse, 4, 0), None);
        sparse.fill(0.0);
        assert!(ActiveNeurons::of_sparse(&sparse, 4, 1).unwrap().active.is_empty());
        assert_eq!(ActiveNeurons::of_sparse(&[], 0, 0), None);
    }
}
