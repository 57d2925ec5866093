//! Studies, run as users run them: finished runs stay, killed ones go on, failed ones are recorded.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, SystemTime};

use serde_json::Value;

use super::cli::{Place, fails, json_lines, losparse, stdout};

fn grid(place: &Place, epochs: usize, lists: &str) -> PathBuf {
    let [model, train, dev] = ["model", "train.csv", "dev.csv"].map(|name| place.path(name));
    let text = format!(
        "[base]\nmodel = {model:?}\n[base.task]\nname = 'reviews'\ntrain = {train:?}\ndev = {dev:?}\n\
         text = 'review'\nlabel = 'mood'\nmax_length = 12\n[base.training]\nepochs = {epochs}\n\
         batch_size = 8\nlearning_rate = 5e-3\nsave_steps = 4\neval_steps = 12\n\
         [base.method]\ninterval = 2\n[grid]\n{lists}"
    );
    let file = place.path("grid.toml");
    fs::write(&file, text).unwrap();
    file
}

fn written(path: PathBuf) -> SystemTime {
    fs::metadata(path).unwrap().modified().unwrap()
}

fn runs(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().map(|entry| entry.unwrap().path());
    let mut runs: Vec<PathBuf> =
        entries.filter(|path| path.is_dir() && !path.ends_with("plots")).collect();
    runs.sort();
    runs
}

fn json(path: PathBuf) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

#[test]
fn a_study_is_done_once_and_extended() {
    let place = Place::new();
    let lists = "method = ['dense', 'losparse', 'itp']\nratio = [0.4]\nlow_rank_share = [0.5]\n";
    let file = grid(&place, 2, &format!("{lists}seed = [1]\n"));
    let [file, folder] = [file, place.path("study")].map(|path| path.display().to_string());
    let args = ["study", &file, "-o", &folder];
    assert!(stdout(&[&args[..], &["--dry-run"]].concat()).contains("3 runs"));
    assert!(!Path::new(&folder).exists());
    assert!(stdout(&args).contains("1 of 1"));

    let folder = PathBuf::from(&folder);
    let first = runs(&folder);
    assert_eq!(first.len(), 3);
    for run in &first {
        let names = ["report.json", "report.md", "report.html", "recipe.toml", "analysis.json"];
        assert!(names.iter().all(|name| run.join(name).is_file()), "{run:?}");
        assert!(!run.join("model").exists() && !run.join("checkpoints").exists(), "{run:?}");
    }
    for name in ["study.md", "study.csv", "plots/quality-reviews.png", "plots/latency-reviews.svg"]
    {
        assert!(folder.join(name).is_file(), "{name}");
    }
    let before: Vec<_> = first.iter().map(|run| written(run.join("report.json"))).collect();

    // Another seed: what is done stays as it is.
    grid(&place, 2, &format!("{lists}seed = [1, 2]\n"));
    stdout(&args);
    let after: Vec<_> = first.iter().map(|run| written(run.join("report.json"))).collect();
    assert_eq!(before, after);
    assert_eq!(runs(&folder).len(), 6);
    let study = json(folder.join("study.json"));
    let cells = study["cells"].as_array().unwrap();
    assert_eq!((cells.len(), &study["finished"]), (3, &6.into()));
    for cell in cells {
        let seeds = cell["runs"].as_array().unwrap().iter();
        let values: Vec<f64> = seeds.map(|r| r["metrics"]["accuracy"].as_f64().unwrap()).collect();
        let mean = cell["mean"]["accuracy"].as_f64().unwrap();
        assert!((mean - (values[0] + values[1]) / 2.0).abs() < 1e-12, "{cell}");
        let spread = cell["spread"]["accuracy"].as_f64().unwrap();
        assert!((spread - (values[0] - values[1]).abs() / 2f64.sqrt()).abs() < 1e-12, "{cell}");
    }
}

#[test]
fn a_failed_run_is_recorded_and_the_others_done() {
    let place = Place::new();
    // A low-rank part beyond the ratio cannot be.
    let file = grid(&place, 1, "low_rank_ratio = [0.5, 0.1]\nratio = [0.3]\n");
    let [file, folder] = [file, place.path("study")].map(|path| path.display().to_string());
    fails(&["study", &file, "-o", &folder], 1, &["1 of 2 runs failed"]);
    let study = json(PathBuf::from(&folder).join("study.json"));
    assert_eq!((&study["finished"], &study["failed"]), (&1.into(), &1.into()));
    let text = fs::read_to_string(PathBuf::from(&folder).join("study.md")).unwrap();
    assert!(text.contains("low_rank_ratio: 0.5 is above the ratio"), "{text}");
}

#[test]
fn a_killed_study_goes_on_from_its_checkpoint() {
    let place = Place::new();
    let file = grid(&place, 60, "method = ['losparse']\nratio = [0.4]\n");
    let [file, folder] = [file, place.path("study")].map(|path| path.display().to_string());
    let args = ["study", &file, "-o", &folder];
    let mut child = losparse(&args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let checkpoint = || {
        let run = runs(Path::new(&folder)).pop()?;
        let checkpoints = fs::read_dir(run.join("checkpoints")).ok()?;
        checkpoints.filter_map(|e| Some(e.ok()?.path())).find(|path| path.extension().is_none())
    };
    while checkpoint().is_none() {
        assert!(child.try_wait().unwrap().is_none(), "ended before it was killed");
        std::thread::sleep(Duration::from_millis(5));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    // While it is stopped, a checkpoint has pictures of its own.
    let [at, pictures] =
        [checkpoint().unwrap(), place.path("pictures")].map(|path| path.display().to_string());
    json_lines(&["inspect", &at, "--plots", &pictures]);
    for name in ["importance.png", "kept.svg", "spectra.png"] {
        assert!(place.path("pictures").join(name).is_file(), "{name}");
    }
    let events = json_lines(&args);
    let first = events.iter().find(|event| event["event"] == "step").unwrap();
    assert!(first["step"].as_u64().unwrap() > 1, "{first}");
    let run = runs(Path::new(&folder)).pop().unwrap();
    assert_eq!(json(run.join("report.json"))["training"]["resumed"], true);
    let run = run.display().to_string();
    json_lines(&["inspect", &run, "--plots", &pictures]);
    assert!(place.path("pictures").join("schedule.png").is_file());
}
