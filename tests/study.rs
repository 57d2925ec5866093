//! Studies: finished runs stay, killed runs are resumed, failed runs are recorded.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use losparse::study::{RunState, Study, states};
use serde_json::Value;

use super::cli::{Place, fails, json_lines, losparse, stdout, text};

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
        entries.filter(|path| path.join("recipe.toml").is_file()).collect();
    runs.sort();
    runs
}

fn json(path: PathBuf) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// The reports of all runs by method and seed.
fn reports(folder: &Path) -> BTreeMap<(String, u64), Value> {
    let study = json(folder.join("study.json"));
    let mut reports = BTreeMap::new();
    for cell in study["cells"].as_array().unwrap() {
        for run in cell["runs"].as_array().unwrap() {
            let report = json(folder.join(run["folder"].as_str().unwrap()).join("report.json"));
            let method = cell["settings"]["method"].as_str().unwrap().to_string();
            reports.insert((method, run["seed"].as_u64().unwrap()), report);
        }
    }
    reports
}

/// The runs of each study in the repository, from which its tables are made.
#[test]
fn the_studies_of_the_zoo_plan_what_they_say() {
    let expected = [
        ("movie-sentiment/study", 18),
        ("studies/defaults", 18),
        ("studies/mrpc-minilm", 30),
        ("studies/recommended", 9),
        ("studies/stsb-minilm", 50),
        ("studies/stsb-minilm-settings", 24),
        ("studies/stsb-xsmall", 20),
    ];
    let zoo = Path::new(env!("CARGO_MANIFEST_DIR")).join("models");
    for (name, runs) in expected {
        let study = Study::read(zoo.join(format!("{name}.toml"))).unwrap();
        assert_eq!(study.runs.len(), runs, "{name}");
        for run in &study.runs {
            run.recipe.validate().unwrap();
        }
    }
    let here = fs::read_dir(zoo.join("studies")).unwrap().map(|entry| entry.unwrap().path());
    let files = here.filter(|path| path.extension().is_some_and(|ending| ending == "toml")).count();
    assert_eq!(files, expected.len() - 1);
}

/// The runs in the repository are those of its studies, with equal settings.
#[test]
fn results_of_the_zoo_are_of_its_studies() {
    let studies = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/studies");
    let folders = fs::read_dir(studies.join("results")).unwrap().map(|entry| entry.unwrap().path());
    for folder in folders {
        let name = folder.file_name().unwrap().to_str().unwrap().to_string();
        let study = Study::read(studies.join(format!("{name}.toml"))).unwrap();
        let mut finished = 0;
        for state in states(&study, &folder).unwrap() {
            match state {
                RunState::Finished(_) => finished += 1,
                RunState::Failed(error) => panic!("{name}: {error}"),
                RunState::Waiting => {}
            }
        }
        assert_eq!((finished > 0, finished), (true, runs(&folder).len()), "{name}");
    }
}

#[test]
fn a_study_of_every_method_is_done_once_and_extended() {
    let place = Place::wide(32);
    let lists = "method = ['dense', 'losparse', 'itp', 'low-rank', 'movement', 'one-shot']\n\
                 ratio = [0.4]\nlow_rank_share = [0.5]\n";
    let file = grid(&place, 2, &format!("{lists}seed = [1]\n"));
    let [file, folder] = [file, place.path("study")].map(|path| path.display().to_string());
    let args = ["study", &file, "-o", &folder];
    assert!(stdout(&[&args[..], &["--dry-run"]].concat()).contains("6 runs"));
    assert!(!Path::new(&folder).exists());
    assert!(stdout(&args).contains("1 of 1"));

    let folder = PathBuf::from(&folder);
    let first = runs(&folder);
    assert_eq!(first.len(), 6);
    for run in &first {
        let names = ["report.json", "report.md", "report.html", "recipe.toml", "analysis.json"];
        assert!(names.iter().all(|name| run.join(name).is_file()), "{run:?}");
        assert!(!run.join("model").exists() && !run.join("checkpoints").exists(), "{run:?}");
    }
    for name in [
        "study.md",
        "study.csv",
        "runs.csv",
        "plots/quality-reviews.png",
        "plots/latency-reviews.svg",
    ] {
        assert!(folder.join(name).is_file(), "{name}");
    }
    let reports = reports(&folder);
    check_methods(&reports);
    let study = json(folder.join("study.json"));
    for cell in study["cells"].as_array().unwrap().iter().filter(|cell| !cell["ratio"].is_null()) {
        let stored = cell["linear_ratio"].as_f64().unwrap();
        // ITP also narrows the networks whose neurons it prunes.
        assert!((0.2..0.6).contains(&stored), "{cell}");
    }
    let dense = &reports[&("dense".to_string(), 1)];
    assert!(dense["method"].is_null() && dense["training"]["best_of"] == 2, "{dense}");
    let command = format!("losparse study {file} -o {}", folder.display());
    assert_eq!(dense["command"], Value::from(command));
    assert_eq!(dense["machine"]["device"], "flex");
    let text = fs::read_to_string(folder.join("study.md")).unwrap();
    for part in ["Machine: ", "device flex; 20", "## LoSparse minus ITP", "| accuracy | "] {
        assert!(text.contains(part), "no {part:?} in\n{text}");
    }

    let picture = fs::read_to_string(folder.join("plots/importance-reviews-0.4.svg")).unwrap();
    assert!(picture.contains("losparse: ") && picture.contains("itp: "), "{picture}");
    // Compressed runs are compared with the dense run.
    for report in reports.values() {
        match report["method"].is_null() {
            true => assert!(report["baseline"].is_null(), "{report}"),
            false => assert_eq!(report["baseline"]["metrics"], dense["trained"]),
        }
    }
    // `inspect` draws the same pictures from the study's folder.
    let pictures = place.path("pictures");
    let study = folder.display().to_string();
    stdout(&["inspect", &study, "--plots", &pictures.display().to_string()]);
    for name in ["quality-reviews", "latency-reviews", "importance-reviews-0.4"] {
        let picture = |folder: &Path| fs::read(folder.join(format!("{name}.svg"))).unwrap();
        assert_eq!(picture(&pictures), picture(&folder.join("plots")), "{name}");
    }
    let before: Vec<_> = first.iter().map(|run| written(run.join("report.json"))).collect();

    // With another seed, finished runs stay as they are.
    grid(&place, 2, &format!("{lists}seed = [1, 2]\n"));
    stdout(&args);
    let after: Vec<_> = first.iter().map(|run| written(run.join("report.json"))).collect();
    assert_eq!(before, after);
    assert_eq!(runs(&folder).len(), 12);
    let study = json(folder.join("study.json"));
    let cells = study["cells"].as_array().unwrap();
    assert_eq!((cells.len(), &study["finished"]), (6, &12.into()));
    assert_eq!(study["gains"][0]["seeds"], Value::from([1, 2].to_vec()));
    check_means(cells);
}

/// Checks the settings and the evaluations of each method's run with seed 1.
fn check_methods(reports: &BTreeMap<(String, u64), Value>) {
    // Settings of each method, and the number of evaluations that its result is the best of. Of the
    // two, at updates 12 and 24, those at the final ratio count.
    for (method, share, importance, curve, best_of) in [
        ("losparse", 0.2, "sensitivity", "cubic", None),
        ("itp", 0.0, "sensitivity", "cubic", None),
        ("low-rank", 0.4, "", "", Some(2)),
        ("movement", 0.0, "movement", "cubic", None),
        ("one-shot", 0.0, "magnitude", "one_shot", Some(2)),
    ] {
        let report = &reports[&(method.to_string(), 1)];
        let settings = &report["method"];
        assert_eq!(settings["low_rank_ratio"].as_f64(), Some(share), "{method}");
        let pruning = &settings["pruning"];
        assert_eq!(pruning["importance"].as_str().unwrap_or_default(), importance, "{method}");
        assert_eq!(pruning["schedule"]["curve"].as_str().unwrap_or_default(), curve, "{method}");
        assert_eq!(report["training"]["best_of"].as_u64(), best_of, "{method}");
        let moved = report["agreement"]["largest_logit_difference"].as_f64().unwrap();
        assert!(moved < 1e-4, "{method}: {moved}");
        let layers = report["account"]["layers"].as_array().unwrap();
        let rank = layers.iter().map(|layer| layer["rank"].as_u64().unwrap()).sum::<u64>();
        assert_eq!(rank > 0, share > 0.0, "{method}");
    }
}

/// Checks mean and spread of cells of two runs.
fn check_means(cells: &[Value]) {
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
    // More tokens than the model's 24: known once the model is read.
    let file = grid(&place, 1, "'task.max_length' = [512, 12]\nratio = [0.4]\n");
    let [file, folder] = [file, place.path("study")].map(|path| path.display().to_string());
    fails(&["study", &file, "-o", &folder], 1, &["1 of 2 runs failed"]);
    let study = json(PathBuf::from(&folder).join("study.json"));
    assert_eq!((&study["finished"], &study["failed"]), (&1.into(), &1.into()));
    let text = fs::read_to_string(PathBuf::from(&folder).join("study.md")).unwrap();
    assert!(text.contains("512 tokens are more than the model's 24"), "{text}");
}

#[test]
fn impossible_settings_of_one_run_are_found_before_any_run() {
    let place = Place::new();
    let folder = place.arg("study");
    for (lists, parts) in [
        (
            "low_rank_ratio = [0.1, 0.5]\nratio = [0.3]\n",
            ["0.5 is above the ratio", "(in the run reviews-"],
        ),
        (
            "'training.batch_size' = [8, 0]\n",
            ["batch_size: must be at least 1", "(in the run reviews-"],
        ),
        (
            "model = ['model', 'moved']\n",
            ["moved: no such file or folder", "(in the run reviews-moved-"],
        ),
    ] {
        let lists = lists.replace("'model',", &format!("'{}',", place.arg("model")));
        let file = grid(&place, 1, &lists).display().to_string();
        for more in [&["--dry-run"][..], &[]] {
            fails(&[&["study", &file, "-o", &folder], more].concat(), 1, &parts);
        }
        assert!(!place.path("study").exists());
    }
}

#[test]
fn runs_on_data_that_changed_since_are_told() {
    let place = Place::new();
    let folder = place.arg("study");
    let file = grid(&place, 1, "ratio = [0.4]\n").display().to_string();
    stdout(&["study", &file, "-o", &folder]);
    let rows = fs::read_to_string(place.path("dev.csv")).unwrap();
    place.write("dev.csv", rows.replace("very", "is"));
    let file = grid(&place, 1, "ratio = [0.4, 0.3]\n").display().to_string();
    fails(&["study", &file, "-o", &folder], 1, &["1 of 2 runs failed"]);
    let text = fs::read_to_string(place.path("study/study.md")).unwrap();
    assert!(text.contains("the evaluation data, or its order, has changed since"), "{text}");
}

/// A failed run stops its own training, not the study.
#[test]
fn a_run_that_diverges_is_recorded_and_the_next_one_done() {
    let place = Place::new();
    let file =
        grid(&place, 4, "method = ['losparse']\nratio = [0.4]\nlearning_rate = [1e30, 5e-3]\n");
    let [file, folder] = [file, place.path("study")].map(|path| path.display().to_string());
    // Twice, since a resumed study tries failed runs again.
    for _ in 0..2 {
        fails(&["study", &file, "-o", &folder], 1, &["1 of 2 runs failed"]);
        let study = json(PathBuf::from(&folder).join("study.json"));
        assert_eq!((&study["finished"], &study["failed"]), (&1.into(), &1.into()));
    }
    let text = fs::read_to_string(PathBuf::from(&folder).join("study.md")).unwrap();
    assert!(text.contains("not finite"), "{text}");
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
    // Draw a checkpoint of the stopped study.
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

/// Metrics of all runs by folder.
fn metrics(folder: &Path) -> BTreeMap<String, Value> {
    let study = json(folder.join("study.json"));
    assert_eq!((&study["failed"], &study["waiting"]), (&0.into(), &0.into()));
    let cells = study["cells"].as_array().unwrap().iter();
    let runs = cells.flat_map(|cell| cell["runs"].as_array().unwrap());
    runs.map(|run| (run["folder"].as_str().unwrap().to_string(), run["metrics"].clone())).collect()
}

#[test]
fn devices_share_a_study_and_do_every_run_once() {
    let place = Place::new();
    let file = grid(&place, 2, "method = ['losparse', 'itp']\nratio = [0.4]\nseed = [1, 2, 3]\n");
    let [file, serial, shared] =
        [file, place.path("serial"), place.path("shared")].map(|path| path.display().to_string());
    let args = |folder| ["study", &file, "-o", folder, "--threads", "1"];
    stdout(&args(&serial));
    let events = json_lines(&[&args(&shared)[..], &["--devices", "flex,flex"]].concat());
    let mut begun: BTreeMap<String, usize> = BTreeMap::new();
    for event in &events {
        let message = event["message"].as_str().unwrap_or_default();
        if let Some((_, folder)) = message.split_once(" of 6: ") {
            *begun.entry(folder.to_string()).or_default() += 1;
            assert!(event["device"].as_str().unwrap().starts_with("flex"), "{event}");
        }
    }
    let [serial, shared] = [serial, shared].map(PathBuf::from);
    assert_eq!(begun, metrics(&serial).into_keys().map(|folder| (folder, 1)).collect());
    assert_eq!(metrics(&shared), metrics(&serial));
    assert_eq!(events.last().unwrap()["event"], "done");
    let reports = reports(&shared);
    let command = reports.values().next().unwrap()["command"].as_str().unwrap();
    assert!(command.ends_with("--devices flex,flex --json"), "{command}");
}

#[cfg(unix)]
#[test]
fn ctrl_c_stops_the_processes_of_all_devices() {
    let place = Place::new();
    let file = grid(&place, 60, "method = ['losparse']\nratio = [0.4]\nseed = [1, 2]\n");
    let [file, folder] = [file, place.path("study")].map(|path| path.display().to_string());
    let args = ["study", &file, "-o", &folder];
    let mut child = losparse(&[&args[..], &["--devices", "flex,flex"]].concat())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let has_checkpoint = |run: &PathBuf| {
        let checkpoints = fs::read_dir(run.join("checkpoints")).into_iter().flatten();
        checkpoints.filter_map(|e| Some(e.ok()?.path())).any(|path| path.extension().is_none())
    };
    while runs(Path::new(&folder)).iter().filter(|run| has_checkpoint(run)).count() < 2 {
        assert!(child.try_wait().unwrap().is_none(), "ended before it was stopped");
        std::thread::sleep(Duration::from_millis(5));
    }
    // Only the first process gets the signal.
    let kill = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(kill.success());
    let output = child.wait_with_output().unwrap();
    let message = text(&output.stderr);
    assert_eq!(output.status.code(), Some(130), "{message}");
    assert!(message.contains("flex: ") && message.contains("flex (2): "), "{message}");
    // No process works on it any more, so one process can finish both runs.
    stdout(&args);
    for run in runs(Path::new(&folder)) {
        assert_eq!(json(run.join("report.json"))["training"]["resumed"], true, "{run:?}");
    }
}

#[test]
fn a_device_that_is_not_there_is_told() {
    let place = Place::new();
    let file = grid(&place, 1, "method = ['itp']\nratio = [0.4]\n").display().to_string();
    let folder = place.path("study").display().to_string();
    let devices = if cfg!(feature = "rocm") { "metal" } else { "rocm:0" };
    let args = ["study", &file, "-o", &folder, "--devices", devices];
    fails(&args, 1, &["1 runs were not done", devices, "not in this build"]);
    fails(&[&args[..5], &["tpu"]].concat(), 2, &["--devices", "tpu"]);
}
