//! `losparse quickstart`: compresses a small built-in model ([`built_in`]) on built-in data and
//! shows it before and after ([`outcome`]).

mod built_in;
mod outcome;

use std::path::{Path, PathBuf};

use clap::ValueEnum;
use losparse::checkpoint::atomic;
use losparse::inspect::{RunReport, percent};
use losparse::train::{Interrupt, Recipe, RunOptions, compress};
use serde_json::json;

use self::built_in::{BuiltIn, Model};
use self::outcome::Outcome;
use crate::cli::global::GlobalArgs;
use crate::cli::options::values::share;
use crate::cli::output;
use crate::cli::run::verdict;
use crate::cli::signals::stop_on_ctrl_c;

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  losparse quickstart
  losparse quickstart --ratio 0.1 --seed 7 --output tenth
  losparse quickstart --model g2p-bart

Nothing is downloaded or precomputed: a small BERT that rates film reviews (or a small BART that
writes how words are pronounced) is decomposed, pruned to a fraction of its linear layers' weights
while it trains, evaluated on held-out data, compacted, saved, timed and tried out. Another --seed
prunes other neurons.")]
pub struct Args {
    /// Folder for the result
    #[arg(long, short, value_name = "FOLDER", default_value = "losparse-quickstart")]
    output: PathBuf,
    /// The built-in model
    #[arg(long, value_name = "NAME", value_enum, default_value_t)]
    model: Model,
    /// Share of the linear layers' weights to keep
    #[arg(long, value_name = "SHARE", value_parser = share)]
    ratio: Option<f64>,
    /// Seed of batch order and dropout
    #[arg(long, value_name = "SEED")]
    seed: Option<u64>,
}

impl Args {
    /// Runs the command.
    pub fn run(&self, global: &GlobalArgs) -> anyhow::Result<()> {
        let device = global.open_to_train()?;
        let interrupt = Interrupt::default();
        stop_on_ctrl_c(interrupt.clone())?;
        let built_in = self.model.built_in();
        // Model and data are kept beside the result, whose recipe and checkpoints refer to them.
        let start = self.output.join(built_in.name);
        let recipe = self.recipe(built_in, &start)?;
        recipe.validate()?;
        let own = self.is_own_run();
        if !own && self.output.join(Recipe::FILE).exists() {
            let message = "holds another run; choose another folder with --output";
            return Err(losparse::Error::format(&self.output, message).into());
        }
        let options = RunOptions {
            overwrite: own,
            interrupt: interrupt.clone(),
            ..global.run_options(&self.output, device.clone())
        };
        options.check_output(Some(&start))?;
        unpack(built_in, &start)?;
        let ratio = recipe.method.as_ref().map_or(1.0, |method| method.ratio);
        let about = built_in.about;
        global.note(&format!("{about}; its linear layers shrink to {}.", percent(ratio)));
        let report = match compress(&recipe, &options) {
            Err(error @ losparse::Error::Interrupted(_)) => {
                let folder = self.output.display();
                global.note(&format!("go on with: losparse compress --resume -o {folder}"));
                return Err(error.into());
            }
            result => result?,
        };
        if global.json {
            output::print_json(&json!({"event": "done", "report": report}))?;
            return verdict(&report);
        }
        let small = self.output.join(RunReport::MODEL);
        let outcome = Outcome::new(built_in, &recipe, &report, [&start, &small], &device)?;
        let (table, tried) = (outcome.table()?, outcome.try_out(&interrupt)?);
        output::print(&format!("\n{table}\n\n{tried}\n\n{}", self.next(built_in)))?;
        verdict(&report)
    }

    /// Whether the output folder holds an earlier run of this command, which is replaced.
    fn is_own_run(&self) -> bool {
        let Ok(earlier) = Recipe::read(self.output.join(Recipe::FILE)) else { return false };
        let Ok(output) = std::path::absolute(&self.output) else { return false };
        let models = Model::value_variants().iter().map(|model| output.join(model.built_in().name));
        models.into_iter().any(|model| earlier.model.as_ref() == Some(&model))
    }

    /// The built-in recipe for the model and data in `start`, overridden by the options that were
    /// given.
    fn recipe(&self, built_in: &BuiltIn, start: &Path) -> losparse::Result<Recipe> {
        let parsed = Recipe::parse(built_in.recipe);
        let mut recipe =
            parsed.map_err(|message| losparse::Error::format("built-in recipe.toml", message))?;
        recipe.model = Some(start.to_path_buf());
        recipe.task.train = Some(start.join("train.tsv"));
        recipe.task.dev = Some(start.join("dev.tsv"));
        if let (Some(ratio), Some(method)) = (self.ratio, &mut recipe.method) {
            method.ratio = ratio;
            // At least half of the ratio is for the sparse part.
            method.low_rank_ratio = method.low_rank_ratio.map(|share| share.min(ratio / 2.0));
        }
        if let Some(seed) = self.seed {
            recipe.training.seed = seed;
        }
        Ok(recipe)
    }

    fn next(&self, built_in: &BuiltIn) -> String {
        let folder = self.output.display();
        let (start, text, columns) = (built_in.name, built_in.own_text, built_in.own_columns);
        format!(
            "The small model is in {folder}/model, the whole report in {folder}/report.md. Next:\n  \
             losparse predict {folder}/model \"{text}\"\n  \
             losparse inspect {folder}/model\n  \
             losparse bench {folder}/{start} {folder}/model\n  \
             losparse compress YOUR-MODEL -o small --train train.csv --dev dev.csv {columns}"
        )
    }
}

/// Writes the built-in model and data to `folder`.
///
/// # Errors
/// If the folder holds another file of one of their names.
fn unpack(built_in: &BuiltIn, folder: &Path) -> losparse::Result<()> {
    for (name, bytes) in built_in.files {
        let path = folder.join(name);
        if std::fs::read(&path).is_ok_and(|found| found != *bytes) {
            let message = "is in the way of the built-in file of this name; choose another folder";
            return Err(losparse::Error::format(path, message));
        }
    }
    std::fs::create_dir_all(folder).map_err(|e| losparse::Error::io(folder, e))?;
    built_in.files.iter().try_for_each(|(name, bytes)| atomic::write_file(folder.join(name), bytes))
}

#[cfg(test)]
mod tests;
