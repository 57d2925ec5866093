//! Pictures of a run: schedule, loss and metrics over its updates, and those of its layers.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{
    Axis, Figure, Mark, Panel, Point, Series, Spectrum, importance_comparison_figure,
    importance_figure, kept_figure, spectra_figure,
};
use crate::checkpoint::atomic;
use crate::inspect::RunReport;
use crate::pruning::LayerScores;
use crate::tasks::MetricKind;
use crate::{Error, Result, files};

/// Number of points of a drawn schedule.
const SCHEDULE_POINTS: usize = 200;

/// Data of a run's pictures beyond its report: `analysis.json`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct RunAnalysis {
    /// Scores of neurons in the result's training form; empty without pruning.
    pub importance: Vec<LayerScores>,
    /// Scores of neurons before the first pruning, as it compared them; empty without pruning.
    #[serde(default)]
    pub importance_before: Vec<LayerScores>,
    /// Singular values of some layers of the starting model.
    pub spectra: Vec<Spectrum>,
}

impl RunAnalysis {
    /// Name of the file beside a run's report.
    pub const FILE: &'static str = "analysis.json";

    /// Writes `analysis.json` to a run's folder.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write(&self, folder: &Path) -> Result<()> {
        let path = folder.join(Self::FILE);
        let json = serde_json::to_string(self).map_err(|e| Error::format(&path, e.to_string()))?;
        atomic::write_file(path, json.as_bytes())
    }

    /// Reads `analysis.json` of a run's folder.
    ///
    /// # Errors
    /// If it cannot be read or is not an analysis.
    pub fn read(folder: &Path) -> Result<Self> {
        files::read_json(folder.join(Self::FILE))
    }
}

/// The pictures of a run that are not empty, each with the name of its files.
pub fn run_figures(report: &RunReport, analysis: &RunAnalysis) -> Vec<(&'static str, Figure)> {
    let method = report.method.as_ref().map_or("dense", |method| method.short_name());
    let before = [(method.to_string(), analysis.importance_before.clone())];
    let all = [
        ("schedule", schedule_figure(report)),
        ("kept", kept_figure("Neurons kept in each layer", &report.account)),
        (
            "importance-before",
            importance_comparison_figure("Importance of neurons before pruning", &before),
        ),
        (
            "importance",
            importance_figure("Importance of neurons in the result", &analysis.importance),
        ),
        ("spectra", spectra_figure("Singular values of the model started from", &analysis.spectra)),
    ];
    all.into_iter().filter(|(_, figure)| !figure.is_empty()).collect()
}

/// Schedule, training loss and metrics over a run's updates, in stacked panels.
pub fn schedule_figure(report: &RunReport) -> Figure {
    let schedule = report.method.as_ref().and_then(|m| m.pruning).map(|pruning| pruning.schedule);
    let total = schedule.map_or(report.training.steps, |s| s.total_steps).max(1);
    let x_range = Some([0.0, total as f64]);
    let mut panels = Vec::new();
    if let Some(schedule) = schedule {
        let every = total.div_ceil(SCHEDULE_POINTS);
        let points = (0..total).step_by(every).chain([total - 1]);
        let points = points.map(|at| Point::new(at as f64, schedule.keep_ratio(at)));
        panels.push(Panel {
            x_label: "update".into(),
            y_label: "kept by the schedule".into(),
            y: Axis::Percent,
            x_range,
            from_zero: true,
            series: vec![Series::new("keep ratio of S", Mark::Line, points.collect())],
            ..Panel::default()
        });
    }
    if !report.history_loss.is_empty() {
        let points = report.history_loss.iter();
        let points = points.map(|(step, loss)| Point::new(*step as f64, *loss)).collect();
        let name = match report.training.teacher {
            Some(_) => "training loss on the labels",
            None => "training loss",
        };
        panels.push(Panel {
            x_label: "update".into(),
            y_label: name.into(),
            x_range,
            series: vec![Series::new(name, Mark::Line, points)],
            ..Panel::default()
        });
    }
    if !report.history.is_empty() {
        panels.push(Panel {
            x_label: "update".into(),
            y_label: "metric".into(),
            x_range,
            series: metric_series(report, total),
            ..Panel::default()
        });
    }
    let parts = [
        schedule.map(|_| "schedule"),
        (!report.history_loss.is_empty()).then_some("training loss"),
        (!report.history.is_empty()).then_some("metric"),
    ];
    Figure { title: listed(&parts.into_iter().flatten().collect::<Vec<_>>()), panels }
}

/// The metrics over `total` updates, with the dense model's as reference.
fn metric_series(report: &RunReport, total: usize) -> Vec<Series> {
    let kinds = report.history.first().map(|(_, metrics)| metrics.values.keys());
    let metric = |kind: &MetricKind| {
        let points = report.history.iter().filter_map(|(step, metrics)| {
            metrics.values.get(kind).map(|value| Point::new(*step as f64, *value))
        });
        Series::new(kind.name(), Mark::Dots, points.collect())
    };
    let mut series: Vec<Series> = kinds.into_iter().flatten().map(metric).collect();
    let (splits, name) = match &report.baseline {
        Some(baseline) => (&baseline.metrics, ", dense fine-tuned"),
        None => (&report.starting, " before"),
    };
    if let Some(dense) = splits.first() {
        let primary = dense.metrics.primary;
        if let Some(&value) = dense.metrics.values.get(&primary) {
            let ends = [0.0, total as f64].map(|x| Point::new(x, value));
            series.push(Series::new(format!("{primary}{name}"), Mark::Dashed, ends.to_vec()));
        }
    }
    series
}

/// `A, b and c`.
fn listed(words: &[&str]) -> String {
    let text = match words {
        [] => String::new(),
        [one] => (*one).to_string(),
        [most @ .., last] => format!("{} and {last}", most.join(", ")),
    };
    let first: String = text.chars().take(1).flat_map(char::to_uppercase).collect();
    first + text.get(1..).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inspect::{Baseline, report_for_tests};

    #[test]
    fn schedule_loss_and_metric_share_their_axis() {
        let mut report = report_for_tests();
        let figure = schedule_figure(&report);
        let [schedule, loss, metric] = &figure.panels[..] else { panic!("{figure:?}") };
        assert_eq!(figure.title, "Schedule, training loss and metric");
        for panel in [schedule, loss, metric] {
            assert_eq!(panel.x_range, Some([0.0, 800.0]));
        }
        let points: Vec<(usize, f64)> =
            loss.series[0].points.iter().map(|point| (point.x as usize, point.y)).collect();
        assert_eq!(points, report.history_loss);
        let names = |panel: &Panel| -> Vec<String> {
            panel.series.iter().map(|series| series.name.clone()).collect()
        };
        assert_eq!(names(metric), ["accuracy", "accuracy before"]);
        let metrics = report.trained.clone();
        report.baseline = Some(Baseline { report: "tuned".into(), metrics, other_start: false });
        let metric = &schedule_figure(&report).panels[2];
        assert_eq!(names(metric), ["accuracy", "accuracy, dense fine-tuned"]);
        assert_eq!(metric.series[1].points[0].y, 0.66);
        report.method = None;
        report.history.clear();
        let figure = schedule_figure(&report);
        assert_eq!((figure.panels.len(), figure.title.as_str()), (1, "Training loss"));
    }

    #[test]
    fn analysis_survives_the_disk() {
        let folder = tempfile::tempdir().unwrap();
        let spectra = vec![Spectrum { name: "a".into(), values: vec![2.0, 1.0] }];
        let analysis = RunAnalysis { spectra, ..RunAnalysis::default() };
        analysis.write(folder.path()).unwrap();
        assert_eq!(RunAnalysis::read(folder.path()).unwrap(), analysis);
        // As it was before it held more.
        let old = r#"{"importance":[],"spectra":[{"name":"a","values":[2.0,1.0]}]}"#;
        std::fs::write(folder.path().join(RunAnalysis::FILE), old).unwrap();
        assert_eq!(RunAnalysis::read(folder.path()).unwrap(), analysis);
    }
}
