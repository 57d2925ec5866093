//! Lock files, so that no two processes write to one folder. The operating system locks the file, and
//! its contents name the holder.
//!
//! The lock ends with its process. Network file systems may not pass locks on, so the contents are
//! checked, too: a holder on this machine is looked up, and for one on another machine the error says
//! which file to remove.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};
use sysinfo::{Pid, ProcessesToUpdate, System};

use crate::{Error, Result};

/// A claim on a folder, until it is dropped or its process ends.
#[derive(Debug)]
pub(crate) struct Claim {
    file: File,
    path: PathBuf,
    /// Contents of the file, once written.
    holder: Option<Holder>,
}

/// The process that has a claim.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Holder {
    pid: u32,
    host: String,
    /// Start of the process in seconds since 1970, as process numbers are used again.
    started: u64,
    /// When the claim was made.
    since: String,
    command: String,
    /// Number of the claim within its process.
    claim: u64,
}

/// Outcome of an attempt to claim.
#[derive(Debug)]
pub(crate) enum Attempt {
    /// The claim is ours.
    Ours(Claim),
    /// Another process has it; `None` if the file does not say which.
    Taken(Option<Holder>),
}

impl Claim {
    /// Claims the lock file at `path`, whose folder must exist, for `command`.
    ///
    /// # Errors
    /// If the lock file cannot be created, locked or written.
    pub fn take(path: &Path, command: &str) -> Result<Attempt> {
        loop {
            let file = open(path)?;
            let locked = match file.try_lock() {
                Ok(()) => true,
                Err(TryLockError::WouldBlock) => return Ok(Attempt::Taken(Holder::read(path))),
                // The file system has no locks: only the file's contents count.
                Err(TryLockError::Error(e)) if e.kind() == ErrorKind::Unsupported => false,
                Err(TryLockError::Error(e)) => return Err(Error::io(path, e)),
            };
            if let Some(holder) = Holder::read(path)
                && (holder.is_elsewhere() || (!locked && holder.is_alive()))
            {
                return Ok(Attempt::Taken(Some(holder)));
            }
            if let Some(claim) = Self::of(file, path).sign(command)? {
                return Ok(Attempt::Ours(claim));
            }
        }
    }

    /// Waits until no other process has the lock file at `path`, and claims it.
    ///
    /// # Errors
    /// As [`Claim::take`].
    #[cfg_attr(not(feature = "plots"), allow(dead_code))]
    pub fn wait(path: &Path, command: &str) -> Result<Self> {
        loop {
            let file = open(path)?;
            match file.lock() {
                Err(e) if e.kind() != ErrorKind::Unsupported => return Err(Error::io(path, e)),
                _ => {}
            }
            if let Some(claim) = Self::of(file, path).sign(command)? {
                return Ok(claim);
            }
        }
    }

    fn of(file: File, path: &Path) -> Self {
        Self { file, path: path.to_path_buf(), holder: None }
    }

    /// Writes the holder into the file. `None` if the previous holder removed the locked file meanwhile,
    /// so that another process may lock a new one of its name.
    fn sign(mut self, command: &str) -> Result<Option<Self>> {
        let holder = Holder::here(command);
        let text = serde_json::to_string(&holder).unwrap_or_default();
        let mut write = || -> std::io::Result<()> {
            self.file.set_len(0)?;
            self.file.seek(SeekFrom::Start(0))?;
            self.file.write_all(text.as_bytes())
        };
        write().map_err(|e| Error::io(&self.path, e))?;
        // On Windows a locked file can be neither read nor removed.
        let valid = cfg!(windows) || Holder::read(&self.path).as_ref() == Some(&holder);
        self.holder = valid.then_some(holder);
        Ok(valid.then_some(self))
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        // A failure is harmless: the next process finds this one gone.
        if cfg!(unix) && self.holder.is_some() && Holder::read(&self.path) == self.holder {
            let _ = fs::remove_file(&self.path);
        }
        let _ = self.file.set_len(0);
    }
}

impl Holder {
    /// This process.
    fn here(command: &str) -> Self {
        static CLAIMS: AtomicU64 = AtomicU64::new(0);
        let pid = std::process::id();
        Self {
            pid,
            host: host(),
            started: started(pid).unwrap_or_default(),
            since: crate::inspect::now(),
            command: command.to_string(),
            claim: CLAIMS.fetch_add(1, Ordering::Relaxed),
        }
    }

    /// Reads the holder of the claim at `path`, if the file names one.
    fn read(path: &Path) -> Option<Self> {
        serde_json::from_str(&fs::read_to_string(path).ok()?).ok()
    }

    /// Whether the process is on another machine, where it cannot be looked up.
    pub fn is_elsewhere(&self) -> bool {
        self.host != host()
    }

    /// Whether the process still runs on this machine.
    fn is_alive(&self) -> bool {
        // Clocks may be adjusted meanwhile.
        started(self.pid).is_some_and(|started| started.abs_diff(self.started) <= 2)
    }

    /// Describes the process for people.
    pub fn told(&self) -> String {
        let command = match self.command.as_str() {
            "" => String::new(),
            command => format!(", `{command}`"),
        };
        format!("process {} on {}, since {}{command}", self.pid, self.host, self.since)
    }
}

fn host() -> String {
    System::host_name().unwrap_or_else(|| "this machine".to_string())
}

/// Start of a process on this machine, in seconds since 1970.
fn started(pid: u32) -> Option<u64> {
    let mut system = System::new();
    let pid = Pid::from_u32(pid);
    system.refresh_processes(ProcessesToUpdate::Some(&[pid]), true);
    system.process(pid).map(|process| process.start_time())
}

fn open(path: &Path) -> Result<File> {
    if path.is_symlink() {
        return Err(Error::format(path, "is a symbolic link; remove it"));
    }
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(path);
    file.map_err(|e| Error::io(path, e))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(path: &Path) -> Option<Claim> {
        match Claim::take(path, "losparse compress").unwrap() {
            Attempt::Ours(claim) => Some(claim),
            Attempt::Taken(_) => None,
        }
    }

    #[test]
    fn what_is_claimed_says_who_has_it_and_is_free_again_once_the_claim_is_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let (a, b) = (folder.path().join("a"), folder.path().join("b"));
        let first = take(&a);
        assert!(first.is_some() && take(&b).is_some());
        let Attempt::Taken(holder) = Claim::take(&a, "other").unwrap() else { panic!("twice") };
        let holder = holder.unwrap();
        assert!(holder.is_alive() && !holder.is_elsewhere());
        let told = holder.told();
        let id = std::process::id().to_string();
        for part in ["`losparse compress`".to_string(), id, host()] {
            assert!(told.contains(&part), "no {part} in {told}");
        }
        drop(first);
        assert!(!a.exists());
        assert!(take(&a).is_some());
        drop(Claim::wait(&a, "").unwrap());
    }

    #[test]
    fn what_a_dead_process_left_is_replaced_and_what_another_machine_left_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let here = Holder::here("losparse compress");
        let left = |holder: &Holder| fs::write(&path, serde_json::to_string(holder).unwrap());
        // The same number, another process.
        left(&Holder { started: here.started - 1000, ..here.clone() }).unwrap();
        assert!(!Holder::read(&path).unwrap().is_alive());
        assert!(take(&path).is_some());
        left(&Holder { host: "elsewhere".into(), ..here }).unwrap();
        let Attempt::Taken(Some(holder)) = Claim::take(&path, "").unwrap() else { panic!("taken") };
        assert!(holder.is_elsewhere() && holder.told().contains("on elsewhere"));
        // Half-written, and nothing at all.
        for text in ["{\"pid\": 1", ""] {
            fs::write(&path, text).unwrap();
            assert!(take(&path).is_some());
        }
    }

    #[test]
    fn of_many_that_come_at_once_one_has_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let inside = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..50 {
                        let claim = Claim::wait(&path, "").unwrap();
                        assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                        inside.fetch_sub(1, Ordering::SeqCst);
                        drop(claim);
                    }
                });
            }
        });
    }
}
