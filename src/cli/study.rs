//! `losparse study`.

use std::path::PathBuf;
use std::sync::Arc;

use losparse::Error;
use losparse::study::{RunState, Study, StudyReport, run_study, states};
use losparse::train::{Interrupt, RunOptions};
use serde_json::json;

use super::machine::MachineArgs;
use super::output;
use super::progress::Progress;
use super::run::stop_on_ctrl_c;

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  losparse study grid.toml -o results
  losparse study grid.toml -o results --dry-run

A grid is a recipe, [base], and lists of settings, [grid], of which every combination is a run:
  keep_models = false
  [base]
  model = 'bert-base-uncased'
  task = { name = 'rte', data = 'glue' }
  method = { low_rank_ratio = 0.02 }
  training = { epochs = 5 }
  [grid]
  method = ['dense', 'losparse', 'itp', 'low-rank', 'movement', 'one-shot']
  ratio = [0.2, 0.1, 0.05]
  learning_rate = [5e-5, 1e-4]
  seed = [1, 2, 3]
  'method.regrowth' = ['allowed', 'frozen']
Any setting of a recipe can be an axis, and low_rank_share, the low-rank part's share of the ratio.

The same command again goes on where it was stopped; runs that are done, with the same settings,
are not repeated. FOLDER holds study.md, study.csv, study.json, plots, and a folder for each run.")]
pub struct Args {
    /// The grid
    #[arg(value_name = "GRID.toml")]
    grid: PathBuf,
    /// Folder for the results
    #[arg(long, short, value_name = "FOLDER")]
    output: PathBuf,
    /// Only list the runs and how far they are
    #[arg(long)]
    dry_run: bool,
}

impl Args {
    /// Runs the command; an error if a run failed.
    pub fn run(&self, machine: &MachineArgs) -> anyhow::Result<()> {
        let study = Study::read(&self.grid)?;
        if self.dry_run {
            return self.list(&study, machine.json);
        }
        let interrupt = Interrupt::default();
        let options = RunOptions {
            output: self.output.clone(),
            resume: false,
            overwrite: false,
            tui: false,
            device: machine.open()?,
            device_name: machine.device_name(),
            observer: Arc::new(Progress::new(machine.quiet, machine.json)),
            interrupt: interrupt.clone(),
        };
        stop_on_ctrl_c(interrupt)?;
        let report = match run_study(&study, &options) {
            Err(error @ Error::Interrupted(_)) => {
                output::note("the same command goes on where it was stopped");
                return Err(error.into());
            }
            result => result?,
        };
        match machine.json {
            true => output::print_json(&json!({"event": "done", "study": report}))?,
            false => output::print(&self.summary(&report))?,
        }
        match report.failed {
            0 => Ok(()),
            failed => anyhow::bail!("{failed} of {} runs failed; see study.md", study.runs.len()),
        }
    }

    fn list(&self, study: &Study, json: bool) -> anyhow::Result<()> {
        let rows: Vec<_> = study.runs.iter().zip(states(study, &self.output)).collect();
        let word = |state: &RunState| match state {
            RunState::Finished(_) => "done",
            RunState::Failed(_) => "failed",
            RunState::Waiting => "to do",
        };
        if json {
            let rows = rows.iter().map(|(run, state)| {
                json!({"folder": run.folder, "state": word(state), "recipe": run.recipe})
            });
            return output::print_json(&rows.collect::<Vec<_>>());
        }
        let rows: Vec<Vec<String>> = rows
            .iter()
            .map(|(run, state)| vec![run.folder.clone(), word(state).to_string()])
            .collect();
        let table = output::table(&["run", "state"], &[], &rows);
        Ok(output::print(&format!("{table}\n{} runs", rows.len()))?)
    }

    fn summary(&self, report: &StudyReport) -> String {
        let (header, rows) = report.rows();
        let header: Vec<&str> = header.iter().map(String::as_str).collect();
        let table = output::table(&header, &[], &rows);
        format!("{table}\n\nall of it in {}", self.output.join("study.md").display())
    }
}
