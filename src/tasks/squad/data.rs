//! Reads questions from SQuAD's official JSON.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::json;
use crate::files::read_text;
use crate::tasks::dataset_methods;
use crate::{Error, Result};

/// A right answer to a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QaAnswer {
    /// The answer as in the context; never empty.
    pub text: String,
    /// Its first character, in Unicode characters from the start of the context; `None` if the file
    /// does not tell (−1 or null).
    pub start: Option<usize>,
}

/// A question about a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QaExample {
    /// The question's id in the file.
    pub id: String,
    /// The question.
    pub question: String,
    /// The text that holds the answer; questions about the same text share it.
    pub context: Arc<str>,
    /// Right answers; empty if the context holds none, or the file gives none.
    pub answers: Vec<QaAnswer>,
}

/// Questions of a file, in the order of the file.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct QaDataset {
    /// The questions.
    pub examples: Vec<QaExample>,
    /// Number of questions left out because an answer is not where the file places it, or has no
    /// text.
    pub skipped: usize,
    /// Indices of the questions whose answers all lack text, ascending.
    empty: Vec<usize>,
}

impl QaDataset {
    /// Reads a file in SQuAD's format, version 1.1 or 2.0. Ignores answers without text, and all
    /// answers to impossible questions.
    ///
    /// # Errors
    /// If it cannot be read, has another format, or holds no question; the message names question
    /// and field.
    pub fn read(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let set = Self::parse(&read_text(path)?).map_err(|message| Error::format(path, message))?;
        let mut ids = HashSet::new();
        let mut again = set.examples.iter().filter(|example| !ids.insert(example.id.as_str()));
        if let Some(twice) = again.next() {
            let (count, path) = (1 + again.count(), path.display());
            log::warn!("{path}: {count} questions have the id of another, such as {:?}", twice.id);
        }
        Ok(set)
    }

    /// Parses the text of a file in SQuAD's format; see [`QaDataset::read`].
    ///
    /// # Errors
    /// The message says what is wrong.
    pub fn parse(json: &str) -> Result<Self, String> {
        let questions = json::questions(json)?;
        if questions.is_empty() {
            return Err("holds no question".into());
        }
        let empty = (0..).zip(&questions).filter(|(_, (_, empty))| *empty).map(|(at, _)| at);
        let empty = empty.collect();
        let examples = questions.into_iter().map(|(example, _)| example).collect();
        Ok(Self { examples, skipped: 0, empty })
    }

    /// Leaves out the questions whose answers all lack text. For SQuAD 1.1, where every question
    /// has an answer.
    ///
    /// # Errors
    /// If no question is left.
    pub(crate) fn drop_empty(&mut self) -> Result<(), String> {
        let empty = std::mem::take(&mut self.empty);
        for &at in empty.iter().rev() {
            self.examples.remove(at);
        }
        self.skipped += empty.len();
        match self.examples.is_empty() {
            true => Err("no question has an answer with text".into()),
            false => Ok(()),
        }
    }

    /// Leaves out the questions with an answer that is not where the file places it: a model would
    /// learn wrong tokens from them.
    ///
    /// # Errors
    /// If no question is left; the message names the first one left out.
    pub(crate) fn drop_astray(&mut self) -> Result<(), String> {
        let astray = |example: &QaExample| {
            let answer = example.answers.iter().find(|answer| !stands(answer, &example.context))?;
            let place = match answer.start {
                Some(start) => format!("is not at character {start} of its context"),
                None => "has no answer_start".to_string(),
            };
            Some(format!("question {}: {:?} {place}", example.id, answer.text))
        };
        self.empty.clear();
        let before = self.examples.len();
        let first = self.examples.iter().find_map(astray);
        self.examples.retain(|example| astray(example).is_none());
        self.skipped += before - self.examples.len();
        match first.filter(|_| self.examples.is_empty()) {
            Some(message) => Err(format!("{message}, and no other answer is in place")),
            None => Ok(()),
        }
    }

    /// The first question without an answer.
    pub(crate) fn unanswered(&self) -> Option<&QaExample> {
        self.examples.iter().find(|example| example.answers.is_empty())
    }
}

dataset_methods!(QaDataset);

/// Whether an answer is in the context where its `start` says.
fn stands(answer: &QaAnswer, context: &str) -> bool {
    let start = answer.start.and_then(|start| match start {
        0 => Some(0),
        start => context.char_indices().nth(start - 1).map(|(at, before)| at + before.len_utf8()),
    });
    start.is_some_and(|start| context[start..].starts_with(&answer.text))
}

/// Finds the file of a split, `train` or `dev`, in a folder: SQuAD's own names, such as
/// `train-v1.1.json`, or `train.json`.
///
/// # Errors
/// If there is none.
pub fn find_file(folder: &Path, split: &str, version_2: bool) -> Result<PathBuf> {
    let version = if version_2 { "v2.0" } else { "v1.1" };
    let names = [format!("{split}-{version}.json"), format!("{split}.json")];
    let found = names.iter().map(|name| folder.join(name)).find(|path| path.is_file());
    found.ok_or_else(|| {
        let message = match folder.is_dir() {
            true => format!("has no {}", names.join(" and no ")),
            false => "no such folder".to_string(),
        };
        Error::format(folder, message)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(qas: &str) -> String {
        format!(
            r#"{{"version": "v2.0", "data": [{{"title": "t", "paragraphs": [
                {{"context": "Übung — 東京 is big", "qas": [{qas}]}}]}}]}}"#
        )
    }

    #[test]
    fn positions_are_characters() {
        let tokyo = r#"{"id": "a", "question": "Where?", "answers": [{"text": "東京", "answer_start": 8}]}"#;
        let none = r#"{"id": "b", "question": "Who?", "answers": [], "is_impossible": true,
            "plausible_answers": [{"text": "Übung", "answer_start": 0}]}"#;
        let set = QaDataset::parse(&file(&format!("{tokyo}, {none}"))).unwrap();
        assert_eq!((set.len(), set.skipped), (2, 0));
        assert_eq!(set.examples[0].answers, [QaAnswer { text: "東京".into(), start: Some(8) }]);
        assert_eq!(set.unanswered().unwrap().id, "b");
        assert!(Arc::ptr_eq(&set.examples[0].context, &set.examples[1].context));
    }

    #[test]
    fn misplaced_answers_are_left_out_and_broken_files_are_errors() {
        let good =
            r#"{"id": "a", "question": "?", "answers": [{"text": "big", "answer_start": 14}]}"#;
        let bytes =
            r#"{"id": "b", "question": "?", "answers": [{"text": "big", "answer_start": 21}]}"#;
        let far =
            r#"{"id": "c", "question": "?", "answers": [{"text": "big", "answer_start": 99}]}"#;
        let mut set = QaDataset::parse(&file(&format!("{good}, {bytes}, {far}"))).unwrap();
        assert_eq!((set.len(), set.skipped), (3, 0));
        set.drop_astray().unwrap();
        assert_eq!((set.len(), set.skipped), (1, 2));
        let error = QaDataset::parse(&file(bytes)).unwrap().drop_astray().unwrap_err();
        assert!(error.contains("question b: \"big\" is not at character 21"), "{error}");
        assert!(QaDataset::parse(&file("")).unwrap_err().contains("no question"));
        assert!(QaDataset::parse("[]").unwrap_err().contains("not SQuAD's JSON"));
        let error = QaDataset::read("no/such.json").unwrap_err().to_string();
        assert!(error.contains("no/such.json"), "{error}");
    }

    #[test]
    fn unknown_places_and_answers_without_text_are_left_out() {
        let good =
            r#"{"id": "a", "question": "?", "answers": [{"text": "big", "answer_start": 14}]}"#;
        let unknown =
            r#"{"id": "b", "question": "?", "answers": [{"text": "big", "answer_start": -1}]}"#;
        let empty = r#"{"id": "c", "question": "?", "answers": [{"text": "", "answer_start": 0}]}"#;
        let mut set = QaDataset::parse(&file(&format!("{empty}, {good}, {unknown}"))).unwrap();
        assert_eq!(set.len(), 3);
        set.drop_empty().unwrap();
        assert_eq!((set.len(), set.skipped), (2, 1));
        set.drop_astray().unwrap();
        assert_eq!((set.len(), set.skipped), (1, 2));
        assert_eq!(set.examples[0].id, "a");
        let error = QaDataset::parse(&file(unknown)).unwrap().drop_astray().unwrap_err();
        assert!(error.contains("question b: \"big\" has no answer_start"), "{error}");
        assert!(QaDataset::parse(&file(empty)).unwrap().drop_empty().is_err());
    }

    #[test]
    fn folders_hold_official_or_short_names() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("dev.json"), "").unwrap();
        std::fs::write(folder.path().join("dev-v2.0.json"), "").unwrap();
        let found = |version| find_file(folder.path(), "dev", version).unwrap();
        assert_eq!(found(false), folder.path().join("dev.json"));
        assert_eq!(found(true), folder.path().join("dev-v2.0.json"));
        let error = find_file(folder.path(), "train", false).unwrap_err().to_string();
        assert!(error.contains("train-v1.1.json") && error.contains("train.json"), "{error}");
    }

    /// The official files, if `LOSPARSE_SHARED` names a folder with them.
    #[test]
    fn the_official_files() {
        let Some(shared) = std::env::var_os("LOSPARSE_SHARED") else {
            crate::say_skipped("LOSPARSE_SHARED is not set");
            return;
        };
        let folder = PathBuf::from(shared).join("data/squad");
        for (split, questions) in [("train", 7221), ("dev", 1970)] {
            let path = find_file(&folder, split, false).unwrap();
            let mut set = QaDataset::read(path).unwrap();
            set.drop_astray().unwrap();
            assert_eq!((set.len(), set.skipped), (questions, 0), "{split}");
            assert!(set.unanswered().is_none());
        }
    }
}
