//! SHA-256 of files, to notice damage and swaps.

use std::path::Path;

use sha2::{Digest, Sha256};

use crate::{Error, Result, files};

/// SHA-256 of `bytes`, as 64 hexadecimal digits.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    let mut sum = Sum::default();
    sum.add(bytes);
    sum.finish()
}

/// SHA-256 of a file, as 64 hexadecimal digits.
///
/// # Errors
/// If the file cannot be read.
pub(crate) fn sha256_of_file(path: &Path) -> Result<String> {
    let mut digest = Sha256::new();
    let mut file = files::open(path)?;
    std::io::copy(&mut file, &mut digest).map_err(|e| Error::io(path, e))?;
    Ok(hexadecimal(digest))
}

/// SHA-256 of data added piece by piece.
#[derive(Default)]
pub(crate) struct Sum(Sha256);

impl Sum {
    /// Adds `bytes`.
    pub fn add(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// Adds numbers and their count, so that two lists differ from one.
    #[cfg(feature = "train")]
    pub fn add_numbers(&mut self, numbers: &[u32]) {
        self.add(&(numbers.len() as u64).to_le_bytes());
        numbers.iter().for_each(|number| self.add(&number.to_le_bytes()));
    }

    /// The sum, as 64 hexadecimal digits.
    pub fn finish(self) -> String {
        hexadecimal(self.0)
    }
}

fn hexadecimal(digest: Sha256) -> String {
    digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_digests() {
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(sha256(b""), empty);
        assert_eq!(sha256(b"abc"), abc);
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "abc").unwrap();
        assert_eq!(sha256_of_file(file.path()).unwrap(), abc);
        let mut sum = Sum::default();
        [&b"a"[..], b"bc"].iter().for_each(|bytes| sum.add(bytes));
        assert_eq!(sum.finish(), abc);
    }

    #[cfg(feature = "train")]
    #[test]
    fn lists_are_told_apart() {
        let sum = |lists: &[&[u32]]| {
            let mut sum = Sum::default();
            lists.iter().for_each(|numbers| sum.add_numbers(numbers));
            sum.finish()
        };
        assert_eq!(sum(&[&[1, 2], &[3]]), sum(&[&[1, 2], &[3]]));
        assert_ne!(sum(&[&[1, 2], &[3]]), sum(&[&[1], &[2, 3]]));
        assert_ne!(sum(&[&[1, 2], &[3]]), sum(&[&[3], &[1, 2]]));
    }
}
