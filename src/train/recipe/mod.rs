//! The recipe: every setting of a run, as TOML. A run saves it resolved, beside its result.
//!
//! A file for each table: `[task]`, `[task.summarization]`, `[method]`, `[distillation]`, `[training]`. A setting that is
//! left out has a default, which may depend on others ([`Recipe::resolved`]), on the model or on the
//! data. Recipes know nothing of how they are carried out.

mod difference;
mod distillation;
mod method;
mod named_method;
mod storage;
mod task;
mod text_generation;
mod training;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub use difference::Difference;
#[cfg(feature = "plots")]
pub(crate) use difference::FOLLOW;
pub use distillation::DistillationRecipe;
pub use method::MethodRecipe;
pub use named_method::Method;
pub use storage::Storage;
pub use task::{JobKind, TaskRecipe};
pub use text_generation::TextGenerationRecipe;
pub(super) use training::Compressed;
pub use training::{Keep, LrDecay, TrainingRecipe};

use super::Segments;
pub use crate::decompose::Approximate;
use crate::{Error, Result, files};

/// Every setting of a run.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Recipe {
    /// Origin of the settings: `published`, or `chosen` where the source does not give them.
    pub provenance: Option<String>,
    /// The model folder to start from.
    pub model: Option<PathBuf>,
    /// Start from a new head even if the model has one for as many labels, but of another task.
    #[serde(skip_serializing_if = "is_false")]
    pub new_head: bool,
    /// Number format of the result.
    pub storage: Storage,
    /// The data and the targets.
    pub task: TaskRecipe,
    /// The compression; plain fine-tuning if absent.
    pub method: Option<MethodRecipe>,
    /// The teacher, if there is one.
    pub distillation: Option<DistillationRecipe>,
    /// The training.
    pub training: TrainingRecipe,
}

fn is_false(value: &bool) -> bool {
    !value
}

impl Recipe {
    /// Name of its file in the folder of a run.
    pub const FILE: &'static str = "recipe.toml";

    /// Reads a recipe file.
    ///
    /// # Errors
    /// If it cannot be read, is not TOML or has an unknown or mistyped setting.
    pub fn read(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let text = files::read_text(path)?;
        Self::parse(&text).map_err(|message| Error::format(path, message))
    }

    /// Parses a recipe.
    ///
    /// # Errors
    /// Says what is wrong and on which line.
    pub fn parse(text: &str) -> Result<Self, String> {
        toml::from_str(text).map_err(|e| e.to_string().trim_end().to_string())
    }

    /// The recipe as TOML.
    pub fn to_toml(&self) -> String {
        toml::to_string_pretty(self).unwrap_or_default()
    }

    /// As JSON, without what is not set.
    pub fn to_json(&self) -> serde_json::Value {
        let table = toml::Table::try_from(self).unwrap_or_default();
        serde_json::to_value(table).unwrap_or_default()
    }

    /// Writes out the defaults that depend on other settings. Numbers of updates stay shares of the
    /// training, so that the recipe means the same for a training of another length.
    pub fn resolved(&self) -> Self {
        let method = self.method.as_ref().map(MethodRecipe::resolved);
        let (task, training) = (self.task.resolved(), self.training.resolved());
        Self { task, method, training, ..self.clone() }
    }

    /// Writes out every number of updates, as checkpoints store the recipe.
    pub(crate) fn resolved_for(&self, segments: Segments) -> Self {
        let training = self.training.resolved_for(segments);
        let mut recipe = Self { training, ..self.clone() };
        if let Some(method) = &mut recipe.method {
            let schedule = method.pruning(segments.total_steps, 1.0).schedule;
            method.initial_warmup_steps = Some(schedule.initial_warmup_steps);
            method.final_warmup_steps = Some(schedule.final_warmup_steps);
            method.interval = Some(schedule.interval);
            (method.initial_warmup_share, method.final_warmup_share) = (None, None);
        }
        recipe
    }

    /// Checks all that can be checked without data.
    ///
    /// # Errors
    /// Names the first impossible setting.
    pub fn validate(&self) -> Result<()> {
        self.training.validate()?;
        self.check_paths()?;
        self.task.validate()?;
        if self.new_head && self.task.kind() == JobKind::TextGeneration {
            let message =
                "a model that writes texts has no head of its own: it shares its embeddings";
            return Err(Error::option("new_head", message));
        }
        if let Some(distillation) = &self.distillation {
            distillation.validate()?;
            if distillation.is_on() && self.task.kind() == JobKind::TextGeneration {
                let message = "models that write texts cannot be taught yet; leave the teacher out";
                return Err(Error::option("teacher", message));
            }
        }
        self.method.as_ref().map_or(Ok(()), MethodRecipe::validate)
    }

    /// Sets what compresses best by all that was measured, and what `losparse compress` does without a
    /// recipe: low-rank parts keep the layers' outputs, the model learns from itself as it was, and the
    /// result is in 8-bit integers where the metric holds. The default is the published form.
    #[must_use]
    pub fn recommended(&self) -> Self {
        let mut recipe = Self { storage: Storage::Auto, ..self.clone() };
        recipe.method.get_or_insert_default().approximate = Approximate::Outputs;
        if self.task.kind() != JobKind::TextGeneration {
            recipe.distillation.get_or_insert_default();
        }
        recipe
    }

    /// The recipe without its compression, and without a distillation that names no teacher.
    pub(crate) fn fine_tuning(&self) -> Self {
        let named = |own: &DistillationRecipe| own.teacher.is_some();
        let distillation = self.distillation.clone().filter(named);
        Self { method: None, distillation, ..self.clone() }
    }

    /// The distillation, if there is a teacher: a named one, or in a compression the dense model.
    pub(in crate::train) fn teaching(&self) -> Option<&DistillationRecipe> {
        let taught = |own: &&DistillationRecipe| own.teacher.is_some() || self.method.is_some();
        self.distillation.as_ref().filter(|own| own.is_on()).filter(taught)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn toml_round_trip_and_defaults() {
        let text = "model = 'm'\n[task]\nname = 'stsb'\ndata = 'glue'\n[method]\nratio = 0.1\n";
        let recipe = Recipe::parse(text).unwrap();
        recipe.validate().unwrap();
        let method = recipe.method.clone().unwrap();
        assert_eq!((method.ratio, method.low_rank_ratio(), method.interval), (0.1, 0.05, None));
        assert_eq!(Recipe::parse(&recipe.to_toml()).unwrap(), recipe);
        let new_head = Recipe { new_head: true, ..recipe.resolved() };
        assert_eq!(Recipe::parse(&new_head.to_toml()).unwrap(), new_head);
    }

    #[test]
    fn what_depends_on_others_is_written_out() {
        let text = "[method]\nratio = 0.04\nimportance = 'snip-momentum'\n";
        let resolved = Recipe::parse(text).unwrap().resolved();
        let method = resolved.method.clone().unwrap();
        assert_eq!((method.low_rank_ratio, method.beta1), (Some(0.02), Some(0.9)));
        assert_eq!(resolved.resolved(), resolved);
    }

    #[test]
    fn shares_stay_shares_and_numbers_numbers() {
        let text = "[method]\nfinal_warmup_steps = 7\n[training]\nlr_warmup_steps = 3\n";
        let resolved = Recipe::parse(text).unwrap().resolved();
        let method = resolved.method.clone().unwrap();
        assert_eq!((method.final_warmup_steps, method.final_warmup_share), (Some(7), None));
        assert_eq!((method.initial_warmup_steps, method.initial_warmup_share), (None, Some(0.125)));
        let training = &resolved.training;
        assert_eq!((training.lr_warmup_steps, training.lr_warmup_share), (Some(3), None));
        assert_eq!((training.epochs, training.eval_steps), (None, None));
        assert_eq!(Recipe::parse(&resolved.to_toml()).unwrap(), resolved);
        for steps in [24, 240] {
            let schedule = method.pruning(steps, 0.1).schedule;
            assert_eq!(schedule.initial_warmup_steps, steps / 8);
            assert_eq!(schedule.final_warmup_steps, 7);
        }
    }

    #[test]
    fn mistakes_are_named() {
        let unknown = Recipe::parse("[training]\nlearning_rat = 1\n").unwrap_err();
        assert!(unknown.contains("learning_rat"), "{unknown}");
        for (text, name) in [
            ("[method]\nratio = 1.7", "ratio"),
            ("[method]\nratio = 0.1\nlow_rank_ratio = 0.2", "low_rank_ratio"),
            ("[method]\nlayers = []", "layers"),
            ("[method]\ninterval = 0", "interval"),
            ("[training]\nepochs = 0", "epochs"),
            ("[training]\nepochs = 9223372036854775807", "epochs"),
            ("[training]\nbatch_size = 9223372036854775807", "batch_size"),
            ("[training]\nadam_epsilon = inf", "adam_epsilon"),
            ("[training]\nlearning_rate = -1.0", "learning_rate"),
            ("[training]\nlr_warmup_share = 1.5", "lr_warmup_share"),
            ("[method]\nfinal_warmup_share = 1.0", "final_warmup_share"),
            ("[task]\nmax_length = 1", "max_length"),
            ("new_head = true\n[task]\nname = 'xsum'", "new_head"),
        ] {
            let error = Recipe::parse(text).unwrap().validate().unwrap_err().to_string();
            assert!(error.contains(&format!("option {name}")), "{text}: {error}");
        }
    }
}
