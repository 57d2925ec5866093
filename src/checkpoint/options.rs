//! Options for loading, and the report of a load.

use std::path::PathBuf;

use super::LabelConfig;

/// Options for loading a checkpoint.
#[derive(Debug, Clone, Default)]
pub struct LoadOptions {
    /// Labels of the task at hand. The outputs of a trained head are put in their order, see
    /// [`LabelConfig::align`]; for another number of labels the head is made anew.
    pub labels: Option<LabelConfig>,
    /// Names of the outputs of the trained head, in their order, if its own names say nothing.
    pub called: Option<Vec<String>>,
    /// Refuse another number of labels than the trained head has.
    pub keep_head: bool,
    /// Make the head anew even if the checkpoint has one.
    pub new_head: bool,
    /// Compute in floats even if the folder says that its layers compute in 8-bit integers, as for training.
    pub floats: bool,
    /// Accept tensors that the model has no place for, and report them.
    pub allow_unexpected: bool,
}

/// Report of a load.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LoadReport {
    /// The file, or the index of shards.
    pub source: PathBuf,
    /// Parameters that the checkpoint lacks: freshly initialised heads.
    pub newly_initialised: Vec<String>,
    /// Tensors of the checkpoint that the model has no place for.
    pub unused: Vec<String>,
    /// Number of tensors read.
    pub tensors: usize,
    /// Number of layers that were not dense.
    pub compressed_layers: usize,
    /// Prefix of all names in the file that no model has (`module.`); it was left out.
    pub left_out_prefix: String,
    /// Note on how the outputs of a trained head were matched to labels, or that it was left behind; absent
    /// if names and order were the same.
    pub labels: Option<String>,
}

impl std::fmt::Display for LoadReport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {} tensors", self.source.display(), self.tensors)?;
        if self.compressed_layers > 0 {
            write!(f, ", {} compressed layers", self.compressed_layers)?;
        }
        if !self.left_out_prefix.is_empty() {
            write!(f, ", names without their prefix `{}`", self.left_out_prefix)?;
        }
        if !self.newly_initialised.is_empty() {
            write!(f, "; newly initialised: {}", self.newly_initialised.join(", "))?;
        }
        if !self.unused.is_empty() {
            write!(f, "; not used: {}", self.unused.join(", "))?;
        }
        if let Some(labels) = &self.labels {
            write!(f, "; {labels}")?;
        }
        Ok(())
    }
}
