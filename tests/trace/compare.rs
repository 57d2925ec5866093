//! Largest deviations of a replay, and their table.

use std::fmt::Write;

/// Quantities in the order of the table, each with its tolerance.
pub const QUANTITIES: [(&str, f64); 17] = [
    // ‖found − recorded‖ / ‖recorded‖ of each matrix; rank: number of matrices with another rank.
    ("rank", 0.0),
    ("L·R", 1e-4),
    ("S", 1e-4),
    // Norms of differences relative to the norm of the recorded tensor.
    ("logits", 1e-4),
    ("grads", 1e-4),
    // Largest |gradient| of a key projection's bias, which is zero because of the softmax.
    ("key grad", 1e-7),
    // |found − recorded| / max(1, |recorded|)
    ("loss", 1e-5),
    // |found − recorded|
    ("keep", 1e-12),
    // Relative differences.
    ("thresh", 1e-4),
    // Layers of all steps with another number of kept rows; entries that are zero in only one S.
    ("rows", 0.0),
    ("zeros", 0.0),
    ("weights", 1e-4),
    // Largest |found − recorded| of a key projection's bias: rounding noise under Adam.
    ("key bias", 5e-3),
    ("import.", 1e-4),
    ("e.logits", 1e-4),
    ("e.loss", 1e-5),
    // Tensors in only one of the two models.
    ("names", 0.0),
];

/// One run on one backend.
pub struct Replay {
    run: String,
    backend: String,
    /// Largest deviation of each quantity and where it is; `None`: not compared.
    largest: Vec<Option<(f64, String)>>,
}

impl Replay {
    pub fn new(run: &str, backend: &str) -> Self {
        let largest = vec![None; QUANTITIES.len()];
        Self { run: run.to_string(), backend: backend.to_string(), largest }
    }

    /// Records a deviation of `quantity`; NaN counts as infinite.
    pub fn note(&mut self, quantity: &str, deviation: f64, place: &str) {
        let at = QUANTITIES.iter().position(|(name, _)| *name == quantity).expect(quantity);
        let deviation = if deviation.is_nan() { f64::INFINITY } else { deviation.abs() };
        let slot = &mut self.largest[at];
        if slot.as_ref().is_none_or(|(largest, _)| deviation > *largest) {
            *slot = Some((deviation, place.to_string()));
        }
    }

    /// The deviations beyond their tolerances.
    pub fn failures(&self) -> Vec<String> {
        let beyond = |((name, tolerance), largest): (&(&str, f64), &Option<(f64, String)>)| {
            let (deviation, place) = largest.as_ref()?;
            (*deviation > *tolerance).then(|| {
                let (run, backend) = (&self.run, &self.backend);
                format!("{run} on {backend}: {name} deviates by {deviation:.2e} at {place} (allowed {tolerance:.0e})")
            })
        };
        QUANTITIES.iter().zip(&self.largest).filter_map(beyond).collect()
    }
}

/// `‖found − recorded‖ / ‖recorded‖`; infinite if lengths differ or only one is zero.
pub fn relative(found: &[f32], recorded: &[f32]) -> f64 {
    if found.len() != recorded.len() {
        return f64::INFINITY;
    }
    let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>().sqrt();
    let pairs = found.iter().zip(recorded);
    let distance = norm(&mut pairs.map(|(a, b)| f64::from(*a) - f64::from(*b)));
    if distance == 0.0 {
        return 0.0;
    }
    distance / norm(&mut recorded.iter().map(|v| f64::from(*v)))
}

/// `max |found − recorded|`.
pub fn absolute(found: &[f32], recorded: &[f32]) -> f64 {
    if found.len() != recorded.len() {
        return f64::INFINITY;
    }
    largest(found.iter().zip(recorded).map(|(a, b)| f64::from(*a) - f64::from(*b)))
}

/// `max |value|`; NaN if any value is.
pub fn largest(values: impl IntoIterator<Item = f64>) -> f64 {
    values
        .into_iter()
        .fold(0.0, |max, v| if v.is_nan() || max.is_nan() { f64::NAN } else { max.max(v.abs()) })
}

/// A row for each replay, with the tolerances on top.
pub fn table(replays: &[Replay]) -> String {
    let names = replays.iter().map(|r| r.run.chars().count());
    let width = names.chain(["run".len(), "allowed".len()]).max().unwrap_or(0);
    let mut table = format!("{:width$} {:8}", "run", "backend");
    for (name, _) in QUANTITIES {
        let _ = write!(table, " {name:>8}");
    }
    let _ = write!(table, "\n{:width$} {:8}", "allowed", "");
    for (_, tolerance) in QUANTITIES {
        let _ = write!(table, " {tolerance:>8.0e}");
    }
    for replay in replays {
        let _ = write!(table, "\n{:width$} {:8}", replay.run, replay.backend);
        for largest in &replay.largest {
            let _ = match largest {
                Some((deviation, _)) => write!(table, " {deviation:>8.1e}"),
                None => write!(table, " {:>8}", "-"),
            };
        }
    }
    table
}
