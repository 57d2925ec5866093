//! Message about a checkpoint with the names of another model.

use std::fmt::Write;
use std::path::Path;

use crate::Error;

/// Number of names in the message.
const TOLD: usize = 8;

/// Lists expected names beside the most similar names that were found.
///
/// `expected` and `found` have shapes; those of `found` with the same shape are preferred.
pub(super) fn foreign_names(
    path: &Path,
    architecture: &str,
    expected: &[(String, Vec<usize>)],
    found: &[(String, Vec<usize>)],
) -> Error {
    let mut free: Vec<&(String, Vec<usize>)> = found.iter().collect();
    let mut text = format!(
        "its tensors have other names than those of {architecture}: {} are missing. If the model is \
         of this architecture, rename them; if not, say which in config.json.",
        expected.len()
    );
    for (name, shape) in expected.iter().take(TOLD) {
        let alike = |other: &(String, Vec<usize>)| {
            let (own, others) = (name.rsplit('.'), other.0.rsplit('.'));
            (own.zip(others).take_while(|(a, b)| a == b).count(), other.1 == *shape)
        };
        let best = (0..free.len()).max_by_key(|at| (alike(free[*at]), std::cmp::Reverse(*at)));
        let found = match best.map(|at| free.remove(at)) {
            Some((name, shape)) => format!("{name} {shape:?}"),
            None => "–".to_string(),
        };
        let _ = write!(text, "\n  expected {name} {shape:?}\n     found {found}");
    }
    if expected.len() > TOLD {
        let _ = write!(text, "\n  … and {} more", expected.len() - TOLD);
    }
    Error::format(path, text)
}
