//! The teacher of a compression: the dense model, which is fine-tuned first if it has no head for the
//! task, or another model that the recipe names.

use std::path::{Path, PathBuf};

use burn::module::Module;

use super::folder::MODEL;
use super::{Run, RunOptions, start};
use crate::checkpoint::StorageDtype;
use crate::inspect::{Inputs, RunReport};
use crate::train::job::{Job, Prepared, SoftTargets, TrainableModel};
use crate::train::{Event, Keep, Recipe, Silent, TrainingRecipe};
use crate::{Error, Result};

/// Folder of the run that fine-tunes the dense model, within the output.
const DENSE: &str = "dense";

/// Whether the model must be fine-tuned before it is compressed: there is to be a teacher, none is named,
/// and the model has no head for the task.
pub(super) fn is_fine_tuned_first<J: Job>(
    recipe: &Recipe,
    prepared: &Prepared<J::Model, J::Evaluator>,
) -> bool {
    let unnamed = recipe.teaching().is_some_and(|distillation| distillation.teacher.is_none());
    recipe.method.is_some() && unnamed && prepared.start.new_head
}

/// The run that fine-tunes the dense model for a compression by `recipe`.
pub(super) fn dense_recipe(recipe: &Recipe) -> Recipe {
    let training = TrainingRecipe {
        learning_rate: None,
        lr_warmup_steps: None,
        lr_warmup_share: None,
        eval_steps: None,
        save_steps: None,
        early_stopping_patience: None,
        keep: Keep::Best,
        ..recipe.training.clone()
    };
    let (provenance, method, distillation) = (None, None, None);
    let storage = StorageDtype::F32;
    Recipe { provenance, storage, method, distillation, training, ..recipe.clone() }.resolved()
}

/// Folder of the run that fine-tunes the dense model in `output`.
pub(super) fn dense_folder(output: &Path) -> PathBuf {
    output.join(DENSE)
}

/// Fine-tunes the dense model within the output folder and returns `recipe` with it as the start; takes a
/// finished or interrupted fine-tuning of the same settings and data as it is there.
pub(super) fn fine_tune<J: Job>(
    recipe: &Recipe,
    inputs: &Inputs,
    options: &RunOptions,
) -> Result<Recipe> {
    let dense = dense_recipe(recipe);
    let output = dense_folder(&options.output);
    let begun = Recipe::read(output.join(Recipe::FILE)).ok();
    let same = begun.is_some_and(|begun| {
        begun.with_absolute_paths().difference(&dense.with_absolute_paths()).is_none()
    });
    let report = output.join(RunReport::FILE);
    let done = report.is_file();
    let finished = RunReport::read(&report).ok().filter(|_| same);
    let tell = |event| options.observer.event(&event);
    if finished.is_some_and(|report| report.inputs.as_ref() == Some(inputs)) {
        let message = format!("the dense model is fine-tuned already: {}", output.display());
        tell(Event::Note { message });
    } else {
        let name = "Fine-tuning the dense model first".to_string();
        tell(Event::Stage { name });
        let resume = same && !done && options.resume;
        let baseline = None;
        let options = RunOptions {
            output: output.clone(),
            resume,
            overwrite: !resume,
            baseline,
            ..options.clone()
        };
        start::<J>(&dense, &options)?;
        tell(Event::Stage { name: "Compressing the fine-tuned model".to_string() });
    }
    Ok(Recipe { model: Some(output.join(MODEL)), new_head: false, ..recipe.clone() })
}

impl<J: Job> Run<'_, J> {
    /// The teacher's answers to the training examples, if there is one. Without another it is `model`
    /// itself, before it is compressed.
    pub(super) fn soft_targets(&self, model: &J::Model) -> Result<Option<SoftTargets>> {
        let Some(distillation) = self.recipe.teaching() else { return Ok(None) };
        let other = distillation.teacher.as_ref();
        if other.is_none() && self.recipe.method.is_none() {
            return Ok(None);
        }
        self.stage("Asking the teacher")?;
        let own = &self.prepared.train;
        let compute = |teacher: &J::Model, source| {
            SoftTargets::compute(
                &teacher.valid(),
                source,
                distillation,
                self.recipe.training.eval_batch_size,
                &self.options.device,
                (self.options.observer.as_ref(), &self.options.interrupt),
            )
        };
        let Some(folder) = other else { return compute(model, own).map(Some) };
        let recipe = Recipe { model: Some(folder.clone()), new_head: false, ..self.recipe.clone() };
        let (teacher, prepared) = J::prepare(&recipe, &self.options.device, &Silent)?;
        if prepared.start.new_head {
            let message = format!(
                "{} has no head for this task; fine-tune it first with `losparse finetune`",
                folder.display()
            );
            return Err(Error::option("teacher", message));
        }
        let source = &prepared.train;
        let as_many = source.lengths.len() == own.lengths.len();
        if !as_many || (J::Model::TAUGHT_BY_TOKEN && source.digest != own.digest) {
            let message = format!(
                "{} cuts texts into other tokens than the model does, and this task is taught token by \
                 token; give a teacher with the same tokenizer",
                folder.display()
            );
            return Err(Error::option("teacher", message));
        }
        compute(&teacher, source).map(Some)
    }
}
