//! Pictures of a study: quality and latency against ratio, a line a method.

use super::{Cell, StudyReport};
use crate::plots::{Axis, Figure, Mark, Panel, Point, Series};

/// Axes that do not name a line: they are the horizontal axis, the picture, or chosen already.
const NO_NAME: [&str; 5] = ["task", "model", "ratio", "learning_rate", "method"];

/// A task and model, with the cells that count: of several learning rates the best, once it is
/// known.
pub(super) struct Place<'a> {
    /// For files.
    pub name: String,
    /// For people.
    pub title: String,
    pub cells: Vec<&'a Cell>,
}

pub(super) fn places(report: &StudyReport) -> Vec<Place<'_>> {
    let mut pairs: Vec<(&str, &str)> = Vec::new();
    for cell in &report.cells {
        let pair = (cell.task.as_str(), cell.model.as_str());
        if !pairs.contains(&pair) {
            pairs.push(pair);
        }
    }
    let several_models = pairs.iter().any(|(_, model)| *model != pairs[0].1);
    let chosen = report.chosen();
    let place = |(task, model): (&str, &str)| {
        let here = |cell: &&Cell| cell.task == task && cell.model == model;
        let cells = chosen.iter().copied().filter(here).collect();
        let model = model.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
        let mut name = task.to_string();
        if several_models {
            name += &format!("-{model}");
        }
        let safe = |c: char| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '-' };
        let name = name.chars().map(safe).collect();
        Place { name, title: format!("{task}, {model}"), cells }
    };
    pairs.into_iter().map(place).collect()
}

/// A picture of quality and one of latency for each task and model, with the names of their files.
/// Of several learning rates the best counts.
pub fn study_figures(report: &StudyReport) -> Vec<(String, Figure)> {
    let mut figures = Vec::new();
    for Place { name, title, cells } in places(report) {
        let metric = cells.iter().find_map(|cell| cell.primary);
        let metric = metric.map(|primary| primary.to_string()).unwrap_or_default();
        let quality =
            |cell: &Cell| cell.score().map(|(mean, spread)| (mean, spread.unwrap_or(0.0)));
        let heading = format!("{title}: quality against ratio");
        let figure = against_ratio(heading, &metric, Axis::Number, &cells, quality, quality);
        figures.push((format!("quality-{name}"), figure));
        // Runs are measured at different times, so only what was measured in turns compares.
        let latency = |cell: &Cell| cell.speedup.map(|times| (1.0 / times, 0.0));
        let heading = format!("{title}: latency against ratio");
        let label = "time of the dense model";
        let dense = |_: &Cell| Some((1.0, 0.0));
        let figure = against_ratio(heading, label, Axis::Percent, &cells, latency, dense);
        figures.push((format!("latency-{name}"), figure));
    }
    figures.retain(|(_, figure)| !figure.is_empty());
    figures
}

/// A value and its spread.
type Value = Option<(f64, f64)>;

fn against_ratio(
    title: String,
    label: &str,
    y: Axis,
    cells: &[&Cell],
    value: impl Fn(&Cell) -> Value,
    dense: impl Fn(&Cell) -> Value,
) -> Figure {
    let mut lines: Vec<(String, Vec<Point>)> = Vec::new();
    let mut baseline: Vec<f64> = Vec::new();
    for cell in cells {
        let Some(ratio) = cell.ratio else {
            baseline.extend(dense(cell).map(|(value, _)| value));
            continue;
        };
        let name = line_name(cell, cells);
        let at = lines.iter().position(|(known, _)| *known == name).unwrap_or_else(|| {
            lines.push((name, Vec::new()));
            lines.len() - 1
        });
        if let Some((y, spread)) = value(cell) {
            // What is left as measured, which is not quite what was asked for.
            let x = cell.linear_ratio.unwrap_or(ratio);
            lines[at].1.push(Point { x, y, low: y - spread, high: y + spread });
        }
    }
    let mut series: Vec<Series> = lines
        .into_iter()
        .map(|(name, mut points)| {
            points.sort_by(|a, b| a.x.total_cmp(&b.x));
            Series::new(name, Mark::Dots, points)
        })
        .collect();
    let xs = series.iter().flat_map(|line| &line.points).map(|point| point.x);
    let ends = xs.fold(None, |ends: Option<(f64, f64)>, x| {
        Some(ends.map_or((x, x), |(low, high)| (low.min(x), high.max(x))))
    });
    if let (Some((low, high)), false) = (ends, baseline.is_empty()) {
        let mean = baseline.iter().sum::<f64>() / baseline.len() as f64;
        // A line even where there is one ratio only.
        let (low, high) = if low == high { (low * 0.9, high * 1.1) } else { (low, high) };
        let points = vec![Point::new(low, mean), Point::new(high, mean)];
        series.push(Series::new("dense", Mark::Dashed, points));
    }
    if ends.is_none() {
        series.clear();
    }
    let panel = Panel {
        x_label: "weights left in the compressed layers".into(),
        y_label: label.into(),
        x: Axis::Percent,
        y,
        from_zero: y == Axis::Percent,
        series,
        ..Panel::default()
    };
    Figure { title, panels: vec![panel] }
}

/// `losparse`, or `losparse, beta1 0.5` where the method has several of them.
pub(super) fn line_name(cell: &Cell, cells: &[&Cell]) -> String {
    let method = cell.settings.get("method").cloned().into_iter();
    let others = cell.settings.iter().filter(|(axis, value)| {
        let same_method =
            cells.iter().filter(|c| c.settings.get("method") == cell.settings.get("method"));
        let mut values = same_method.filter_map(|other| other.settings.get(*axis));
        !NO_NAME.contains(&axis.as_str()) && values.any(|other| other != *value)
    });
    let others = others.map(|(axis, value)| {
        format!("{} {value}", axis.rsplit('.').next().unwrap_or_default().replace('_', " "))
    });
    let name = method.chain(others).collect::<Vec<_>>().join(", ");
    if name.is_empty() { "compressed".into() } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_methods_at_their_best_rate() {
        let mut report = super::super::table::tests::study();
        for cell in &mut report.cells {
            cell.linear_ratio = cell.ratio.map(|ratio| ratio + 0.005);
        }
        let figures = study_figures(&report);
        let names: Vec<&str> = figures.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["quality-rte", "latency-rte"]);
        let series = &figures[0].1.panels[0].series;
        let lines: Vec<&str> = series.iter().map(|line| line.name.as_str()).collect();
        assert_eq!(lines, ["losparse", "itp", "dense"]);
        let points: Vec<(f64, f64)> = series[0].points.iter().map(|p| (p.x, p.y)).collect();
        // The better rate of each ratio: runs 6 and 7, and 10 and 11.
        assert_eq!(points.len(), 2);
        assert!((points[0].0 - 0.105).abs() < 1e-9 && (points[0].1 - 0.605).abs() < 1e-9);
        assert!((points[1].1 - 0.565).abs() < 1e-9, "{points:?}");
        assert!(series[0].points[0].low < series[0].points[0].y);
        assert_eq!(series[2].points[0].y, series[2].points[1].y);
        let latency = &figures[1].1.panels[0].series;
        assert_eq!((latency[0].points[0].y, latency[2].points[0].y), (1.0 / 2.5, 1.0));
    }
}
