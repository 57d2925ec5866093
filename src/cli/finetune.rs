//! `losparse finetune`: trains a model for a task without compressing it, as a baseline.

use super::global::GlobalArgs;
use super::run::TrainArgs;

#[derive(clap::Args)]
#[command(
    override_usage = "\
losparse finetune [OPTIONS] <MODEL> --output <FOLDER>
       losparse finetune [OPTIONS] --recipe <FILE> --output <FOLDER>
       losparse finetune --resume --output <FOLDER>",
    after_help = "\
Examples:
  losparse finetune bert-base-uncased -o tuned --task rte --data glue --epochs 3
  losparse finetune my-model -o tuned --train train.jsonl --dev dev.jsonl --text text --score rating
  losparse finetune -o tuned --resume

The result, FOLDER/model, is a plain Hugging Face model folder."
)]
pub struct Args {
    #[command(flatten)]
    train: TrainArgs,
}

impl Args {
    /// Runs the command. Ignores the `[method]` of a recipe.
    pub fn run(&self, global: &GlobalArgs) -> anyhow::Result<()> {
        let mut recipe = self.train.recipe()?;
        self.train.run.check_command(&recipe, false)?;
        if recipe.method.take().is_some() {
            global.note("fine-tuning: the recipe's [method] is ignored");
        }
        self.train.run.run(recipe, None, global, losparse::train::finetune)
    }
}
