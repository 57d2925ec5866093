//! The kinds of files that tensors come in.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::Path;

use memmap2::Mmap;
use pytorch_reader::{DType, PytorchReader};
use safetensors::{Dtype, SafeTensors};

use super::{Backing, Data, TensorSource};
use crate::checkpoint::guard::guarded;
use crate::{Error, Result, files};

impl TensorSource {
    pub(super) fn add_file(&mut self, file: &Path) -> Result<()> {
        if file.extension().is_some_and(|extension| extension == "bin") {
            return self.add_pytorch(file);
        }
        let handle = files::open(file)?;
        // SAFETY: the map is read-only, and model files are replaced by renaming, never rewritten
        // in place, so the mapped bytes do not change.
        let map = unsafe { Mmap::map(&handle) }.map_err(|e| Error::io(file, e))?;
        self.add_safetensors(file, Backing::Mapped(map))
    }

    pub(super) fn add_safetensors(&mut self, path: &Path, backing: Backing) -> Result<()> {
        files::refuse_stand_in(path, backing.bytes())?;
        let (header, metadata) = SafeTensors::read_metadata(backing.bytes()).map_err(|e| {
            let message =
                format!("not a whole safetensors file ({e}); download or export it again");
            Error::format(path, message)
        })?;
        // 8 bytes of length, then the header, then the data.
        let base = 8 + header;
        let file = self.files.len();
        for (name, info) in metadata.tensors() {
            let (start, end) = info.data_offsets;
            let data = Data::Range { file, start: base + start, end: base + end };
            self.insert(path, name, info.shape.clone(), info.dtype, data)?;
        }
        self.files.push(backing);
        Ok(())
    }

    pub(super) fn add_pytorch(&mut self, path: &Path) -> Result<()> {
        let mut start = Vec::new();
        let opened = files::open(path)?.take(256).read_to_end(&mut start);
        opened.map_err(|e| Error::io(path, e))?;
        files::refuse_stand_in(path, &start)?;
        let reader = guarded(|| PytorchReader::new(path).map_err(|e| e.to_string()));
        let reader = reader.and_then(|reader| reader).map_err(|e| {
            let message = format!("not a whole PyTorch checkpoint ({e}); download it again");
            Error::format(path, message)
        })?;
        for (name, tensor) in reader.into_tensors() {
            let dtype = match tensor.dtype() {
                DType::F64 => Dtype::F64,
                DType::F32 => Dtype::F32,
                DType::F16 => Dtype::F16,
                DType::BF16 => Dtype::BF16,
                DType::I64 => Dtype::I64,
                DType::I32 => Dtype::I32,
                DType::I16 => Dtype::I16,
                DType::I8 => Dtype::I8,
                DType::U64 => Dtype::U64,
                DType::U32 => Dtype::U32,
                DType::U16 => Dtype::U16,
                DType::U8 => Dtype::U8,
                DType::Bool => Dtype::BOOL,
            };
            let shape = tensor.shape().to_vec();
            self.insert(path, name, shape, dtype, Data::PyTorch(tensor))?;
        }
        Ok(())
    }

    pub(super) fn add_shards(&mut self, folder: &Path, index: &Path) -> Result<()> {
        #[derive(serde::Deserialize)]
        struct Index {
            weight_map: BTreeMap<String, String>,
        }
        let parsed: Index = files::read_json(index)?;
        let shards: BTreeSet<&String> = parsed.weight_map.values().collect();
        for shard in shards {
            // The index may come from anywhere: a shard is a file of this folder.
            if Path::new(shard).file_name().is_none_or(|name| name != shard.as_str()) {
                return Err(Error::format(index, format!("shard `{shard}` is not a file name")));
            }
            self.add_file(&folder.join(shard))?;
        }
        match parsed.weight_map.iter().find(|(name, _)| !self.contains(name)) {
            Some((name, shard)) => {
                Err(Error::format(index, format!("tensor {name} is not in its shard {shard}")))
            }
            None => Ok(()),
        }
    }
}
