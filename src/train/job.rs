//! What distinguishes kinds of task in a run: how model and data are made ready. Training,
//! evaluation, saving and measuring are the same for all.

use std::path::{Path, PathBuf};

use burn::tensor::Device;
use serde_json::{Map, Value};

use super::checkpoints::Inputs;
use super::data::BatchSource;
use super::outline::decomposition;
use super::{Evaluator, Event, Observer, Outline, Recipe, TaskRecipe, TrainableModel, outline};
use crate::checkpoint::LoadOptions;
use crate::checkpoint::checksum::{Sum, sha256_of_file};
use crate::decompose::{Decomposed, decompose, decompose_shapes};
use crate::models::{FolderModel, LabelConfig};
use crate::pruning::PruningConfig;
use crate::tasks::{Task, TextTokenizer};
use crate::{Error, Result};

/// A kind of task.
pub trait Job {
    /// The models that do it.
    type Model: TrainableModel + FolderModel;
    /// Scores their answers.
    type Evaluator: Evaluator<<Self::Model as TrainableModel>::Output>;

    /// Loads the model and the data that `recipe` names.
    ///
    /// # Errors
    /// If a file is missing, damaged or does not fit the others.
    fn prepare(
        recipe: &Recipe,
        device: &Device,
        observer: &dyn Observer,
    ) -> Result<Loaded<Self::Model, Self::Evaluator>>;
}

/// A model, and what goes with it.
pub type Loaded<M, E> = (M, Prepared<M, E>);

/// The data of a training, and what goes with its model; not the model itself, so that a training has
/// the only one.
pub struct Prepared<M: TrainableModel, E> {
    /// Where the model is from.
    pub start: Start,
    /// The task.
    pub task: Task,
    /// What a saved model says about itself besides its task, in `config.json`.
    pub about: Map<String, Value>,
    /// Training data.
    pub train: BatchSource<M::Batch>,
    /// Evaluation data; the first decides.
    pub dev: Vec<EvalSplit<M::Batch, E>>,
    /// Cheaper data for evaluations while training, in place of the first of `dev`.
    pub while_training: Option<EvalSplit<M::Batch, E>>,
    /// Examples of `dev` that were held out of the training data; `None`: it is data of its own.
    pub held_out: Option<usize>,
    /// Training loss of a model that knows nothing of its input.
    pub blind_loss: f64,
}

/// Where a model that is trained started from.
pub struct Start {
    /// The model folder.
    pub folder: PathBuf,
    /// How it was loaded.
    pub options: LoadOptions,
    /// Whether its head is freshly initialised, so that evaluating it would say nothing.
    pub new_head: bool,
    /// Its tokenizer.
    pub tokenizer: TextTokenizer,
}

/// Data to evaluate on.
pub struct EvalSplit<B, E> {
    /// `dev`, `dev_mismatched`, …
    pub name: String,
    /// The batches.
    pub source: BatchSource<B>,
    /// Scores answers to them.
    pub evaluator: E,
}

impl Start {
    /// Loads the model that `recipe` names with a head for `labels`, and its tokenizer.
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

    /// The same with the labels that the model has, unless others are given, and a longest input
    /// that depends on its folder and on the model.
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
        let options = LoadOptions { labels, new_head, called, ..LoadOptions::default() };
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

    /// The model once more as it was before training; a new head has other values.
    ///
    /// # Errors
    /// If its files are gone or were changed.
    pub fn reload<M: FolderModel>(&self, device: &Device) -> Result<M> {
        Ok(M::load(&self.folder, &device.clone().without_autodiff(), &self.options)?.0)
    }
}

/// The tokenizer of a model's folder.
///
/// # Errors
/// As [`TextTokenizer::from_folder`], and if it has tokens or types of them that the model does not
/// embed, or does not add the token that the model needs.
pub fn model_tokenizer<M: FolderModel>(
    folder: &Path,
    model: &M,
    max_length: usize,
) -> Result<TextTokenizer> {
    let tokenizer = TextTokenizer::from_folder(folder, max_length)?;
    let tokenizer = tokenizer.with_embeddings(model.vocab_size())?;
    // Models without embeddings of types have no such field, or 0.
    let types = model.config_json()?["type_vocab_size"].as_u64().filter(|types| *types > 0);
    let tokenizer = tokenizer.with_types(types.map(|types| types as usize))?;
    if let Some(end) = model.end_token() {
        // Truncation leaves special tokens alone: what an empty text has, every text has.
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

/// Tells how many examples of a file were left out, if any were.
pub(super) fn tell_skipped(observer: &dyn Observer, split: &str, skipped: usize, what: &str) {
    if skipped > 0 {
        let message = format!("{split}: {skipped} {what} skipped");
        observer.event(&Event::Note { message });
    }
}

/// SHA-256 of a model folder's files of weights, all of them.
fn sum_of_weights(folder: &Path) -> Result<String> {
    let entries = std::fs::read_dir(folder).map_err(|e| Error::io(folder, e))?;
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.retain(|path| path.extension().is_some_and(|end| end == "safetensors" || end == "bin"));
    paths.sort();
    let mut sum = Sum::default();
    for path in paths {
        sum.add(sha256_of_file(&path)?.as_bytes());
    }
    Ok(sum.finish())
}

impl<M: TrainableModel, E> Prepared<M, E> {
    /// SHA-256 of what a run of this reads.
    ///
    /// # Errors
    /// If the starting model's files cannot be read.
    pub(super) fn inputs(&self) -> Result<Inputs> {
        let mut dev = Sum::default();
        for split in self.dev.iter().chain(&self.while_training) {
            dev.add(split.source.digest.as_bytes());
        }
        Ok(Inputs {
            train: self.train.digest.clone(),
            dev: dev.finish(),
            config: sha256_of_file(&self.start.folder.join("config.json"))?,
            weights: sum_of_weights(&self.start.folder)?,
        })
    }

    /// What `recipe` does with `model` and the training data.
    ///
    /// # Errors
    /// As [`outline`].
    pub fn outline(&self, model: &M, recipe: &Recipe) -> Result<Outline> {
        outline(recipe, model, self.train.lengths.len())
    }

    /// Decomposes what the recipe selects of `model`; the layers, and how they will be pruned.
    /// Without `values` layers get their form only, for a checkpoint to fill.
    ///
    /// # Errors
    /// If a pattern matches nothing, or rank, ratio or schedule are impossible.
    pub fn decompose(
        &self,
        model: M,
        recipe: &Recipe,
        values: bool,
    ) -> Result<(M, Vec<Decomposed>, Option<PruningConfig>)> {
        let Some(method) = &recipe.method else { return Ok((model, Vec::new(), None)) };
        let pruning = self.outline(&model, recipe)?.pruning;
        let config = decomposition(method, pruning.is_some());
        let decompose = if values { decompose } else { decompose_shapes };
        let (model, done) = decompose(model, &method.selection(), config)?;
        Ok((model, done, pruning))
    }
}
