//! Whether two recipes are the same run: their paths, and the first setting in which they differ.

use std::collections::BTreeMap;
#[cfg(feature = "plots")]
use std::path::Component;
use std::path::{Path, PathBuf};

use toml::{Table, Value};

use super::Recipe;
use crate::{Error, Result};

/// Settings whose defaults depend on the data or the model; runs write them out.
pub(crate) const FOLLOW: [&str; 6] = [
    "method.final_warmup_steps",
    "method.initial_warmup_steps",
    "training.eval_steps",
    "training.learning_rate",
    "training.lr_warmup_steps",
    "training.save_steps",
];

/// Settings that follow from others unless they are given; runs write them out, too.
const DERIVED: [&str; 4] =
    ["method.beta1", "method.low_rank_ratio", "task.max_length", "task.version_2_with_negative"];

/// A setting in which two recipes differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The setting's path: `training.seed`.
    pub setting: String,
    /// Its value in the first recipe, as TOML; `None` if it has none.
    pub first: Option<String>,
    /// Its value in the second.
    pub second: Option<String>,
}

impl Difference {
    /// Describes both values; `first` and `second` introduce them, as in "it has", "this run has".
    pub fn told(&self, first: &str, second: &str) -> String {
        let told = |value: &Option<String>| match value {
            Some(value) => format!("`{} = {value}`", self.setting),
            None => format!("no `{}`", self.setting),
        };
        format!("{first} {} where {second} {}", told(&self.first), told(&self.second))
    }
}

impl Recipe {
    /// Makes the paths absolute, so that the recipe means the same in every working directory. A path
    /// whose absolute form is not UTF-8, as TOML needs, stays as it is.
    #[must_use]
    pub fn with_absolute_paths(&self) -> Self {
        let mut recipe = self.clone();
        for (_, path) in recipe.paths_mut() {
            if let Ok(absolute) = std::path::absolute(&*path)
                && absolute.to_str().is_some()
            {
                *path = absolute;
            }
        }
        recipe
    }

    /// Writes its paths as in `other` where they are the same. Runs write absolute paths; a study that
    /// moved to another folder or machine recognises them by their ends.
    #[cfg(feature = "plots")]
    #[must_use]
    pub(crate) fn with_paths_as_in(&self, other: &Self) -> Self {
        let (mut recipe, mut other) = (self.clone(), other.clone());
        let known = other.paths_mut();
        for (name, path) in recipe.paths_mut() {
            let same = |(known_name, known): &&(&str, &mut PathBuf)| {
                *known_name == name && is_the_same(path, known)
            };
            if let Some((_, known)) = known.iter().find(same) {
                *path = known.to_path_buf();
            }
        }
        recipe
    }

    /// This recipe with the paths of `other`, where both have one: a run is the same one wherever its
    /// files lie, if their checksums are the same.
    #[must_use]
    pub fn with_paths_of(&self, other: &Self) -> Self {
        let (mut recipe, mut other) = (self.clone(), other.clone());
        let mut others = other.paths_mut();
        for (name, path) in recipe.paths_mut() {
            if let Some((_, other)) = others.iter_mut().find(|(known, _)| *known == name) {
                path.clone_from(other);
            }
        }
        recipe
    }

    /// The first path that leads nowhere, and its option.
    pub fn missing_path(&self) -> Option<(&'static str, PathBuf)> {
        let mut recipe = self.clone();
        let missing = recipe.paths_mut().into_iter().find(|(_, path)| !path.exists());
        missing.map(|(name, path)| (name, path.clone()))
    }

    /// Checks that TOML can hold the paths.
    ///
    /// # Errors
    /// Names the option whose path is not UTF-8.
    pub(super) fn check_paths(&self) -> Result<()> {
        let not_utf_8 = |path: &Path| path.to_str().is_none();
        match self.clone().paths_mut().into_iter().find(|(_, path)| not_utf_8(path)) {
            None => Ok(()),
            Some((option, path)) => {
                let path = path.display();
                let message = format!("{path}: not UTF-8, so no recipe can hold it; rename it");
                Err(Error::option(option, message))
            }
        }
    }

    /// Every path that is set, by its option.
    fn paths_mut(&mut self) -> Vec<(&'static str, &mut PathBuf)> {
        let task = &mut self.task;
        let teacher = self.distillation.as_mut().and_then(|own| own.teacher.as_mut());
        let paths = [
            ("model", &mut self.model),
            ("data", &mut task.data),
            ("train", &mut task.train),
            ("dev", &mut task.dev),
        ];
        let set = paths.into_iter().filter_map(|(name, path)| Some((name, path.as_mut()?)));
        set.chain(teacher.map(|path| ("teacher", path))).collect()
    }

    /// The first setting in which trainings by the recipes differ; provenance and storage are none of
    /// theirs. Settings that follow from others come after those. Settings whose defaults depend on data or
    /// model come last, and do not differ if `other` leaves them open.
    pub fn difference(&self, other: &Self) -> Option<Difference> {
        let (mut first, mut second) = (self.settings().ok()?, other.settings().ok()?);
        let names: Vec<String> = first.keys().chain(second.keys()).cloned().collect();
        let (follow, mut own): (Vec<String>, Vec<String>) =
            names.into_iter().partition(|name| FOLLOW.contains(&name.as_str()));
        own.sort_by_key(|name| DERIVED.contains(&name.as_str()));
        for settings in [&mut first, &mut second] {
            settings.remove("storage");
        }
        let given = |name: &String| second.contains_key(name);
        let follow: Vec<String> = follow.into_iter().filter(given).collect();
        own.into_iter().chain(follow).find_map(|setting| {
            let (first, second) = (first.remove(&setting), second.remove(&setting));
            (first != second).then_some(Difference { setting, first, second })
        })
    }

    /// Every setting by its path, as TOML, without the provenance.
    ///
    /// # Errors
    /// If the recipe cannot be written as TOML.
    pub(crate) fn settings(&self) -> Result<BTreeMap<String, String>> {
        let recipe = Self { provenance: None, ..self.clone() };
        let table = Table::try_from(recipe).map_err(|e| Error::option("recipe", e.to_string()))?;
        let mut settings = BTreeMap::new();
        flatten(&mut settings, "", &table);
        Ok(settings)
    }
}

/// Whether a run's path is the one given for it.
#[cfg(feature = "plots")]
fn is_the_same(of_run: &Path, given: &Path) -> bool {
    let up = |part: &Component<'_>| matches!(part, Component::CurDir | Component::ParentDir);
    let end: PathBuf = given.components().skip_while(up).collect();
    let ends = given.is_relative() && end != Path::new("") && of_run.ends_with(&end);
    ends || std::path::absolute(of_run).ok() == std::path::absolute(given).ok()
}

fn flatten(settings: &mut BTreeMap<String, String>, prefix: &str, table: &Table) {
    for (name, value) in table {
        let path = format!("{prefix}{name}");
        match value {
            Value::Table(inner) => flatten(settings, &format!("{path}."), inner),
            value => {
                settings.insert(path, value.to_string());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recipe(text: &str) -> Recipe {
        Recipe::parse(text).unwrap()
    }

    #[test]
    fn differences_name_both_values_and_what_follows_comes_last() {
        let base = recipe("[training]\neval_steps = 4\n");
        assert_eq!(base.difference(&base), None);
        let own = recipe("provenance = 'published'\n[training]\neval_steps = 4\n");
        assert_eq!(base.difference(&own), None);
        let other = recipe("[training]\nseed = 7\neval_steps = 8\n");
        let told = base.difference(&other).unwrap().told("it has", "this run has");
        assert_eq!(told, "it has `training.seed = 42` where this run has `training.seed = 7`");
        let other = recipe("[training]\neval_steps = 8\n");
        assert_eq!(base.difference(&other).unwrap().setting, "training.eval_steps");
        // The ratio was changed, and its low-rank share follows.
        let of = |ratio: &str| recipe(&format!("[method]\nratio = {ratio}\n")).resolved();
        assert_eq!(of("0.05").difference(&of("0.02")).unwrap().setting, "method.ratio");
        let rank = recipe("[method]\nratio = 0.05\nlow_rank_ratio = 0.01\n").resolved();
        assert_eq!(of("0.05").difference(&rank).unwrap().setting, "method.low_rank_ratio");
        // Left to follow from the data and the model, as they did.
        assert_eq!(base.difference(&recipe("")), None);
        assert_eq!(recipe("[training]\nlearning_rate = 1e-4\n").difference(&recipe("")), None);
        let none = recipe("model = 'm'\n").difference(&recipe("")).unwrap();
        let told = none.told("it has", "this run has");
        assert_eq!(told, "it has `model = \"m\"` where this run has no `model`");
    }

    #[test]
    fn paths_are_absolute_once() {
        let typed = recipe("model = 'm'\n[task]\ndata = '../glue'\ntrain = '/t.csv'\n");
        let absolute = typed.with_absolute_paths();
        assert!(absolute.model.as_ref().unwrap().is_absolute());
        assert_eq!(absolute.task.dev, None);
        assert_eq!(absolute.with_absolute_paths(), absolute);
        typed.check_paths().unwrap();
    }

    #[cfg(feature = "plots")]
    #[test]
    fn a_moved_runs_paths_are_known_by_their_ends() {
        let planned = recipe("model = '../models/m'\n[task]\ndata = 'glue'\n");
        let here = planned.with_absolute_paths().with_paths_as_in(&planned);
        assert_eq!(here, planned);
        let moved = recipe("model = '/home/a/models/m'\n[task]\ndata = '/b/glue'\n");
        assert_eq!(moved.with_paths_as_in(&planned), planned);
        let other = recipe("model = '/home/a/models/n'\n[task]\ndata = '/b/glue2'\n");
        assert_eq!(other.with_paths_as_in(&planned), other);
    }

    #[test]
    fn paths_are_another_recipes_where_both_have_one() {
        let old = recipe("model = '/old/m'\n[task]\ndata = '/old/glue'\n");
        let new = recipe("model = 'm'\n[task]\ntrain = 't.csv'\n");
        let expected = recipe("model = 'm'\n[task]\ndata = '/old/glue'\n");
        assert_eq!(old.with_paths_of(&new), expected);
        assert_eq!(old.missing_path(), Some(("model", PathBuf::from("/old/m"))));
    }

    #[cfg(unix)]
    #[test]
    fn a_path_that_no_recipe_can_hold_is_named() {
        use std::os::unix::ffi::OsStrExt;
        let path = PathBuf::from(std::ffi::OsStr::from_bytes(b"m\xff"));
        let mut recipe = Recipe { model: Some(path.clone()), ..Recipe::default() };
        let message = recipe.validate().unwrap_err().to_string();
        assert!(message.starts_with("option model: ") && message.contains("UTF-8"), "{message}");
        (recipe.model, recipe.task.dev) = (None, Some(path));
        assert!(recipe.validate().unwrap_err().to_string().starts_with("option dev: "));
    }
}
