//! Which output of a trained head answers for which label of a task.
//!
//! Labels are matched by name: exactly, else without regard to case, `-` against `_` and how a
//! number is written, else by the short forms of the usual names (`neg`, `pos`, …). Only names that
//! say nothing but an index are matched by index. Everything else is a mismatch.

use super::labels::placeholder;
use super::{LabelConfig, ProblemType};

/// The outputs of a model in the order of a task's labels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabelAlignment {
    /// Index of the model's output for each label of the task: a permutation.
    pub outputs: Vec<usize>,
    /// A note for people; absent if names and order are the same.
    pub note: Option<String>,
}

impl LabelAlignment {
    fn identity(count: usize) -> Self {
        Self { outputs: (0..count).collect(), note: None }
    }

    /// Whether the model's outputs already stand in the task's order.
    pub fn is_identity(&self) -> bool {
        self.outputs.iter().enumerate().all(|(label, &output)| label == output)
    }

    /// `values` with a row for each output of the model, in the order of the task's labels.
    pub(crate) fn permute(&self, values: Vec<f32>) -> Vec<f32> {
        if self.is_identity() {
            return values;
        }
        let width = values.len() / self.outputs.len();
        let row = |&output: &usize| &values[output * width..(output + 1) * width];
        self.outputs.iter().flat_map(row).copied().collect()
    }
}

/// A trained head whose outputs are not a task's labels.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "its trained head is for {found}, and the task for {wanted}{why}; if they are the same, name all \
     outputs of the head in its own order with --labels (as in --labels a,b,c), otherwise train a new \
     head: finetune or compress with --new-head"
)]
pub struct LabelMismatch {
    found: String,
    wanted: String,
    why: String,
}

impl LabelMismatch {
    fn new(found: &LabelConfig, wanted: &LabelConfig, why: &str) -> Self {
        let why = if why.is_empty() { String::new() } else { format!(" ({why})") };
        Self { found: described(found), wanted: described(wanted), why }
    }
}

fn described(labels: &LabelConfig) -> String {
    let names = labels.names();
    match (labels.problem_type(), names.len()) {
        (ProblemType::Regression, 1) => "a score".into(),
        (ProblemType::Regression, count) => format!("{count} scores"),
        (ProblemType::SingleLabelClassification, _) => {
            format!("the labels {}", names.join(", "))
        }
        (ProblemType::MultiLabelClassification, _) => {
            format!("any number of the labels {} (multi_label)", names.join(", "))
        }
    }
}

impl LabelConfig {
    /// Matches the outputs of a trained head with these labels to the labels `wanted`.
    ///
    /// # Errors
    /// If the kinds of task or the numbers of labels differ, or the names leave open which label is
    /// which.
    pub fn align(&self, wanted: &Self) -> Result<LabelAlignment, LabelMismatch> {
        let mismatch = |why: &str| LabelMismatch::new(self, wanted, why);
        self.check_kind(wanted)?;
        if let Some(aligned) = self.align_names(wanted) {
            return Ok(aligned);
        }
        let (found, want) = (self.names(), wanted.names());
        if let Some(name) = self.name_of_two().or(wanted.name_of_two()) {
            return Err(mismatch(&format!("{name:?} is there twice")));
        }
        if let Some(name) = want.iter().find(|name| label_index(&found, name).is_some()) {
            return Err(mismatch(&format!("only some are the same, such as {name:?}")));
        }
        let (numbers, words) =
            (is_counted(&found, |id| id.to_string()), !want.iter().any(|name| is_number(name)));
        let nameless = is_counted(&found, placeholder) || (numbers && words);
        if !nameless && !is_counted(&want, placeholder) {
            return Err(mismatch(""));
        }
        let (found, want) = (found.join(", "), want.join(", "));
        let note =
            format!("labels matched by index alone: the model's {found} are taken for {want}");
        Ok(LabelAlignment { note: Some(note), ..LabelAlignment::identity(self.num_labels()) })
    }

    /// [`LabelConfig::align`] where the user says what the head's outputs are `called`, in their
    /// order. Names that the model itself has for its outputs come first.
    ///
    /// # Errors
    /// As [`LabelConfig::align`], and if what the user says contradicts the model.
    pub fn align_called(
        &self,
        called: &[String],
        wanted: &Self,
    ) -> Result<LabelAlignment, LabelMismatch> {
        self.check_kind(wanted)?;
        let own = self.align_names(wanted);
        if let (Some(own), true) = (&own, wanted.names() == called) {
            return Ok(own.clone());
        }
        let said = Self { problem_type: self.problem_type, ..Self::named(called.to_vec()) };
        let as_said = said.align(wanted)?;
        let found = self.names();
        let contradicts = called
            .iter()
            .enumerate()
            .any(|(output, name)| label_index(&found, name).is_some_and(|other| other != output));
        if contradicts || own.is_some_and(|own| own.outputs != as_said.outputs) {
            let why = "--labels gives its outputs another order than the model itself";
            return Err(LabelMismatch::new(self, wanted, why));
        }
        let (found, called) = (found.join(", "), called.join(", "));
        let note = format!("as --labels says, the model's {found} are taken for {called}");
        Ok(LabelAlignment { note: Some(note), ..as_said })
    }

    /// Checks that a new head may take the place of a trained one with these labels, because the
    /// task `wanted` has another number of them: names that are all there would suggest otherwise.
    ///
    /// # Errors
    /// If the one has all labels of the other.
    pub fn check_unrelated(&self, wanted: &Self) -> Result<(), LabelMismatch> {
        let (found, want) = (self.names(), wanted.names());
        let nameless = is_counted(&found, placeholder) || is_counted(&want, placeholder);
        let within = |few: &[String], many: &[String]| {
            few.len() > 1 && few.iter().all(|name| label_index(many, name).is_some())
        };
        match !nameless && (within(&found, &want) || within(&want, &found)) {
            true => Err(LabelMismatch::new(self, wanted, "the one has all labels of the other")),
            false => Ok(()),
        }
    }

    fn check_kind(&self, wanted: &Self) -> Result<(), LabelMismatch> {
        let same = self.problem_type() == wanted.problem_type()
            && self.num_labels() == wanted.num_labels();
        if same { Ok(()) } else { Err(LabelMismatch::new(self, wanted, "")) }
    }

    /// The alignment by names, if every label has one output and every output one label.
    fn align_names(&self, wanted: &Self) -> Option<LabelAlignment> {
        let (found, want) = (self.names(), wanted.names());
        // A score is a score, whatever it is called.
        if let (ProblemType::Regression, [_], [_]) = (self.problem_type(), &found[..], &want[..]) {
            return Some(LabelAlignment::identity(1));
        }
        let outputs: Vec<usize> =
            want.iter().map(|name| label_index(&found, name)).collect::<Option<_>>()?;
        let mut seen = vec![false; found.len()];
        let every = outputs.iter().all(|&output| !std::mem::replace(&mut seen[output], true));
        // Two labels of one name have one output.
        if !every || found.len() != want.len() {
            return None;
        }
        let aligned = LabelAlignment { outputs, note: None };
        let alike = found.iter().zip(&want).all(|(found, want)| folded(found) == folded(want));
        let note = (!alike || !aligned.is_identity()).then(|| {
            let (found, want) = (found.join(", "), want.join(", "));
            format!("labels matched by name: the model's {found} are put in the order {want}")
        });
        Some(LabelAlignment { note, ..aligned })
    }
}

/// Index of the one of `names` that `label` means: of those that match best the only one.
pub(crate) fn label_index(names: &[String], label: &str) -> Option<usize> {
    let [exact, loose, meaning]: [&dyn Fn(&str) -> String; 3] = [&str::to_string, &folded, &meant];
    for key in [exact, loose, meaning] {
        let label = key(label);
        let mut same = (0..names.len()).filter(|&at| key(&names[at]) == label);
        match (same.next(), same.next()) {
            (Some(at), None) => return Some(at),
            (Some(_), Some(_)) => return None,
            (None, _) => {}
        }
    }
    None
}

/// Whether `names` are those that `name` gives to 0, 1, 2, …
fn is_counted(names: &[String], name: impl Fn(usize) -> String) -> bool {
    names.iter().enumerate().all(|(at, found)| *found == name(at))
}

fn is_number(name: &str) -> bool {
    name.trim().parse::<f64>().is_ok_and(f64::is_finite)
}

/// A name without case, with `_` between words; a number as its value.
fn folded(name: &str) -> String {
    let name = name.trim().to_lowercase();
    match name.parse::<f64>() {
        Ok(number) if number.is_finite() => (number + 0.0).to_string(),
        _ => name.replace(['-', ' '], "_"),
    }
}

/// The meaning of a usual name of sentiment or inference.
fn meant(name: &str) -> String {
    let name = folded(name);
    let meant = match name.as_str() {
        "neg" => "negative",
        "pos" => "positive",
        "neu" => "neutral",
        "entail" | "entails" | "entailed" => "entailment",
        "contradict" | "contradicts" | "contradicted" | "contradictory" => "contradiction",
        "non_entailment" | "no_entailment" | "notentailment" => "not_entailment",
        "not_acceptable" => "unacceptable",
        "non_duplicate" | "no_duplicate" => "not_duplicate",
        "non_equivalent" => "not_equivalent",
        _ => return name,
    };
    meant.into()
}

#[cfg(test)]
#[path = "alignment_tests.rs"]
mod tests;
