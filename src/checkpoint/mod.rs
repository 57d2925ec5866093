//! Hugging Face checkpoints: reading, naming, loading, and writing model folders.
//!
//! A folder holds `config.json`, `model.safetensors` (or one of its older forms) and tokenizer
//! files. Compressed layers are stored under the layer's own name:
//!
//! | state | tensors (`out`, `in` as in PyTorch) |
//! |---|---|
//! | dense | `weight [out, in]` |
//! | low-rank + sparse | `left [out, r]`, `right [r, in]`, `sparse [out, in]` |
//! | compact | `kept_weight [k, in]`, `right [r, in]`, `left [out−k, r]`, `order [out]` |
//! | column-compact | `kept_columns [out, k]`, `left [out, r]`, `right [r, in−k]`, `order [in]` |
//!
//! and `bias [out]` in every state. The tensors present decide the state, so a compressed model
//! loads without its base model and without any decomposition.

pub mod atomic;
pub(crate) mod checksum;
mod foreign;
pub(crate) mod format;
pub(crate) mod guard;
mod head;
mod layer;
mod load;
mod names;
mod save;
mod source;
mod tokenizer_files;
mod view;

pub use load::{
    LoadOptions, LoadReport, PretrainedModel, load_from, load_pretrained, model_type, read_config,
};
pub use save::{SaveOptions, StorageDtype, save_pretrained, to_safetensors};
pub use source::TensorSource;
pub use tokenizer_files::TOKENIZER_FILES;
