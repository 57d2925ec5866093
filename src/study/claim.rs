//! Claims on a study's runs and tables, so that several processes may work on one study.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::ErrorKind;
use std::path::Path;

use crate::{Error, Result};

/// Folder of the lock files.
const LOCKS: &str = ".locks";

/// A claim that lasts until it is dropped, or its process ends in whatever way.
pub(super) struct Claim(#[allow(dead_code)] File);

impl Claim {
    /// Claims `name` of the study in `output`, or nothing if another process has it.
    ///
    /// # Errors
    /// If the lock file cannot be made or locked.
    pub fn take(output: &Path, name: &str) -> Result<Option<Self>> {
        let file = open(output, name)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Self(file))),
            Err(TryLockError::WouldBlock) => Ok(None),
            // A file system without locks: whoever runs several processes there is on his own.
            Err(TryLockError::Error(e)) if e.kind() == ErrorKind::Unsupported => {
                Ok(Some(Self(file)))
            }
            Err(TryLockError::Error(e)) => Err(Error::io(output.join(LOCKS).join(name), e)),
        }
    }

    /// Claims `name` as soon as no other process has it.
    ///
    /// # Errors
    /// As [`Claim::take`].
    pub fn wait(output: &Path, name: &str) -> Result<Self> {
        let file = open(output, name)?;
        match file.lock() {
            Err(e) if e.kind() != ErrorKind::Unsupported => {
                Err(Error::io(output.join(LOCKS).join(name), e))
            }
            _ => Ok(Self(file)),
        }
    }
}

/// Lock files stay: one that is removed could be locked twice, under its old and its new self.
fn open(output: &Path, name: &str) -> Result<File> {
    let folder = output.join(LOCKS);
    fs::create_dir_all(&folder).map_err(|e| Error::io(&folder, e))?;
    let path = folder.join(name);
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
    file.map_err(|e| Error::io(path, e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_claimed_is_free_again_once_the_claim_is_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let take = |name: &str| Claim::take(folder.path(), name).unwrap();
        let first = take("a");
        assert!(first.is_some() && take("b").is_some());
        assert!(take("a").is_none());
        drop(first);
        assert!(take("a").is_some());
        drop(Claim::wait(folder.path(), "a").unwrap());
    }
}
