//! Dropout whose mask is a pure function of a seed, a row and a column: it is computed again in the
//! backward pass instead of being kept, and by any thread.

use crate::random::split_mix_64;

/// Which elements are dropped, and by what the others are multiplied.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DropoutMask {
    seed: u64,
    /// Elements whose hash is below are dropped.
    threshold: u32,
    scale: f32,
}

impl DropoutMask {
    /// Drops each element with `probability`, within `0..1`; the others are divided by
    /// `1 − probability`.
    ///
    /// # Panics
    /// If `probability` is not within `0..1`.
    pub fn new(probability: f64, seed: u64) -> Self {
        assert!((0.0..1.0).contains(&probability), "dropout of {probability} is not within 0..1");
        let threshold = (probability * 2f64.powi(32)) as u32;
        Self { seed, threshold, scale: (1.0 / (1.0 - probability)) as f32 }
    }

    /// Whether nothing is dropped.
    pub fn is_idle(self) -> bool {
        self.threshold == 0
    }

    /// The part of the mask that the elements of row `row` share.
    #[inline(always)]
    pub(crate) fn row(self, row: usize) -> RowMask {
        let seed = split_mix_64(self.seed, row as u64) as u32;
        RowMask { seed, threshold: self.threshold, scale: self.scale }
    }
}

/// The mask of one row.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RowMask {
    seed: u32,
    threshold: u32,
    scale: f32,
}

impl RowMask {
    /// 0, or what the element is multiplied by.
    #[inline(always)]
    pub(crate) fn factor(self, column: usize) -> f32 {
        // The finalizer of MurmurHash3: every bit of the column reaches every bit of the hash.
        let mut hash = self.seed ^ (column as u32).wrapping_mul(0x9E37_79B9);
        hash = (hash ^ (hash >> 16)).wrapping_mul(0x85EB_CA6B);
        hash = (hash ^ (hash >> 13)).wrapping_mul(0xC2B2_AE35);
        hash ^= hash >> 16;
        if hash < self.threshold { 0.0 } else { self.scale }
    }

    /// Multiplies a row by its mask.
    #[inline(always)]
    pub(crate) fn apply(self, values: &mut [f32]) {
        for (column, value) in values.iter_mut().enumerate() {
            *value *= self.factor(column);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drops_the_share_asked_for_everywhere() {
        let (rows, columns) = (400, 768);
        for (probability, seed) in [(0.1, 1), (0.5, 2), (0.9, 3)] {
            let mask = DropoutMask::new(probability, seed);
            let kept = |row: usize, column: usize| mask.row(row).factor(column) > 0.0;
            let sd = (probability * (1.0 - probability)).sqrt();
            let share = |count: usize, of: usize| {
                let off = count as f64 / of as f64 - (1.0 - probability);
                off.abs() / (sd / (of as f64).sqrt())
            };
            let all = (0..rows).flat_map(|r| (0..columns).map(move |c| (r, c)));
            let total = all.filter(|&(r, c)| kept(r, c)).count();
            assert!(share(total, rows * columns) < 4.0);
            // No row, no column and no pair of neighbours is special.
            for row in 0..rows {
                assert!(share((0..columns).filter(|&c| kept(row, c)).count(), columns) < 5.0);
            }
            for column in 0..columns {
                assert!(share((0..rows).filter(|&r| kept(r, column)).count(), rows) < 5.0);
            }
            let pairs = (0..rows).flat_map(|r| (1..columns).map(move |c| (r, c)));
            let both = pairs.filter(|&(r, c)| kept(r, c) && kept(r, c - 1)).count();
            let expected = (1.0 - probability).powi(2) * (rows * (columns - 1)) as f64;
            assert!((both as f64 - expected).abs() < 6.0 * expected.sqrt(), "{both}, {expected}");
        }
    }

    #[test]
    fn another_seed_drops_others_and_none_drops_nothing() {
        let row = |seed| -> Vec<f32> {
            let mask = DropoutMask::new(0.5, seed).row(3);
            (0..64).map(|column| mask.factor(column)).collect()
        };
        assert_eq!(row(7), row(7));
        assert_ne!(row(7), row(8));
        assert!(DropoutMask::new(0.0, 7).is_idle());
        assert_eq!(DropoutMask::new(0.0, 7).row(0).factor(5), 1.0);
    }
}
