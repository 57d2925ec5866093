use super::*;
use crate::inspect::report_for_tests;

pub const GRID: &str = "[base]\nmodel = 'm'\n[base.task]\nname = 'rte'\ndata = 'glue'\n[grid]\n\
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
    StudyReport::new(&study, &states)
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
fn marked_runs_are_listed() {
    let mut report = study();
    assert!(!report.to_markdown(&[]).contains("## Marked"));
    report.cells[0].runs[0].warnings = vec!["the training diverged".into()];
    let line = format!("- `{}`: the training diverged\n", report.cells[0].runs[0].folder);
    assert!(report.to_markdown(&[]).contains(&line));
}

#[test]
fn tables_say_all_cells() {
    let report = study();
    let text = report.to_markdown(&["quality-rte"]);
    for part in [
        "18 runs done, 1 failed, 1 to do",
        "| method | ratio | learning rate | metrics | runs |",
        "| dense | – | 5e-5 (best) | accuracy 0.5250 ± 0.0071 (majority 0.5271) | 2 of 2 | ",
        "| itp | 0.1 | 5e-5 | – | 0 of 2 | – | – | – | – | – |",
        "no luck",
        "(plots/quality-rte.svg)",
        "| 2 of 2 | 1, 2 | 6 | ",
        "so many evaluations on this same data the result is the best of",
        "`(best)`: the learning rate with the best mean on this same data",
        "Machine: Abacus, 2 cores, 8 GiB, none, 2 threads, device flex; 2026-03-01 (UTC).",
        "    losparse compress bert-base -o small --task rte\n",
        "| ratio | learning rate | metric | LoSparse − ITP | seeds |",
        "| 0.2 | 5e-5 | accuracy | -0.0800 ± 0.0000 | 1, 2 |",
    ] {
        assert!(text.contains(part), "no {part:?} in\n{text}");
    }
    // ITP's better rate at 0.1 is not known yet.
    assert_eq!(report.gains.len(), 1);
    let json: serde_json::Value = serde_json::from_str(&report.to_json().unwrap()).unwrap();
    assert_eq!(json["cells"][1]["settings"]["learning_rate"], "5e-5");
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join(StudyReport::FILE), report.to_json().unwrap()).unwrap();
    let read = StudyReport::read(folder.path()).unwrap();
    let known = |report: &StudyReport| -> Vec<_> {
        let cells = report.cells.iter();
        cells.map(|cell| (cell.settings.clone(), cell.runs[0].folder.clone())).collect()
    };
    assert_eq!((known(&read), read.finished, read.gains.len()), (known(&report), 18, 1));
}

/// The columns of a table by their names, row after row.
fn columns(csv: &str, names: &[&str]) -> Vec<Vec<String>> {
    let mut reader = csv::Reader::from_reader(csv.as_bytes());
    let header = reader.headers().unwrap().clone();
    let at = |name: &&str| header.iter().position(|known| known == *name).expect(name);
    let places: Vec<usize> = names.iter().map(at).collect();
    let rows = reader.records().map(|row| row.unwrap());
    rows.map(|row| places.iter().map(|&at| row[at].to_string()).collect()).collect()
}

#[test]
fn csv_has_every_metric_of_cells_and_of_runs() {
    let mut report = study();
    let f1 = MetricKind::F1;
    report.cells[1].mean.insert(f1, 0.25);
    report.cells[1].runs[0].metrics.insert(f1, 0.125);
    let csv = report.to_csv().unwrap();
    let cells = columns(&csv, &["method", "accuracy_mean", "f1_mean", "f1_spread", "seeds"]);
    assert_eq!(cells.len(), 10);
    assert!((cells[1][1].parse::<f64>().unwrap() - 0.525).abs() < 1e-12);
    assert_eq!(cells[1][2..], ["0.25", "", "1 2"]);
    assert_eq!(cells[9], ["itp", "", "", "", ""]);

    let csv = report.runs_to_csv().unwrap();
    let names =
        ["method", "learning_rate", "seed", "accuracy", "f1", "seconds", "bytes", "latency_ms"];
    let runs = columns(&csv, &names);
    assert_eq!(runs.len(), 20);
    assert_eq!(runs[2], ["dense", "5e-5", "1", "0.52", "0.125", "400", "4467776", "16"]);
    assert_eq!(runs[19], ["itp", "5e-5", "2", "", "", "", "", ""]);
    let known = columns(&csv, &["linear_ratio", "date", "machine", "error"]);
    assert!(known[2][0].parse::<f64>().unwrap() > 0.0);
    assert_eq!(known[2][1], "2026-03-01T18:05:09Z");
    assert!(known[2][2].starts_with("Abacus, 2 cores"));
    assert_eq!(known[18][3], "training: no luck");
}

#[test]
fn the_best_rate_is_one_of_the_cells_that_are_done() {
    let study = Study::parse(&GRID.replace("['dense', 'losparse', 'itp']", "['itp']")).unwrap();
    // Values of ratio 0.2 at both rates, then of 0.1, with two seeds each.
    let marks = |values: [Option<f64>; 8]| {
        let state = |value: Option<f64>| match value {
            None => RunState::Failed("no luck".into()),
            Some(value) if value.is_nan() => RunState::Waiting,
            Some(value) => {
                let mut report = report_for_tests();
                let metrics = &mut report.compacted[0].metrics;
                metrics.values.insert(metrics.primary, value);
                RunState::Finished(Box::new(report))
            }
        };
        let states: Vec<RunState> = values.into_iter().map(state).collect();
        let report = StudyReport::new(&study, &states);
        let marks: Vec<_> = report.cells.iter().map(|cell| cell.best_learning_rate).collect();
        (marks, report.chosen().len())
    };
    let waiting = Some(f64::NAN);
    let (yes, no) = (Some(true), Some(false));
    // The first of equal rates is best; one with a failed seed is not, however good its other seed.
    let done = [0.5, 0.7, 0.6, 0.6].map(Some);
    assert_eq!(
        marks([done[0], done[1], done[2], done[3], Some(0.9), None, Some(0.4), Some(0.4)]),
        { (vec![yes, no, no, yes], 2) }
    );
    // While a rival is still to be run there is no choice.
    assert_eq!(
        marks([Some(0.9), waiting, Some(0.5), Some(0.5), None, None, None, None]),
        (vec![None; 4], 0)
    );
}

#[test]
fn rates_are_compared_over_the_seeds_that_all_have() {
    let grid =
        GRID.replace("['dense', 'losparse', 'itp']", "['itp']").replace("[0.2, 0.1]", "[0.2]");
    let grid = grid.replace("[grid]", "[[grid]]").replace("[1e-4, 5e-5]", "[1e-4]");
    let grid = grid.replace("[1, 2]", "[1]");
    let more = "[[grid]]\nmethod = ['itp']\nratio = [0.2]\nlearning_rate = [5e-5]\nseed = [1, 2]\n";
    let study = Study::parse(&format!("{grid}{more}")).unwrap();
    let report = |values: [Option<f64>; 3]| {
        let states = values.map(|value| {
            let Some(value) = value else { return RunState::Failed("no luck".into()) };
            let mut report = report_for_tests();
            let metrics = &mut report.compacted[0].metrics;
            metrics.values.insert(metrics.primary, value);
            RunState::Finished(Box::new(report))
        });
        StudyReport::new(&study, &states)
    };
    // The second has the better mean, by a seed that the first has not.
    let marked = report([Some(0.7), Some(0.6), Some(0.9)]);
    let marks: Vec<_> = marked.cells.iter().map(|cell| cell.best_learning_rate).collect();
    assert_eq!(marks, [Some(true), Some(false)]);
    let failed = report([None, Some(0.6), None]).to_markdown(&[]);
    let line = "no learning rate has all its runs done: method itp, ratio 0.2.";
    assert_eq!(failed.matches(line).count(), 1, "{failed}");
}
