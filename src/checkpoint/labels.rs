//! Labels of a classifier, as `config.json` has them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The loss a sequence classifier is trained with, `problem_type` in `config.json`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProblemType {
    /// Mean squared error.
    Regression,
    /// Cross-entropy over classes.
    SingleLabelClassification,
    /// Binary cross-entropy for each label.
    MultiLabelClassification,
}

/// Labels of a classifier.
///
/// Names may be numbers in the file and ids may have gaps: outputs are named in the order of the ids.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "AsStored")]
pub struct LabelConfig {
    /// Names of the classes by their index.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id2label: Option<BTreeMap<usize, String>>,
    /// Index of each class by its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label2id: Option<BTreeMap<String, usize>>,
    /// Number of outputs where the file says it outright.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub num_labels: Option<usize>,
    /// The kind of task; decided by labels when absent.
    pub problem_type: Option<ProblemType>,
}

impl LabelConfig {
    /// Labels with these names and the task they imply.
    pub fn named<S: Into<String>>(names: impl IntoIterator<Item = S>) -> Self {
        let names: Vec<String> = names.into_iter().map(Into::into).collect();
        Self {
            id2label: Some(names.iter().cloned().enumerate().collect()),
            label2id: Some(names.into_iter().enumerate().map(|(id, name)| (name, id)).collect()),
            num_labels: None,
            problem_type: None,
        }
    }

    /// `n` labels named `LABEL_0`, `LABEL_1`, …, as Hugging Face names them.
    pub fn numbered(n: usize) -> Self {
        Self::named((0..n).map(placeholder))
    }

    /// Number of outputs of the head: two unless the file says otherwise.
    pub fn num_labels(&self) -> usize {
        self.num_labels.or_else(|| self.id2label.as_ref().map(BTreeMap::len)).unwrap_or(2)
    }

    /// Name of each class, in order of index.
    pub fn names(&self) -> Vec<String> {
        let name = |id: usize| {
            let given = self.id2label.as_ref().and_then(|labels| labels.get(&id));
            given.cloned().unwrap_or_else(|| placeholder(id))
        };
        (0..self.num_labels()).map(name).collect()
    }

    /// The kind of task: as given, else regression with one label and classes with more.
    pub fn problem_type(&self) -> ProblemType {
        self.problem_type.unwrap_or(match self.num_labels() {
            1 => ProblemType::Regression,
            _ => ProblemType::SingleLabelClassification,
        })
    }

    /// Checks that labels are consistent.
    pub(crate) fn validate(&self) -> Result<(), String> {
        if self.num_labels() == 0 {
            return Err("num_labels: must not be 0".into());
        }
        if let Some(labels) = &self.id2label {
            if labels.len() != self.num_labels() {
                return Err(format!(
                    "num_labels: {} but id2label has {} labels",
                    self.num_labels(),
                    labels.len()
                ));
            }
            if let Some(id) = labels.keys().find(|&&id| id >= labels.len()) {
                return Err(format!("id2label: {id} is beyond its {} labels", labels.len()));
            }
        }
        let single = self.problem_type == Some(ProblemType::SingleLabelClassification);
        if single && self.num_labels() == 1 {
            return Err("problem_type: single_label_classification needs two labels or more, and \
                        the model has one (the probability of an only class is always 1); for \
                        two classes num_labels is 2, for a score problem_type is regression"
                .into());
        }
        Ok(())
    }

    /// The first name that two outputs have.
    pub fn name_of_two(&self) -> Option<String> {
        let mut names = self.names();
        names.sort_unstable();
        names.windows(2).find(|two| two[0] == two[1]).map(|two| two[0].clone())
    }
}

/// Name that Hugging Face gives to a label without one.
pub(super) fn placeholder(id: usize) -> String {
    format!("LABEL_{id}")
}

/// The fields as stored in files.
#[derive(Deserialize, Default)]
#[serde(default)]
struct AsStored {
    // JSON's keys are strings; serde turns them into numbers only outside flattened structs.
    id2label: Option<BTreeMap<String, Value>>,
    label2id: Option<BTreeMap<String, Value>>,
    num_labels: Option<usize>,
    problem_type: Option<ProblemType>,
}

impl TryFrom<AsStored> for LabelConfig {
    type Error = String;

    fn try_from(stored: AsStored) -> Result<Self, String> {
        let AsStored { id2label, label2id, num_labels, problem_type } = stored;
        let ids = label2id.unwrap_or_default().into_iter().map(|(name, id)| {
            let number = index_of(&id).ok_or_else(|| format!("{name:?} has {id}, not an index"))?;
            Ok((name, number))
        });
        let ids = ids.collect::<Result<BTreeMap<String, usize>, String>>()?;
        let Some(names) = id2label.map(by_id).transpose()? else {
            // Names in `label2id` alone are ignored by transformers too.
            return Ok(Self { num_labels, problem_type, ..Self::default() });
        };
        for (id, name) in &names {
            let twice = names.values().filter(|other| *other == name).count() > 1;
            if let Some(other) = ids.get(name).filter(|other| *other != id && !twice) {
                return Err(format!(
                    "id2label says that {id} is {name:?}, label2id that {other} is; make the two \
                     tables agree"
                ));
            }
        }
        Ok(Self { num_labels, problem_type, ..Self::named(names.into_values()) })
    }
}

fn by_id(labels: BTreeMap<String, Value>) -> Result<BTreeMap<usize, String>, String> {
    let mut names = BTreeMap::new();
    for (key, name) in labels {
        let id = key.trim().parse().map_err(|_| format!("{key:?} is not an index"))?;
        let name = match name {
            Value::String(name) => name,
            Value::Number(_) | Value::Bool(_) => name.to_string(),
            _ => return Err(format!("{key} has {name} for a name; give it a string")),
        };
        if names.insert(id, name).is_some() {
            return Err(format!("{id} is there twice"));
        }
    }
    Ok(names)
}

/// An index that is a number or a string of digits.
fn index_of(value: &Value) -> Option<usize> {
    match value {
        Value::String(text) => text.trim().parse().ok(),
        Value::Number(number) => match number.as_u64() {
            Some(id) => usize::try_from(id).ok(),
            None => {
                number.as_f64().filter(|id| *id >= 0.0 && id.fract() == 0.0).map(|id| id as usize)
            }
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(json: Value) -> Result<LabelConfig, String> {
        let labels: LabelConfig = serde_json::from_value(json).map_err(|e| e.to_string())?;
        labels.validate().map(|()| labels)
    }

    #[test]
    fn tables_are_read_as_transformers_reads_them() {
        for (stored, names) in [
            (json!({}), &["LABEL_0", "LABEL_1"][..]),
            (json!({"id2label": null, "label2id": null}), &["LABEL_0", "LABEL_1"]),
            (json!({"num_labels": 3}), &["LABEL_0", "LABEL_1", "LABEL_2"]),
            (json!({"label2id": {"b": 0, "a": 1, "c": 2}}), &["LABEL_0", "LABEL_1"]),
            (json!({"id2label": {"0": "no", "1": "yes"}, "num_labels": 2}), &["no", "yes"]),
            (json!({"id2label": {"0": 0, "1": 1}, "label2id": {"0": 0, "1": 1}}), &["0", "1"]),
            (json!({"id2label": {"0": true, "1": 1.5}}), &["true", "1.5"]),
            (
                json!({"id2label": {"0": "no", "1": "yes"}, "label2id": {"no": "0", "yes": 1.0}}),
                &["no", "yes"],
            ),
            // As many outputs as names.
            (json!({"id2label": {"0": "a", "2": "b"}, "label2id": {"a": 0, "b": 2}}), &["a", "b"]),
            (json!({"id2label": {"1": "a", "2": "b", "10": "c"}}), &["a", "b", "c"]),
            // Left over from before the labels had names.
            (json!({"id2label": {"0": "a", "1": "b"}, "label2id": {"LABEL_0": 0}}), &["a", "b"]),
            (json!({"id2label": {"0": "a", "1": "a"}, "label2id": {"a": 1}}), &["a", "a"]),
        ] {
            let labels = read(stored.clone()).unwrap_or_else(|e| panic!("{stored}: {e}"));
            assert_eq!(labels.names(), names, "{stored}");
            let again = read(serde_json::to_value(&labels).unwrap()).unwrap();
            assert_eq!(again.names(), names, "{stored}");
        }
    }

    #[test]
    fn tables_without_one_meaning_are_refused() {
        for (stored, why) in [
            (json!({"id2label": {"zero": "a"}}), "\"zero\" is not an index"),
            (json!({"id2label": {"-1": "a"}}), "\"-1\" is not an index"),
            (json!({"id2label": {"0": "a", "00": "b"}}), "0 is there twice"),
            (json!({"id2label": {"0": null}}), "0 has null for a name"),
            (json!({"id2label": {}}), "num_labels: must not be 0"),
            (json!({"id2label": {"0": "a", "1": "b"}, "num_labels": 3}), "id2label has 2 labels"),
            (
                json!({"id2label": {"0": "a", "1": "b"}, "label2id": {"a": 1, "b": 0}}),
                "id2label says that 0 is \"a\", label2id that 1 is",
            ),
            (json!({"label2id": {"a": "first"}}), "\"a\" has \"first\", not an index"),
            (json!({"num_labels": 1, "problem_type": "single_label_classification"}), "always 1"),
        ] {
            let message = read(stored.clone()).expect_err(&stored.to_string());
            assert!(message.contains(why), "{stored}: {message}");
        }
        for kind in ["regression", "multi_label_classification"] {
            read(json!({"num_labels": 1, "problem_type": kind})).unwrap();
        }
    }

    #[test]
    fn a_name_of_two_outputs_is_found() {
        assert_eq!(LabelConfig::named(["a", "b"]).name_of_two(), None);
        assert_eq!(LabelConfig::named(["b", "a", "b"]).name_of_two().as_deref(), Some("b"));
    }
}
