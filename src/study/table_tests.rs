use super::*;
use crate::inspect::report_for_tests;

const GRID: &str = "[base]\nmodel = 'm'\n[base.task]\nname = 'rte'\ndata = 'glue'\n[grid]\n\
    method = ['dense', 'losparse', 'itp']\nratio = [0.2, 0.1]\nlearning_rate = [1e-4, 5e-5]\n\
    seed = [1, 2]\n";

/// A study in which every run but the last two is done; quality tells the run's number.
pub fn study() -> StudyReport {
    let study = Study::parse(GRID).unwrap();
    let last = study.runs.len() - 1;
    let states: Vec<RunState> = (0..=last)
        .map(|at| match last - at {
            0 => RunState::Waiting,
            1 => RunState::Failed("training: no luck".into()),
            _ => {
                let mut report = report_for_tests();
                let value = 0.5 + at as f64 / 100.0;
                let metrics = &mut report.compacted[0].metrics;
                metrics.values.insert(metrics.primary, value);
                RunState::Finished(Box::new(report))
            }
        })
        .collect();
    StudyReport::new(&study, &states, "flex")
}

#[test]
fn cells_are_over_seeds_and_the_best_rate_is_marked() {
    let report = study();
    // Dense has two cells, the others four each, with two seeds each.
    assert_eq!(
        (report.cells.len(), report.finished, report.failed, report.waiting),
        (10, 18, 1, 1)
    );
    assert_eq!(report.axes, ["method", "ratio", "learning_rate"]);
    let cell = &report.cells[1];
    assert_eq!((cell.ratio, cell.done()), (None, 2));
    let (mean, spread) = cell.score().unwrap();
    // Runs 2 and 3: 0.52 and 0.53.
    assert!((mean - 0.525).abs() < 1e-12, "{mean}");
    assert!((spread.unwrap() - 0.005 * 2f64.sqrt()).abs() < 1e-12, "{spread:?}");
    let best: Vec<_> = report.cells.iter().map(|cell| cell.best_learning_rate).collect();
    assert_eq!(best[..4], [Some(false), Some(true), Some(false), Some(true)]);
    // The last cell has no run done, so there is nothing to choose between.
    assert_eq!(best[8..], [None, None]);
    assert_eq!(report.cells[9].runs[0].error.as_deref(), Some("training: no luck"));
}

#[test]
fn tables_say_all_cells() {
    let report = study();
    let text = report.to_markdown(&["quality-rte"]);
    for part in [
        "18 runs done, 1 failed, 1 to do",
        "| method | ratio | learning rate | metrics | runs |",
        "| dense | – | 5e-5 (best) | accuracy 0.5250 ± 0.0071 | 2 of 2 | ",
        "| itp | 0.1 | 5e-5 | – | 0 of 2 | – | – | – | – | – |",
        "no luck",
        "(plots/quality-rte.svg)",
        "best of up to 6 evaluations on this same data",
    ] {
        assert!(text.contains(part), "no {part:?} in\n{text}");
    }
    let csv = report.to_csv().unwrap();
    let mut reader = csv::Reader::from_reader(csv.as_bytes());
    let column = reader.headers().unwrap().iter().position(|name| name == "mean").unwrap();
    let rows: Vec<csv::StringRecord> = reader.records().map(|row| row.unwrap()).collect();
    assert_eq!(rows.len(), 10);
    assert!((rows[1][column].parse::<f64>().unwrap() - 0.525).abs() < 1e-12);
    assert_eq!((&rows[9][0], &rows[9][column]), ("itp", ""));
    let json: serde_json::Value = serde_json::from_str(&report.to_json().unwrap()).unwrap();
    assert_eq!(json["cells"][1]["settings"]["learning_rate"], "5e-5");
}
