//! Relative positions: buckets, and what of their embedding an input of some length needs.
//!
//! The row for a pair of tokens depends on `query − key` alone, so attention to positions is
//! computed for the `2·length − 1` differences.

use std::sync::{Arc, RwLock};

use burn::tensor::{Device, Int, Tensor, TensorData};

/// Which row of the embedding of relative positions each difference `query − key` has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RelativeBuckets {
    /// Rows a direction where far differences share rows; `None`: each has its own.
    pub buckets: Option<usize>,
    /// Furthest difference that is told from further ones.
    pub furthest: usize,
}

impl RelativeBuckets {
    /// Rows a direction; the embedding has twice as many.
    pub fn span(&self) -> usize {
        self.buckets.unwrap_or(self.furthest)
    }

    /// Rows of the differences `1 − length, …, length − 1`.
    pub fn rows(&self, length: usize) -> Vec<usize> {
        let (span, most) = (self.span() as f32, (2 * self.span() - 1) as f32);
        let far = length as i64 - 1;
        // Not a number, where a configuration's logarithm is of 1, becomes row 0.
        let row = |difference| (self.bucket(difference) + span).clamp(0.0, most) as usize;
        (-far..=far).map(row).collect()
    }

    /// Near differences are their own bucket, far ones share by the logarithm of their distance.
    /// In 32 bits, since a bucket's border is where that is rounded up.
    fn bucket(&self, difference: i64) -> f32 {
        let Some(buckets) = self.buckets else { return difference as f32 };
        let middle = buckets / 2;
        let distance = difference.unsigned_abs() as f32;
        if distance <= middle as f32 {
            return difference as f32;
        }
        let most = ((self.furthest as f64 - 1.0) / middle as f64) as f32;
        let fraction = (distance / middle as f32).ln() / most.ln();
        let bucket = (fraction * (middle as f32 - 1.0)).ceil() + middle as f32;
        bucket * difference.signum() as f32
    }
}

/// The relative positions of one forward pass, shared by all layers.
#[derive(Debug, Clone)]
pub struct RelativePositions {
    /// `[rows, hidden_size]`: embeddings, normalised if they are.
    pub embeddings: Tensor<2>,
    /// `[2·length]`: rows of `embeddings` for the differences `length − 1, …, 1 − length`, then
    /// one that is not used.
    pub descending: Tensor<1, Int>,
    /// `[2·length]`: rows of `embeddings` for the differences `1 − length, …, length − 1`, then
    /// one that is not used.
    pub ascending: Tensor<1, Int>,
    /// Whether `embeddings` are one tensor in all forward passes: what is computed of them may be
    /// kept.
    pub(super) lasting: bool,
}

impl RelativePositions {
    /// For inputs of `length` tokens, of all `embeddings: [2·span, hidden_size]`.
    pub fn new(buckets: RelativeBuckets, length: usize, embeddings: Tensor<2>) -> Self {
        let rows = RelativeRows::new(buckets, length, false, &embeddings.device());
        Self::of_rows(&rows, embeddings)
    }

    /// Positions among the `embeddings` that `rows` is for.
    pub(super) fn of_rows(rows: &RelativeRows, embeddings: Tensor<2>) -> Self {
        Self {
            descending: rows.descending.clone(),
            ascending: rows.ascending.clone(),
            embeddings,
            lasting: false,
        }
    }
}

/// Which rows of the embedding inputs of some length need, and their index for every difference.
#[derive(Debug, Clone)]
pub(super) struct RelativeRows {
    length: usize,
    device: Device,
    /// Whether the index is of the needed rows alone rather than of all.
    narrowed: bool,
    first: usize,
    count: usize,
    descending: Tensor<1, Int>,
    ascending: Tensor<1, Int>,
}

impl RelativeRows {
    /// Among all rows, or `narrowed` to those that inputs of this length need: what is computed for
    /// one pass need not be computed for others.
    fn new(buckets: RelativeBuckets, length: usize, narrowed: bool, device: &Device) -> Self {
        let rows = buckets.rows(length);
        let needed = (rows.iter().copied().min(), rows.iter().copied().max());
        let (first, last) = (needed.0.unwrap_or(0), needed.1.unwrap_or(0));
        let own = |&row: &usize| (row - if narrowed { first } else { 0 }) as i64;
        let unused = std::iter::once(0);
        Self {
            length,
            device: device.clone(),
            narrowed,
            first,
            count: last + 1 - first,
            descending: index(rows.iter().rev().map(own).chain(unused.clone()), device),
            ascending: index(rows.iter().map(own).chain(unused), device),
        }
    }

    /// The needed rows of all `embeddings: [2·span, hidden_size]`.
    pub(super) fn of(&self, embeddings: Tensor<2>) -> Tensor<2> {
        embeddings.narrow(0, self.first, self.count)
    }
}

/// The rows of each length for the same buckets, found once; shared by clones.
#[derive(Debug, Clone, Default)]
pub(super) struct RowsByLength(Arc<RwLock<Vec<RelativeRows>>>);

impl RowsByLength {
    /// More lengths than batches of one task have; then the oldest are forgotten.
    const MOST: usize = 1024;

    pub(super) fn get(
        &self,
        buckets: RelativeBuckets,
        length: usize,
        narrowed: bool,
        device: &Device,
    ) -> RelativeRows {
        // Equal devices may differ in autodiff.
        let wanted = |rows: &&RelativeRows| {
            (rows.length, rows.narrowed) == (length, narrowed)
                && rows.device == *device
                && rows.device.is_autodiff() == device.is_autodiff()
        };
        if let Ok(found) = self.0.read()
            && let Some(rows) = found.iter().find(wanted)
        {
            return rows.clone();
        }
        let rows = RelativeRows::new(buckets, length, narrowed, device);
        if let Ok(mut found) = self.0.write() {
            if found.len() == Self::MOST {
                found.remove(0);
            }
            found.push(rows.clone());
        }
        rows
    }
}

fn index(rows: impl Iterator<Item = i64>, device: &Device) -> Tensor<1, Int> {
    let rows: Vec<i64> = rows.collect();
    let count = rows.len();
    Tensor::from_data(TensorData::new(rows, [count]), device)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_for_each_difference_up_to_the_furthest() {
        let buckets = RelativeBuckets { buckets: None, furthest: 3 };
        assert_eq!(buckets.span(), 3);
        assert_eq!(buckets.rows(6), [0, 0, 0, 1, 2, 3, 4, 5, 5, 5, 5]);
        assert_eq!(buckets.rows(1), [3]);
    }

    #[test]
    fn far_differences_share_rows() {
        let buckets = RelativeBuckets { buckets: Some(8), furthest: 40 };
        let rows = buckets.rows(40);
        assert_eq!(rows.len(), 79);
        // Own rows up to 4; 39, the furthest, has the last row of its direction, 8 + 7.
        assert_eq!(rows[39..44], [8, 9, 10, 11, 12]);
        assert_eq!((rows[78], rows[0]), (15, 1));
        assert!(rows.windows(2).all(|pair| pair[0] <= pair[1]));
        assert!((0..79).all(|at| rows[at] + rows[78 - at] == 16), "odd");
    }

    #[test]
    fn only_rows_that_occur_are_taken() {
        let device = Device::default();
        let embedding = Tensor::<2>::from_data(
            TensorData::new((0..16).map(|v| v as f32).collect::<Vec<_>>(), [16, 1]),
            &device,
        );
        let buckets = RelativeBuckets { buckets: Some(8), furthest: 40 };
        let all = RelativePositions::new(buckets, 3, embedding.clone());
        let rows = RelativeRows::new(buckets, 3, true, &device);
        let narrowed = RelativePositions::of_rows(&rows, rows.of(embedding));
        assert_eq!((all.embeddings.dims(), narrowed.embeddings.dims()), ([16, 1], [5, 1]));
        for positions in [all, narrowed] {
            let rows = |index: Tensor<1, Int>| {
                let rows = positions.embeddings.clone().select(0, index);
                rows.into_data().try_into_vec::<f32>().unwrap()
            };
            assert_eq!(rows(positions.ascending.clone())[..5], [6.0, 7.0, 8.0, 9.0, 10.0]);
            assert_eq!(rows(positions.descending.clone())[..5], [10.0, 9.0, 8.0, 7.0, 6.0]);
        }
    }

    #[test]
    fn each_length_is_found_once() {
        let found = RowsByLength::default();
        let buckets = RelativeBuckets { buckets: Some(8), furthest: 40 };
        let device = Device::default();
        for _ in 0..2 {
            for (length, narrowed) in [(3, true), (3, false), (5, true)] {
                let rows = found.get(buckets, length, narrowed, &device);
                assert_eq!((rows.length, rows.narrowed), (length, narrowed));
                let index = rows.ascending.into_data().iter::<i64>().collect::<Vec<_>>();
                let first = if narrowed { 0 } else { 8 - (length as i64 - 1) };
                assert_eq!(index[0], first);
            }
        }
        assert_eq!(found.0.read().unwrap().len(), 3);
        for length in 1..=2 * RowsByLength::MOST {
            found.get(buckets, length, true, &device);
        }
        assert_eq!(found.0.read().unwrap().len(), RowsByLength::MOST);
    }
}
