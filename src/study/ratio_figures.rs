//! Pictures of a study: quality and latency against ratio, with a line for each method.

use std::path::Path;

use super::identity::file_name;
use super::{Cell, StudyReport};
use crate::plots::{Axis, Figure, Mark, Panel, Point, Series, extent, in_panels};

/// Axes that do not appear in a line's name.
const NO_NAME: [&str; 5] = ["task", "model", "ratio", "learning_rate", "method"];

/// Longest file name of a picture without its kind; file systems allow 255 bytes.
const LONGEST_NAME: usize = 100;

/// A task and model, with its cells at their best learning rates.
pub(super) struct Place<'a> {
    /// Name in file names.
    pub name: String,
    /// Title for people.
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
    let mut models: Vec<&str> = pairs.iter().map(|(_, model)| *model).collect();
    models.sort_unstable();
    models.dedup();
    let chosen = report.chosen();
    let mut places: Vec<Place<'_>> = Vec::new();
    for (task, model) in pairs {
        let here = |cell: &&Cell| cell.task == task && cell.model == model;
        let cells = chosen.iter().copied().filter(here).collect();
        let short = short_name(model, &models);
        let name = if models.len() > 1 { format!("{task}-{short}") } else { task.to_string() };
        let name = file_name(&name, LONGEST_NAME);
        let same = |name: &String| places.iter().any(|known| known.name == *name);
        let numbered = (2..).map(|number| format!("{name}-{number}"));
        let name = std::iter::once(name.clone()).chain(numbered).find(|name| !same(name));
        let name = name.unwrap_or_default();
        places.push(Place { name, title: format!("{task}, {short}"), cells });
    }
    places
}

/// The shortest end of a model's path that distinguishes it from the others.
fn short_name(model: &str, models: &[&str]) -> String {
    let parts = |model: &str| -> Vec<String> {
        let parts = Path::new(model).components();
        parts.map(|part| part.as_os_str().to_string_lossy().into_owned()).collect()
    };
    let own = parts(model);
    let others: Vec<Vec<String>> =
        models.iter().filter(|other| **other != model).map(|other| parts(other)).collect();
    let told_by = |count: &usize| {
        let end = &own[own.len() - count..];
        !others.iter().any(|other| other.ends_with(end))
    };
    let count = (1..own.len()).find(told_by).unwrap_or(own.len());
    own[own.len() - count..].join("/")
}

/// A picture of quality and one of latency for each task and model, with the names of their files.
/// Cells are at their best learning rates.
pub fn study_figures(report: &StudyReport) -> Vec<(String, Figure)> {
    let mut figures = Vec::new();
    for Place { name, title, cells } in places(report) {
        let metric = cells.iter().find_map(|cell| cell.primary);
        let metric = metric.map(|primary| primary.to_string()).unwrap_or_default();
        let quality =
            |cell: &Cell| cell.score().map(|(mean, spread)| (mean, spread.unwrap_or(0.0)));
        let heading = format!("{title}: quality against ratio");
        let mut figure = against_ratio(heading, &metric, Axis::Number, &cells, quality, quality);
        figure.panels.extend(close_up(&figure.panels));
        figures.push((format!("quality-{name}"), figure));
        // Runs are measured at different times; only measurements in alternation compare.
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
    let mut baselines: Vec<(String, f64)> = Vec::new();
    for cell in cells {
        let name = line_name(cell, cells);
        let Some(ratio) = cell.ratio else {
            let value = dense(cell).map(|(value, _)| (name, value));
            baselines.extend(value.filter(|value| !baselines.contains(value)));
            continue;
        };
        let at = lines.iter().position(|(known, _)| *known == name).unwrap_or_else(|| {
            lines.push((name, Vec::new()));
            lines.len() - 1
        });
        if let Some((y, spread)) = value(cell) {
            // The measured ratio differs a little from the one asked for.
            let x = cell.linear_ratio.unwrap_or(ratio);
            lines[at].1.push(Point { x, y, low: y - spread, high: y + spread });
        }
    }
    // In an unfinished study some lines have no points yet.
    lines.retain(|(_, points)| !points.is_empty());
    let mut series: Vec<Series> = lines
        .into_iter()
        .map(|(name, mut points)| {
            points.sort_by(|a, b| a.x.total_cmp(&b.x));
            Series::new(name, Mark::Dots, points)
        })
        .collect();
    match extent(series.iter().flat_map(|line| &line.points).map(|point| point.x)) {
        Some((low, high)) => {
            // Draw lines even at a single ratio.
            let ends = if low == high { [low * 0.9, high * 1.1] } else { [low, high] };
            for (name, value) in baselines {
                let points = ends.map(|x| Point::new(x, value)).to_vec();
                series.push(Series::new(name, Mark::Dashed, points));
            }
        }
        None => series.clear(),
    }
    let panel = Panel {
        x_label: "weights left in the compressed layers".into(),
        y_label: label.into(),
        x: Axis::Percent,
        y,
        from_zero: y == Axis::Percent,
        ..Panel::default()
    };
    Figure { title, panels: in_panels(series, &panel) }
}

/// How many times smaller the range of the rest must be to leave lines out of a close-up.
const FAR: f64 = 3.0;

/// The only panel again without lines so far off that the others cannot be told apart. The legend keeps
/// all lines, and lines keep their colours.
fn close_up(panels: &[Panel]) -> Option<Panel> {
    let [panel] = panels else { return None };
    let height = |shown: &[bool]| -> f64 {
        let lines = panel.series.iter().zip(shown).filter(|(_, shown)| **shown);
        let ys = lines.flat_map(|(line, _)| line.points.iter().flat_map(|p| [p.low, p.high]));
        extent(ys).map_or(f64::NEG_INFINITY, |(low, high)| high - low)
    };
    let lines = panel.series.iter().filter(|line| line.mark != Mark::Dashed).count();
    let mut shown = vec![true; panel.series.len()];
    let all = height(&shown);
    for _ in 0..lines / 2 {
        let without = |at: usize| {
            let mut rest = shown.clone();
            rest[at] = false;
            rest
        };
        let candidates =
            (0..shown.len()).filter(|at| shown[*at] && panel.series[*at].mark != Mark::Dashed);
        shown = candidates.map(without).min_by(|a, b| height(a).total_cmp(&height(b)))?;
        let rest = height(&shown);
        if rest > 0.0 && rest * FAR < all {
            let mut panel = panel.clone();
            for (line, _) in panel.series.iter_mut().zip(shown).filter(|(_, shown)| !shown) {
                line.points.clear();
                line.name += " (far off)";
            }
            return Some(panel);
        }
    }
    None
}

/// Name of a line: `losparse`, or `losparse, beta1 0.5` if the setting is not the method's usual one.
pub(super) fn line_name(cell: &Cell, cells: &[&Cell]) -> String {
    let method = cell.settings.get("method").cloned();
    let none = if cell.ratio.is_some() { "compressed" } else { "dense" };
    let method = method.unwrap_or_else(|| none.into());
    let alike = |other: &&&Cell| {
        other.ratio.is_some() == cell.ratio.is_some()
            && other.settings.get("method") == cell.settings.get("method")
    };
    let others = cell.settings.iter().filter(|(axis, value)| {
        let axis_name = axis.rsplit('.').next().unwrap_or_default();
        let here = |other: &&&Cell| other.settings.get(*axis) == Some(*value);
        // The value of more than half of the cells is left out.
        let usual = 2 * cells.iter().filter(alike).filter(here).count()
            > cells.iter().filter(alike).count();
        !NO_NAME.contains(&axis_name) && !usual
    });
    let others = others.map(|(axis, value)| {
        format!("{} {value}", axis.rsplit('.').next().unwrap_or_default().replace('_', " "))
    });
    std::iter::once(method).chain(others).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_methods_at_their_best_rate() {
        let mut report = super::super::study_report::tests::study();
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

    #[test]
    fn lines_without_points_have_no_place_in_the_legend() {
        let mut report = super::super::study_report::tests::study();
        let is_itp = |cell: &&mut Cell| cell.settings.get("method").is_some_and(|m| m == "itp");
        for cell in report.cells.iter_mut().filter(is_itp) {
            cell.mean.clear();
            cell.speedup = None;
        }
        for (_, figure) in study_figures(&report) {
            let lines: Vec<&str> =
                figure.panels[0].series.iter().map(|s| s.name.as_str()).collect();
            assert_eq!(lines, ["losparse", "dense"]);
        }
    }

    #[test]
    fn lines_that_lie_together_have_a_close_up() {
        let line = |name: &str, mark, ys: [f64; 2]| {
            let points = [0.1, 0.2].into_iter().zip(ys).map(|(x, y)| Point::new(x, y));
            Series::new(name, mark, points.collect())
        };
        let panel = |low_rank: [f64; 2]| Panel {
            series: vec![
                line("low-rank", Mark::Dots, low_rank),
                line("losparse", Mark::Dots, [0.83, 0.85]),
                line("itp", Mark::Dots, [0.84, 0.86]),
                line("dense", Mark::Dashed, [0.87, 0.87]),
            ],
            ..Panel::default()
        };
        let whole = panel([0.15, 0.2]);
        let close = close_up(std::slice::from_ref(&whole)).unwrap();
        assert_eq!(close.series[0].name, "low-rank (far off)");
        assert!(close.series[0].points.is_empty());
        assert_eq!(close.series[1..], whole.series[1..]);
        assert_eq!(close_up(&[panel([0.80, 0.84])]), None);
        assert_eq!(close_up(&[whole.clone(), whole]), None);
        assert_eq!(close_up(&[Panel::default()]), None);
    }

    /// A study of several values of one setting and several models, of which nothing is done.
    fn cells(grid: &str) -> StudyReport {
        let base = "[base]\nmodel = 'm'\n[base.task]\nname = 'rte'\ndata = 'glue'\n[grid]\n";
        let study = super::super::Study::parse(&format!("{base}{grid}")).unwrap();
        StudyReport::new(&study, &vec![super::super::RunState::Waiting; study.runs.len()])
    }

    #[test]
    fn lines_are_named_by_what_is_not_usual() {
        let names = |grid: &str| -> Vec<String> {
            let report = cells(grid);
            let cells: Vec<&Cell> = report.cells.iter().collect();
            let mut names: Vec<String> = cells.iter().map(|cell| line_name(cell, &cells)).collect();
            names.dedup();
            names
        };
        assert_eq!(names("method = ['itp']\n'method.ratio' = [0.1, 0.2]"), ["itp"]);
        assert_eq!(names("'training.learning_rate' = [1e-4, 2e-4]"), ["dense"]);
        let two = names("method = ['itp']\n'method.beta1' = [0.5, 0.85]");
        assert_eq!(two, ["itp, beta1 0.5", "itp, beta1 0.85"]);
        let epochs = names("method = ['dense']\n'training.epochs' = [3, 10]");
        assert_eq!(epochs, ["dense, epochs 3", "dense, epochs 10"]);
    }

    #[test]
    fn every_model_has_pictures_of_its_own() {
        let report = cells("model = ['a/model', 'b/model', 'c/tuned/model', 'b/model/']");
        let places = places(&report);
        let names: Vec<&str> = places.iter().map(|place| place.name.as_str()).collect();
        let expected = ["rte-a-model", "rte-b-model", "rte-b-model-2", "rte-tuned-model"];
        assert_eq!(names, expected);
        assert_eq!((short_name("x", &["x"]), short_name("/", &["/"])), ("x".into(), "/".into()));
    }
}
