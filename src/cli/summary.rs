//! The result of a run on a terminal.

use losparse::inspect::{Int8Comparison, RunReport, percent, thousands};

use super::output;

/// A run's result in a few lines.
pub fn summary(report: &RunReport, folder: &str) -> String {
    let mut rows = Vec::new();
    let compressed = report.method.is_some();
    let trained = if compressed { "compressed (masked)" } else { "fine-tuned" };
    let baseline = report.baseline.as_ref().map(|baseline| &baseline.metrics);
    for (name, splits) in [
        ("as given", &report.starting),
        ("dense, fine-tuned", baseline.unwrap_or(&Vec::new())),
        (trained, &report.trained),
        ("compacted", &report.compacted),
    ] {
        for split in splits {
            rows.push(vec![name.into(), split.split.clone(), split.metrics.to_string()]);
        }
    }
    let mut lines = vec![output::table(&["model", "split", "metrics"], &[], &rows)];
    if report.starting.is_empty() {
        lines.push("(no metrics before training: the head was new)".into());
    }
    if let Some(evaluations) = report.training.best_of.filter(|count| *count > 1) {
        lines.push(format!("(the best of {evaluations} evaluations on the same data)"));
    }
    lines.extend(report.int8.as_ref().map(Int8Comparison::sentence));
    if compressed {
        lines.push(format!(
            "weights of compressed layers: {} of dense; whole model: {}",
            percent(report.account.linear_ratio()),
            percent(report.account.whole_ratio())
        ));
    }
    if let Some(bytes) = report.bytes {
        lines.push(format!("on disk: {} bytes", thousands(bytes)));
    }
    if let Some(latency) = &report.latency {
        let times = latency.contestants.iter();
        let times: Vec<String> =
            times.map(|row| format!("{} {:.2} ms", row.name, row.median_ms)).collect();
        lines.push(format!(
            "a batch of {} × {} tokens: {}",
            latency.batch,
            latency.length,
            times.join(", ")
        ));
    }
    let took = output::duration(report.training.all_seconds());
    let dense = report.training.dense_seconds.map(output::duration);
    let dense = dense.map(|dense| format!(", {dense} of it the dense model")).unwrap_or_default();
    lines.push(format!("trained for {took}{dense}; the whole report is {folder}/report.md"));
    lines.join("\n")
}
