//! Sequences of different lengths one after another, without padding.

use std::ops::Range;

/// Where sequences begin and end in rows that hold nothing but their tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sequences {
    /// Where each begins, and the end of the last.
    starts: Vec<usize>,
    length: usize,
}

impl Sequences {
    /// Sequences of these lengths, which would be padded to `length` tokens.
    ///
    /// # Panics
    /// If one is longer than that, or has no token.
    pub fn new(lengths: &[usize], length: usize) -> Self {
        let mut starts = vec![0];
        for tokens in lengths {
            assert!(
                (1..=length).contains(tokens),
                "a sequence of {tokens} tokens padded to {length}"
            );
            starts.push(starts[starts.len() - 1] + tokens);
        }
        Self { starts, length }
    }

    /// The sequences of an attention mask, rows of `length` with 1 for tokens and 0 for padding; `None`
    /// without padding, or if it is not at the end of rows that begin with a token.
    pub fn of_mask(mask: &[i32], length: usize) -> Option<Self> {
        let tokens = |row: &[i32]| {
            let tokens = row.iter().take_while(|&&mask| mask == 1).count();
            (tokens > 0 && row[tokens..].iter().all(|&mask| mask == 0)).then_some(tokens)
        };
        let lengths: Vec<usize> =
            mask.chunks_exact(length.max(1)).map(tokens).collect::<Option<_>>()?;
        lengths.iter().any(|&tokens| tokens < length).then(|| Self::new(&lengths, length))
    }

    /// Their number.
    pub fn count(&self) -> usize {
        self.starts.len() - 1
    }

    /// Tokens that each would be padded to.
    pub fn length(&self) -> usize {
        self.length
    }

    /// Tokens of all.
    pub fn tokens(&self) -> usize {
        self.starts[self.count()]
    }

    /// The rows of one.
    pub fn rows(&self, sequence: usize) -> Range<usize> {
        self.starts[sequence]..self.starts[sequence + 1]
    }

    /// Where the token of each row is among `count · length` padded rows.
    pub fn places(&self) -> Vec<i32> {
        let places = |sequence| (0..self.rows(sequence).len()).map(move |at| (sequence, at));
        let places = (0..self.count()).flat_map(places);
        places.map(|(sequence, at)| (sequence * self.length + at) as i32).collect()
    }

    /// The row of the token at each of `count · length` padded places; for padding some row.
    pub fn padded(&self) -> Vec<i32> {
        let row = |sequence: usize, at: usize| {
            let rows = self.rows(sequence);
            // There is no token here; any row will do.
            (if at < rows.len() { rows.start + at } else { 0 }) as i32
        };
        let all = 0..self.count() * self.length;
        all.map(|place| row(place / self.length, place % self.length)).collect()
    }
}

/// Cuts `values`, rows of `width`, into the parts of all sequences; without sequences into `count` equal
/// ones.
#[cfg(feature = "flex")]
pub(super) fn split_rows<'a>(
    values: &'a mut [f32],
    width: usize,
    sequences: Option<&Sequences>,
    count: usize,
) -> Vec<&'a mut [f32]> {
    let Some(sequences) = sequences else {
        return values.chunks_mut(values.len() / count.max(1)).collect();
    };
    let mut rest = values;
    let cut = |sequence| {
        let length = sequences.rows(sequence).len() * width;
        let (part, others) = std::mem::take(&mut rest).split_at_mut(length);
        rest = others;
        part
    };
    (0..sequences.count()).map(cut).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_and_padded_places_belong_together() {
        let sequences = Sequences::new(&[2, 3, 1], 3);
        assert_eq!((sequences.count(), sequences.length(), sequences.tokens()), (3, 3, 6));
        assert_eq!(sequences.rows(1), 2..5);
        assert_eq!(sequences.places(), [0, 1, 3, 4, 5, 6]);
        let padded = sequences.padded();
        assert_eq!(padded, [0, 1, 0, 2, 3, 4, 5, 0, 0]);
        for (row, place) in sequences.places().into_iter().enumerate() {
            assert_eq!(padded[place as usize], row as i32);
        }
        let none = Sequences::new(&[], 4);
        assert_eq!((none.count(), none.tokens(), none.padded()), (0, 0, vec![]));
    }

    #[test]
    fn only_padding_at_the_end_is_left_out() {
        let lengths = Sequences::of_mask(&[1, 1, 0, 1, 0, 0], 3).unwrap();
        assert_eq!(lengths, Sequences::new(&[2, 1], 3));
        for mask in [[1, 1, 1, 1, 1, 1], [1, 1, 0, 0, 1, 1], [1, 0, 1, 1, 1, 1], [0, 0, 0, 1, 1, 1]]
        {
            assert_eq!(Sequences::of_mask(&mask, 3), None, "{mask:?}");
        }
        assert_eq!(Sequences::of_mask(&[], 0), None);
    }
}
