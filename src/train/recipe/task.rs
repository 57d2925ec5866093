//! A recipe's `[task]`: the data, the targets and the kind of task.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::TextGenerationRecipe;
use crate::tasks::squad::QaSettings;
use crate::tasks::summarization::{SummarizationPreset, TextMetrics};
use crate::tasks::{SummarizationOptions, TableFormat, take_given};
use crate::{Error, Result};

/// The data and the targets.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TaskRecipe {
    /// A GLUE task (`stsb`, `mrpc`, …), `squad` or `squad_v2`, `summarization`, `xsum`,
    /// `cnn_dailymail` or `g2p`, or any other name with `train`, `dev` and columns below.
    pub name: String,
    /// Folder with the files of a GLUE task or of SQuAD, or with `train` and `dev` files of documents.
    pub data: Option<PathBuf>,
    /// Training file (CSV, TSV or JSON lines; SQuAD's JSON).
    pub train: Option<PathBuf>,
    /// Evaluation file; by default examples are held out of `train`.
    pub dev: Option<PathBuf>,
    /// Share of `train` to hold out, drawn by the seed, if there is no `dev`; by default a tenth.
    pub dev_share: Option<f64>,
    /// Column of the text.
    pub text: Option<String>,
    /// Column of the second text.
    pub pair: Option<String>,
    /// Column of the label, for classification.
    pub label: Option<String>,
    /// Labels in the order of the model's outputs; by default those of the training file, sorted. They
    /// also name the outputs of a trained head whose own names do not tell.
    pub labels: Option<Vec<String>>,
    /// Column of the score, for regression.
    pub score: Option<String>,
    /// Column of the document, for text generation; by default `document`.
    pub document: Option<String>,
    /// Column of the text to generate from it; by default `summary`.
    pub summary: Option<String>,
    /// Format of files with columns; by default as their names end.
    pub format: Option<TableFormat>,
    /// Whether `"` quotes in them; by default in CSV but not in TSV.
    pub quoting: Option<bool>,
    /// Longest input in tokens; longer texts are cut, longer contexts of questions split into windows.
    /// By default 128, for questions 384, for documents up to 1024.
    pub max_length: Option<usize>,
    /// Questions: tokens that two windows of a context share; by default 128.
    pub doc_stride: Option<usize>,
    /// Questions: tokens of the longest answer; by default 30.
    pub max_answer_length: Option<usize>,
    /// Questions: candidates kept; by default 20.
    pub n_best: Option<usize>,
    /// Questions: whether some have no answer; by default as the task's name says.
    pub version_2_with_negative: Option<bool>,
    /// Questions: the answer is left out if the score of none exceeds the best answer's by more than
    /// this; by default 0.
    pub null_score_diff_threshold: Option<f64>,
    /// Number of examples to train on, from the first; by default all.
    pub max_train_examples: Option<usize>,
    /// Number of examples to evaluate on, from the first; by default all.
    pub max_eval_examples: Option<usize>,
    /// Settings of text generation.
    pub summarization: Option<TextGenerationRecipe>,
}

/// Default of `dev_share`.
const DEV_SHARE: f64 = 0.1;

/// The name of the first setting that is set.
macro_rules! first_set {
    ($recipe:ident; $($field:ident),*) => {
        None$(.or($recipe.$field.as_ref().map(|_| stringify!($field))))*
    };
}

/// A kind of task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobKind {
    /// Labels or scores for texts.
    Classification,
    /// Answers to questions.
    QuestionAnswering,
    /// Texts generated from documents: summaries, pronunciations.
    TextGeneration,
}

impl TaskRecipe {
    /// The kind of the task, by its name and columns.
    pub fn kind(&self) -> JobKind {
        match self.name.to_ascii_lowercase().as_str() {
            name if Self::has_unanswerable(name).is_some() => JobKind::QuestionAnswering,
            "summarization" | "xsum" | "cnn_dailymail" | "cnn-dailymail" | "g2p" => {
                JobKind::TextGeneration
            }
            _ if self.document.is_some() || self.summary.is_some() => JobKind::TextGeneration,
            _ => JobKind::Classification,
        }
    }

    /// Longest input in tokens; for text generation it also depends on the model.
    pub fn max_length(&self) -> usize {
        self.max_length.unwrap_or(match self.kind() {
            JobKind::Classification => 128,
            JobKind::QuestionAnswering => 384,
            JobKind::TextGeneration => {
                let asked = self.summarization();
                let preset = asked.preset.unwrap_or_default().settings();
                asked.max_source_length.unwrap_or(preset.max_source_length)
            }
        })
    }

    /// Whether some questions of the task called `name` have no answer; `None` if it has no questions.
    pub fn has_unanswerable(name: &str) -> Option<bool> {
        match name.to_ascii_lowercase().as_str() {
            "squad" => Some(false),
            "squad_v2" | "squad-v2" => Some(true),
            _ => None,
        }
    }

    /// Settings of question answering.
    pub fn qa_settings(&self) -> QaSettings {
        self.qa_settings_over(QaSettings {
            version_2_with_negative: Self::has_unanswerable(&self.name).unwrap_or(false),
            ..QaSettings::default()
        })
    }

    /// Settings of question answering, from `otherwise` where not set here.
    pub fn qa_settings_over(&self, mut settings: QaSettings) -> QaSettings {
        take_given!(self => settings; doc_stride, n_best, max_answer_length,
            version_2_with_negative, null_score_diff_threshold);
        settings
    }

    /// Settings of text generation, with those that follow from the task's name and `max_length`.
    pub fn summarization(&self) -> TextGenerationRecipe {
        let mut settings = self.summarization.clone().unwrap_or_default();
        let named = match self.name.to_ascii_lowercase().as_str() {
            "xsum" => Some(SummarizationPreset::Xsum),
            "cnn_dailymail" | "cnn-dailymail" => Some(SummarizationPreset::CnnDailymail),
            _ => None,
        };
        settings.preset = settings.preset.or(named);
        let pronounced = self.name.eq_ignore_ascii_case("g2p");
        settings.metrics = settings.metrics.or(pronounced.then_some(TextMetrics::Phonemes));
        settings.max_source_length = settings.max_source_length.or(self.max_length);
        settings
    }

    /// Options to read the data of text generation.
    pub fn summarization_options(&self) -> SummarizationOptions {
        let options = match self.name.to_ascii_lowercase().as_str() {
            "cnn_dailymail" | "cnn-dailymail" => SummarizationOptions::cnn_dailymail(),
            "g2p" => SummarizationOptions::g2p(),
            _ => SummarizationOptions::default(),
        };
        SummarizationOptions {
            document: self.document.clone().unwrap_or(options.document),
            summary: self.summary.clone().unwrap_or(options.summary),
            format: self.format,
            quoting: self.quoting,
        }
    }

    /// Share of the training file to hold out; `None` if there is evaluation data.
    pub fn dev_share(&self) -> Option<f64> {
        let alone = self.train.is_some() && self.dev.is_none() && self.data.is_none();
        alone.then(|| self.dev_share.unwrap_or(DEV_SHARE))
    }

    /// Writes out the defaults that depend on other settings.
    pub fn resolved(&self) -> Self {
        let mut task = Self { dev_share: self.dev_share(), ..self.clone() };
        if self.kind() == JobKind::TextGeneration {
            // The rest depends on the model.
            task.summarization = Some(self.summarization());
            return task;
        }
        task.max_length = Some(self.max_length());
        if self.kind() == JobKind::QuestionAnswering {
            let settings = self.qa_settings();
            task.doc_stride = Some(settings.doc_stride);
            task.n_best = Some(settings.n_best);
            task.max_answer_length = Some(settings.max_answer_length);
            task.version_2_with_negative = Some(settings.version_2_with_negative);
            task.null_score_diff_threshold = Some(settings.null_score_diff_threshold);
        }
        task
    }

    /// Name of the first setting of question answering that is set.
    pub fn of_questions(&self) -> Option<&'static str> {
        first_set!(self; doc_stride, max_answer_length, n_best, version_2_with_negative,
            null_score_diff_threshold)
    }

    /// Name of the first setting of the user's own tables that is set.
    pub(in crate::train) fn of_tables(&self) -> Option<&'static str> {
        first_set!(self; train, dev, text, pair, label, score)
    }

    /// Checks all that can be checked without data.
    ///
    /// # Errors
    /// Names the first impossible setting.
    pub fn validate(&self) -> Result<()> {
        if self.max_length() < 3 {
            return Err(Error::option("max_length", "must be at least 3 tokens"));
        }
        if let Some(share) = self.dev_share
            && !(share > 0.0 && share < 1.0)
        {
            let message = format!("{share} is not a share of the examples between 0 and 1");
            return Err(Error::option("dev_share", message));
        }
        let limits = [
            ("max_train_examples", self.max_train_examples),
            ("max_eval_examples", self.max_eval_examples),
        ];
        if let Some((option, _)) = limits.into_iter().find(|(_, most)| *most == Some(0)) {
            return Err(Error::option(option, "must be at least 1"));
        }
        let kind = self.kind();
        if let (true, Some(option)) = (kind != JobKind::QuestionAnswering, self.of_questions()) {
            let message = "is for questions: the tasks squad and squad_v2";
            return Err(Error::option(option, message));
        }
        let of_tables = first_set!(self; text, pair, label, score);
        if let (true, Some(option)) = (kind == JobKind::QuestionAnswering, of_tables) {
            let message = "is for tables; questions, contexts and answers have SQuAD's names";
            return Err(Error::option(option, message));
        }
        if let (true, Some(settings)) = (kind != JobKind::TextGeneration, &self.summarization) {
            let option = settings.first_set().unwrap_or_else(|| "summarization".to_string());
            let message =
                "is for texts to write: the tasks summarization, xsum, cnn_dailymail, g2p";
            return Err(Error::option(option, message));
        }
        let classes = kind == JobKind::Classification && self.score.is_none();
        if let (false, Some(_)) = (classes, &self.labels) {
            return Err(Error::option(
                "labels",
                "is for texts to classify: there are no labels here",
            ));
        }
        match kind {
            JobKind::TextGeneration => self.summarization().validate(),
            _ => self.qa_settings().validate(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_set_depends_on_the_kind_of_task() {
        let task = |name: &str| TaskRecipe { name: name.into(), ..TaskRecipe::default() };
        assert_eq!(task("rte").resolved().max_length, Some(128));
        assert_eq!(task("rte").resolved().doc_stride, None);
        let squad = task("squad").resolved();
        assert_eq!((squad.max_length, squad.doc_stride), (Some(384), Some(128)));
        assert_eq!(squad.version_2_with_negative, Some(false));
        assert!(task("squad_v2").qa_settings().version_2_with_negative);
        let given = TaskRecipe {
            max_length: Some(64),
            version_2_with_negative: Some(true),
            n_best: Some(0),
            ..task("squad")
        };
        assert_eq!(given.resolved().max_length, Some(64));
        assert!(given.qa_settings().version_2_with_negative);
        assert_eq!(given.resolved().resolved(), given.resolved());
        assert!(given.validate().unwrap_err().to_string().contains("option n_best"));
    }

    #[test]
    fn a_tenth_is_held_out_where_there_is_nothing_else_to_evaluate_on() {
        let own = TaskRecipe { train: Some("t.csv".into()), ..TaskRecipe::default() };
        assert_eq!(own.resolved().dev_share, Some(0.1));
        assert_eq!(TaskRecipe { dev_share: Some(0.2), ..own.clone() }.dev_share(), Some(0.2));
        // Evaluation data takes the place of a share, that of a saved recipe too.
        let given = TaskRecipe { dev: Some("d.csv".into()), ..own.resolved() };
        assert_eq!(given.resolved().dev_share, None);
        let folder = TaskRecipe { data: Some("glue".into()), ..TaskRecipe::default() };
        assert_eq!(folder.resolved().dev_share, None);
        for share in [0.0, 1.0, -0.1, f64::NAN] {
            let wrong = TaskRecipe { dev_share: Some(share), ..own.clone() };
            assert!(wrong.validate().unwrap_err().to_string().contains("option dev_share"));
        }
    }
}
