//! Atomic writes: a temporary file or folder beside the target is flushed to disk, then renamed.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::{Error, Result};

/// Replaces the file at `path` with `bytes`.
///
/// # Errors
/// [`Error::Io`] naming `path`; the old file, if there was one, is then untouched.
pub fn write_file(path: impl AsRef<Path>, bytes: &[u8]) -> Result<()> {
    write_file_with(path, |file| file.write_all(bytes))
}

/// Replaces the file at `path` with the output of `fill`.
///
/// # Errors
/// [`Error::Io`] naming `path`; the old file, if there was one, is then untouched.
pub fn write_file_with(
    path: impl AsRef<Path>,
    fill: impl FnOnce(&mut File) -> std::io::Result<()>,
) -> Result<()> {
    let path = path.as_ref();
    let parent = parent_of(path);
    let write = || -> std::io::Result<()> {
        fs::create_dir_all(&parent)?;
        let mut builder = tempfile::Builder::new();
        #[cfg(unix)]
        builder.permissions(mode(0o666));
        let mut file = builder.prefix(&temporary_prefix(path)).tempfile_in(&parent)?;
        fill(file.as_file_mut())?;
        file.as_file().sync_all()?;
        file.persist(path).map_err(|e| e.error)?;
        sync_folder(&parent)
    };
    write().map_err(|e| Error::io(path, e))
}

/// Replaces the whole folder at `path` with a new one that `fill` fills.
///
/// An existing folder is replaced only if it is empty or a model folder (it has a `config.json`,
/// weights and no folders inside), so that a mistaken path loses nothing.
///
/// # Errors
/// If the existing folder is something else, or on any failure to write; the old folder is then
/// untouched.
pub fn write_folder(path: impl AsRef<Path>, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let path = path.as_ref();
    check_replaceable(path)?;
    let parent = parent_of(path);
    let io = |e| Error::io(path, e);
    fs::create_dir_all(&parent).map_err(io)?;
    let mut builder = tempfile::Builder::new();
    #[cfg(unix)]
    builder.permissions(mode(0o777));
    let prefix = temporary_prefix(path);
    let fresh = builder.prefix(&prefix).tempdir_in(&parent).map_err(io)?;
    fill(fresh.path())?;
    sync_files(fresh.path()).map_err(io)?;
    if path.exists() && exchange(fresh.path(), path).is_ok() {
        // The temporary name now holds the old folder, which is removed with it.
        drop(fresh);
        return sync_folder(&parent).map_err(io);
    }
    if path.exists() {
        let aside = builder.prefix(&prefix).tempdir_in(&parent).map_err(io)?;
        let old = aside.path().join("old");
        fs::rename(path, &old).map_err(io)?;
        if let Err(error) = fs::rename(fresh.path(), path) {
            // Put the old one back; the first error is the one to report.
            let _ = fs::rename(&old, path);
            return Err(io(error));
        }
    } else {
        fs::rename(fresh.path(), path).map_err(io)?;
    }
    // The folder has moved, so nothing is left to clean up.
    let _ = fresh.keep();
    sync_folder(&parent).map_err(io)
}

/// Swaps two folders in one step, so that both always exist; not every system can.
#[cfg(target_os = "linux")]
fn exchange(a: &Path, b: &Path) -> std::io::Result<()> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    Ok(renameat_with(CWD, a, CWD, b, RenameFlags::EXCHANGE)?)
}

#[cfg(not(target_os = "linux"))]
fn exchange(_: &Path, _: &Path) -> std::io::Result<()> {
    Err(std::io::ErrorKind::Unsupported.into())
}

/// Checks that a model folder can take the place of what is at `path`.
///
/// # Errors
/// If something else is there.
pub(crate) fn check_replaceable(path: &Path) -> Result<()> {
    if !path.exists() {
        return Ok(());
    }
    let refuse = |what: &str| {
        Err(Error::format(path, format!("exists and {what}; choose another folder or remove it")))
    };
    if !path.is_dir() {
        return refuse("is not a folder");
    }
    let mut entries = Vec::new();
    for entry in fs::read_dir(path).map_err(|e| Error::io(path, e))? {
        entries.push(entry.map_err(|e| Error::io(path, e))?.path());
    }
    if entries.iter().any(|entry| entry.is_dir()) {
        return refuse("has folders inside, so it is not a model folder");
    }
    if entries.is_empty() {
        return Ok(());
    }
    if !path.join("config.json").is_file() {
        return refuse("is not a model folder (no config.json)");
    }
    let is_weights =
        |entry: &PathBuf| entry.extension().is_some_and(|end| end == "safetensors" || end == "bin");
    if !entries.iter().any(is_weights) {
        return refuse("is not a model folder (no weights beside config.json)");
    }
    Ok(())
}

/// Part of temporary names, which are `.NAME.tmp-` and six letters or digits.
const TEMPORARY: &str = ".tmp-";

fn temporary_prefix(path: &Path) -> String {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
    format!(".{}{TEMPORARY}", name.unwrap_or_default())
}

/// Whether `path` has the name of a temporary file or folder of this module.
#[cfg_attr(not(feature = "train"), allow(dead_code))]
pub(crate) fn is_leftover(path: &Path) -> bool {
    let name = path.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
    name.starts_with('.')
        && name.rsplit_once(TEMPORARY).is_some_and(|(_, random)| {
            random.len() == 6 && random.bytes().all(|byte| byte.is_ascii_alphanumeric())
        })
}

/// Removes the leftovers of killed writes from `folder`; nobody else may be writing to it.
///
/// # Errors
/// If something cannot be removed.
#[cfg_attr(not(feature = "train"), allow(dead_code))]
pub(crate) fn remove_leftovers(folder: &Path) -> Result<()> {
    for entry in fs::read_dir(folder).map_err(|e| Error::io(folder, e))? {
        let path = entry.map_err(|e| Error::io(folder, e))?.path();
        if is_leftover(&path) {
            let removed = match path.is_dir() {
                true => fs::remove_dir_all(&path),
                false => fs::remove_file(&path),
            };
            removed.map_err(|e| Error::io(&path, e))?;
        }
    }
    Ok(())
}

fn parent_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if parent != Path::new("") => parent.to_path_buf(),
        _ => PathBuf::from("."),
    }
}

fn sync_files(folder: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(folder)? {
        File::open(entry?.path())?.sync_all()?;
    }
    sync_folder(folder)
}

/// Makes a rename durable; only Unix can open a folder to do so.
fn sync_folder(folder: &Path) -> std::io::Result<()> {
    if cfg!(unix) { File::open(folder)?.sync_all() } else { Ok(()) }
}

#[cfg(unix)]
fn mode(mode: u32) -> fs::Permissions {
    std::os::unix::fs::PermissionsExt::from_mode(mode)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_failed_write_leaves_the_old_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.txt");
        write_file(&path, b"old").unwrap();
        let result = write_file_with(&path, |file| {
            file.write_all(b"ne")?;
            Err(std::io::Error::other("disk full"))
        });
        let message = result.unwrap_err().to_string();
        assert!(message.contains("a.txt") && message.contains("disk full"), "{message}");
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(names(folder.path()), ["a.txt"]);
    }

    #[test]
    fn a_folder_is_replaced_whole_or_not_at_all() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("model");
        let fill = |names: &'static [&'static str]| {
            move |folder: &Path| names.iter().try_for_each(|n| write_file(folder.join(n), b"x"))
        };
        write_folder(&path, fill(&["config.json", "stale.bin"])).unwrap();
        let failed = write_folder(&path, |folder| {
            write_file(folder.join("config.json"), b"y")?;
            Err(Error::Interrupted("stopped".into()))
        });
        assert!(failed.is_err());
        assert_eq!(names(&path), ["config.json", "stale.bin"]);
        write_folder(&path, fill(&["config.json", "new.bin"])).unwrap();
        assert_eq!(names(&path), ["config.json", "new.bin"]);
        assert_eq!(names(root.path()), ["model"]);
        // A configuration of something else.
        fs::remove_file(path.join("new.bin")).unwrap();
        let refused = write_folder(&path, fill(&["config.json"])).unwrap_err().to_string();
        assert!(refused.contains("no weights beside config.json"), "{refused}");
    }

    #[test]
    fn what_a_killed_write_left_is_removed_and_nothing_else() {
        let root = tempfile::tempdir().unwrap();
        let prefix = |name: &str| temporary_prefix(&root.path().join(name));
        let (report, model) = (prefix("report.json"), prefix("model"));
        let file = tempfile::Builder::new().prefix(&report).tempfile_in(root.path()).unwrap();
        let folder = tempfile::Builder::new().prefix(&model).tempdir_in(root.path()).unwrap();
        write_file(folder.path().join("config.json"), b"{}").unwrap();
        file.keep().unwrap();
        let _ = folder.keep();
        write_file(root.path().join("my.tmp-notes"), b"x").unwrap();
        assert_eq!(names(root.path()).len(), 3);
        remove_leftovers(root.path()).unwrap();
        assert_eq!(names(root.path()), ["my.tmp-notes"]);
    }

    #[test]
    fn a_folder_of_other_things_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("thesis");
        write_file(path.join("chapter.tex"), b"x").unwrap();
        let message = write_folder(&path, |_| Ok(())).unwrap_err().to_string();
        assert!(message.contains("thesis") && message.contains("config.json"), "{message}");
        fs::create_dir(path.join("figures")).unwrap();
        write_file(path.join("config.json"), b"{}").unwrap();
        assert!(write_folder(&path, |_| Ok(())).is_err());
        assert_eq!(names(&path), ["chapter.tex", "config.json", "figures"]);
    }
}
