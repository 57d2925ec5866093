//! The teacher of a compression: the dense model, which is fine-tuned first (`start`) if it has no head for
//! the task, or another model that the recipe names.

use std::path::{Path, PathBuf};

use burn::module::Module;
use burn::tensor::Device;

use super::Run;
use super::folder::{DENSE, MODEL};
use crate::tasks::Task;
use crate::train::job::{BatchSource, Job, Prepared, SoftTargets, TrainableModel};
use crate::train::{Event, Observer, Recipe, Storage, TaskRecipe, TrainingRecipe};
use crate::{Error, Result};

/// Whether the model must be fine-tuned before it is compressed: there is to be a teacher, none is named,
/// and the model has no head for the task.
pub(super) fn is_fine_tuned_first<J: Job>(
    recipe: &Recipe,
    prepared: &Prepared<J::Model, J::Evaluator>,
) -> bool {
    let unnamed = recipe.teaching().is_some_and(|distillation| distillation.teacher.is_none());
    unnamed && prepared.start.new_head
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
        ..recipe.training.clone()
    };
    let (provenance, method, distillation) = (None, None, None);
    let storage = Storage::F32;
    Recipe { provenance, storage, method, distillation, training, ..recipe.clone() }.resolved()
}

/// Folder of the run that fine-tunes the dense model in `output`.
pub(super) fn dense_folder(output: &Path) -> PathBuf {
    output.join(DENSE)
}

/// Folder of its model.
pub(super) fn dense_model(output: &Path) -> PathBuf {
    dense_folder(output).join(MODEL)
}

/// A teacher that the recipe names, to answer the training examples once.
pub(super) struct NamedTeacher<J: Job> {
    pub model: J::Model,
    /// The training examples as its tokenizer has them.
    pub train: BatchSource<<J::Model as TrainableModel>::Batch>,
    /// Where its answers have each label of the task.
    order: Vec<usize>,
}

/// Loads the teacher that `recipe` names, if it names one, and checks that it can teach a model with the
/// data `own`.
///
/// # Errors
/// Names the teacher, and what is wrong with it.
pub(super) fn load_named<J: Job>(
    recipe: &Recipe,
    own: &Prepared<J::Model, J::Evaluator>,
    device: &Device,
    observer: &dyn Observer,
) -> Result<Option<NamedTeacher<J>>> {
    let teaching = recipe.teaching();
    let Some(folder) = teaching.and_then(|teaching| teaching.teacher.as_ref()) else {
        return Ok(None);
    };
    let wrong = |message: String| Error::option("teacher", message);
    let notes = |event: &Event| {
        if let Event::Note { message } = event
            && (message.contains(&*folder.to_string_lossy())
                || message.starts_with("inputs are cut"))
        {
            observer.event(&Event::Note { message: format!("teacher: {message}") });
        }
    };
    // Labels that the user named are those of the model that is trained.
    let task = TaskRecipe { labels: None, ..recipe.task.clone() };
    let recipe = Recipe { model: Some(folder.clone()), new_head: false, task, ..recipe.clone() };
    let (model, prepared) = J::prepare(&recipe, device, &notes)
        .map_err(|error| wrong(format!("{} cannot be it: {error}", folder.display())))?;
    if prepared.start.new_head {
        return Err(wrong(format!(
            "{} has no head for this task; fine-tune it first with `losparse finetune`",
            folder.display()
        )));
    }
    let order = order_of_labels(&prepared.task, &own.task).ok_or_else(|| {
        wrong(format!(
            "{} answers {}, and this task's labels are {}",
            folder.display(),
            prepared.task.labels().join(", "),
            own.task.labels().join(", ")
        ))
    })?;
    let as_many = prepared.train.lengths.len() == own.train.lengths.len();
    if !as_many || (J::Model::TAUGHT_BY_TOKEN && prepared.train.digest != own.train.digest) {
        return Err(wrong(format!(
            "{} cuts texts into other tokens than the model does, and this task is taught token by \
             token; give a teacher with the same tokenizer",
            folder.display()
        )));
    }
    Ok(Some(NamedTeacher { model, train: prepared.train, order }))
}

/// Where the teacher's task has each label of the student's; `None` if they are others.
fn order_of_labels(teacher: &Task, student: &Task) -> Option<Vec<usize>> {
    let (known, wanted) = (teacher.labels(), student.labels());
    let place = |label: &String| known.iter().position(|other| other == label);
    let order: Vec<usize> = wanted.iter().map(place).collect::<Option<_>>()?;
    (known.len() == wanted.len()).then_some(order)
}

impl<J: Job> Run<'_, J> {
    /// The teacher's answers to the training examples, if there is one. Unless another is `named`, it is
    /// `model` itself, before it is compressed.
    pub(super) fn soft_targets(
        &self,
        model: &J::Model,
        named: Option<NamedTeacher<J>>,
    ) -> Result<Option<SoftTargets>> {
        let Some(teaching) = self.recipe.teaching() else { return Ok(None) };
        self.stage("Asking the teacher")?;
        let compute = |teacher: &J::Model, source| {
            SoftTargets::compute(
                &teacher.valid(),
                source,
                teaching,
                self.recipe.training.eval_batch_size,
                &self.options.device,
                (self.options.observer.as_ref(), &self.options.interrupt),
            )
        };
        Ok(Some(match named {
            None => compute(model, &self.prepared.train)?,
            Some(NamedTeacher { model, train, order }) => compute(&model, &train)?.in_order(&order),
        }))
    }
}
