//! Pictures of a run: schedule and metric over its updates, importance of its neurons.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{Axis, Figure, Mark, Panel, Point, Series, Spectrum, kept_figure, spectra_figure};
use crate::checkpoint::atomic;
use crate::inspect::RunReport;
use crate::pruning::LayerScores;
use crate::tasks::MetricKind;
use crate::{Error, Result};

/// Bars of the histogram of importance.
const BINS: usize = 60;
/// Points of a drawn schedule.
const SCHEDULE_POINTS: usize = 200;

/// What a run's pictures show beyond its report: `analysis.json`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct RunAnalysis {
    /// Scores of neurons in the result, in its training form; empty without pruning.
    pub importance: Vec<LayerScores>,
    /// Singular values of some layers of the model started from.
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
    /// If it cannot be read or is something else.
    pub fn read(folder: &Path) -> Result<Self> {
        let path = folder.join(Self::FILE);
        let text = std::fs::read_to_string(&path).map_err(|e| Error::io(&path, e))?;
        serde_json::from_str(&text).map_err(|e| Error::format(&path, e.to_string()))
    }
}

/// Every picture of a run that has something to show, each with the name of its files.
pub fn run_figures(report: &RunReport, analysis: &RunAnalysis) -> Vec<(&'static str, Figure)> {
    let all = [
        ("schedule", schedule_figure(report)),
        ("kept", kept_figure("Neurons kept in each layer", &report.account)),
        (
            "importance",
            importance_figure("Importance of neurons in the result", &analysis.importance),
        ),
        ("spectra", spectra_figure("Singular values of the model started from", &analysis.spectra)),
    ];
    all.into_iter().filter(|(_, figure)| !figure.is_empty()).collect()
}

/// The schedule above the metrics, over a run's updates.
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
    let kinds = report.history.first().map(|(_, metrics)| metrics.values.keys());
    let metric = |kind: &MetricKind| {
        let points = report.history.iter().filter_map(|(step, metrics)| {
            metrics.values.get(kind).map(|value| Point::new(*step as f64, *value))
        });
        Series::new(kind.name(), Mark::Dots, points.collect())
    };
    let mut series: Vec<Series> = kinds.into_iter().flatten().map(metric).collect();
    if let Some(before) = report.starting.first() {
        let primary = before.metrics.primary;
        if let Some(&value) = before.metrics.values.get(&primary) {
            let ends = [0.0, total as f64].map(|x| Point::new(x, value));
            let name = format!("{primary} before");
            series.push(Series::new(name, Mark::Dashed, ends.to_vec()));
        }
    }
    if !report.history.is_empty() {
        panels.push(Panel {
            x_label: "update".into(),
            y_label: "metric".into(),
            x_range,
            series,
            ..Panel::default()
        });
    }
    let title = if schedule.is_some() { "Schedule and metric" } else { "Metric in training" };
    Figure { title: title.into(), panels }
}

/// How many neurons have which importance (as figure 3 of Li et al. 2023), on a logarithmic axis
/// where all scores are positive or 0.
pub fn importance_figure(title: &str, layers: &[LayerScores]) -> Figure {
    let of = |scores: fn(&LayerScores) -> &Vec<f32>| -> Vec<f64> {
        let all = layers.iter().flat_map(scores).map(|&score| f64::from(score));
        all.filter(|score| score.is_finite()).collect()
    };
    let groups = [("kept", of(|layer| &layer.kept)), ("pruned", of(|layer| &layer.pruned))];
    let mut all: Vec<f64> = groups.iter().flat_map(|(_, scores)| scores).copied().collect();
    let logarithmic = all.iter().all(|&score| score >= 0.0);
    let place = |score: f64| if logarithmic { score.log10() } else { score };
    all = all.into_iter().map(place).filter(|place| place.is_finite()).collect();
    all.sort_by(f64::total_cmp);
    let (Some(&first), Some(&last)) = (all.first(), all.last()) else {
        return Figure { title: title.into(), panels: Vec::new() };
    };
    // A few far out would squeeze all others into one bar.
    let low = first.max(all[all.len() / 200]);
    let high = if logarithmic { last } else { all[all.len() - 1 - all.len() / 200] };
    let width = if high > low { (high - low) / BINS as f64 } else { 1.0 };
    let mut feet = [0.0; BINS];
    let mut series = Vec::new();
    for (name, scores) in groups.iter().filter(|(_, scores)| !scores.is_empty()) {
        let mut counts = [0.0; BINS];
        let mut zeros = 0;
        for place in scores.iter().map(|&score| place(score)) {
            if place.is_finite() {
                let bin = ((place - low) / width).max(0.0) as usize;
                counts[bin.min(BINS - 1)] += 1.0;
            } else {
                zeros += 1;
            }
        }
        let bar = |(bin, count): (usize, &f64)| {
            let (low_end, y) = (feet[bin], feet[bin] + count);
            let x = low + (bin as f64 + 0.5) * width;
            Point { x, y, low: low_end, high: y }
        };
        let points = counts.iter().enumerate().filter(|(_, count)| **count > 0.0).map(bar);
        let mut label = format!("{name}: {}", scores.len());
        if zeros > 0 {
            label += &format!(", {zeros} at 0");
        }
        series.push(Series::new(label, Mark::Bars(width), points.collect()));
        feet.iter_mut().zip(counts).for_each(|(foot, count)| *foot += count);
    }
    let panel = Panel {
        x_label: "importance".into(),
        y_label: "neurons".into(),
        x: if logarithmic { Axis::Power } else { Axis::Number },
        from_zero: true,
        series,
        ..Panel::default()
    };
    Figure { title: title.into(), panels: vec![panel] }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn importance_is_counted_whole_and_stacked() {
        let layers: Vec<LayerScores> = (0..3)
            .map(|at| LayerScores {
                name: format!("{at}"),
                kept: (1..=100).map(|i| i as f32 * 0.01).collect(),
                pruned: (0..100).map(|i| i as f32 * 1e-4).collect(),
            })
            .collect();
        let figure = importance_figure("importance", &layers);
        let [kept, pruned] = &figure.panels[0].series[..] else { panic!("{figure:?}") };
        assert_eq!(
            (kept.name.as_str(), pruned.name.as_str()),
            ("kept: 300", "pruned: 300, 3 at 0")
        );
        let count = |series: &Series| series.points.iter().map(|p| p.y - p.low).sum::<f64>();
        assert_eq!((count(kept), count(pruned)), (300.0, 297.0));
        assert_eq!(figure.panels[0].x, Axis::Power);
        // Bars stand on those below.
        let shared = pruned.points.iter().find(|p| p.low > 0.0).unwrap();
        assert!(kept.points.iter().any(|p| p.x == shared.x && p.y == shared.low));
        let negative = LayerScores { kept: vec![-1.0, 2.0], ..LayerScores::default() };
        assert_eq!(importance_figure("movement", &[negative]).panels[0].x, Axis::Number);
        assert!(importance_figure("none", &[]).is_empty());
    }

    #[test]
    fn analysis_survives_the_disk() {
        let folder = tempfile::tempdir().unwrap();
        let spectra = vec![Spectrum { name: "a".into(), values: vec![2.0, 1.0] }];
        let analysis = RunAnalysis { importance: Vec::new(), spectra };
        analysis.write(folder.path()).unwrap();
        assert_eq!(RunAnalysis::read(folder.path()).unwrap(), analysis);
    }
}
