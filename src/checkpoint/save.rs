//! Saving a model to a folder.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::path::{Path, PathBuf};

use burn::module::Param;
use burn::tensor::{Device, Int, Tensor};
use half::{bf16, f16};
use safetensors::tensor::{Dtype, View};
use serde::{Deserialize, Serialize};

use super::atomic;
use super::checksum::sha256;
use super::format;
use super::names::{transpose, visit_params};
use super::source::SCALE_SUFFIX;
use super::tokenizer_files;
use super::{ModelConfig, PretrainedModel};
use crate::linear::{
    CompressibleLinear, Int8Matrix, QuantizedLinear, WordEmbedding, quantize_rows, to_vec,
};
use crate::quantize::computes_in_int8;
use crate::{Error, Result};

/// Type of stored weights. Computation is in the type of the device all the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StorageDtype {
    /// 4 bytes a value, exact.
    #[default]
    F32,
    /// 2 bytes, 11 bits of precision, up to 65504.
    F16,
    /// 2 bytes, 8 bits of precision, the range of f32.
    Bf16,
    /// Matrices in 1 byte a value with one scale a row (`<name>.scale`), vectors in f32.
    Int8,
}

/// Contents of the folder besides the configuration.
#[derive(Debug, Clone, Default)]
pub struct SaveOptions {
    /// Type of stored weights.
    pub dtype: StorageDtype,
    /// The `losparse` object of `config.json`.
    pub losparse: Option<serde_json::Value>,
    /// Folder whose tokenizer files are copied.
    pub tokenizer_from: Option<PathBuf>,
    /// Further files by name, such as the card `README.md`.
    pub files: Vec<(String, Vec<u8>)>,
    /// Parameters to leave out, those of a head that was never trained
    /// ([`LoadReport::newly_initialised`](super::LoadReport::newly_initialised)). `architectures` then stay
    /// as they were loaded.
    pub without: Vec<String>,
}

/// Writes `model` to a folder in Hugging Face's layout, replacing the folder whole.
///
/// A model without compressed layers is a plain Hugging Face checkpoint, unless matrices are stored as
/// 8-bit integers or compaction has narrowed its feed-forward networks. Other folders have a
/// `model_type` of their own and the weights' checksum: see [`crate::checkpoint`].
///
/// # Errors
/// If something cannot be written, a value is not finite or too large for the storage type, or the
/// folder exists and is no model folder (see [`atomic::write_folder`]).
pub fn save_pretrained<M: PretrainedModel>(
    model: &M,
    folder: impl AsRef<Path>,
    options: &SaveOptions,
) -> Result<()> {
    let weights = serialized(model, options.dtype, &options.without)?;
    let own = options.dtype == StorageDtype::Int8 || is_compressed(model);
    let config = config_json(model, options, own.then_some(&weights))?;
    let mut tokenizer = Vec::new();
    if let Some(from) = &options.tokenizer_from {
        tokenizer = tokenizer_files::read(from)?;
        let mut config = model.config().clone();
        let named = config.other_mut().get("tokenizer_class").and_then(|name| name.as_str());
        let named = named.is_some_and(|name| !name.is_empty());
        if own && !named {
            tokenizer_files::name_class(&mut tokenizer, M::MODEL_TYPE, from)?;
        }
    }
    let folder = folder.as_ref();
    atomic::write_folder(folder, |fresh| {
        let write = |name: &str, bytes: &[u8]| {
            std::fs::write(fresh.join(name), bytes).map_err(|e| Error::io(folder.join(name), e))
        };
        write("config.json", config.as_bytes())?;
        write("model.safetensors", &weights)?;
        tokenizer.iter().try_for_each(|(name, bytes)| write(name, bytes))?;
        options.files.iter().try_for_each(|(name, bytes)| write(name, bytes))
    })
}

/// The bytes of `model.safetensors`.
///
/// # Errors
/// If a value is not finite or too large for `dtype`; the message names the tensor.
pub fn to_safetensors<M: PretrainedModel>(model: &M, dtype: StorageDtype) -> Result<Vec<u8>> {
    serialized(model, dtype, &[])
}

/// [`to_safetensors`] without some parameters.
fn serialized<M: PretrainedModel>(
    model: &M,
    dtype: StorageDtype,
    without: &[String],
) -> Result<Vec<u8>> {
    // A model that computes in integers keeps all its other layers in floats.
    let floats_apart = dtype == StorageDtype::Int8 && computes_in_int8(model);
    let rest = if floats_apart { StorageDtype::F32 } else { dtype };
    let mut tensors = Tensors { dtype: rest, stored: BTreeMap::new(), result: Ok(()) };
    visit_params(model, &M::hugging_face_name, &mut |param, data| {
        let values: Vec<f32> = data().convert::<f32>().iter::<f32>().collect();
        let values = match param.transposed {
            true => transpose(&values, param.shape[1], param.shape[0]),
            false => values,
        };
        tensors.add(&param.name, param.shape, values);
    });
    model.clone().for_each_embedding_mut(&mut |name, embedding| {
        if let WordEmbedding::Int8(rows) = &*embedding {
            let (shape, name) = (embedding.weight_dims(), format!("{name}.weight"));
            if dtype == StorageDtype::Int8 {
                let (levels, scales) = rows.to_vecs();
                tensors.add_int8(&name, shape.to_vec(), &levels, &scales);
            } else {
                tensors.add(&name, shape.to_vec(), to_vec(embedding.weight()));
            }
        }
    });
    model.for_each_linear(&mut |name, linear| {
        tensors.dtype = if let CompressibleLinear::Quantized(_) = linear { dtype } else { rest };
        add_layer(&mut tensors, name, linear);
    });
    tensors.result?;
    tensors.stored.retain(|name, _| !without.contains(name));
    // transformers refuses files that do not say which framework they are of.
    let about = HashMap::from([("format".to_string(), "pt".to_string())]);
    safetensors::serialize(tensors.stored, Some(about))
        .map_err(|e| Error::layer("model.safetensors", e.to_string()))
}

/// Whether any layer is not dense or is narrower than the configuration.
fn is_compressed<M: PretrainedModel>(model: &M) -> bool {
    let mut compressed = false;
    model.for_each_linear(&mut |_, linear| {
        compressed |= linear.is_compressed();
    });
    model.clone().for_each_feed_forward_mut(&mut |pair| {
        compressed |= pair.inner.dims()[1] != pair.width;
    });
    compressed
}

/// The text of `config.json`; `own_weights` are those that only this crate reads.
fn config_json<M: PretrainedModel>(
    model: &M,
    options: &SaveOptions,
    own_weights: Option<&Vec<u8>>,
) -> Result<String> {
    let mut config = model.config().clone();
    let other = config.other_mut();
    if options.without.is_empty() || !other.contains_key("architectures") {
        other.insert("architectures".into(), vec![M::ARCHITECTURE].into());
    }
    let sum = own_weights.map(|weights| sha256(weights));
    let int8 = options.dtype == StorageDtype::Int8 && computes_in_int8(model);
    format::mark(other, M::MODEL_TYPE, options.losparse.clone(), sum, int8);
    let text = serde_json::to_string_pretty(&config)
        .map_err(|e| Error::format("config.json", e.to_string()))?;
    Ok(text + "\n")
}

/// Adds the matrices of a layer in PyTorch's orientation.
fn add_layer(tensors: &mut Tensors, name: &str, linear: &CompressibleLinear) {
    let mut matrix = |suffix: &str, matrix: Tensor<2>| {
        let [rows, columns] = matrix.dims();
        let values = transpose(&to_vec(matrix), rows, columns);
        tensors.add(&format!("{name}.{suffix}"), vec![columns, rows], values);
    };
    let mut order: Option<Tensor<1, Int>> = None;
    match linear {
        CompressibleLinear::Dense(dense) => matrix("weight", dense.weight.val()),
        CompressibleLinear::LowRankSparse(layer) => {
            if let Some(low_rank) = &layer.low_rank {
                matrix("left", low_rank.left.val());
                matrix("right", low_rank.right.val());
            }
            if let Some(sparse) = &layer.sparse {
                matrix("sparse", sparse.val());
            }
        }
        CompressibleLinear::Compact(layer) => {
            let (kept, rank) = (layer.kept, layer.rank());
            let first = layer.first.val();
            matrix("kept_weight", narrow(&first, 1, 0, kept));
            if rank > 0 {
                matrix("right", narrow(&first, 1, kept, rank));
            }
            if let Some(left) = &layer.left {
                matrix("left", left.val());
            }
            order = stored_order(layer.order.as_ref(), kept, layer.d_output, &first.device());
        }
        CompressibleLinear::InputCompact(layer) => {
            let (kept, rank) = (layer.kept, layer.rank());
            let second = layer.second.val();
            matrix("kept_columns", narrow(&second, 0, 0, kept));
            if rank > 0 {
                matrix("left", narrow(&second, 0, kept, rank));
            }
            if let Some(right) = &layer.right {
                matrix("right", right.val());
            }
            order = Some(layer.order.val());
        }
        CompressibleLinear::Quantized(layer) if tensors.dtype == StorageDtype::Int8 => {
            order = add_quantized(tensors, name, layer);
        }
        CompressibleLinear::Quantized(layer) => {
            return add_layer(tensors, name, &layer.dequantize());
        }
    }
    if let Some(bias) = linear.bias() {
        tensors.add(&format!("{name}.bias"), bias.dims().to_vec(), to_vec(bias));
    }
    if let Some(order) = order {
        let order: Vec<i32> = order.into_data().iter::<i32>().collect();
        let bytes = order.iter().flat_map(|at| at.to_le_bytes()).collect();
        let stored = Stored { dtype: Dtype::I32, shape: vec![order.len()], bytes };
        tensors.stored.insert(format!("{name}.order"), stored);
    }
}

/// Adds the matrices of a layer of 8-bit integers as they are; returns its order.
fn add_quantized(
    tensors: &mut Tensors,
    name: &str,
    layer: &QuantizedLinear,
) -> Option<Tensor<1, Int>> {
    // Columns here are the rows of the file.
    let mut rows = |suffix: &str, matrix: &Int8Matrix, columns: Range<usize>| {
        let [width, count] = matrix.dims();
        let (levels, scales) = matrix.to_vecs();
        let levels = transpose(&levels, width, count);
        let levels = &levels[columns.start * width..columns.end * width];
        let shape = vec![columns.len(), width];
        tensors.add_int8(&format!("{name}.{suffix}"), shape, levels, &scales[columns]);
    };
    let (kept, d_output) = (layer.kept, layer.d_output);
    if layer.is_dense() {
        rows("weight", &layer.first, 0..d_output);
        return None;
    }
    rows("kept_weight", &layer.first, 0..kept);
    if layer.rank() > 0 {
        rows("right", &layer.first, kept..kept + layer.rank());
    }
    if let Some(left) = &layer.left {
        rows("left", left, 0..d_output - kept);
    }
    stored_order(layer.order.as_ref(), kept, d_output, &layer.first.scales.lazy_device())
}

/// The order that a compact layer's file has: if some neurons are kept and others not, only it says which.
fn stored_order(
    order: Option<&Param<Tensor<1, Int>>>,
    kept: usize,
    d_output: usize,
    device: &Device,
) -> Option<Tensor<1, Int>> {
    let in_order = || Tensor::arange(0..d_output as i64, device);
    let order = order.map(|order| order.val());
    order.or_else(|| (1..d_output).contains(&kept).then(in_order))
}

/// A range of an axis, which may be empty.
fn narrow(matrix: &Tensor<2>, axis: usize, start: usize, length: usize) -> Tensor<2> {
    let mut shape = matrix.dims();
    if length == 0 {
        shape[axis] = 0;
        return Tensor::zeros(shape, &matrix.device());
    }
    matrix.clone().narrow(axis, start, length)
}

/// Tensors as they go into the file.
struct Tensors {
    dtype: StorageDtype,
    stored: BTreeMap<String, Stored>,
    result: Result<()>,
}

struct Stored {
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

impl Tensors {
    fn add(&mut self, name: &str, shape: Vec<usize>, values: Vec<f32>) {
        if self.result.is_err() {
            return;
        }
        let unfit = |value: &&f32| match self.dtype {
            StorageDtype::F16 => !f16::from_f32(**value).is_finite(),
            StorageDtype::Bf16 => !bf16::from_f32(**value).is_finite(),
            StorageDtype::F32 | StorageDtype::Int8 => !value.is_finite(),
        };
        if let Some(value) = values.iter().find(unfit) {
            let message = format!(
                "value {value} cannot be stored as {:?}; store the model as f32 or bf16",
                self.dtype
            );
            self.result = Err(Error::layer(name, message));
            return;
        }
        let (dtype, bytes) = match self.dtype {
            StorageDtype::Int8 if shape.len() == 2 => {
                let (levels, scales) = quantize_rows(&values, shape[0]);
                return self.add_int8(name, shape, &levels, &scales);
            }
            StorageDtype::F32 | StorageDtype::Int8 => (Dtype::F32, f32_bytes(&values)),
            StorageDtype::F16 => {
                (Dtype::F16, values.iter().flat_map(|v| f16::from_f32(*v).to_le_bytes()).collect())
            }
            StorageDtype::Bf16 => (
                Dtype::BF16,
                values.iter().flat_map(|v| bf16::from_f32(*v).to_le_bytes()).collect(),
            ),
        };
        self.stored.insert(name.to_string(), Stored { dtype, shape, bytes });
    }

    /// Adds a matrix of 8-bit integers with the scales of its rows.
    fn add_int8(&mut self, name: &str, shape: Vec<usize>, levels: &[i8], scales: &[f32]) {
        let bytes = f32_bytes(scales);
        let scales = Stored { dtype: Dtype::F32, shape: vec![scales.len()], bytes };
        self.stored.insert(format!("{name}{SCALE_SUFFIX}"), scales);
        let bytes = levels.iter().map(|level| *level as u8).collect();
        self.stored.insert(name.to_string(), Stored { dtype: Dtype::I8, shape, bytes });
    }
}

fn f32_bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

impl View for Stored {
    fn dtype(&self) -> Dtype {
        self.dtype
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(&self.bytes)
    }

    fn data_len(&self) -> usize {
        self.bytes.len()
    }
}
