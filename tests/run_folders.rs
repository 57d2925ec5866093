//! Folders of runs that were stopped at any update, damaged in any file, continued with other data,
//! or hold other files. The runs are calls of the library in this process, so that they stop at an
//! exact update. Their models have no dropout, whose random generator all tests of the process
//! share.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use burn::tensor::Device;
use losparse::Error;
use losparse::train::{Event, Interrupt, Recipe, RunOptions, compress, finetune};
use serde_json::Value;

use super::place::Place;
use super::training::without_dropout;

/// 12 updates an epoch, a checkpoint every 2, pruning on.
pub(super) fn recipe(place: &Place, more: &str) -> Recipe {
    let [model, train, dev] = ["model", "train.csv", "dev.csv"].map(|name| place.arg(name));
    let text = format!(
        "model = '{model}'\n[task]\nname = 'reviews'\ntrain = '{train}'\ndev = '{dev}'\n\
         text = 'review'\nlabel = 'mood'\nmax_length = 12\n[training]\nbatch_size = 8\n\
         learning_rate = 5e-3\nepochs = 1\neval_steps = 4\nsave_steps = 2\n{more}\n\
         [method]\ninterval = 2\ninitial_warmup_steps = 2\nfinal_warmup_steps = 6\n"
    );
    Recipe::parse(&text).unwrap()
}

/// Options of a run that stops after update `stop`.
pub(super) fn options(place: &Place, output: &str, stop: Option<usize>) -> RunOptions {
    let interrupt = Interrupt::default();
    let request = interrupt.clone();
    RunOptions {
        output: place.path(output),
        resume: false,
        overwrite: false,
        baseline: None,
        tui: false,
        device: Device::default(),
        device_name: "flex".into(),
        command: String::new(),
        observer: Arc::new(move |event: &Event| {
            if let Event::Step { step, .. } = event
                && Some(*step) == stop
            {
                request.stop("by the test");
            }
        }),
        interrupt,
    }
}

pub(super) fn resuming(place: &Place, output: &str, stop: Option<usize>) -> RunOptions {
    RunOptions { resume: true, ..options(place, output, stop) }
}

/// Starts a run that stops after update `step`.
pub(super) fn stopped_after(step: usize, recipe: &Recipe, place: &Place, output: &str) {
    let error = compress(recipe, &options(place, output, Some(step))).unwrap_err();
    assert!(matches!(error, Error::Interrupted(_)), "{error}");
}

pub(super) fn weights(place: &Place, output: &str) -> Vec<u8> {
    fs::read(place.path(output).join("model/model.safetensors")).unwrap()
}

fn checkpoints(place: &Place, output: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(place.path(output).join("checkpoints")).unwrap();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

pub(super) fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        match path.is_dir() {
            true => copy(&path, &target),
            false => drop(fs::copy(&path, &target).unwrap()),
        }
    }
}

/// Resumes the run in a folder as it is.
fn resumed(recipe: &Recipe, place: &Place, output: &str) -> Result<Vec<u8>, String> {
    let run = || compress(recipe, &resuming(place, output, None)).map_err(|e| e.to_string());
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(run));
    result.expect("no damage panics").map(|_| weights(place, output))
}

#[test]
fn a_run_stopped_after_any_update_goes_on_to_the_same_weights() {
    let place = without_dropout();
    for (name, accumulation) in [("alone", 1), ("accumulated", 2)] {
        let mut recipe = recipe(&place, "");
        // The same number of updates.
        recipe.training.gradient_accumulation = accumulation;
        recipe.training.epochs = Some(accumulation);
        let report = compress(&recipe, &options(&place, name, None)).unwrap();
        let whole = weights(&place, name);
        for step in 1..12 {
            let output = format!("{name}-{step}");
            stopped_after(step, &recipe, &place, &output);
            let last = checkpoints(&place, &output).pop().unwrap();
            assert!(last.ends_with(format!("step-{step:08}")), "{last:?}");
            // Again, two updates later.
            let again = compress(&recipe, &resuming(&place, &output, Some(step + 2)));
            let done = match again {
                Err(Error::Interrupted(_)) => {
                    compress(&recipe, &resuming(&place, &output, None)).unwrap()
                }
                other => other.unwrap(),
            };
            assert!(weights(&place, &output) == whole, "stopped after {step}: {name}");
            assert!(done.training.resumed);
            assert_eq!(done.history, report.history, "stopped after {step}: {name}");
            assert_eq!(done.training.result_step, report.training.result_step);
            assert_eq!(checkpoints(&place, &output).len(), checkpoints(&place, name).len());
        }
    }
}

/// Copies of `value`, each with one leaf changed.
fn changed_leaves(value: &Value) -> Vec<Value> {
    match value {
        Value::Object(fields) => {
            let mut all = Vec::new();
            for (name, field) in fields {
                for changed in changed_leaves(field) {
                    let mut copy = fields.clone();
                    copy.insert(name.clone(), changed);
                    all.push(Value::Object(copy));
                }
                let mut without = fields.clone();
                without.remove(name);
                all.push(Value::Object(without));
            }
            all
        }
        Value::Array(items) => (0..items.len())
            .flat_map(|at| changed_leaves(&items[at]).into_iter().map(move |leaf| (at, leaf)))
            .map(|(at, leaf)| {
                let mut copy = items.clone();
                copy[at] = leaf;
                Value::Array(copy)
            })
            .collect(),
        Value::Number(number) => {
            let changed = [number.as_f64().unwrap() + 1.0, -1.0, 1e30];
            changed.into_iter().map(Value::from).chain([Value::Null]).collect()
        }
        Value::String(text) => vec![format!("{text} ").into(), "".into(), 1.into()],
        Value::Bool(truth) => vec![(!truth).into()],
        Value::Null => vec![1.into(), "x".into()],
    }
}

/// Copies of a file's contents, each damaged in one way.
fn damaged(name: &str, whole: &[u8], of_another: &[u8]) -> Vec<Vec<u8>> {
    let length = whole.len();
    let mut all: Vec<Vec<u8>> = [0, 1, length / 3, length / 2, length - 2]
        .into_iter()
        .map(|at| whole[..at].to_vec())
        .collect();
    for part in 0..16 {
        let at = part * (length - 1) / 15;
        let mut flipped = whole.to_vec();
        flipped[at] ^= 1 << (part % 8);
        all.push(flipped);
        let mut zeroed = whole.to_vec();
        zeroed[at..(at + 64).min(length)].fill(0);
        all.push(zeroed);
    }
    all.push([whole, &[0]].concat());
    all.push(of_another.to_vec());
    if name.ends_with(".json") {
        let value: Value = serde_json::from_slice(whole).unwrap();
        let changed = changed_leaves(&value);
        // Only some items of a long list.
        let every = changed.len().div_ceil(400);
        all.extend(changed.iter().step_by(every).map(|value| value.to_string().into_bytes()));
    }
    all.retain(|bytes| bytes != whole);
    all
}

#[test]
fn a_damaged_checkpoint_is_named_or_makes_no_difference() {
    let place = without_dropout();
    let recipe = recipe(&place, "");
    compress(&recipe, &options(&place, "whole", None)).unwrap();
    let whole = weights(&place, "whole");
    stopped_after(9, &recipe, &place, "kept");
    // The best evaluation that counts is that of step 8.
    let [earlier, last] = checkpoints(&place, "kept").try_into().unwrap();
    assert!(earlier.ends_with("step-00000008") && last.ends_with("step-00000009"));
    let root = place.path("damaged");
    let mut mutations = 0;
    let mut names: Vec<_> =
        fs::read_dir(&last).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names.len(), 6, "{names:?}");
    for name in &names {
        let name = name.to_str().unwrap();
        let path = root.join("checkpoints/step-00000009").join(name);
        let contents = [&last, &earlier].map(|folder| fs::read(folder.join(name)).unwrap());
        let mutants = damaged(name, &contents[0], &contents[1]).into_iter().map(Some).chain([None]);
        for mutant in mutants {
            let _ = fs::remove_dir_all(&root);
            copy(&place.path("kept"), &root);
            match &mutant {
                Some(bytes) => fs::write(&path, bytes).unwrap(),
                None => fs::remove_file(&path).unwrap(),
            }
            mutations += 1;
            match resumed(&recipe, &place, "damaged") {
                Ok(weights) => assert!(weights == whole, "{name}: other weights"),
                Err(message) => {
                    assert!(message.contains(name), "no {name} in {message}");
                    let offer = "the checkpoint of step 8 is whole";
                    assert!(message.contains(offer) && message.contains("remove "), "{message}");
                }
            }
        }
    }
    assert!(mutations > 400, "{mutations}");
    // Do what the message advises.
    fs::remove_dir_all(root.join("checkpoints/step-00000009")).unwrap();
    assert!(resumed(&recipe, &place, "damaged").unwrap() == whole);
}

#[test]
fn a_damaged_best_checkpoint_is_named_before_it_is_needed() {
    let place = without_dropout();
    let recipe = recipe(&place, "");
    stopped_after(9, &recipe, &place, "run");
    let earlier = checkpoints(&place, "run").remove(0);
    let swapped = place.path("run/checkpoints/aside");
    // Another whole checkpoint under its name.
    let [best, last] = checkpoints(&place, "run").try_into().unwrap();
    fs::rename(&best, &swapped).unwrap();
    copy(&last, &best);
    let message = resumed(&recipe, &place, "run").unwrap_err();
    assert!(message.contains("step-00000008") && message.contains("is of step 9"), "{message}");
    fs::remove_dir_all(&best).unwrap();
    let message = resumed(&recipe, &place, "run").unwrap_err();
    assert!(message.contains("step-00000008") && message.contains("--overwrite"), "{message}");
    fs::rename(&swapped, &earlier).unwrap();
    fs::write(earlier.join("model.bpk"), "nothing").unwrap();
    let message = resumed(&recipe, &place, "run").unwrap_err();
    for part in ["step-00000008", "model.bpk", "best model", "--overwrite"] {
        assert!(message.contains(part), "no {part} in {message}");
    }
}

/// A file that was cut before its checksum was made, so only reading it shows the damage.
#[test]
fn what_cannot_be_read_is_an_error_though_its_sum_is_right() {
    let place = without_dropout();
    let recipe = recipe(&place, "keep = 'last'");
    compress(&recipe, &options(&place, "whole", None)).unwrap();
    let whole = weights(&place, "whole");
    stopped_after(3, &recipe, &place, "kept");
    let root = place.path("cut");
    let mut cuts = 0;
    for name in ["model.bpk", "optimizer.bpk", "scheduler.bpk"] {
        for tenths in [0, 1, 5, 9] {
            let _ = fs::remove_dir_all(&root);
            copy(&place.path("kept"), &root);
            let folder = root.join("checkpoints/step-00000003");
            let bytes = fs::read(folder.join(name)).unwrap();
            fs::write(folder.join(name), &bytes[..bytes.len() * tenths / 10]).unwrap();
            let sums = std::process::Command::new("sh")
                .args(["-c", "sha256sum *.bpk *.json > SHA256SUMS"])
                .current_dir(&folder)
                .status();
            if !sums.is_ok_and(|status| status.success()) {
                super::say_skipped("there is no sha256sum here");
                return;
            }
            match resumed(&recipe, &place, "cut") {
                // Padding follows the contents of the file.
                Ok(weights) => assert!(weights == whole, "{name}, {tenths} tenths: other weights"),
                Err(message) => assert!(message.contains(name), "no {name} in {message}"),
            }
            cuts += 1;
        }
    }
    assert_eq!(cuts, 12);
}

#[test]
fn other_data_or_another_model_is_an_error_that_says_so() {
    let place = without_dropout();
    let recipe = recipe(&place, "");
    stopped_after(5, &recipe, &place, "run");
    let refused = |what: &str| {
        let message = resumed(&recipe, &place, "run").unwrap_err();
        for part in ["step-00000005", what, "has changed", "--overwrite"] {
            assert!(message.contains(part), "no {part} in {message}");
        }
    };
    for (file, what) in [("train.csv", "training data"), ("dev.csv", "evaluation data")] {
        let path = place.path(file);
        let text = fs::read_to_string(&path).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        let mut swapped = lines.clone();
        swapped.swap(1, 3);
        let other_label = text.replacen(",up\n", ",down\n", 1);
        let shorter = lines[..lines.len() - 1].join("\n");
        for mutant in [swapped.join("\n") + "\n", other_label, shorter] {
            fs::write(&path, mutant).unwrap();
            refused(what);
        }
        // Other line ends, which no model sees.
        fs::write(&path, text.replace('\n', "\r\n")).unwrap();
    }
    let config = place.path("model/config.json");
    let text = fs::read_to_string(&config).unwrap();
    let mut value: Value = serde_json::from_str(&text).unwrap();
    value["hidden_dropout_prob"] = 0.3.into();
    fs::write(&config, value.to_string()).unwrap();
    refused("config.json");
    fs::write(&config, text).unwrap();
    // The lowest bit of the last weight.
    let weights = place.path("model/model.safetensors");
    let bytes = fs::read(&weights).unwrap();
    let mut other = bytes.clone();
    let at = other.len() - 4;
    other[at] ^= 1;
    fs::write(&weights, other).unwrap();
    refused("the starting model's weights");
    fs::write(&weights, bytes).unwrap();
    resumed(&recipe, &place, "run").unwrap();
}

#[test]
fn what_systems_and_editors_leave_is_in_nobodys_way() {
    let place = without_dropout();
    let recipe = recipe(&place, "");
    let leave = || {
        for folder in ["run", "run/checkpoints", "run/model"] {
            if place.path(folder).is_dir() {
                for name in [".DS_Store", "Thumbs.db", ".gitkeep", ".recipe.toml.swp"] {
                    place.write(&format!("{folder}/{name}"), "x");
                }
            }
        }
    };
    fs::create_dir(place.path("run")).unwrap();
    leave();
    stopped_after(5, &recipe, &place, "run");
    leave();
    // Remains of killed saves.
    let leftovers = ["run/.model.tmp-a1B2c3", "run/checkpoints/step-00000007.partial"];
    for leftover in leftovers {
        fs::create_dir(place.path(leftover)).unwrap();
        place.write(&format!("{leftover}/model.safetensors"), "half");
    }
    place.write("run/.report.json.tmp-a1B2c3", "{");
    let weights = resumed(&recipe, &place, "run").unwrap();
    for leftover in leftovers.iter().chain(&["run/.report.json.tmp-a1B2c3", "run/.lock"]) {
        assert!(!place.path(leftover).exists(), "{leftover}");
    }
    assert!(place.path("run/checkpoints/.DS_Store").is_file());
    leave();
    let again = RunOptions { overwrite: true, ..options(&place, "run", None) };
    compress(&recipe, &again).unwrap();
    assert!(self::weights(&place, "run") == weights);
}

#[test]
fn a_run_stopped_before_its_first_update_is_resumed_from_its_beginning() {
    let place = without_dropout();
    let recipe = recipe(&place, "");
    compress(&recipe, &options(&place, "whole", None)).unwrap();
    let early = options(&place, "run", None);
    early.interrupt.stop("at once");
    assert!(matches!(compress(&recipe, &early).unwrap_err(), Error::Interrupted(_)));
    let mut other = recipe.clone();
    other.training.seed = 7;
    let message = resumed(&other, &place, "run").unwrap_err();
    assert!(message.contains("recipe.toml") && message.contains("seed = 7"), "{message}");
    let report = compress(&recipe, &resuming(&place, "run", None)).unwrap();
    assert!(!report.training.resumed);
    assert!(weights(&place, "run") == weights(&place, "whole"));
    // A finished run without checkpoints cannot be resumed.
    fs::remove_dir_all(place.path("run/checkpoints")).unwrap();
    let message = resumed(&recipe, &place, "run").unwrap_err();
    assert!(message.contains("no checkpoint to resume from"), "{message}");
}

#[test]
fn the_dense_run_that_a_report_compares_with_is_remembered() {
    let place = without_dropout();
    let recipe = recipe(&place, "");
    finetune(&recipe, &options(&place, "dense", None)).unwrap();
    let baseline = Some(place.path("dense"));
    let begun = RunOptions { baseline, ..options(&place, "run", Some(5)) };
    assert!(matches!(compress(&recipe, &begun).unwrap_err(), Error::Interrupted(_)));
    let report = compress(&recipe, &resuming(&place, "run", None)).unwrap();
    assert!(report.baseline.is_some());
}
