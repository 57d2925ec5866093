//! Pictures of a study: importance of neurons before pruning, by method.

use std::path::Path;

use super::ratio_figures::{Place, places};
use super::{Cell, StudyReport};
use crate::inspect::RunReport;
use crate::plots::{Figure, RunAnalysis, importance_comparison_figure};
use crate::pruning::{Importance, LayerScores};

/// A run's name in the picture, its importance criterion and its scores.
type Scores = (String, Importance, Vec<LayerScores>);

/// Histograms of importance before pruning for each task, model and ratio, one for each method with the
/// same criterion, and the names of their files. The first run at the best learning rate counts for
/// its method. Runs whose files in the study's `folder` are missing or older are left out.
pub fn importance_figures(report: &StudyReport, folder: &Path) -> Vec<(String, Figure)> {
    let mut figures = Vec::new();
    for Place { name, title, cells } in places(report) {
        let mut ratios: Vec<f64> = cells.iter().filter_map(|cell| cell.ratio).collect();
        ratios.sort_by(f64::total_cmp);
        ratios.dedup();
        for ratio in ratios {
            let at_ratio: Vec<&Cell> =
                cells.iter().copied().filter(|cell| cell.ratio == Some(ratio)).collect();
            let scores = at_ratio.iter().filter_map(|cell| scores(cell, &cells, folder));
            let runs = largest_group(scores.collect());
            if runs.len() > 1 {
                let title = format!("{title}: importance of neurons before pruning to {ratio}");
                let figure = importance_comparison_figure(&title, &runs);
                figures.push((format!("importance-{name}-{ratio}"), figure));
            }
        }
    }
    figures.retain(|(_, figure)| !figure.is_empty());
    figures
}

/// Scores of the first run in the cell that has any.
fn scores(cell: &Cell, cells: &[&Cell], folder: &Path) -> Option<Scores> {
    let mut done = cell.runs.iter().filter(|run| !run.metrics.is_empty());
    done.find_map(|run| {
        let run = folder.join(&run.folder);
        let layers = RunAnalysis::read(&run).ok()?.importance_before;
        let method = RunReport::read(run.join(RunReport::FILE)).ok()?.method?;
        let name = super::ratio_figures::line_name(cell, cells);
        (!layers.is_empty()).then_some((name, method.pruning?.importance, layers))
    })
}

/// The runs with the most frequent criterion; the first of equals.
fn largest_group(all: Vec<Scores>) -> Vec<(String, Vec<LayerScores>)> {
    let count = |criterion: Importance| all.iter().filter(|run| run.1 == criterion).count();
    let mut criterion = all.first().map(|run| run.1);
    for (_, other, _) in &all {
        if criterion.is_some_and(|most| count(*other) > count(most)) {
            criterion = Some(*other);
        }
    }
    let runs = all.into_iter().filter(|run| Some(run.1) == criterion);
    runs.map(|(name, _, layers)| (name, layers)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inspect::report_for_tests;

    #[test]
    fn methods_are_compared_at_each_ratio() {
        let folder = tempfile::tempdir().unwrap();
        let report = super::super::study_report::tests::study();
        assert!(importance_figures(&report, folder.path()).is_empty());
        for cell in report.cells.iter().filter(|cell| cell.ratio.is_some()) {
            for run in &cell.runs {
                let place = folder.path().join(&run.folder);
                let scale = if cell.settings["method"] == "itp" { 1e-2 } else { 1e-4 };
                let layer = LayerScores { kept: vec![scale; 9], ..LayerScores::default() };
                let importance_before = vec![layer];
                let analysis = RunAnalysis { importance_before, ..RunAnalysis::default() };
                analysis.write(&place).unwrap();
                report_for_tests().write(&place, &[]).unwrap();
            }
        }
        let figures = importance_figures(&report, folder.path());
        let names: Vec<&str> = figures.iter().map(|(name, _)| name.as_str()).collect();
        // ITP's better rate at 0.1 is not known yet.
        assert_eq!(names, ["importance-rte-0.2"]);
        let lines: Vec<&str> =
            figures[0].1.panels.iter().map(|panel| panel.series[0].name.as_str()).collect();
        assert_eq!(lines, ["losparse: 9", "itp: 9"]);
        // A criterion of its own does not compare.
        let itp = report.cells.iter().filter(|cell| cell.settings["method"] == "itp");
        for run in itp.flat_map(|cell| &cell.runs) {
            let mut report = report_for_tests();
            let pruning = report.method.as_mut().unwrap().pruning.as_mut().unwrap();
            pruning.importance = Importance::Movement;
            report.write(folder.path().join(&run.folder), &[]).unwrap();
        }
        assert!(importance_figures(&report, folder.path()).is_empty());
    }

    #[test]
    fn most_runs_choose_the_criterion() {
        let run = |name: &str, criterion| (name.to_string(), criterion, Vec::new());
        let all = vec![
            run("movement", Importance::Movement),
            run("losparse", Importance::Sensitivity),
            run("one-shot", Importance::Magnitude),
            run("itp", Importance::Sensitivity),
        ];
        let names: Vec<String> = largest_group(all).into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["losparse", "itp"]);
        assert!(largest_group(Vec::new()).is_empty());
    }
}
