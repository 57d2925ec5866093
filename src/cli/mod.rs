//! The command line: one file a command, what they share beside them.

mod answer;
mod args;
mod bench;
mod compress;
mod evaluate;
mod finetune;
mod flags;
mod inspect;
mod lines;
mod machine;
mod model;
mod output;
mod pictures;
mod predict;
mod progress;
mod quickstart;
mod quickstart_models;
mod quickstart_outcome;
mod run;
mod study;
mod study_workers;
mod summarize;
mod summary_args;
mod texts;

use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

/// Exit code of a run that came to its end with a result that is marked.
const MARKED: u8 = 3;
/// Exit code of a run that was stopped by Ctrl-C, as shells have it, or by a signal to end.
const INTERRUPTED: u8 = 130;

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

`losparse <COMMAND> --help` tells more. Model folders are in Hugging Face's layout.",
    subcommand_required = true,
    arg_required_else_help = true,
    disable_help_subcommand = true,
    disable_help_flag = true
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    machine: machine::MachineArgs,
}

#[derive(Subcommand)]
enum Command {
    /// See it work: compress a small built-in model on built-in data, in about a minute
    Quickstart(quickstart::Args),
    /// Compress a model while training it for a task
    Compress(Box<compress::Args>),
    /// Train a model for a task, without compressing it
    Finetune(Box<finetune::Args>),
    /// Score a model on labelled data
    Evaluate(evaluate::Args),
    /// Classify, score or summarize texts, or answer questions
    Predict(predict::Args),
    /// Show what a model is made of: layers, ranks, kept neurons, sizes
    Inspect(inspect::Args),
    /// Run grids of settings, on one device or several, into one table with plots
    Study(study::Args),
    /// Time models against each other
    Bench(bench::Args),
}

/// Parses the arguments, runs the command and says how it went: 0, 1 on errors, 2 on wrong usage, 3 if
/// the result is marked, 130 when stopped by Ctrl-C, SIGTERM or SIGHUP.
pub fn main() -> ExitCode {
    let mut command = Cli::command();
    command.build();
    let matches = command.clone().get_matches();
    let flags = flags::Flags::of(&command, &matches);
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    output::log_warnings();
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.is::<run::Marked>() => ExitCode::from(MARKED),
        Err(error) => {
            output::note(&format!("error: {}", flags.describe(&error)));
            match error.downcast_ref::<losparse::Error>() {
                Some(losparse::Error::Interrupted(_)) => ExitCode::from(INTERRUPTED),
                _ => ExitCode::FAILURE,
            }
        }
    }
}

fn run(cli: Cli) -> anyhow::Result<()> {
    use Command::{Compress, Finetune, Quickstart, Study};
    let machine = cli.machine;
    machine.apply()?;
    if matches!(cli.command, Quickstart(_) | Compress(_) | Finetune(_) | Study(_)) {
        losparse::kernels::keep_freed_memory();
    }
    match cli.command {
        Command::Quickstart(args) => args.run(&machine),
        Command::Compress(args) => args.run(&machine),
        Command::Finetune(args) => args.run(&machine),
        Command::Evaluate(args) => args.run(&machine),
        Command::Predict(args) => args.run(&machine),
        Command::Inspect(args) => args.run(&machine),
        Command::Study(args) => args.run(&machine),
        Command::Bench(args) => args.run(&machine),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `Command::debug_assert` checks in debug builds only: of two options of one name, clap
    /// lets the last win.
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
