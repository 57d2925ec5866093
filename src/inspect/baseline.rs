//! The dense baseline: an earlier fine-tuning run that a compression is compared with.

use std::path::Path;

use super::{Baseline, Inputs, RunReport};
use crate::tasks::Task;
use crate::{Error, Result};

impl Baseline {
    /// Reads the report of a fine-tuning run for `task`: a `report.json`, or a folder with one. `now`
    /// has the sums of what the run that is compared with it reads.
    ///
    /// # Errors
    /// If it cannot be read, is of another task or a compression, or was evaluated on other data. The
    /// last is known if both runs start from the same model.
    pub(crate) fn read(path: &Path, task: &Task, now: &Inputs) -> Result<Self> {
        let file = if path.is_dir() { path.join(RunReport::FILE) } else { path.to_path_buf() };
        let report = RunReport::read(&file)?;
        let wrong = |message: String| Err(Error::format(&file, message));
        if report.method.is_some() {
            return wrong("is of a compression; the baseline is a run of `finetune`".into());
        }
        if (&report.task.name, report.task.primary) != (&task.name, task.primary) {
            let known = &report.task;
            return wrong(format!(
                "is of the task {} by {}, and this run of {} by {}",
                known.name, known.primary, task.name, task.primary
            ));
        }
        if report.task.labels() != task.labels() {
            return wrong(format!(
                "is of the labels {}, and this run of {}; --labels gives both the same order",
                report.task.labels().join(", "),
                task.labels().join(", ")
            ));
        }
        let same_start =
            |then: &&Inputs| (&then.config, &then.weights) == (&now.config, &now.weights);
        let other_start = report.inputs.as_ref().is_some_and(|then| !same_start(&then));
        let then = report.inputs.as_ref().filter(same_start);
        if then.is_some_and(|then| then.dev != now.dev) {
            return wrong("was evaluated on other data than this run is".into());
        }
        let (report, metrics) = (file.display().to_string(), report.trained);
        Ok(Self { report, metrics, other_start })
    }

    /// Note on a baseline that started from another model; `None` if it did not.
    pub(crate) fn note(&self) -> Option<String> {
        let note = "is of a run that started from another model than this one: it compares two models, \
                    not one before and after compression";
        self.other_start.then(|| format!("the baseline {} {note}", self.report))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inspect::report_for_tests;
    use crate::tasks::TaskKind;

    #[test]
    fn a_baseline_is_a_fine_tuning_for_the_same_task() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("report.json");
        let mut report = report_for_tests();
        let task = report.task.clone();
        let now = Inputs { dev: "d".into(), ..Inputs::default() };
        let read = |task| Baseline::read(folder.path(), task, &now).map_err(|e| e.to_string());
        assert!(read(&task).unwrap_err().contains("report.json"));
        report.write(folder.path(), &[]).unwrap();
        assert!(read(&task).unwrap_err().contains("run of `finetune`"));
        report.method = None;
        report.write(folder.path(), &[]).unwrap();
        assert!(read(&task).unwrap_err().contains("evaluated on other data"));
        // Another model's tokens are no sign of other data.
        report.inputs = Some(Inputs { config: "other".into(), ..Inputs::default() });
        report.write(folder.path(), &[]).unwrap();
        let found = read(&task).unwrap();
        assert_eq!(found, Baseline::read(&file, &task, &now).unwrap());
        assert!(found.note().is_some_and(|note| note.contains("from another model")), "{found:?}");
        assert_eq!(
            (found.metrics, found.report),
            (report.trained.clone(), file.display().to_string())
        );
        report.inputs = Some(now.clone());
        report.write(folder.path(), &[]).unwrap();
        assert_eq!(read(&task).unwrap().note(), None);
        let other = Task { name: "mrpc".into(), ..task.clone() };
        assert!(read(&other).unwrap_err().contains("of the task rte"));
        let labels = task.labels().iter().rev().cloned().collect();
        let other = Task { kind: TaskKind::Classification { labels }, ..task.clone() };
        assert!(read(&other).unwrap_err().contains("is of the labels"));
    }
}
