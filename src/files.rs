//! Reading files that users name: only regular files, so that nothing waits for a pipe. Errors name what is
//! often found in place of a file.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde::de::DeserializeOwned;

use crate::{Error, Result};

/// Opens the file at `path` for reading.
///
/// # Errors
/// If it cannot be opened, or is a folder, a pipe or a device: the latter could make a run wait or
/// read for ever.
pub fn open(path: impl AsRef<Path>) -> Result<File> {
    let path = path.as_ref();
    let kind = std::fs::metadata(path).map_err(|e| Error::io(path, e))?.file_type();
    if kind.is_dir() {
        return Err(Error::format(path, "is a folder; a file is expected here"));
    }
    if !kind.is_file() {
        let message = "is a pipe, a socket or a device; save what it gives as a file and name that";
        return Err(Error::format(path, message));
    }
    File::open(path).map_err(|e| Error::io(path, e))
}

/// The bytes of a file.
///
/// # Errors
/// As [`open`], and if the file is a pointer of Git LFS.
pub fn read(path: impl AsRef<Path>) -> Result<Vec<u8>> {
    let path = path.as_ref();
    let mut bytes = Vec::new();
    open(path)?.read_to_end(&mut bytes).map_err(|e| Error::io(path, e))?;
    refuse_pointer(path, &bytes)?;
    Ok(bytes)
}

/// The text of a file, without a byte order mark.
///
/// # Errors
/// As [`read`], and if the file is not UTF-8.
pub fn read_text(path: impl AsRef<Path>) -> Result<String> {
    let path = path.as_ref();
    let bytes = read(path)?;
    if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
        return Err(Error::format(path, "is text in UTF-16; save it as UTF-8"));
    }
    let text = String::from_utf8(bytes).map_err(|e| {
        let valid = &e.as_bytes()[..e.utf8_error().valid_up_to()];
        let line = 1 + valid.iter().filter(|byte| **byte == b'\n').count();
        Error::format(path, format!("line {line} is not UTF-8; convert the file, e.g. with iconv"))
    })?;
    Ok(match text.strip_prefix('\u{feff}') {
        Some(rest) => rest.to_string(),
        None => text,
    })
}

/// The text of a JSON file.
///
/// # Errors
/// As [`read_text`], and if it is a page of HTML or holds one of Python's numbers that JSON lacks.
pub fn read_json_text(path: impl AsRef<Path>) -> Result<String> {
    let path = path.as_ref();
    let text = read_text(path)?;
    refuse_page(path, text.as_bytes())?;
    if let Some((field, number)) = bare_number(&text) {
        let message = format!("{field}: {number} is no number of JSON; write one, or null");
        return Err(Error::format(path, message));
    }
    Ok(text)
}

/// The contents of a JSON file.
///
/// # Errors
/// As [`read_json_text`], and if the text is not JSON or not of this type.
pub fn read_json<T: DeserializeOwned>(path: impl AsRef<Path>) -> Result<T> {
    let path = path.as_ref();
    let text = read_json_text(path)?;
    serde_json::from_str(&text).map_err(|e| Error::format(path, e.to_string()))
}

/// Fails if a file with this start is something else that is often found in place of weights.
pub(crate) fn refuse_stand_in(path: &Path, start: &[u8]) -> Result<()> {
    refuse_pointer(path, start)?;
    refuse_page(path, start)
}

/// Fails if `bytes` are the pointer that Git LFS leaves in place of a file that was not fetched.
fn refuse_pointer(path: &Path, bytes: &[u8]) -> Result<()> {
    if bytes.starts_with(b"version https://git-lfs.github.com/spec/") {
        let message = "is a pointer of Git LFS, not the file itself: run `git lfs pull` in its \
                       repository, or download the file";
        return Err(Error::format(path, message));
    }
    Ok(())
}

/// Fails if `bytes` are a web page.
pub(crate) fn refuse_page(path: &Path, bytes: &[u8]) -> Result<()> {
    let start: Vec<u8> = bytes.trim_ascii_start().iter().take(14).copied().collect();
    let start = String::from_utf8_lossy(&start).to_lowercase();
    if ["<!doctype html", "<html", "<head", "<?xml", "<error"].iter().any(|s| start.starts_with(s))
    {
        let message = "is a web page, saved in place of the file, as happens when a download needs \
                       a login or the address is wrong; download it again";
        return Err(Error::format(path, message));
    }
    Ok(())
}

/// The first `NaN`, `Infinity` or `-Infinity` outside strings, as Python writes them, and the string before
/// it, which is its field.
fn bare_number(text: &str) -> Option<(&str, &'static str)> {
    let mut rest = text;
    let mut field = "";
    while let Some(at) = rest.find(['"', 'N', 'I']) {
        let before = &rest[..at];
        rest = &rest[at..];
        if let Some(inside) = rest.strip_prefix('"') {
            let mut escaped = false;
            let end = inside.find(|c| {
                let ends = c == '"' && !escaped;
                escaped = c == '\\' && !escaped;
                ends
            })?;
            (field, rest) = (&inside[..end], &inside[end + 1..]);
        } else if rest.starts_with("NaN") {
            return Some((field, "NaN"));
        } else if rest.starts_with("Infinity") {
            let negative = before.ends_with('-');
            return Some((field, if negative { "-Infinity" } else { "Infinity" }));
        } else {
            return None;
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(bytes: &[u8]) -> String {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        let error = read_json::<serde_json::Value>(file.path()).unwrap_err().to_string();
        let name = file.path().display().to_string();
        error.strip_prefix(&name).unwrap_or_else(|| panic!("no {name} in {error}")).to_string()
    }

    #[test]
    fn what_stands_in_place_of_a_file_is_named() {
        let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n";
        assert!(message(pointer).contains("git lfs pull"));
        for page in ["\n <!DOCTYPE HTML><p>", "<html lang=en>", "<?xml version='1.0'?><Error>"] {
            assert!(message(page.as_bytes()).contains("web page"), "{page}");
        }
        assert!(message(b"\xff\xfe{\0}\0").contains("UTF-16"));
        assert!(message(b"{\"a\xff\": 1}").contains("line 1 is not UTF-8"));
        assert!(message(b"{\"a\": 1").contains("line 1"));
    }

    #[test]
    fn numbers_that_only_python_has_are_named_with_their_field() {
        for (json, part) in [
            (r#"{"a": "Na\"N", "eps": NaN}"#, ": eps: NaN"),
            (r#"{"most": [1, Infinity]}"#, ": most: Infinity"),
            (r#"{"least": -Infinity, "b": NaN}"#, ": least: -Infinity"),
        ] {
            assert!(
                message(json.as_bytes()).starts_with(part),
                "{json}: {}",
                message(json.as_bytes())
            );
        }
        assert_eq!(bare_number(r#"{"NaN": "Infinity \\", "Nothing": null}"#), None);
        assert_eq!(bare_number("{None}"), None);
    }

    #[test]
    fn a_byte_order_mark_is_no_text() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "\u{feff}{\"a\": 1}").unwrap();
        assert_eq!(read_json::<serde_json::Value>(file.path()).unwrap()["a"], 1);
    }

    #[test]
    fn only_files_are_opened() {
        let folder = tempfile::tempdir().unwrap();
        assert!(open(folder.path()).unwrap_err().to_string().contains("is a folder"));
        assert!(open(folder.path().join("absent")).unwrap_err().to_string().contains("absent"));
        #[cfg(unix)]
        {
            let pipe = folder.path().join("pipe");
            let made = std::process::Command::new("mkfifo").arg(&pipe).status().unwrap();
            assert!(made.success());
            let message = open(&pipe).unwrap_err().to_string();
            assert!(message.contains("pipe: is a pipe"), "{message}");
            assert!(open("/dev/zero").unwrap_err().to_string().contains("device"));
        }
    }
}
