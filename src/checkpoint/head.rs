//! Check of the head of a checkpoint against the labels at hand.

use serde_json::{Map, Value};

use super::{LabelAlignment, LabelConfig, LabelMismatch, LoadOptions};

/// Classes of models whose head is called as a classifier of whole texts is, and what it answers about.
const OTHER_HEADS: [(&str, &str); 2] =
    [("ForTokenClassification", "single tokens"), ("ForMultipleChoice", "choices")];

impl LoadOptions {
    /// Matches the outputs of a trained head with the labels `found` to the labels `wanted`; `None` if the
    /// head is made anew for them.
    pub(super) fn align(
        &self,
        found: &LabelConfig,
        wanted: &LabelConfig,
    ) -> Result<Option<LabelAlignment>, LabelMismatch> {
        if !self.keep_head && found.num_labels() != wanted.num_labels() {
            return found.check_unrelated(wanted).map(|()| None);
        }
        match &self.called {
            Some(called) => found.align_called(called, wanted),
            None => found.align(wanted),
        }
        .map(Some)
    }
}

/// Says that a trained head is left behind because it does not answer about whole texts, though its
/// layer has the same name; `None` for other models. `config` is `config.json`.
pub(super) fn head_of_another_kind(config: &Map<String, Value>) -> Option<String> {
    let names = config.get("architectures")?.as_array()?.iter().filter_map(Value::as_str);
    let known = |name: &str| OTHER_HEADS.into_iter().find(|(ending, _)| name.ends_with(ending));
    names.into_iter().find_map(|name| {
        let (_, about) = known(name)?;
        Some(format!("the trained head of {name} is left behind: it is for {about}, not texts"))
    })
}

/// Checks that the task a saved model was trained for has the labels of its outputs.
pub(super) fn check_task(config: &str, labels: &LabelConfig) -> Result<(), String> {
    let config: serde_json::Value = serde_json::from_str(config).map_err(|e| e.to_string())?;
    let task = config.pointer("/losparse/task/kind/labels").and_then(|labels| labels.as_array());
    let Some(task) = task else { return Ok(()) };
    let task: Vec<&str> = task.iter().filter_map(|label| label.as_str()).collect();
    let own = labels.names();
    if task == own {
        return Ok(());
    }
    Err(format!(
        "losparse.task has the labels {}, and id2label has {}; one of them was changed after \
         training: make them the same, or remove losparse.task",
        task.join(", "),
        own.join(", ")
    ))
}
