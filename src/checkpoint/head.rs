//! Check of the head of a checkpoint against the labels at hand.

use super::{LabelAlignment, LabelConfig, LabelMismatch, LoadOptions};

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
