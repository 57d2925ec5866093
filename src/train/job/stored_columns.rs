//! The table columns that a model was trained on, as its folder stores them.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::tasks::TableFormat;
use crate::train::{JobKind, TaskRecipe};

/// Columns of a task's tables: `losparse.columns` in a saved model's `config.json`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct StoredColumns {
    /// Column of the text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// Column of the second text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pair: Option<String>,
    /// Column of the label.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// Column of the score.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub score: Option<String>,
    /// Column of the text to summarize.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub document: Option<String>,
    /// Column of its summary.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub summary: Option<String>,
    /// Format of the files, if it was set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub format: Option<TableFormat>,
    /// Whether `"` quotes, if it was set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quoting: Option<bool>,
}

impl StoredColumns {
    /// The columns that `recipe` reads; `None` if its files leave no choice.
    pub fn of(recipe: &TaskRecipe) -> Option<Self> {
        let (format, quoting) = (recipe.format, recipe.quoting);
        match recipe.kind() {
            JobKind::Classification if recipe.data.is_none() => Some(Self {
                text: recipe.text.clone(),
                pair: recipe.pair.clone(),
                label: recipe.label.clone(),
                score: recipe.score.clone(),
                format,
                quoting,
                ..Self::default()
            }),
            JobKind::TextGeneration => {
                let options = recipe.summarization_options();
                let (document, summary) = (Some(options.document), Some(options.summary));
                Some(Self { document, summary, format, quoting, ..Self::default() })
            }
            JobKind::Classification | JobKind::QuestionAnswering => None,
        }
    }

    /// Fills in the columns that `recipe` leaves open to read `file`. Returns a line for people that
    /// names them.
    pub fn fill(&self, recipe: &mut TaskRecipe, file: Option<&Path>) -> Option<String> {
        let mut told = Vec::new();
        let mut set = |name: &str, field: &mut Option<String>, stored: &Option<String>| {
            if let (None, Some(column)) = (&field, stored) {
                *field = Some(column.clone());
                told.push(format!("{name} {column}"));
            }
        };
        set("text", &mut recipe.text, &self.text);
        set("pair", &mut recipe.pair, &self.pair);
        if recipe.label.is_none() && recipe.score.is_none() {
            set("label", &mut recipe.label, &self.label);
            set("score", &mut recipe.score, &self.score);
        }
        // A named task has the columns of its name.
        if recipe.name.is_empty() {
            set("document", &mut recipe.document, &self.document);
            set("summary", &mut recipe.summary, &self.summary);
        }
        if file.is_none_or(|file| TableFormat::of(file).is_err()) {
            recipe.format = recipe.format.or(self.format);
        }
        recipe.quoting = recipe.quoting.or(self.quoting);
        (!told.is_empty()).then(|| format!("columns as in training: {}", told.join(", ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(text: &str) -> Option<String> {
        Some(text.to_string())
    }

    #[test]
    fn what_is_given_wins_over_what_is_remembered() {
        let trained = TaskRecipe {
            text: named("review"),
            label: named("mood"),
            quoting: Some(false),
            format: Some(TableFormat::Csv),
            ..TaskRecipe::default()
        };
        let stored = StoredColumns::of(&trained).unwrap();
        let json = serde_json::to_value(&stored).unwrap();
        let known = serde_json::json!({"text": "review", "label": "mood", "format": "csv",
            "quoting": false});
        assert_eq!(json, known);
        assert_eq!(serde_json::from_value::<StoredColumns>(json).unwrap(), stored);

        let mut recipe = TaskRecipe::default();
        let told = stored.fill(&mut recipe, Some(Path::new("dev.data"))).unwrap();
        assert_eq!(told, "columns as in training: text review, label mood");
        assert_eq!(recipe, trained);
        let mut given = TaskRecipe {
            text: named("line"),
            score: named("stars"),
            quoting: Some(true),
            ..TaskRecipe::default()
        };
        let before = given.clone();
        assert_eq!(stored.fill(&mut given, Some(Path::new("dev.jsonl"))), None);
        assert_eq!(given, before);
    }

    #[test]
    fn named_tasks_and_data_of_another_kind_keep_their_own() {
        let glue = TaskRecipe { data: Some("glue".into()), ..TaskRecipe::default() };
        let squad = TaskRecipe { name: "squad".into(), ..TaskRecipe::default() };
        assert_eq!((StoredColumns::of(&glue), StoredColumns::of(&squad)), (None, None));
        let cnn = TaskRecipe { name: "cnn_dailymail".into(), ..TaskRecipe::default() };
        let stored = StoredColumns::of(&cnn).unwrap();
        assert_eq!(
            (stored.document.as_deref(), stored.summary.as_deref()),
            (Some("article"), Some("highlights"))
        );
        let mut xsum = TaskRecipe { name: "xsum".into(), ..TaskRecipe::default() };
        assert_eq!(stored.fill(&mut xsum, None), None);
        let mut open = TaskRecipe { summary: named("short"), ..TaskRecipe::default() };
        stored.fill(&mut open, None).unwrap();
        assert_eq!((open.document, open.summary), (named("article"), named("short")));
    }
}
