//! Runs that are killed, run out of disk space, or are resumed with other settings.
#![cfg(unix)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use super::cli::{Place, fails, json_lines, losparse, refs, stdout, text};

/// 1200 updates, a checkpoint every 4, pruning and dropout on.
const RUN: [&str; 10] = [
    "--epochs",
    "100",
    "--save-steps",
    "4",
    "--eval-steps",
    "12",
    "--interval",
    "2",
    "--keep",
    "last",
];

fn weights(place: &Place, output: &str) -> Vec<u8> {
    fs::read(place.path(output).join("model/model.safetensors")).unwrap()
}

fn read(place: &Place, output: &str, name: &str) -> Value {
    serde_json::from_slice(&fs::read(place.path(output).join(name)).unwrap()).unwrap()
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    entries.map(|entry| entry.unwrap().path()).collect()
}

fn half_written(checkpoints: &Path) -> bool {
    entries(checkpoints).iter().any(|path| path.extension().is_some_and(|e| e == "partial"))
}

fn newest(checkpoints: &Path) -> Option<PathBuf> {
    entries(checkpoints).into_iter().filter(|path| path.extension().is_none()).max()
}

/// Starts a run and kills it (SIGKILL) some milliseconds after its first new checkpoint, or during
/// the save after that.
fn run_and_kill(args: &[&str], checkpoints: &Path, milliseconds: u64, in_save: bool) {
    let before = newest(checkpoints);
    let mut child = losparse(args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let mut alive = || assert!(child.try_wait().unwrap().is_none(), "ended before it was killed");
    while newest(checkpoints) <= before {
        alive();
    }
    std::thread::sleep(Duration::from_millis(milliseconds));
    while in_save && !half_written(checkpoints) {
        alive();
    }
    child.kill().unwrap();
    child.wait().unwrap();
}

/// Kills a run several times, every second time during a save, and resumes it. The weights must
/// equal those of an undisturbed run.
fn kills_change_no_weight(kills: usize, more: &[&str]) {
    let place = Place::new();
    let settings = [&RUN[..], more].concat();
    let mut whole = place.run("compress", "whole", &settings);
    whole.push("--quiet".into());
    let done = losparse(&refs(&whole)).output().unwrap();
    assert!(done.status.success(), "{}", text(&done.stderr));

    let mut args = place.run("compress", "killed", &settings);
    args.push("--json".into());
    let checkpoints = place.path("killed").join("checkpoints");
    let mut in_save = 0;
    let mut random = 12345u64;
    for kill in 0..kills {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        run_and_kill(&refs(&args), &checkpoints, (random >> 33) % 20, kill % 2 == 1);
        in_save += usize::from(half_written(&checkpoints));
        if kill == 0 {
            args.push("--resume".into());
        }
    }
    assert!(in_save > 0, "no kill came during a save");
    let done = losparse(&refs(&args)).output().unwrap();
    assert!(done.status.success(), "{}", text(&done.stderr));
    assert!(!half_written(&checkpoints));
    assert!(weights(&place, "killed") == weights(&place, "whole"), "the weights differ");
    // The data of pictures are the same, too.
    let analysis = |output| read(&place, output, "analysis.json");
    let before = &analysis("whole")["importance_before"];
    assert!(before.as_array().unwrap().len() == 12, "{before}");
    assert_eq!(analysis("killed"), analysis("whole"));
    let losses = |output| {
        let report = read(&place, output, "report.json");
        let points: Vec<(usize, f64)> =
            serde_json::from_value(report["history_loss"].clone()).unwrap();
        points
    };
    let (killed, whole) = (losses("killed"), losses("whole"));
    assert_eq!((killed.len(), whole.len()), (200, 200));
    for (a, b) in killed.iter().zip(&whole) {
        assert!(a.0 == b.0 && (a.1 - b.1).abs() < 1e-9, "{a:?} {b:?}");
    }
}

#[test]
fn twenty_kills_change_no_weight() {
    kills_change_no_weight(20, &[]);
}

/// Pruned neurons are left out of the computation, also after a resume.
#[test]
fn kills_change_no_weight_where_regrowth_is_frozen() {
    kills_change_no_weight(6, &["--regrowth", "frozen"]);
}

/// No update is left, so the time of an update is unknown.
#[test]
fn a_run_killed_after_its_last_update_is_finished() {
    let place = Place::new();
    let mut args = place.run("compress", "run", &["--epochs", "2", "--interval", "2"]);
    args.push("--json".into());
    assert!(losparse(&refs(&args)).output().unwrap().status.success());
    let weights_before = weights(&place, "run");
    fs::remove_file(place.path("run").join("report.json")).unwrap();
    args.push("--resume".into());
    let done = losparse(&refs(&args)).output().unwrap();
    assert!(done.status.success(), "{}", text(&done.stderr));
    assert!(weights(&place, "run") == weights_before, "the weights differ");
    let report = read(&place, "run", "report.json");
    assert!(report["training"]["seconds_per_step"].is_null(), "{report}");
    let page = fs::read_to_string(place.path("run").join("report.md")).unwrap();
    assert!(!page.contains("NaN") && !page.contains("s an update"), "{page}");
    // The report can still be read.
    let [run, pictures] = ["run", "pictures"].map(|name| place.path(name).display().to_string());
    json_lines(&["inspect", &run, "--plots", &pictures]);
}

#[test]
fn a_full_disk_leaves_the_last_good_checkpoint() {
    let place = Place::new();
    let mut args = place.run("compress", "full", &RUN);
    args.push("--json".into());
    let checkpoints = place.path("full").join("checkpoints");
    run_and_kill(&refs(&args), &checkpoints, 0, false);
    let before = newest(&checkpoints).unwrap();

    // No file may grow beyond 16 kB, so writing the optimizer's moments fails as on a full disk.
    args.push("--resume".into());
    let script = "ulimit -f 32; exec \"$0\" \"$@\"";
    let refused = |args: &[String], parts: [&str; 2]| {
        let (code, message) = limited(script, args);
        assert_eq!(code, Some(1), "{message}");
        for part in parts {
            assert!(message.contains(part), "{message}");
        }
        message
    };
    let kept = "is kept: make room and go on with --resume";
    let message = refused(&args, [".bpk: could not be written: File too large", kept]);
    assert_eq!(newest(&checkpoints), Some(before), "{message}");

    let done = losparse(&refs(&args)).output().unwrap();
    assert!(done.status.success(), "{}", text(&done.stderr));

    let first = place.run("compress", "first", &RUN);
    refused(&first, [".bpk: could not be written: File too large", "no checkpoint is there yet"]);

    // The result is there before its pictures and report are written.
    let result = weights(&place, "full");
    fs::remove_file(place.path("full/report.json")).unwrap();
    fs::remove_file(place.path("full/report.html")).unwrap();
    let script = "ulimit -f 200; exec \"$0\" \"$@\"";
    let output = limited(script, &args);
    assert_eq!(output.0, Some(1), "{}", output.1);
    for part in ["File too large", "the model is saved in", "go on with --resume"] {
        assert!(output.1.contains(part), "{}", output.1);
    }
    assert!(weights(&place, "full") == result, "other weights");
}

/// Exit code and message of a run in a shell that runs `script` first.
fn limited(script: &str, args: &[String]) -> (Option<i32>, String) {
    let mut shell = Command::new("sh");
    shell.args(["-c", script, env!("CARGO_BIN_EXE_losparse")]).args(args);
    let output = shell.env_remove("LOSPARSE_DEVICE").stdin(Stdio::null()).output().unwrap();
    (output.status.code(), text(&output.stderr))
}

#[test]
fn another_recipe_or_no_checkpoint_cannot_be_resumed() {
    let place = Place::new();
    let mut args = place.run("finetune", "run", &["--epochs", "1"]);
    args.push("--resume".into());
    fails(&refs(&args), 1, &["checkpoints", "no checkpoint to resume from"]);
    let folder = place.arg("run");
    fails(&["finetune", "--resume", "-o", &folder], 1, &[&folder, "no run to resume"]);
    args.pop();
    assert!(losparse(&refs(&args)).output().unwrap().status.success());
    fails(&refs(&args), 1, &["holds an earlier run", "--resume", "--overwrite"]);
    args.extend(["--seed", "7", "--resume"].map(String::from));
    fails(
        &refs(&args),
        1,
        &["option --seed: 7", &folder, "started with 42", "leave the option out"],
    );
    fails(&["compress", "--resume", "-o", &folder], 1, &[&folder, "losparse finetune"]);
    // How the result is stored is no part of the training.
    stdout(&["finetune", "--resume", "-o", &folder, "--storage", "bf16"]);
    assert!(text(&fs::read(place.path("run/model/model.safetensors")).unwrap()).contains("BF16"));
    // A changed recipe, with a checkpoint that has the old one.
    let file = place.path("run/recipe.toml");
    let recipe = fs::read_to_string(&file).unwrap();
    fs::write(&file, recipe.replace("seed = 42", "seed = 7")).unwrap();
    let parts = ["step-00000012", "another recipe", "seed = 42", "seed = 7"];
    fails(&["finetune", "--resume", "-o", &folder], 1, &parts);
}

#[test]
fn a_run_that_stopped_early_is_done() {
    let place = Place::new();
    // With a tiny learning rate no evaluation is better than the first.
    let settings =
        ["--epochs", "8", "--early-stopping-patience", "2", "--keep", "last", "--lr", "1e-12"];
    let mut args = place.run("finetune", "early", &settings);
    // Remove the first of the two learning rates.
    let at = args.iter().position(|word| word == "--lr").unwrap();
    args.drain(at..at + 2);
    let steps = |args: &[String]| {
        let done = json_lines(&refs(args)).pop().unwrap();
        done["report"]["training"]["steps"].as_u64().unwrap()
    };
    assert_eq!(steps(&args), 36, "one evaluation and two that were no better");
    let before = weights(&place, "early");
    args.push("--resume".into());
    assert_eq!(steps(&args), 36);
    assert!(weights(&place, "early") == before, "the weights differ");
}

#[test]
fn a_checkpoint_evaluates_as_it_did_in_training() {
    let place = Place::new();
    for command in ["compress", "finetune"] {
        let args = place.run(command, command, &["--epochs", "3", "--keep", "last"]);
        assert!(losparse(&refs(&args)).output().unwrap().status.success());
        let checkpoint = newest(&place.path(command).join("checkpoints")).unwrap();
        let state = fs::read(checkpoint.join("state.json")).unwrap();
        let state: Value = serde_json::from_slice(&state).unwrap();
        let (_, metrics) = state["history"].as_array().unwrap().split_last().unwrap();
        assert_eq!(metrics.len(), 2, "an evaluation an epoch");
        let trained = &state["history"][2][1];
        let folder = checkpoint.display().to_string();
        let found = &json_lines(&["evaluate", &folder])[0]["result"]["metrics"];
        assert_eq!(found, trained, "{command}");

        // Other data than the run began with.
        let train = place.path("train.csv").display().to_string();
        let on_train = &json_lines(&["evaluate", &folder, "--dev", &train])[0]["result"]["metrics"];
        assert_eq!((&on_train["examples"], &found["examples"]), (&96.into(), &24.into()));

        let weights = fs::read(checkpoint.join("model.bpk")).unwrap();
        fs::write(checkpoint.join("model.bpk"), &weights[..weights.len() / 2]).unwrap();
        fails(&["evaluate", &folder], 1, &["model.bpk"]);
    }
}
