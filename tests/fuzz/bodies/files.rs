//! Folders made of files in memory.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tempfile::TempDir;

use super::edits::{edit_bytes, edit_json};
use super::input::Input;

/// Files by their path within a folder.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Files(pub BTreeMap<String, Vec<u8>>);

/// A folder in memory, if the machine has one, that goes when it is dropped.
pub fn scratch() -> TempDir {
    let memory = Path::new("/dev/shm");
    let folder = match memory.is_dir() {
        true => tempfile::tempdir_in(memory),
        false => tempfile::tempdir(),
    };
    folder.expect("a folder for temporary files")
}

impl Files {
    pub fn of<const N: usize>(files: [(&str, &[u8]); N]) -> Self {
        Self(files.into_iter().map(|(name, bytes)| (name.to_string(), bytes.to_vec())).collect())
    }

    /// All files below `folder`.
    pub fn read(folder: &Path) -> Self {
        let mut files = Self::default();
        files.read_below(folder, "");
        files
    }

    fn read_below(&mut self, folder: &Path, prefix: &str) {
        for entry in fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            let name = path.file_name().expect("a name").to_string_lossy();
            let name = format!("{prefix}{name}");
            match path.is_dir() {
                true => self.read_below(&path, &format!("{name}/")),
                false => drop(self.0.insert(name, fs::read(&path).expect("a file"))),
            }
        }
    }

    pub fn write(&self, folder: &Path) {
        for (name, bytes) in &self.0 {
            let path = folder.join(name);
            fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
            fs::write(path, bytes).expect("a file");
        }
    }

    /// The files in a folder of their own, under `name`.
    pub fn folder(&self, name: &str) -> (TempDir, PathBuf) {
        let scratch = scratch();
        let folder = scratch.path().join(name);
        fs::create_dir_all(&folder).expect("a folder");
        self.write(&folder);
        (scratch, folder)
    }

    /// Changes one of the files that `chosen` accepts: its bytes, its values if it is JSON, the
    /// whole of it, its presence, or what another one holds.
    pub fn edit(&mut self, input: &mut Input, names: &[&str], chosen: impl Fn(&str) -> bool) {
        let all: Vec<String> = self.0.keys().filter(|name| chosen(name)).cloned().collect();
        let name = input.choose(&all).clone();
        let kind = input.byte() % 8;
        let bytes = self.0.get_mut(&name).expect("a file");
        match kind {
            0..=3 if name.ends_with(".json") => {
                let mut value: Value = serde_json::from_slice(bytes).unwrap_or_default();
                edit_json(&mut value, input, names);
                *bytes = value.to_string().into_bytes();
            }
            0..=4 => edit_bytes(bytes, input),
            5 => *bytes = input.rest().to_vec(),
            6 => drop(self.0.remove(&name)),
            _ => {
                let from = input.choose(&all);
                let copy = self.0.get(from).cloned().unwrap_or_default();
                self.0.insert(name, copy);
            }
        }
    }
}
