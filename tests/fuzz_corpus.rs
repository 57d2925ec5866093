//! Replays the corpus of the fuzz targets in `tests/fuzz`, each file with the body of its target.

use std::path::Path;

#[path = "fuzz/bodies/mod.rs"]
mod bodies;

use bodies::Outcome;

/// Runs a body over its corpus. Some files must be accepted and some rejected, or the corpus or
/// body tests nothing.
fn replay(target: &str, body: fn(&[u8]) -> Outcome) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus").join(target);
    let mut paths: Vec<_> =
        std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let (mut taken, mut refused) = (0, 0);
    for path in paths {
        println!("{}", path.display());
        match body(&std::fs::read(&path).unwrap()) {
            Ok(()) => taken += 1,
            Err(message) => {
                println!("  {message}");
                refused += 1;
            }
        }
    }
    assert!(taken > 1 && refused > 1, "{target}: {taken} taken, {refused} refused");
}

#[test]
fn weights() {
    replay("weights", bodies::weights);
}

#[test]
fn config() {
    replay("config", bodies::config);
}

#[test]
fn tokenizer() {
    replay("tokenizer", bodies::tokenizer);
}

#[test]
fn table() {
    replay("table", bodies::table);
}

#[test]
fn squad() {
    replay("squad", bodies::squad);
}

#[test]
fn checkpoint() {
    replay("checkpoint", bodies::checkpoint);
}

#[test]
fn recipe() {
    replay("recipe", bodies::recipe);
}
