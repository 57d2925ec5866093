//! `losparse compress`: compresses a model while it is trained for a task.

use std::path::PathBuf;

use super::global::GlobalArgs;
use super::options::method::MethodArgs;
use super::run::TrainArgs;

#[derive(clap::Args)]
#[command(
    override_usage = "\
losparse compress [OPTIONS] <MODEL> --output <FOLDER>
       losparse compress [OPTIONS] --recipe <FILE> --output <FOLDER>
       losparse compress --resume --output <FOLDER>",
    after_help = "\
Examples:
  For a GLUE task, to 20% of the weights:
    losparse compress bert-base-uncased -o small --task rte --data glue --ratio 0.2
  For question answering, to 30%:
    losparse compress bert-base-uncased -o small --task squad --data squad --ratio 0.3
  On your own data:
    losparse compress my-model -o small --train train.csv --dev dev.csv --text review --label stars
  A recipe with one setting changed; first see what it would do:
    losparse compress --recipe recipe.toml --epochs 5 --dry-run
  Feed-forward layers only, without the first block:
    losparse compress my-model -o small --task sst2 --data glue \\
        --layers 'intermediate.dense,layer.*.output.dense,!layer.0.**'
  As published, without a teacher:
    losparse compress my-model -o small --task sst2 --data glue --teacher none --approximate weights
  Go on after Ctrl-C, a signal or a crash:
    losparse compress -o small --resume

The result, FOLDER/model, loads without the model it was made from."
)]
pub struct Args {
    #[command(flatten)]
    train: TrainArgs,
    #[command(flatten)]
    method: MethodArgs,
    /// Run of `finetune` on the same task; the report compares the result with it [default: the
    /// fine-tuning that came first, if there was one]
    #[arg(long, value_name = "FOLDER|report.json", help_heading = "Run")]
    baseline: Option<PathBuf>,
}

impl Args {
    /// Runs the command.
    pub fn run(&self, global: &GlobalArgs) -> anyhow::Result<()> {
        let mut recipe = self.train.recipe()?;
        self.train.run.check_command(&recipe, true)?;
        if !self.train.run.has_recipe()? {
            recipe = recipe.recommended();
        }
        self.method.apply(recipe.method.get_or_insert_default())?;
        let baseline = self.baseline.as_deref();
        self.train.run.run(recipe, baseline, global, losparse::train::compress)
    }
}
