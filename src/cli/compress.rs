//! `losparse compress`.

use std::path::PathBuf;

use super::args::{MethodArgs, TrainArgs};
use super::machine::MachineArgs;

#[derive(clap::Args)]
#[command(
    override_usage = "\
losparse compress [OPTIONS] <MODEL> --output <FOLDER>
       losparse compress [OPTIONS] --recipe <FILE> --output <FOLDER>
       losparse compress --resume --output <FOLDER>",
    after_help = "\
Examples:
  A GLUE task, to 20% of the weights:
    losparse compress bert-base-uncased -o small --task rte --data glue --ratio 0.2
  Questions and answers, to 30%:
    losparse compress bert-base-uncased -o small --task squad --data squad --ratio 0.3
  Your own data:
    losparse compress my-model -o small --train train.csv --dev dev.csv --text review --label stars
  A recipe, with one setting changed; first only what it would do:
    losparse compress --recipe recipe.toml --epochs 5 --dry-run
  Feed-forward layers only, without the first block:
    losparse compress my-model -o small --task sst2 --data glue \\
        --layers 'intermediate.dense,layer.*.output.dense,!layer.0.**'
  Beside the dense model, fine-tuned:
    losparse compress my-model -o small --recipe recipe.toml --baseline tuned

  Go on after Ctrl-C, a signal or a crash:
    losparse compress -o small --resume

The result, FOLDER/model, loads without the model it was made from."
)]
pub struct Args {
    #[command(flatten)]
    train: TrainArgs,
    #[command(flatten)]
    method: MethodArgs,
    /// Run of `finetune` on the same task whose metrics the report sets beside the result's
    #[arg(long, value_name = "FOLDER|report.json", help_heading = "Run")]
    baseline: Option<PathBuf>,
}

impl Args {
    /// Runs the command.
    pub fn run(&self, machine: &MachineArgs) -> anyhow::Result<()> {
        let mut recipe = self.train.recipe()?;
        self.train.run.check_command(&recipe, true)?;
        self.method.apply(recipe.method.get_or_insert_default())?;
        let baseline = self.baseline.as_deref();
        self.train.run.run(recipe, baseline, machine, losparse::train::compress)
    }
}
