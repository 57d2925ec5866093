//! The pretrained model that a job starts from, and its tokenizer.

use std::path::{Path, PathBuf};

use burn::tensor::Device;

use crate::checkpoint::LoadOptions;
use crate::models::{FolderModel, LabelConfig};
use crate::tasks::TextTokenizer;
use crate::train::{Event, Observer, Recipe, TaskRecipe};
use crate::{Error, Result};

/// The origin of a model under training.
pub struct Start {
    /// The model folder.
    pub folder: PathBuf,
    /// How it was loaded.
    pub options: LoadOptions,
    /// Whether its head is freshly initialised, so that evaluating it before training says nothing.
    pub new_head: bool,
    /// Its tokenizer.
    pub tokenizer: TextTokenizer,
}

impl Start {
    /// Loads the recipe's model with a head for `labels`, and its tokenizer.
    ///
    /// # Errors
    /// If a file is missing, damaged or does not fit the others.
    pub fn load<M: FolderModel>(
        recipe: &Recipe,
        labels: LabelConfig,
        device: &Device,
        observer: &dyn Observer,
    ) -> Result<(M, Self)> {
        let max_length = |_: &Path, model: &M| {
            let (task, longest) = (&recipe.task, model.max_length());
            let default = TaskRecipe { max_length: None, ..task.clone() }.max_length();
            if task.max_length() > longest && task.max_length() == default {
                let message = format!("inputs are cut at {longest} tokens, the model's longest");
                observer.event(&Event::Note { message });
                return Ok(longest);
            }
            Ok(task.max_length())
        };
        Self::load_with(recipe, Some(labels), device, observer, max_length)
    }

    /// As [`Start::load`]. Without `labels` the model keeps its own; `max_length` chooses the longest
    /// input from the model folder and the model.
    ///
    /// # Errors
    /// As [`Start::load`].
    pub fn load_with<M: FolderModel>(
        recipe: &Recipe,
        labels: Option<LabelConfig>,
        device: &Device,
        observer: &dyn Observer,
        max_length: impl FnOnce(&Path, &M) -> Result<usize>,
    ) -> Result<(M, Self)> {
        let folder = recipe.model.clone().ok_or_else(|| {
            Error::option("model", "missing: the folder of the pretrained model to start from")
        })?;
        let device = device.clone().without_autodiff();
        device.seed(recipe.training.seed);
        let (new_head, called) = (recipe.new_head, recipe.task.labels.clone());
        let options =
            LoadOptions { labels, new_head, called, floats: true, ..LoadOptions::default() };
        let (model, report) = M::load(&folder, &device, &options)?;
        observer.event(&Event::Note { message: report.to_string() });
        let max_length = max_length(&folder, &model)?;
        if max_length > model.max_length() {
            return Err(Error::option(
                "max_length",
                format!("{max_length} tokens are more than the model's {}", model.max_length()),
            ));
        }
        let tokenizer = model_tokenizer(&folder, &model, max_length)?;
        // A language model's head is its embedding.
        let new_head = report.newly_initialised.iter().any(|name| name != "final_logits_bias");
        Ok((model, Self { folder, options, new_head, tokenizer }))
    }

    /// Loads the model again as it was before training; a new head gets other values.
    ///
    /// # Errors
    /// If its files are gone or have changed.
    pub fn reload<M: FolderModel>(&self, device: &Device) -> Result<M> {
        Ok(M::load(&self.folder, &device.clone().without_autodiff(), &self.options)?.0)
    }
}

/// Loads the tokenizer of a model's folder.
///
/// # Errors
/// As [`TextTokenizer::from_folder`]. Also if the tokenizer has tokens or token types that the model
/// does not embed, or does not add the end token that the model needs.
pub fn model_tokenizer<M: FolderModel>(
    folder: &Path,
    model: &M,
    max_length: usize,
) -> Result<TextTokenizer> {
    let tokenizer = TextTokenizer::from_folder(folder, max_length)?;
    let tokenizer = tokenizer.with_embeddings(model.vocab_size())?;
    // Models without token types have no such field, or 0.
    let types = model.config_json()?["type_vocab_size"].as_u64().filter(|types| *types > 0);
    let tokenizer = tokenizer.with_types(types.map(|types| types as usize))?;
    if let Some(end) = model.end_token() {
        // Truncation keeps special tokens, so a token that the empty text has is in every text.
        for pair in [None, Some("")] {
            if !tokenizer.encode("", pair)?.get_ids().iter().any(|&id| id as usize == end) {
                let message = format!(
                    "the tokenizer does not end texts with token {end}, the model's eos_token_id, \
                     at which it reads its answer; save it as tokenizer.json with its \
                     post-processor, by transformers' save_pretrained"
                );
                return Err(Error::format(folder, message));
            }
        }
    }
    Ok(tokenizer)
}
