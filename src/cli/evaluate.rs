//! `losparse evaluate`: scores a model, or a run's checkpoint, on labelled data.

use std::path::PathBuf;
use std::sync::Arc;

use burn::tensor::Device;
use losparse::Error;
use losparse::inspect::{SplitMetrics, no_better_than_constant};
use losparse::train::checkpoints::CheckpointState;
use losparse::train::{Interrupt, Recipe, RunOptions, evaluate_checkpoint};
use serde_json::json;

use super::evaluation::{BATCH_SIZE, evaluate};
use super::global::GlobalArgs;
use super::options::task::TaskArgs;
use super::options::values::{check_count, read_recipe};
use super::output;
use super::progress::Progress;

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  losparse evaluate small/model --data glue
  losparse evaluate my-model --task rte --data glue
  losparse evaluate answers/model --data squad
  losparse evaluate summaries/model --dev test.jsonl --num-beams 4
  losparse evaluate small/model --dev dev.csv --text review --label stars
  losparse evaluate small/checkpoints/step-00000120

Models that losparse trained or compressed store their task; others need --task or --dev.")]
pub struct Args {
    /// Model folder: Hugging Face's, a compressed one, a run's output folder, or one of its
    /// checkpoints
    #[arg(value_name = "MODEL")]
    model: PathBuf,
    /// Recipe (TOML) whose [task] is used; options given here override it
    #[arg(long, value_name = "FILE", help_heading = "Data")]
    recipe: Option<PathBuf>,
    #[command(flatten)]
    task: TaskArgs,
    /// Examples in a batch [default: 32; for a checkpoint its recipe's]
    #[arg(long, value_name = "N", help_heading = "Data")]
    batch_size: Option<usize>,
}

impl Args {
    /// Runs the command.
    pub fn run(&self, global: &GlobalArgs) -> anyhow::Result<()> {
        check_count("batch_size", self.batch_size.unwrap_or(BATCH_SIZE))?;
        let device = global.open()?;
        if CheckpointState::is_in(&self.model) {
            let results = self.checkpoint(global, device)?;
            return self.print(&results, global);
        }
        let recipe = read_recipe(self.recipe.as_ref())?.task;
        let batch_size = self.batch_size.unwrap_or(BATCH_SIZE);
        let results = evaluate(
            &self.model,
            &self.task,
            recipe,
            batch_size,
            global,
            &device,
            &Interrupt::default(),
        )?;
        self.print(&results, global)
    }

    fn print(&self, results: &[SplitMetrics], global: &GlobalArgs) -> anyhow::Result<()> {
        if global.json {
            // serde_json rejects paths that are not UTF-8.
            let model = self.model.display().to_string();
            for result in results {
                output::print_json(&json!({"model": model, "result": result}))?;
            }
            return Ok(());
        }
        let rows: Vec<Vec<String>> = results
            .iter()
            .map(|SplitMetrics { split, metrics }| {
                vec![split.clone(), metrics.examples.to_string(), metrics.to_string()]
            })
            .collect();
        output::print(&output::table(&["split", "examples", "metrics"], &[1], &rows))?;
        let poor = results.iter().filter_map(|result| no_better_than_constant(&result.metrics));
        poor.for_each(|message| output::warn(&message));
        Ok(())
    }

    /// Evaluates a checkpoint on the data of its run, unless other data is given.
    fn checkpoint(&self, global: &GlobalArgs, device: Device) -> anyhow::Result<Vec<SplitMetrics>> {
        let given = self.recipe.as_ref().map(|path| read_recipe(Some(path))).transpose()?;
        let observer = Arc::new(Progress::new(global.quiet || global.json, false));
        let options = RunOptions { observer, ..global.run_options(&self.model, device) };
        if self.task.labels.is_some() {
            let message = "a checkpoint's labels are those of its run";
            return Err(Error::option("labels", message).into());
        }
        let adjust = |recipe: &mut Recipe| {
            if let Some(given) = given {
                recipe.task = given.task;
            }
            self.task.apply(&mut recipe.task);
            let own = recipe.training.eval_batch_size;
            recipe.training.eval_batch_size = self.batch_size.unwrap_or(own);
        };
        Ok(evaluate_checkpoint(&self.model, adjust, &options)?)
    }
}
