//! The dense model that a compressed one is compared with: an earlier run of fine-tuning.

use std::path::Path;

use super::{Baseline, RunReport};
use crate::tasks::Task;
use crate::{Error, Result};

impl Baseline {
    /// Reads the report of a run of fine-tuning for `task`: a `report.json`, or a folder with one.
    ///
    /// # Errors
    /// If it cannot be read, is of another task, or of a compression.
    pub fn read(path: &Path, task: &Task) -> Result<Self> {
        let file = if path.is_dir() { path.join("report.json") } else { path.to_path_buf() };
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
        Ok(Self { report: file.display().to_string(), metrics: report.trained })
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
        let read = |task| Baseline::read(folder.path(), task).map_err(|e| e.to_string());
        assert!(read(&task).unwrap_err().contains("report.json"));
        report.write(folder.path(), &[]).unwrap();
        assert!(read(&task).unwrap_err().contains("run of `finetune`"));
        report.method = None;
        report.write(folder.path(), &[]).unwrap();
        let found = read(&task).unwrap();
        assert_eq!(found, Baseline::read(&file, &task).unwrap());
        assert_eq!((found.metrics, found.report), (report.trained, file.display().to_string()));
        let other = Task { name: "mrpc".into(), ..task.clone() };
        assert!(read(&other).unwrap_err().contains("of the task rte"));
        let labels = task.labels().iter().rev().cloned().collect();
        let other = Task { kind: TaskKind::Classification { labels }, ..task.clone() };
        assert!(read(&other).unwrap_err().contains("is of the labels"));
    }
}
