//! The dense run of a study that a compressed one is compared with.

use std::path::{Path, PathBuf};

use super::{PlannedRun, RunState, Study};
use crate::inspect::RunReport;

/// The folder of the dense run for the same task, model and seed, where one is done already; of
/// several the best.
pub(super) fn baseline_run(
    run: &PlannedRun,
    study: &Study,
    states: &[RunState],
    folder: &Path,
) -> Option<PathBuf> {
    run.recipe.method.as_ref()?;
    let mut best: Option<(&PlannedRun, &RunReport)> = None;
    for (other, state) in study.runs.iter().zip(states) {
        let RunState::Finished(report) = state else { continue };
        let (a, b) = (&run.recipe, &other.recipe);
        let same = (&a.task, &a.model, a.training.seed) == (&b.task, &b.model, b.training.seed);
        if b.method.is_some() || !same {
            continue;
        }
        let score = |report: &RunReport| report.trained.first().map(|split| split.metrics.clone());
        let better = match (score(report), best.and_then(|(_, known)| score(known))) {
            (Some(own), Some(known)) => own.is_better_than(&known),
            _ => best.is_none(),
        };
        if better {
            best = Some((other, report));
        }
    }
    best.map(|(dense, _)| folder.join(&dense.folder))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inspect::report_for_tests;
    use crate::train::Method;

    #[test]
    fn the_best_dense_run_of_the_seed_is_the_baseline() {
        let study = Study::parse(super::super::study_report::tests::GRID).unwrap();
        let mut states = vec![RunState::Waiting; study.runs.len()];
        let folder = Path::new("study");
        let at = |wanted: Option<Method>, rate: f64, seed: u64| {
            let with = |run: &&PlannedRun| {
                let (method, training) = (&run.recipe.method, &run.recipe.training);
                method.as_ref().map(Method::of) == wanted
                    && (training.learning_rate, training.seed) == (Some(rate), seed)
            };
            study.runs.iter().find(with).unwrap()
        };
        let place = |run: &PlannedRun| study.runs.iter().position(|other| other == run).unwrap();
        let compressed = at(Some(Method::Losparse), 1e-4, 2);
        assert_eq!(baseline_run(compressed, &study, &states, folder), None);
        let mut finish = |run: &PlannedRun, value: f64| {
            let mut report = report_for_tests();
            let metrics = &mut report.trained[0].metrics;
            metrics.values.insert(metrics.primary, value);
            states[place(run)] = RunState::Finished(Box::new(report));
        };
        let [slow, fast, other] = [(5e-5, 2), (1e-4, 2), (1e-4, 1)].map(|(r, s)| at(None, r, s));
        finish(other, 0.9);
        finish(slow, 0.6);
        finish(fast, 0.7);
        finish(at(Some(Method::Itp), 1e-4, 2), 0.8);
        let found = baseline_run(compressed, &study, &states, folder);
        assert_eq!(found, Some(folder.join(&fast.folder)));
        assert_eq!(baseline_run(slow, &study, &states, folder), None);
    }
}
