//! Text of a dry run: the needs of the run first, then its work.

use losparse::inspect::{many, percent, thousands};
use losparse::train::Plan;

use super::output::{duration, size};

/// A plan in a few lines; `--json` has every layer.
pub fn described(plan: &Plan) -> String {
    let mut lines = vec![format!("expected time: {}", duration(plan.expected_seconds))];
    let mut part = |name: &str, seconds: f64, how: String| {
        lines.push(format!("  {name}: {}{how}", duration(seconds)));
    };
    if let Some(first) = &plan.fine_tuning_first {
        let (updates, rate) = (many(first.total_steps, "update"), first.learning_rate);
        let how = format!(" ({updates}, learning rate {rate:e})");
        part("fine-tuning the dense model first", first.expected_seconds, how);
    }
    if let Some(seconds) = plan.teacher_seconds {
        part("asking the teacher", seconds, String::new());
    }
    let each = format!(" ({} of {:.2} s)", many(plan.total_steps, "update"), plan.seconds_per_step);
    part("training", plan.seconds_per_step * plan.total_steps as f64, each);
    let memory = size(plan.expected_memory_bytes as f64);
    lines.push(format!("expected memory: {memory}"));
    lines.push(format!("model: {}", plan.model));
    lines.push(format!(
        "task: {}, {} training and {} evaluation examples",
        plan.task,
        thousands(plan.training_examples as u64),
        thousands(plan.evaluation_examples as u64)
    ));
    lines.push(format!(
        "training: {}, learning rate {:e}, an evaluation every {}, a checkpoint every {}",
        many(plan.epochs, "epoch"),
        plan.learning_rate,
        many(plan.eval_steps, "update"),
        many(plan.save_steps, "update")
    ));
    lines.push(format!("trained parameters: {}", thousands(plan.trained_parameters as u64)));
    let ranks = plan.layers.iter().map(|layer| layer.rank);
    if let (Some(least), Some(most)) = (ranks.clone().min(), ranks.max()) {
        let ranks =
            if least == most { format!("rank {most}") } else { format!("ranks {least} to {most}") };
        let pattern = plan.patterns.iter().map(|own| format!("{} {}", own.pattern, own.layers));
        let patterns = pattern.collect::<Vec<_>>().join(", ");
        let count = plan.layers.len();
        lines.push(format!("compressed layers: {count} ({patterns}), {ranks}; --json lists them"));
    }
    if let Some(schedule) = &plan.schedule {
        let every = many(schedule.interval, "update");
        let kept =
            plan.keep_ratios.iter().map(|(step, share)| format!("{step}: {}", percent(*share)));
        let kept = kept.collect::<Vec<_>>().join(", ");
        lines.push(format!("sparse part: pruned every {every}; kept at update {kept}"));
    }
    lines.join("\n")
}
