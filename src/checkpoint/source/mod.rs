//! Tensors of a model folder by name, read on demand; `formats` knows the kinds of files.

mod formats;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use half::{bf16, f16};
use memmap2::Mmap;
use safetensors::Dtype;

use super::checksum;
use super::guard::guarded;
use crate::{Error, Result};

/// Suffix of the tensor of row scales `[rows]` beside an int8 tensor `[rows, ..]`.
pub(crate) const SCALE_SUFFIX: &str = ".scale";

/// Tensors of a checkpoint, in one file or several.
///
/// Files are mapped into memory; the bytes of a tensor are read and converted on demand.
pub struct TensorSource {
    path: PathBuf,
    files: Vec<Backing>,
    entries: BTreeMap<String, Entry>,
}

enum Backing {
    Mapped(Mmap),
    Bytes(Cow<'static, [u8]>),
}

struct Entry {
    file: PathBuf,
    shape: Vec<usize>,
    dtype: Dtype,
    data: Data,
}

enum Data {
    /// Bytes `start..end` of a file in `files`.
    Range { file: usize, start: usize, end: usize },
    /// In a PyTorch archive.
    PyTorch(pytorch_reader::Tensor),
}

impl TensorSource {
    /// Opens the tensors of a folder: `model.safetensors`, its sharded form
    /// (`model.safetensors.index.json`), `pytorch_model.bin`, or its sharded form, in this order.
    /// A path to one `.safetensors` or `.bin` file opens that file.
    ///
    /// # Errors
    /// If there is none of these, or if a file is truncated or of another kind.
    pub fn open(folder: impl AsRef<Path>) -> Result<Self> {
        let folder = folder.as_ref();
        let mut source =
            Self { path: folder.to_path_buf(), files: Vec::new(), entries: BTreeMap::new() };
        if !folder.is_dir() {
            source.add_file(folder)?;
            return Ok(source);
        }
        for name in ["model.safetensors", "pytorch_model.bin"] {
            let (file, index) = (folder.join(name), folder.join(format!("{name}.index.json")));
            if file.exists() {
                source.path = file.clone();
                source.add_file(&file)?;
                return Ok(source);
            }
            if index.exists() {
                source.path = index.clone();
                source.add_shards(folder, &index)?;
                return Ok(source);
            }
        }
        std::fs::read_dir(folder).map_err(|e| Error::io(folder, e))?;
        Err(Error::format(
            folder,
            "no weights here: expected model.safetensors, model.safetensors.index.json, \
             pytorch_model.bin or pytorch_model.bin.index.json",
        ))
    }

    /// Opens a safetensors file held in memory; `name` stands for its path in messages.
    pub fn from_bytes(name: &str, bytes: impl Into<Cow<'static, [u8]>>) -> Result<Self> {
        let path = PathBuf::from(name);
        let mut source = Self { path: path.clone(), files: Vec::new(), entries: BTreeMap::new() };
        source.add_safetensors(&path, Backing::Bytes(bytes.into()))?;
        Ok(source)
    }

    /// The file, or the index of shards.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Names of all tensors, scales of int8 tensors left out.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str).filter(|name| !self.is_scale(name))
    }

    /// SHA-256 of the safetensors file that holds all tensors; `None` for several files or other kinds.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub(crate) fn sha256(&self) -> Result<Option<String>> {
        let is_mapped = |entry: &Entry| matches!(entry.data, Data::Range { .. });
        match &self.files[..] {
            [Backing::Bytes(bytes)] => Ok(Some(checksum::sha256(bytes))),
            // Read apart from the map, whose pages would stay in memory.
            [Backing::Mapped(_)] if self.entries.values().all(is_mapped) => {
                checksum::sha256_of_file(&self.path).map(Some)
            }
            _ => Ok(None),
        }
    }

    /// Names of the tensors that are 8-bit integers, as only this crate stores weights.
    pub(crate) fn quantized(&self) -> impl Iterator<Item = &str> {
        let quantized = self.entries.iter().filter(|(_, entry)| entry.dtype == Dtype::I8);
        quantized.map(|(name, _)| name.as_str())
    }

    /// Whether two tensors hold the same values in the same shape.
    ///
    /// # Errors
    /// As [`TensorSource::read`].
    pub(crate) fn are_equal(&self, one: &str, other: &str) -> Result<bool> {
        let (a, b) = (self.entry(one)?, self.entry(other)?);
        if a.shape != b.shape {
            return Ok(false);
        }
        if a.dtype == b.dtype
            && a.dtype != Dtype::I8
            && self.bytes(one, a)? == self.bytes(other, b)?
        {
            return Ok(true);
        }
        Ok(self.read(one)? == self.read(other)?)
    }

    /// Whether there is a tensor of this name.
    pub fn contains(&self, name: &str) -> bool {
        self.entries.contains_key(name)
    }

    /// Shape of a tensor.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.entries.get(name).map(|entry| entry.shape.as_slice())
    }

    /// Values of a tensor as f32, from any stored type.
    ///
    /// # Errors
    /// If it is absent, cannot be read, is of a kind that is no weight, or holds NaN or infinity.
    pub fn read(&self, name: &str) -> Result<Vec<f32>> {
        let entry = self.entry(name)?;
        let bytes = self.bytes(name, entry)?;
        let release = |from, to| self.release(entry, from, to);
        let values = match entry.dtype {
            Dtype::F32 => convert(&bytes, f32::from_le_bytes, release),
            Dtype::F16 => convert(&bytes, |b| f16::from_le_bytes(b).to_f32(), release),
            Dtype::BF16 => convert(&bytes, |b| bf16::from_le_bytes(b).to_f32(), release),
            Dtype::F64 => convert(&bytes, |b| f64::from_le_bytes(b) as f32, release),
            Dtype::I8 => self.dequantize(name, entry, &bytes)?,
            other => return Err(unsupported(entry, name, other, "F32, F16, BF16, F64 or I8")),
        };
        if let Some(at) = values.iter().position(|value| !value.is_finite()) {
            let message = format!("{}: value {at} is {}", entry.file.display(), values[at]);
            return Err(Error::layer(name, format!("{message}; the checkpoint is damaged")));
        }
        Ok(values)
    }

    /// A tensor's integers.
    ///
    /// # Errors
    /// If it is absent, cannot be read or does not hold integers.
    pub fn read_int(&self, name: &str) -> Result<Vec<i64>> {
        let entry = self.entry(name)?;
        let bytes = self.bytes(name, entry)?;
        let release = |from, to| self.release(entry, from, to);
        match entry.dtype {
            Dtype::I32 => Ok(convert(&bytes, |b| i64::from(i32::from_le_bytes(b)), release)),
            Dtype::I64 => Ok(convert(&bytes, i64::from_le_bytes, release)),
            other => Err(unsupported(entry, name, other, "I32 or I64")),
        }
    }

    fn entry(&self, name: &str) -> Result<&Entry> {
        let missing = || Error::layer(name, format!("not in {}", self.path.display()));
        self.entries.get(name).ok_or_else(missing)
    }

    fn is_scale(&self, name: &str) -> bool {
        let quantized = name.strip_suffix(SCALE_SUFFIX).and_then(|name| self.entries.get(name));
        quantized.is_some_and(|entry| entry.dtype == Dtype::I8)
    }

    fn bytes<'a>(&'a self, name: &str, entry: &'a Entry) -> Result<Cow<'a, [u8]>> {
        match &entry.data {
            Data::Range { file, start, end } => {
                Ok(Cow::Borrowed(&self.files[*file].bytes()[*start..*end]))
            }
            Data::PyTorch(tensor) => {
                let read = guarded(|| tensor.read().map_err(|e| e.to_string()));
                read.and_then(|read| read).map(Cow::Owned).map_err(|e| {
                    Error::format(&entry.file, format!("tensor {name} cannot be read: {e}"))
                })
            }
        }
    }

    /// Releases bytes `from..to` of a tensor after they were read, so that a file and its tensors are never
    /// both in memory. They can still be read again.
    #[cfg(unix)]
    fn release(&self, entry: &Entry, from: usize, to: usize) {
        if let Data::Range { file, start, .. } = &entry.data
            && let Backing::Mapped(map) = &self.files[*file]
        {
            // SAFETY: the map is read-only and of a file, so released pages come back unchanged. It is only
            // advice: a failure costs memory.
            let _ = unsafe {
                let advice = memmap2::UncheckedAdvice::DontNeed;
                map.unchecked_advise_range(advice, start + from, to - from)
            };
        }
    }

    #[cfg(not(unix))]
    fn release(&self, _: &Entry, _: usize, _: usize) {}

    /// Rows times their scales.
    fn dequantize(&self, name: &str, entry: &Entry, bytes: &[u8]) -> Result<Vec<f32>> {
        let scales = self.row_scales(name, entry, bytes)?;
        let width = bytes.len().checked_div(scales.len()).unwrap_or(0);
        let scaled = |(at, byte): (usize, &u8)| f32::from(*byte as i8) * scales[at / width];
        Ok(bytes.iter().enumerate().map(scaled).collect())
    }

    /// The 8-bit integers of a tensor and the scales of its rows; `None` if it is of other numbers.
    ///
    /// # Errors
    /// As [`TensorSource::read`].
    pub(crate) fn read_int8(&self, name: &str) -> Result<Option<(Vec<i8>, Vec<f32>)>> {
        let entry = self.entry(name)?;
        if entry.dtype != Dtype::I8 {
            return Ok(None);
        }
        let bytes = self.bytes(name, entry)?;
        let scales = self.row_scales(name, entry, &bytes)?;
        if let Some(scale) = scales.iter().find(|scale| !(*scale * 128.0).is_finite()) {
            let message =
                format!("scale {scale} is beyond 32-bit floats; the checkpoint is damaged");
            return Err(Error::layer(name, message));
        }
        Ok(Some((bytes.iter().map(|byte| *byte as i8).collect(), scales)))
    }

    /// The scales of the rows of a tensor of 8-bit integers.
    fn row_scales(&self, name: &str, entry: &Entry, bytes: &[u8]) -> Result<Vec<f32>> {
        let scale_name = format!("{name}{SCALE_SUFFIX}");
        let stored = self.entry(&scale_name)?;
        if stored.dtype != Dtype::F32 {
            return Err(unsupported(stored, &scale_name, stored.dtype, "F32"));
        }
        let Some(&rows) = entry.shape.first() else {
            return Err(Error::layer(name, "is one 8-bit integer, which has no row to be scaled"));
        };
        if stored.shape != [rows] {
            let message = format!("expected {rows} row scales, found shape {:?}", stored.shape);
            return Err(Error::layer(scale_name, message));
        }
        let scales = self.read(&scale_name)?;
        let width = bytes.len().checked_div(rows).unwrap_or(0);
        // Rows of zeros have no scale.
        let is_zero = |row: usize| bytes[row * width..(row + 1) * width].iter().all(|b| *b == 0);
        let faulty = |row: usize| scales[row] < 0.0 || (scales[row] == 0.0 && !is_zero(row));
        if let Some(row) = (0..rows).find(|row| faulty(*row)) {
            let message = format!("row {row} has scale {}, which is not positive", scales[row]);
            return Err(Error::layer(scale_name, message));
        }
        Ok(scales)
    }

    fn insert(
        &mut self,
        file: &Path,
        name: String,
        shape: Vec<usize>,
        dtype: Dtype,
        data: Data,
    ) -> Result<()> {
        let entry = Entry { file: file.to_path_buf(), shape, dtype, data };
        match self.entries.insert(name.clone(), entry) {
            Some(first) => Err(Error::format(
                file,
                format!("tensor {name} is also in {}", first.file.display()),
            )),
            None => Ok(()),
        }
    }
}

impl std::fmt::Debug for TensorSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TensorSource")
            .field("path", &self.path)
            .field("tensors", &self.entries.len())
            .finish()
    }
}

impl Backing {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Mapped(map) => map,
            Self::Bytes(bytes) => bytes,
        }
    }
}

fn unsupported(entry: &Entry, name: &str, dtype: Dtype, expected: &str) -> Error {
    let message = format!("{}: stored as {dtype:?}, expected {expected}", entry.file.display());
    Error::layer(name, message)
}

/// Converts little-endian elements of `N` bytes one by one; `release` is called with the range read.
fn convert<const N: usize, T>(
    bytes: &[u8],
    element: impl Fn([u8; N]) -> T,
    release: impl Fn(usize, usize),
) -> Vec<T> {
    const PIECE: usize = 4 << 20;
    let mut values = Vec::with_capacity(bytes.len() / N);
    for (at, piece) in bytes.chunks(PIECE).enumerate() {
        values.extend(piece.as_chunks::<N>().0.iter().map(|chunk| element(*chunk)));
        release(at * PIECE, at * PIECE + piece.len());
    }
    values
}
