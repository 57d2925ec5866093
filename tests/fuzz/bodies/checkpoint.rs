//! Checkpoints of a training, damaged.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use burn::tensor::Device;
use losparse::Result;
use losparse::train::checkpoints::{CheckpointState, CheckpointStore};
use losparse::train::{
    Interrupt, MethodRecipe, Recipe, RunOptions, Silent, compress, evaluate_checkpoint,
};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use super::files::{Files, scratch};
use super::input::Input;
use super::{Outcome, outcome, seeds};

const KEYS: [&str; 14] = [
    "segment",
    "step",
    "recipe",
    "best",
    "evaluations_since_best",
    "history",
    "seconds",
    "losses",
    "inputs",
    "baseline",
    "train",
    "values",
    "examples",
    "primary",
];
/// File of a checkpoint's sums.
const SUMS: &str = "SHA256SUMS";

/// A run's folder with two checkpoints, one of them before its end, and what the model is at the
/// end.
struct Run {
    /// The model and data that the run started from, where its recipe says they are.
    _place: TempDir,
    recipe: Recipe,
    files: Files,
    weights: Vec<u8>,
}

fn run() -> &'static Run {
    static RUN: OnceLock<Run> = OnceLock::new();
    RUN.get_or_init(|| {
        let place = scratch();
        let mut files = Files::of([(
            "train.csv",
            b"text,label\nthe film is good,up\nvery dull,down\ngreat,up\nbad,down\ngood,up\n\
              the bad film,down\nvery good,up\ndull film,down\n",
        )]);
        for (name, bytes) in &seeds::models()[0].0 {
            files.0.insert(format!("model/{name}"), bytes.clone());
        }
        files.write(place.path());
        let mut recipe = Recipe { model: Some(place.path().join("model")), ..Recipe::default() };
        recipe.task.name = "mood".into();
        recipe.task.train = Some(place.path().join("train.csv"));
        recipe.task.dev = Some(place.path().join("train.csv"));
        recipe.task.text = Some("text".into());
        recipe.task.label = Some("label".into());
        recipe.task.max_length = Some(8);
        recipe.method =
            Some(MethodRecipe { ratio: 0.5, interval: Some(1), ..MethodRecipe::default() });
        recipe.training.epochs = Some(2);
        recipe.training.batch_size = 4;
        recipe.training.learning_rate = Some(1e-3);
        let output = place.path().join("output");
        compress(&recipe, &options(&output, false)).expect("a valid run");
        let mut files = Files::read(&output);
        let weights = files.0["model/model.safetensors"].clone();
        // Keep the files of a run that was killed after its last update.
        files.0.retain(|name, _| name.starts_with("checkpoints/") || name == "recipe.toml");
        Run { _place: place, recipe, files, weights }
    })
}

fn options(output: &Path, resume: bool) -> RunOptions {
    RunOptions {
        output: output.to_path_buf(),
        resume,
        overwrite: false,
        baseline: None,
        tui: false,
        device: Device::default(),
        device_name: "cpu".into(),
        command: String::new(),
        observer: Arc::new(Silent),
        interrupt: Interrupt::default(),
    }
}

/// A run's folder with a damaged checkpoint. It is refused, or what comes of it is what would have
/// come of the whole one; unless the damage is in its sums, too, when it may be anything but a panic.
pub fn checkpoint(data: &[u8]) -> Outcome {
    let run = run();
    let mut input = Input::new(data);
    let kind = input.byte();
    let (resumed, summed) = (kind % 4 == 3, kind / 4 % 2 == 1);
    let mut files = run.files.clone();
    files.edit(&mut input, &KEYS, |name| name.starts_with("checkpoints/"));
    if summed {
        sum(&mut files);
    }
    let (_scratch, folder) = files.folder("output");
    CheckpointStore::open(folder.join("checkpoints")).expect("a folder of checkpoints");
    let mut result = Ok(());
    for name in folders(&files) {
        let read = read(&folder.join("checkpoints").join(name));
        result = result.and(outcome(read));
    }
    if resumed {
        let done = compress(&run.recipe, &options(&folder, true));
        if done.is_ok() && !summed {
            let weights = std::fs::read(folder.join("model/model.safetensors")).expect("a model");
            assert!(weights == run.weights, "other weights after resuming");
        }
        result = result.and(outcome(done));
    }
    result
}

/// Makes the sums of every checkpoint those of its files.
fn sum(files: &mut Files) {
    for name in folders(files) {
        let folder = format!("checkpoints/{name}/");
        let line = |(path, bytes): (&String, &Vec<u8>)| {
            let name = path.strip_prefix(&folder).filter(|name| *name != SUMS)?;
            let digest = Sha256::digest(bytes);
            let sum: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
            Some(format!("{sum}  {name}\n"))
        };
        let lines: String = files.0.iter().filter_map(line).collect();
        files.0.insert(folder + SUMS, lines.into_bytes());
    }
}

/// Names of the checkpoints' folders.
fn folders(files: &Files) -> Vec<String> {
    let below = files.0.keys().filter_map(|name| name.strip_prefix("checkpoints/"));
    let mut names: Vec<String> =
        below.filter_map(|name| Some(name.split_once('/')?.0.to_string())).collect();
    names.dedup();
    names
}

fn read(folder: &Path) -> Result<()> {
    CheckpointState::read(folder)?;
    CheckpointState::read_importance(folder)?;
    let metrics = evaluate_checkpoint(folder, |_| {}, &options(folder, false))?;
    let odd = metrics.iter().flat_map(|split| &split.metrics.values);
    odd.for_each(|(kind, value)| assert!(!value.is_nan(), "{kind} is {value}"));
    Ok(())
}
