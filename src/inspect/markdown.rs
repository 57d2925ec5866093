//! A run's report as Markdown.

use std::fmt::{self, Write};
use std::path::Path;

use super::escape::{code, markdown as text};
use super::report::{RunReport, SplitMetrics, TeacherReport};
use super::{
    Int8Comparison, Latency, LinearAccount, ModelAccount, Warning, many, percent, thousands,
};
use crate::Result;
use crate::checkpoint::atomic;
use crate::decompose::Approximate;
use crate::pruning::{Curve, Importance, Schedule, Structure};
use crate::tasks::TaskKind;

impl RunReport {
    /// The report as Markdown.
    pub fn to_markdown(&self) -> String {
        self.with_pictures(&[])
    }

    /// Writes `report.md`, with `pictures` by title and path, and `report.json` to a folder.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn write(&self, folder: impl AsRef<Path>, pictures: &[(String, String)]) -> Result<()> {
        let folder = folder.as_ref();
        let text = self.with_pictures(pictures);
        atomic::write_file(folder.join("report.md"), text.as_bytes())?;
        atomic::write_file(folder.join(Self::FILE), self.to_json()?.as_bytes())
    }

    fn with_pictures(&self, pictures: &[(String, String)]) -> String {
        let mut out = String::new();
        // Writing to a string cannot fail.
        let _ = write_all(self, pictures, &mut out);
        out
    }
}

fn write_all(report: &RunReport, pictures: &[(String, String)], out: &mut String) -> fmt::Result {
    let what = if report.method.is_some() { "Compression" } else { "Fine-tuning" };
    writeln!(out, "# {what}: {}\n", text(&report.task.name))?;
    out.push_str(&warnings(report));
    writeln!(out, "Started from {}.", code(&report.model))?;
    if report.method.is_some() {
        compression(report, out)?;
    }
    metrics(report, out)?;
    if report.method.is_some() {
        size(report, out)?;
    }
    latency(report, out)?;
    training(report, out)?;
    if !pictures.is_empty() {
        writeln!(out, "\n## Pictures")?;
        pictures.iter().try_for_each(|(title, path)| writeln!(out, "\n![{title}]({path})"))?;
    }
    if report.method.is_some() {
        writeln!(out, "\n## Layers\n\n{}", layer_table(&report.account))?;
    }
    Ok(())
}

/// The warnings, as a quoted paragraph each.
pub(crate) fn warnings(report: &RunReport) -> String {
    let quoted = report.warnings.iter().map(|Warning { message, .. }| {
        let message =
            message.replace('\n', " ").replace('*', r"\*").replace('`', "'").replace('<', r"\<");
        format!("> **Warning:** {message}\n\n")
    });
    quoted.collect()
}

fn compression(report: &RunReport, out: &mut String) -> fmt::Result {
    let Some(method) = &report.method else { return Ok(()) };
    let selected = report.account.selected().count();
    let all = report.account.layers.len();
    writeln!(out, "\n## Method\n")?;
    write!(out, "{}: {selected} of {all} linear layers (", method.name())?;
    writeln!(out, "{}) to {} of their weights", code_list(&method.layers), percent(method.ratio))?;
    let low_rank = match method.rank {
        Some(rank) => format!("rank {rank}"),
        None => format!("a low-rank part of {}", percent(method.low_rank_ratio)),
    };
    let none = method.rank == Some(0) || (method.rank.is_none() && method.low_rank_ratio == 0.0);
    let low_rank = match method.approximate.filter(|_| !none) {
        Some(Approximate::Outputs) => format!("{low_rank} that keeps the layers' outputs"),
        Some(Approximate::Weights) => format!("{low_rank} that keeps their weights"),
        None => low_rank,
    };
    let Some(pruning) = &method.pruning else {
        return writeln!(out, "({low_rank}, no sparse part).");
    };
    let schedule = &pruning.schedule;
    let unit = match pruning.structure {
        Structure::Neurons => "neurons",
        Structure::Inputs => "input columns",
        Structure::Unstructured => "single entries",
    };
    let kept = percent(schedule.final_keep_ratio);
    writeln!(out, "({low_rank}, and {kept} of the sparse part's {unit}).\n")?;
    let Schedule { interval, total_steps: total, .. } = *schedule;
    let (first, last) = (schedule.initial_warmup_steps, schedule.final_warmup_steps);
    let when = match schedule.curve {
        Curve::OneShot => {
            format!("Pruned at once to the final ratio after update {} of {total}", first + 1)
        }
        curve => format!(
            "Pruned every {interval} updates from update {first} on, on a {} schedule; at the final \
             ratio for the last {last} of {total} updates",
            word(&curve)
        ),
    };
    let betas = match pruning.importance {
        Importance::Sensitivity => format!(", β₁ {}, β₂ {}", pruning.beta1, pruning.beta2),
        Importance::SnipMomentum => format!(", β₁ {}", pruning.beta1),
        _ => String::new(),
    };
    let [importance, regrowth] = [word(&pruning.importance), word(&pruning.regrowth)];
    writeln!(out, "{when}. Importance: {importance}{betas}; regrowth {regrowth}.")
}

fn metrics(report: &RunReport, out: &mut String) -> fmt::Result {
    let trained = if report.method.is_some() { "compressed, masked" } else { "fine-tuned" };
    let baseline = report.baseline.as_ref();
    let rows: [(&str, &[SplitMetrics]); 4] = [
        ("as given, before training", &report.starting),
        ("dense, fine-tuned", baseline.map_or(&[], |baseline| &baseline.metrics)),
        (trained, &report.trained),
        ("compressed, compacted", &report.compacted),
    ];
    writeln!(out, "\n## Metrics\n\n| model | split | examples | metrics |\n|---|---|---:|---|")?;
    for (model, splits) in rows {
        for SplitMetrics { split, metrics } in splits {
            let (split, count, metrics) =
                (text(split), metrics.examples, text(&metrics.to_string()));
            writeln!(out, "| {model} | {split} | {count} | {metrics} |")?;
        }
    }
    if report.starting.is_empty() {
        writeln!(out, "\nNo figure before: the head was new.")?;
    }
    if let Some(baseline) = baseline {
        let other = if baseline.other_start { ", which started from another model" } else { "" };
        writeln!(
            out,
            "\nThe dense model's figures are those of {}{other}.",
            code(&baseline.report)
        )?;
    }
    if let Some(int8) = &report.int8 {
        writeln!(out, "\n{}", text(&int8.sentence()))?;
    }
    let is_int8 = report.int8.as_ref().is_some_and(Int8Comparison::is_kept);
    let what = if is_int8 { "Compacting and 8-bit integers" } else { "Compacting" };
    if let (Some(agreement), TaskKind::Summarization) = (&report.agreement, &report.task.kind) {
        let (changed, all) = (agreement.changed_predictions, agreement.examples);
        writeln!(out, "\n{what} changed {changed} of {all} answers.")?;
    } else if let Some(agreement) = &report.agreement {
        writeln!(
            out,
            "\n{what} moved logits by at most {:.2e} on {} examples and changed {} predictions.",
            agreement.largest_logit_difference, agreement.examples, agreement.changed_predictions
        )?;
    }
    let step = report.training.result_step;
    match report.training.best_of {
        Some(1) | None => writeln!(
            out,
            "\nThe result is the model after update {step}; these metrics did not choose it."
        ),
        Some(evaluations) => writeln!(
            out,
            "\nThe result is the best, by {}, of {evaluations} evaluations{} on this same evaluation \
             data (update {step}), so its metrics are optimistic: on new data expect a little less.",
            report.task.primary,
            if report.method.as_ref().is_some_and(|method| method.pruning.is_some()) {
                " at the final ratio"
            } else {
                ""
            }
        ),
    }
}

fn size(report: &RunReport, out: &mut String) -> fmt::Result {
    let account = &report.account;
    writeln!(out, "\n## Size\n")?;
    let [linear, whole] = [account.linear_ratio(), account.whole_ratio()].map(percent);
    let [stored, dense] =
        [account.stored_elements(), account.dense_elements()].map(|count| thousands(count as u64));
    writeln!(
        out,
        "- compressed layers' weights: {linear} of the dense ones (linear ratio, counted from what is \
         stored)\n\
         - whole model: {stored} of {dense} parameters, {whole} (embeddings, biases and heads stay whole)"
    )?;
    if let Some(bytes) = report.bytes {
        write!(out, "- on disk: {} bytes", thousands(bytes))?;
        if let Some(before) = report.starting_bytes {
            write!(out, " (the model started from: {})", thousands(before))?;
        }
        writeln!(out)?;
    }
    Ok(())
}

fn latency(report: &RunReport, out: &mut String) -> fmt::Result {
    let Some(latency) = &report.latency else { return Ok(()) };
    writeln!(
        out,
        "\n## Latency\n\nForward passes, batch {}, {} tokens, {} repetitions taken in turns, {}, on {}.\n",
        latency.batch,
        latency.length,
        latency.repetitions,
        many(latency.threads, "thread"),
        report.device
    )?;
    writeln!(out, "| model | median ms | min | max | examples/s | speed |")?;
    writeln!(out, "|---|---:|---:|---:|---:|---:|")?;
    for row in &latency.contestants {
        let Latency { median_ms, min_ms, max_ms, examples_per_second: rate, speedup, .. } = row;
        let (name, times) =
            (text(&row.name), format!("{median_ms:.2} | {min_ms:.2} | {max_ms:.2}"));
        writeln!(out, "| {name} | {times} | {rate:.1} | ×{speedup:.2} |")?;
    }
    Ok(())
}

fn training(report: &RunReport, out: &mut String) -> fmt::Result {
    let training = &report.training;
    writeln!(out, "\n## Training\n")?;
    writeln!(
        out,
        "- {} updates of {} examples ({:.2} epochs of {}), learning rate {}, up to {} tokens",
        training.steps,
        training.examples_per_update,
        training.epochs,
        training.examples,
        training.learning_rate,
        training.max_length
    )?;
    let each = training.seconds_per_step.map(|each| format!("{each:.3} s an update, "));
    let (each, seconds) = (each.unwrap_or_default(), training.all_seconds());
    let resumed = if training.resumed { " (resumed from a checkpoint)" } else { "" };
    let dense =
        training.dense_seconds.map(|dense| format!(", {dense:.0} s of it for the dense model"));
    writeln!(out, "- {each}{seconds:.0} s in all{}{resumed}", dense.unwrap_or_default())?;
    if let Some(TeacherReport { folder, fine_tuned_first, weight, temperature }) = &training.teacher
    {
        let teacher = match folder {
            Some(folder) => code(folder),
            None if *fine_tuned_first => "the dense model itself, fine-tuned first".to_string(),
            None => "the dense model itself".to_string(),
        };
        writeln!(out, "- teacher: {teacher}; weight {weight}, temperature {temperature}")?;
    }
    if let Some(held_out) = training.held_out {
        writeln!(
            out,
            "- evaluated on {held_out} examples of the training data that were held out, drawn by the \
             seed; none is trained on"
        )?;
    }
    writeln!(out, "- skipped updates (loss or gradient not finite): {}", training.skipped_updates)?;
    let versions: Vec<String> = report.versions.iter().map(|(n, v)| format!("{n} {v}")).collect();
    writeln!(out, "- seed {}, device {}, {}", training.seed, report.device, versions.join(", "))?;
    if let Some(machine) = &report.machine {
        writeln!(out, "- {}, on {}", text(&report.date), text(&machine.to_string()))?;
    }
    if !report.command.is_empty() {
        writeln!(out, "- {}", code(&report.command))?;
    }
    Ok(())
}

/// A table of the layers: state, rank, kept neurons, stored share.
fn layer_table(account: &ModelAccount) -> String {
    let mut table = String::from("| layer | state | in × out | rank | kept | stored |\n");
    table.push_str("|---|---|---:|---:|---:|---:|\n");
    for layer in &account.layers {
        let LinearAccount { name, state, d_input, d_output, rank, kept, groups, .. } = layer;
        let (name, stored) = (text(name), percent(layer.ratio()));
        let _ = writeln!(
            table,
            "| {name} | {state} | {d_input} × {d_output} | {rank} | {kept} of {groups} | {stored} |"
        );
    }
    table
}

fn code_list(items: &[String]) -> String {
    items.iter().map(|item| code(item)).collect::<Vec<_>>().join(", ")
}

/// A setting's value as recipes write it.
fn word<T: serde::Serialize>(setting: &T) -> String {
    let value = serde_json::to_value(setting).unwrap_or_default();
    value.as_str().unwrap_or_default().replace('_', " ")
}
