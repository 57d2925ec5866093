//! `losparse finetune`.

use super::args::{TaskArgs, TrainDataArgs, TrainingArgs, read_recipe};
use super::machine::MachineArgs;
use super::run::RunArgs;

#[derive(clap::Args)]
#[command(
    override_usage = "\
losparse finetune [OPTIONS] <MODEL> --output <FOLDER>
       losparse finetune [OPTIONS] --recipe <FILE> --output <FOLDER>",
    after_help = "\
Examples:
  losparse finetune bert-base-uncased -o tuned --task rte --data glue --epochs 3
  losparse finetune my-model -o tuned --train train.jsonl --dev dev.jsonl --text text --score rating

The result, FOLDER/model, is a plain Hugging Face model folder."
)]
pub struct Args {
    #[command(flatten)]
    run: RunArgs,
    #[command(flatten)]
    task: TaskArgs,
    #[command(flatten)]
    train: TrainDataArgs,
    #[command(flatten)]
    training: TrainingArgs,
}

impl Args {
    /// Runs the command. A recipe's compression is left out.
    pub fn run(&self, machine: &MachineArgs) -> anyhow::Result<()> {
        let mut recipe = read_recipe(self.run.recipe.as_ref())?;
        self.task.apply(&mut recipe.task);
        self.train.apply(&mut recipe.task);
        self.training.apply(&mut recipe.training);
        if recipe.method.take().is_some() {
            machine.note("fine-tuning: the recipe's [method] is left out");
        }
        self.run.run(recipe, machine, losparse::train::finetune)
    }
}
