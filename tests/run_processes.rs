//! Runs as processes: signals, closed pipes, two processes on one folder, resuming from the folder
//! alone, paths that are not UTF-8.
#![cfg(unix)]

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader, Lines};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};

use serde_json::Value;

use super::cli::{Place, fails, losparse, refs, stdout, text};

/// 720 updates, two checkpoints.
const LONG: [&str; 6] = ["--epochs", "60", "--interval", "2", "--eval-steps", "360"];

/// A run and its events.
struct Running {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Running {
    /// Starts a run and waits for the first event with this `sign`.
    fn start(mut command: Command, sign: &str) -> Self {
        command.arg("--json").stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let found = lines.by_ref().any(|line| line.unwrap().contains(sign));
        assert!(found, "no {sign}: {}", text(&child.wait_with_output().unwrap().stderr));
        Self { child, lines }
    }

    fn send(&self, signal: &str) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args([signal, &id]).status().unwrap().success());
    }

    /// Waits for its end; returns its exit code and stderr.
    fn end(mut self) -> (Option<i32>, String) {
        self.lines.by_ref().for_each(|line| drop(line.unwrap()));
        let output = self.child.wait_with_output().unwrap();
        (output.status.code(), text(&output.stderr))
    }
}

fn start(args: &[String], sign: &str) -> Running {
    Running::start(losparse(&refs(args)), sign)
}

fn weights(place: &Place, output: &str) -> Vec<u8> {
    fs::read(place.path(output).join("model/model.safetensors")).unwrap()
}

/// Whether this process ignores SIGHUP; if so, its children do.
fn hangup_is_ignored() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    ignored.is_some_and(|mask| u64::from_str_radix(mask.trim(), 16).unwrap_or(0) & 1 != 0)
}

#[test]
fn a_signal_to_end_stops_as_ctrl_c_does_and_the_folder_is_all_it_takes_to_go_on() {
    let place = Place::new();
    // Paths relative to another folder than the one it is resumed from, and a learning rate that
    // depends on the model.
    let mut args: Vec<String> = place.run("compress", "whole", &LONG);
    let rate = args.iter().position(|word| word == "--lr").unwrap();
    args.drain(rate..rate + 2);
    let here = format!("{}/", place.arg(""));
    let here = here.trim_end_matches('/').to_string() + "/";
    args.iter_mut().for_each(|word| *word = word.replace(&here, ""));
    let command = |output: &str| {
        let mut args = args.clone();
        args[3] = output.to_string();
        let mut command = losparse(&refs(&args));
        command.current_dir(place.path(""));
        command
    };
    assert!(command("whole").arg("--quiet").output().unwrap().status.success());
    let signals = [("-TERM", "terminated"), ("-HUP", "hung-up"), ("-INT", "interrupted")];
    // Under `nohup`, the runs below ignore SIGHUP as well.
    let heeded = |signal: &str| signal != "-HUP" || !hangup_is_ignored();
    for (signal, output) in signals.into_iter().filter(|(signal, _)| heeded(signal)) {
        let running = Running::start(command(output), "\"step\"");
        running.send(signal);
        let (code, message) = running.end();
        assert_eq!(code, Some(130), "{signal}: {message}");
        assert!(message.contains("error: interrupted: "), "{signal}: {message}");
        assert!(message.contains("go on with: losparse compress "), "{signal}: {message}");
        let folder = place.arg(output);
        stdout(&["compress", "--resume", "-o", &folder, "--device", "flex", "--quiet"]);
        assert!(weights(&place, output) == weights(&place, "whole"), "{signal}: other weights");
        let report = fs::read(place.path(output).join("report.json")).unwrap();
        let report: Value = serde_json::from_slice(&report).unwrap();
        assert_eq!(report["training"]["resumed"], Value::from(true));
    }
}

#[test]
fn a_run_goes_on_wherever_its_files_have_moved() {
    let place = Place::new();
    stdout(&refs(&place.run("compress", "whole", &LONG)));
    let running = start(&place.run("compress", "run", &LONG), "\"step\"");
    running.send("-TERM");
    assert_eq!(running.end().0, Some(130));
    let other = place.copy("other");
    let weights_file = other.join("model.safetensors");
    let mut bytes = fs::read(&weights_file).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&weights_file, bytes).unwrap();
    for (from, to) in [("run", "moved"), ("model", "model-2"), ("train.csv", "train-2.csv")] {
        fs::rename(place.path(from), place.path(to)).unwrap();
    }
    let (folder, model, train) =
        (place.arg("moved"), place.arg("model-2"), place.arg("train-2.csv"));
    let resume = |more: &[&str]| {
        let words: Vec<String> = ["compress", "--resume", "-o", &folder].map(String::from).into();
        words.into_iter().chain(more.iter().map(|word| word.to_string())).collect::<Vec<_>>()
    };
    let gone = "is not there, and the run to resume was started with it";
    fails(&refs(&resume(&[])), 1, &[&place.arg("model"), gone, "new path as MODEL"]);
    fails(&refs(&resume(&[&model])), 1, &[&place.arg("train.csv"), gone, "with --train"]);
    let changed = "the starting model's weights has changed";
    fails(&refs(&resume(&[&place.arg("other"), "--train", &train])), 1, &[changed]);
    let running = start(&resume(&[&model, "--train", &train]), "\"step\"");
    running.send("-TERM");
    assert_eq!(running.end().0, Some(130));
    // The new places are remembered.
    let checkpoints = fs::read_dir(place.path("moved/checkpoints")).unwrap();
    let last = checkpoints.map(|entry| entry.unwrap().path()).max().unwrap();
    stdout(&["evaluate", &last.display().to_string()]);
    stdout(&refs(&resume(&[])));
    assert!(weights(&place, "moved") == weights(&place, "whole"), "other weights");
}

#[test]
fn a_run_that_was_told_to_outlive_its_terminal_does() {
    let place = Place::new();
    let args = place.run("finetune", "run", &["--epochs", "20"]);
    let mut shell = Command::new("sh");
    shell.args(["-c", "trap '' HUP; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_losparse")]);
    shell.args(&args).env_remove("LOSPARSE_DEVICE").stdin(Stdio::null());
    let running = Running::start(shell, "\"step\"");
    running.send("-HUP");
    let (code, message) = running.end();
    assert_eq!(code, Some(0), "{message}");
    assert!(place.path("run/report.json").is_file());
}

#[test]
fn a_run_does_not_end_with_whoever_read_its_events() {
    let place = Place::new();
    let Running { child, lines } =
        start(&place.run("finetune", "run", &["--epochs", "3"]), "\"stage\"");
    drop(lines);
    let output = child.wait_with_output().unwrap();
    let message = text(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{message}");
    assert_eq!(message.matches("events are no longer printed").count(), 1, "{message}");
    let report = fs::read(place.path("run/report.json")).unwrap();
    let report: Value = serde_json::from_slice(&report).unwrap();
    assert_eq!(report["training"]["steps"], Value::from(36));
}

#[test]
fn two_runs_on_one_folder_are_one_and_a_refusal() {
    let place = Place::new();
    let args = place.run("compress", "run", &LONG);
    let first = start(&args, "\"step\"");
    let id = format!("process {} on ", first.child.id());
    let command = "losparse compress ";
    for more in ["--overwrite", "--resume"] {
        let second = [&refs(&args)[..], &[more]].concat();
        fails(&second, 1, &[&place.arg("run"), "is in use by", &id, command, "since 20"]);
    }
    let tuned = place.run("finetune", "run", &["--overwrite"]);
    fails(&refs(&tuned), 1, &["is in use by", &id]);
    // The first run goes on; the claim of a killed run is free.
    first.send("-KILL");
    assert_eq!(first.end().0, None);
    assert!(place.path("run/.lock").is_file());
    let again = start(&[&args[..], &["--resume".to_string()]].concat(), "\"step\"");
    again.send("-TERM");
    assert_eq!(again.end().0, Some(130));
    assert!(!place.path("run/.lock").exists());
    // Whether a process on another machine is alive is unknown here.
    let left = r#"{"pid":1,"host":"elsewhere","started":1,"since":"2026-01-01T00:00:00Z","command":"losparse compress x","claim":0}"#;
    place.write("run/.lock", left);
    let resumed = ["compress", "--resume", "-o", &place.arg("run")].map(String::from);
    let lock = place.arg("run/.lock");
    fails(&refs(&resumed), 1, &["process 1 on elsewhere", "if it is gone, remove", &lock]);
    fs::remove_file(lock).unwrap();
    stdout(&refs(&resumed));
}

/// Kills a run after each stage that follows training, and within one.
#[test]
fn kills_while_the_result_is_saved_lose_nothing() {
    let place = Place::new();
    let settings = ["--epochs", "2", "--interval", "2"];
    let args = place.run("compress", "whole", &settings);
    stdout(&refs(&args));
    let whole = weights(&place, "whole");
    let stages =
        ["Evaluating the trained", "Compacting", "Trying", "Saving", "as saved", "Measuring"];
    for (at, stage) in stages.iter().enumerate() {
        let output = format!("killed-{at}");
        let mut args = place.run("compress", &output, &settings);
        for milliseconds in [0, 2, 5, 10, 20, 40] {
            let running = start(&args, stage);
            std::thread::sleep(std::time::Duration::from_millis(milliseconds));
            running.send("-KILL");
            running.end();
            if !args.contains(&"--resume".to_string()) {
                args = ["compress", "--resume", "-o", &place.arg(&output)].map(String::from).into();
            }
        }
        stdout(&refs(&args));
        assert!(weights(&place, &output) == whole, "{stage}: other weights");
        let left = fs::read_dir(place.path(&output)).unwrap().map(|entry| entry.unwrap().path());
        let mut hidden = left
            .filter(|path| path.file_name().is_some_and(|name| name.as_bytes().starts_with(b".")));
        assert_eq!(hidden.next(), None);
    }
}

/// Copies model and data of a place to the paths that `to` gives their names.
fn copy_place(place: &Place, to: impl Fn(&str) -> PathBuf) {
    for name in ["model", "train.csv", "dev.csv"] {
        let to = to(name);
        match place.path(name).is_dir() {
            true => {
                fs::create_dir(&to).unwrap();
                for entry in fs::read_dir(place.path(name)).unwrap() {
                    let entry = entry.unwrap();
                    fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
                }
            }
            false => drop(fs::copy(place.path(name), to).unwrap()),
        }
    }
}

/// On Linux, file names are any bytes.
#[cfg(target_os = "linux")]
#[test]
fn paths_that_are_not_utf_8_are_used_or_refused() {
    let place = Place::new();
    let odd = |name: &str| {
        place.path("").join(OsStr::from_bytes(&[&b"\xff"[..], name.as_bytes()].concat()))
    };
    let run = |args: &[&OsStr]| {
        let output = losparse(&[]).args(args).output().unwrap();
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        assert!(!err.contains("panicked"), "{args:?}: {err}");
        (output.status.code(), out, err)
    };
    fn words(words: &[String]) -> Vec<&OsStr> {
        words.iter().map(OsStr::new).collect()
    }
    copy_place(&place, odd);
    let (model, dev) = (odd("model"), odd("dev.csv"));
    // Commands that write no recipe accept any path.
    fn plain(words: &[&'static str]) -> Vec<&'static OsStr> {
        words.iter().map(|word| OsStr::new(*word)).collect()
    }
    let columns =
        plain(&["--text", "review", "--label", "mood", "--max-length", "12", "--json", "--dev"]);
    let mut evaluate = vec![OsStr::new("evaluate"), model.as_os_str()];
    evaluate.extend(columns.into_iter().chain([dev.as_os_str()]));
    let (code, out, err) = run(&evaluate);
    assert_eq!(code, Some(0), "{err}");
    assert!(out.contains("accuracy"), "{out}");
    for json in [plain(&[]), plain(&["--json"])] {
        for (command, more) in [("inspect", plain(&[])), ("predict", plain(&["the film"]))] {
            let mut args = vec![OsStr::new(command), model.as_os_str()];
            args.extend(more.iter().chain(&json));
            let (code, _, err) = run(&args);
            assert_eq!(code, Some(0), "{command}: {err}");
        }
    }
    // Commands that write a recipe reject the paths that it would hold.
    let usual = place.run("compress", "run", &["--epochs", "1", "--interval", "2"]);
    for (at, name, option) in
        [(1, "model", "model"), (5, "train.csv", "--train"), (7, "dev.csv", "--dev")]
    {
        let path = odd(name);
        let mut args: Vec<&OsStr> = words(&usual);
        args[at] = path.as_os_str();
        let (code, _, err) = run(&args);
        assert_eq!(code, Some(1), "{err}");
        let option = format!("option {option}: ");
        assert!(err.contains(&option) && err.contains("UTF-8"), "{err}");
        assert!(!place.path("run").exists());
    }
    // The output folder may have any name.
    let output = odd("run");
    let mut args: Vec<&OsStr> = words(&usual);
    args[3] = output.as_os_str();
    args.push("--json".as_ref());
    let (code, _, err) = run(&args);
    assert_eq!(code, Some(0), "{err}");
    assert!(output.join("report.json").is_file());
    let resume: [&OsStr; 4] =
        ["compress".as_ref(), "-o".as_ref(), output.as_os_str(), "--resume".as_ref()];
    let (code, _, err) = run(&resume);
    assert_eq!(code, Some(0), "{err}");
    // So may the folder and the grid file of a study.
    let grid = odd("grid.toml");
    let [model, train, dev] = ["model", "train.csv", "dev.csv"].map(|name| place.path(name));
    let text = format!(
        "[base]\nmodel = {model:?}\n[base.task]\nname = 'reviews'\ntrain = {train:?}\ndev = {dev:?}\n\
         text = 'review'\nlabel = 'mood'\nmax_length = 12\n[base.training]\nepochs = 1\n\
         batch_size = 8\n[grid]\nmethod = ['dense']\n"
    );
    fs::write(&grid, text).unwrap();
    let study = odd("study");
    let args: [&OsStr; 4] = ["study".as_ref(), grid.as_os_str(), "-o".as_ref(), study.as_os_str()];
    let (code, _, err) = run(&args);
    assert_eq!(code, Some(0), "{err}");
    assert!(study.join("study.json").is_file());
}
