//! The command line: one file or folder a command, and what commands share.
//!
//! Begin with [`Command`], then open the file of the command: its `Args::run` is all that it does.
//! This folder uses the library's public items only, and nothing uses this folder. Within it,
//! commands use the shared files, never each other:
//!
//! ```text
//! quickstart/ compress finetune evaluate predict/ inspect/ study/ quantize bench    the commands
//!   └ run         compress and finetune: options, checks
//!      ├ plan         what a dry run prints
//!      ├ summary      what is printed at the end
//!      ├ untrained    compress without training
//!      ├ evaluation   metrics of a model folder
//!      ├ options/     options that override a recipe's settings
//!      ├ opened       a model folder, loaded with tokenizer and task
//!      ├ global       options of every command: device, threads, --json
//!      ├ progress     a run's events, shown
//!      ├ signals      Ctrl-C, other signals
//!      └ output       printing, tables
//! error_text          errors that name options as they are typed
//! ```

mod bench;
mod compress;
mod dry_run;
mod error_text;
mod evaluate;
mod evaluation;
mod finetune;
mod global;
mod inspect;
mod opened;
mod options;
mod output;
mod predict;
mod progress;
mod quantize;
mod quickstart;
mod run;
mod signals;
mod study;
mod summary;
mod untrained;

use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

/// Exit code of a run that ended with a result that is not what was asked for.
const MARKED: u8 = 3;

#[derive(Parser)]
#[command(
    name = "losparse",
    version,
    about = "Compress transformers by low-rank plus structured-sparse approximation (LoSparse)",
    after_help = "\
Examples:
  losparse quickstart
  losparse compress bert-base-uncased -o small --task rte --data glue --ratio 0.2
  losparse evaluate small/model --data glue
  losparse predict small/model \"Is it smaller?\" \"It is.\"
  losparse bench bert-base-uncased small/model --batch 8 --length 128

`losparse <COMMAND> --help` shows a command's options. Model folders are in Hugging Face's layout.",
    subcommand_required = true,
    arg_required_else_help = true,
    disable_help_subcommand = true,
    disable_help_flag = true
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    global: global::GlobalArgs,
}

#[derive(Subcommand)]
enum Command {
    /// See it work: compress a small built-in model on built-in data in about a minute
    Quickstart(quickstart::Args),
    /// Compress a model while training it for a task
    Compress(Box<compress::Args>),
    /// Train a model for a task, without compressing it
    Finetune(Box<finetune::Args>),
    /// Score a model on labelled data
    Evaluate(evaluate::Args),
    /// Classify, score or summarize texts, or answer questions
    Predict(predict::Args),
    /// Show what a model consists of: layers, ranks, kept neurons, sizes
    Inspect(inspect::Args),
    /// Run grids of settings, on one device or several, and sum them up in a table with plots
    Study(study::Args),
    /// Store a model in 8-bit integers that it also computes with
    Quantize(quantize::Args),
    /// Compare the speed of models
    Bench(bench::Args),
}

/// Parses the arguments and runs the command.
///
/// Exit codes: 0, 1 on errors, 2 on wrong usage, 3 if the result is not what was asked for, 130
/// when stopped by Ctrl-C, SIGTERM or SIGHUP.
pub fn main() -> ExitCode {
    signals::ignore_file_size_signal();
    let mut command = Cli::command();
    command.build();
    let matches = command.clone().get_matches();
    let options = error_text::TypedOptions::of(&command, &matches);
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    output::log_warnings();
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.is::<run::Marked>() => ExitCode::from(MARKED),
        Err(error) => {
            output::note(&format!("error: {}", options.describe(&error)));
            match error.downcast_ref::<losparse::Error>() {
                Some(losparse::Error::Interrupted(_)) => ExitCode::from(signals::INTERRUPTED),
                _ => ExitCode::FAILURE,
            }
        }
    }
}

fn run(cli: Cli) -> anyhow::Result<()> {
    use Command::{Compress, Finetune, Quickstart, Study};
    let global = cli.global;
    global.apply()?;
    if matches!(cli.command, Quickstart(_) | Compress(_) | Finetune(_) | Study(_)) {
        losparse::kernels::keep_freed_memory();
    }
    match cli.command {
        Command::Quickstart(args) => args.run(&global),
        Command::Compress(args) => args.run(&global),
        Command::Finetune(args) => args.run(&global),
        Command::Evaluate(args) => args.run(&global),
        Command::Predict(args) => args.run(&global),
        Command::Inspect(args) => args.run(&global),
        Command::Study(args) => args.run(&global),
        Command::Quantize(args) => args.run(&global),
        Command::Bench(args) => args.run(&global),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// clap checks this in debug builds only (`Command::debug_assert`); in others the last option
    /// of a name wins.
    #[test]
    fn no_option_is_there_twice() {
        let mut command = Cli::command();
        command.build();
        for command in command.get_subcommands() {
            let mut names: Vec<String> = Vec::new();
            for argument in command.get_arguments() {
                names.extend(argument.get_long().map(|long| format!("--{long}")));
                names.extend(argument.get_short().map(|short| format!("-{short}")));
                names.extend(
                    argument.get_all_aliases().into_iter().flatten().map(|a| format!("--{a}")),
                );
                names.push(argument.get_id().to_string());
            }
            let count = names.len();
            assert!(count > 2, "{}", command.get_name());
            names.sort_unstable();
            let twice = names.windows(2).find(|pair| pair[0] == pair[1]);
            assert_eq!(twice, None, "{}", command.get_name());
        }
    }
}
