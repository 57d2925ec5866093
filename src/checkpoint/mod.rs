//! Hugging Face checkpoints: reading, naming, loading, and writing model folders. Begin with
//! [`load_pretrained`] and [`save_pretrained`]; an architecture takes part by [`PretrainedModel`].
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
//! loads without its base model and without any decomposition; a layer has the tensors of one state and
//! no others. `order` is left out if all neurons or none are kept.
//!
//! # Folders that only this crate reads
//!
//! A model of dense layers, stored in floats, is a plain Hugging Face checkpoint. Folders with
//! compressed layers, narrowed feed-forward networks or 8-bit integers say that they are not:
//!
//! | in `config.json` | |
//! |---|---|
//! | `model_type` | `losparse_` before the architecture: `losparse_bert` |
//! | `losparse.base_model_type` | the architecture: `bert` |
//! | `losparse.sha256` | SHA-256 of `model.safetensors`, checked when it is read |
//! | `losparse.compute` | `int8`: layers that are stored in 8-bit integers compute in them |
//! | `losparse.format_version` | 2; also of dense models if there is a `losparse` object |
//! | `quantization_config` | a note without the `quant_method` that other programs look for |
//!
//! Otherwise `transformers` would initialise the missing weights at random, and answer. For such a folder
//! its `AutoModel…` say (5.24): "The checkpoint you are trying to load has model type
//! `losparse_bert` but Transformers does not recognize this architecture"; a class asked for by name,
//! such as `BertForSequenceClassification`: "The model's quantization config from the arguments has no
//! `quant_method` attribute." `AutoTokenizer` works: where no file names its class, the
//! architecture's is added to `tokenizer_config.json`.
//!
//! Everything else in `config.json` may be edited, the names of labels for example. Folders of version
//! 1, which had neither a type of their own nor a checksum, are read; newer versions than 2 are
//! refused.

mod alignment;
pub mod atomic;
pub(crate) mod checksum;
pub(crate) mod config;
mod foreign;
pub(crate) mod format;
pub(crate) mod guard;
mod head;
mod labels;
mod layer;
mod load;
mod names;
mod options;
mod pretrained;
mod save;
mod source;
mod tokenizer_files;
mod view;

#[cfg(feature = "train")]
pub(crate) use alignment::label_index;
pub use alignment::{LabelAlignment, LabelMismatch};
pub use config::{ModelConfig, Shown, SizeShown};
pub use labels::{LabelConfig, ProblemType};
pub use load::{load_from, load_pretrained, model_type, read_config};
pub use options::{LoadOptions, LoadReport};
pub use pretrained::PretrainedModel;
pub use save::{SaveOptions, StorageDtype, save_pretrained, to_safetensors};
pub use source::TensorSource;
pub use tokenizer_files::TOKENIZER_FILES;
#[cfg(feature = "train")]
pub(crate) use tokenizer_files::class_of_model;
