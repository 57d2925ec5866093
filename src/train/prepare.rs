//! What a run starts from: model, tokenizer and tokenized data, checked against each other.

use std::path::PathBuf;

use burn::tensor::Device;

use super::data::Segments;
use super::task_data::{label_config, load_task_data};
use super::{Event, MethodRecipe, Observer, Recipe};
use crate::checkpoint::LoadOptions;
use crate::linear::Compressible;
use crate::models::AnySequenceClassifier;
use crate::tasks::{EncodedExample, Task, TextDataset, TextTokenizer};
use crate::{Error, Result};

/// A model and its data, ready to train.
pub struct Prepared {
    /// The model folder.
    pub folder: PathBuf,
    /// The model.
    pub model: AnySequenceClassifier,
    /// Whether its head is freshly initialised, so that evaluating it would say nothing.
    pub new_head: bool,
    /// Its tokenizer.
    pub tokenizer: TextTokenizer,
    /// The task.
    pub task: Task,
    /// Training examples.
    pub train: Vec<EncodedExample>,
    /// Evaluation splits: name, data, tokenized data.
    pub dev: Vec<(String, TextDataset, Vec<EncodedExample>)>,
}

impl Prepared {
    /// Loads what `recipe` names.
    ///
    /// # Errors
    /// If a file is missing, damaged or does not fit the others.
    pub fn load(recipe: &Recipe, device: &Device, observer: &dyn Observer) -> Result<Self> {
        let folder = recipe.model.clone().ok_or_else(|| {
            Error::option("model", "missing: the folder of the pretrained model to start from")
        })?;
        let data = load_task_data(&recipe.task)?;
        let task = data.task().clone();
        let device = device.clone().without_autodiff();
        device.seed(recipe.training.seed);
        let labels = LoadOptions { labels: Some(label_config(&task)), ..LoadOptions::default() };
        let (model, report) = AnySequenceClassifier::load(&folder, &device, &labels)?;
        observer.event(&Event::Note { message: report.to_string() });
        let max_length = recipe.task.max_length;
        if max_length > model.max_length() {
            return Err(Error::option(
                "max_length",
                format!("{max_length} tokens are more than the model's {}", model.max_length()),
            ));
        }
        let tokenizer = TextTokenizer::from_folder(&folder, max_length)?;
        if tokenizer.vocab_size() > model.vocab_size() {
            return Err(Error::format(
                &folder,
                format!(
                    "the tokenizer has {} tokens but the model embeds {}; they do not belong \
                     together",
                    tokenizer.vocab_size(),
                    model.vocab_size()
                ),
            ));
        }
        for (name, set) in data.dev.iter().chain([("train".to_string(), data.train.clone())].iter())
        {
            if set.skipped > 0 {
                let message = format!("{name}: {} lines skipped", set.skipped);
                observer.event(&Event::Note { message });
            }
        }
        let train = tokenizer.encode_dataset(&data.train)?;
        let dev = data.dev.into_iter().map(|(name, set)| {
            let examples = tokenizer.encode_dataset(&set)?;
            Ok((name, set, examples))
        });
        let dev = dev.collect::<Result<_>>()?;
        let new_head = !report.newly_initialised.is_empty();
        Ok(Self { folder, model, new_head, tokenizer, task, train, dev })
    }

    /// How the recipe's training is cut into updates and segments.
    ///
    /// # Errors
    /// If it has no whole update or steps do not fit.
    pub fn segments(&self, recipe: &Recipe) -> Result<Segments> {
        let training = &recipe.training;
        Segments::new(
            self.train.len(),
            training.batch_size,
            training.gradient_accumulation,
            training.epochs,
            training.eval_steps,
            training.save_steps,
        )
    }

    /// `(d_input, d_output)` of the layers that `method` selects.
    ///
    /// # Errors
    /// If a pattern matches nothing.
    pub fn selected_dims(&self, method: &MethodRecipe) -> Result<Vec<(usize, usize)>> {
        let selected = method.selection().resolve(&self.model)?;
        let mut dims = Vec::new();
        self.model.for_each_linear(&mut |name, linear| {
            if selected.iter().any(|selected| selected == name) {
                let [d_input, d_output] = linear.dims();
                dims.push((d_input, d_output));
            }
        });
        Ok(dims)
    }
}
