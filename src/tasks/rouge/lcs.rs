//! Longest common subsequences of token ids.

/// Length of the longest common subsequence. Keeps only one row of the table in memory.
pub(super) fn lcs_length(reference: &[u32], prediction: &[u32]) -> usize {
    let mut row = vec![0_u32; prediction.len() + 1];
    for token in reference {
        let mut diagonal = 0;
        for (column, other) in prediction.iter().enumerate() {
            let above = row[column + 1];
            row[column + 1] = if token == other { diagonal + 1 } else { above.max(row[column]) };
            diagonal = above;
        }
    }
    row.last().map_or(0, |&length| length as usize)
}

/// Marks the tokens of a reference line that are in a longest common subsequence with any line of
/// the prediction.
///
/// The union depends on which of several longest subsequences is taken. As `rouge_score`, go from
/// the ends and drop the last token of the reference, unless only dropping the prediction's keeps
/// the length.
#[derive(Debug, Default)]
pub(super) struct UnionLcs {
    table: Vec<u32>,
}

impl UnionLcs {
    /// Sets `marks[i]` if token `i` of `reference` is in its longest common subsequence with
    /// `prediction`.
    pub fn mark(&mut self, reference: &[u32], prediction: &[u32], marks: &mut [bool]) {
        let width = prediction.len() + 1;
        self.table.clear();
        self.table.resize(width * (reference.len() + 1), 0);
        for (i, token) in reference.iter().enumerate() {
            let (above, row) = self.table[i * width..].split_at_mut(width);
            for (j, other) in prediction.iter().enumerate() {
                row[j + 1] = if token == other { above[j] + 1 } else { above[j + 1].max(row[j]) };
            }
        }
        let (mut i, mut j) = (reference.len(), prediction.len());
        while i > 0 && j > 0 {
            if reference[i - 1] == prediction[j - 1] {
                (i, j) = (i - 1, j - 1);
                marks[i] = true;
            } else if self.table[i * width + j - 1] > self.table[(i - 1) * width + j] {
                j -= 1;
            } else {
                i -= 1;
            }
        }
    }
}
