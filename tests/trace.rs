//! Replays recorded training runs of the published code step by step. `fixtures/traces/README.md`
//! describes what a run holds.
//!
//! ```text
//! initial    ─ SVD ───────────► L·R and S          against `decomposed`
//! decomposed ─ forward, back ─► logits, gradients  against `observed`
//!            ─ 48 updates ────► losses, thresholds, kept rows, weights, importance, eval loss
//! ```
//!
//! Runs are those of the fixtures, of `$LOSPARSE_SHARED/traces`, and of `$LOSPARSE_TRACES`, whose runs
//! must all be replayed. Each is replayed on every CPU backend of the build.

mod compare;
mod replay;
mod run;

use std::fs;
use std::path::{Path, PathBuf};

use burn::tensor::Device;
use compare::{Replay, table};
use run::Run;

/// Whether runs of architectures that the library lacks may be left out.
#[derive(Clone, Copy, PartialEq)]
enum Unsupported {
    Skip,
    Fail,
}

fn backends() -> Vec<(&'static str, Device)> {
    vec![
        #[cfg(feature = "flex")]
        ("flex", Device::flex()),
        #[cfg(feature = "ndarray")]
        #[allow(deprecated)]
        ("ndarray", Device::ndarray()),
    ]
}

/// The runs in a folder: all its subfolders, or the folder itself.
fn runs(folder: &Path) -> Vec<PathBuf> {
    if folder.join("trace.json").is_file() {
        return vec![folder.to_path_buf()];
    }
    let entries = fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut runs: Vec<PathBuf> =
        entries.map(|entry| entry.unwrap().path()).filter(|path| path.is_dir()).collect();
    runs.sort();
    runs
}

/// Replays every run of `folder` on every backend and prints the deviations. Fails if one is beyond
/// its tolerance.
fn replay_all(folder: &Path, unsupported: Unsupported) {
    let mut replays = Vec::new();
    let mut failures = Vec::new();
    let backends = backends();
    assert!(!backends.is_empty(), "this build has no CPU backend to replay on");
    for path in runs(folder) {
        let name = path.file_name().map_or_else(String::new, |n| n.to_string_lossy().to_string());
        let run = match Run::open(&path) {
            Ok(run) if run.supported() => run,
            Ok(run) if unsupported == Unsupported::Skip => {
                super::say_skipped(&format!("{name}: no `{}` of its kind here", run.model_type));
                continue;
            }
            Ok(run) => {
                failures
                    .push(format!("{name}: the library has no `{}` of its kind", run.model_type));
                continue;
            }
            Err(message) => {
                failures.push(format!("{name}: {message}"));
                continue;
            }
        };
        for (backend, device) in &backends {
            let mut replay = Replay::new(&name, backend);
            if let Err(error) = replay::replay(&run, device, &mut replay) {
                failures.push(format!("{name} on {backend}: {error}"));
            }
            failures.extend(replay.failures());
            replays.push(replay);
        }
    }
    let table = table(&replays);
    println!("{}:\n{table}", folder.display());
    if replays.is_empty() {
        failures.push(format!("{}: no run was replayed", folder.display()));
    }
    assert!(failures.is_empty(), "{}\n{table}", failures.join("\n"));
}

fn folder_from(variable: &str) -> Option<PathBuf> {
    let folder = std::env::var_os(variable).map(PathBuf::from);
    if folder.is_none() {
        super::say_skipped(&format!("{variable} is not set"));
    }
    folder
}

#[test]
fn trace_of_every_fixture() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/traces");
    replay_all(&fixtures, Unsupported::Skip);
}

#[test]
fn trace_of_every_shared_run() {
    if let Some(shared) = folder_from("LOSPARSE_SHARED") {
        replay_all(&shared.join("traces"), Unsupported::Skip);
    }
}

#[test]
fn trace_of_every_given_run() {
    if let Some(folder) = folder_from("LOSPARSE_TRACES") {
        replay_all(&folder, Unsupported::Fail);
    }
}
