//! The one error type of the library. Every message names the file, layer, option or shape at fault and
//! the remedy.

use std::path::{Path, PathBuf};

/// Result of the library's fallible functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Everything that can go wrong because of input, settings or the machine.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file could not be read or written.
    #[error("{path}: {cause}", path = .path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// Error of the operating system. Not a `source`, since the message says it already.
        cause: std::io::Error,
    },
    /// A file was read, but its contents are wrong.
    #[error("{path}: {message}", path = .path.display())]
    Format {
        /// The file or folder.
        path: PathBuf,
        /// The fault and the remedy.
        message: String,
    },
    /// A tensor is missing, unexpected, misshapen or not finite.
    #[error("layer {layer}: {message}")]
    Layer {
        /// Full name of the layer or tensor.
        layer: String,
        /// The fault and the remedy.
        message: String,
    },
    /// A setting has an impossible value.
    #[error("option {option}: {message}")]
    Option {
        /// Name of the option as the user writes it (`ratio`, `--device`).
        option: String,
        /// The fault and possible values.
        message: String,
    },
    /// The device is not in this build or not on this machine.
    #[error("device {device}: {message}")]
    Device {
        /// The device as the user wrote it.
        device: String,
        /// Which feature or driver is missing.
        message: String,
    },
    /// Training could not go on.
    #[error("training: {0}")]
    Training(String),
    /// The user stopped the run.
    #[error("interrupted: {0}")]
    Interrupted(String),
}

/// The first `most` characters of a text from a file, for a message.
pub(crate) fn beginning(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_string(),
    }
}

impl Error {
    /// An [`Error::Io`] about `path`.
    pub fn io(path: impl AsRef<Path>, cause: std::io::Error) -> Self {
        Self::Io { path: path.as_ref().to_path_buf(), cause }
    }

    /// An [`Error::Format`] about `path`.
    pub fn format(path: impl AsRef<Path>, message: impl Into<String>) -> Self {
        Self::Format { path: path.as_ref().to_path_buf(), message: message.into() }
    }

    /// An [`Error::Layer`] about `layer`.
    pub fn layer(layer: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Layer { layer: layer.into(), message: message.into() }
    }

    /// An [`Error::Option`] about `option`.
    pub fn option(option: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Option { option: option.into(), message: message.into() }
    }

    /// An [`Error::Device`] about `device`.
    pub fn device(device: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Device { device: device.into(), message: message.into() }
    }
}
