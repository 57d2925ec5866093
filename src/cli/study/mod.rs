//! `losparse study`: runs a grid of settings and sums it up.

mod workers;

use std::io::Read;
use std::path::PathBuf;

use losparse::Error;
use losparse::device::DeviceSpec;
use losparse::study::{FailedRuns, RunState, Study, StudyReport, check_places, run_study, states};
use losparse::train::{Interrupt, RunOptions};
use serde_json::json;

use self::workers::Workers;
use crate::cli::global::{GlobalArgs, parse_device};
use crate::cli::output;
use crate::cli::signals::stop_on_ctrl_c;

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  losparse study grid.toml -o results
  losparse study grid.toml -o results --dry-run
  losparse study grid.toml -o results --devices cuda:0,cuda:1

A grid is a recipe, [base], and lists of settings, [grid]; every combination of them is a run:
  keep_models = false
  [base]
  model = 'bert-base-uncased'
  task = { name = 'rte', data = 'glue' }
  training = { epochs = 5 }
  [grid]
  method = ['dense', 'losparse', 'itp', 'low-rank', 'movement', 'one-shot']
  ratio = [0.2, 0.1, 0.05]
  learning_rate = [5e-5, 1e-4]
  seed = [1, 2, 3]
  'method.regrowth' = ['allowed', 'frozen']
Any setting of a recipe can be an axis, and so can low_rank_share, the low-rank part's share of the
ratio. A task may be a table of settings: {name = 'rte', epochs = 10, batch_size = 16}.

Several grids, [[grid]], make one study: settings that a grid does not vary are those of [base], and
runs that two grids share are done once. To vary one setting at a time, give it a grid of its own:
  [[grid]]
  ratio = [0.2, 0.1]
  [[grid]]
  'method.beta1' = [0.5, 0.95]

The same command resumes a study that was stopped; finished runs with the same settings are not
repeated. Several processes may work on one FOLDER; --devices starts one for each device. FOLDER
holds study.md, study.csv (cells), runs.csv, study.json, plots, and a folder for each run.")]
pub struct Args {
    /// File of the grid
    #[arg(value_name = "GRID.toml")]
    grid: PathBuf,
    /// Folder for the results
    #[arg(long, short, value_name = "FOLDER")]
    output: PathBuf,
    /// Only list the runs and their states
    #[arg(long)]
    dry_run: bool,
    /// Share the runs among these devices, one process each, in place of --device; the processes
    /// then compete for the machine, and measured times grow
    #[arg(long, value_name = "DEVICE,…", value_delimiter = ',', value_parser = parse_device)]
    devices: Vec<DeviceSpec>,
    /// Work for the process that was started by COMMAND, until the standard input ends
    #[arg(long, value_name = "COMMAND", hide = true)]
    worker: Option<String>,
}

impl Args {
    /// Runs the command.
    ///
    /// # Errors
    /// Also if a run of the study failed.
    pub fn run(&self, global: &GlobalArgs) -> anyhow::Result<()> {
        let study = Study::read(&self.grid)?;
        check_places(&study, &self.output)?;
        if self.dry_run {
            return self.list(&study, global.json);
        }
        global.dtype().check_training()?;
        let interrupt = Interrupt::default();
        stop_on_ctrl_c(interrupt.clone())?;
        let report = match self.devices.is_empty() {
            true => self.work(&study, global, interrupt),
            false => Workers::start([&self.grid, &self.output], &study, &self.devices, global)?
                .wait(&study, &interrupt),
        };
        let report = match report {
            Err(error @ Error::Interrupted(_)) if self.worker.is_none() => {
                output::note("the same command resumes the study");
                return Err(error.into());
            }
            result => result?,
        };
        if self.worker.is_some() {
            return Ok(());
        }
        match global.json {
            true => output::print_json(&json!({"event": "done", "study": report}))?,
            false => output::print(&self.summary(&report))?,
        }
        match (report.failed, report.waiting) {
            (0, 0) => Ok(()),
            (0, waiting) if self.devices.is_empty() => {
                global.note(&format!(
                    "{waiting} runs are claimed by another process, or by one that has ended"
                ));
                Ok(())
            }
            (0, waiting) => anyhow::bail!("{waiting} runs were not done; see above"),
            (failed, _) => {
                anyhow::bail!("{failed} of {} runs failed; see study.md", study.runs.len())
            }
        }
    }

    /// Does the runs in this process.
    fn work(
        &self,
        study: &Study,
        global: &GlobalArgs,
        interrupt: Interrupt,
    ) -> losparse::Result<StudyReport> {
        if self.worker.is_some() {
            stop_with_standard_input(interrupt.clone());
        }
        let device = global.open_to_train()?;
        let mut options = RunOptions { interrupt, ..global.run_options(&self.output, device) };
        if let Some(command) = &self.worker {
            options.command.clone_from(command);
        }
        let failed = if self.worker.is_some() { FailedRuns::Leave } else { FailedRuns::Retry };
        run_study(study, &options, failed)
    }

    fn list(&self, study: &Study, json: bool) -> anyhow::Result<()> {
        let rows: Vec<_> = study.runs.iter().zip(states(study, &self.output)?).collect();
        let word = |state: &RunState| match state {
            RunState::Finished(_) => "done",
            RunState::Failed(_) => "failed",
            RunState::Waiting => "to do",
        };
        if json {
            let rows = rows.iter().map(|(run, state)| {
                json!({"folder": run.folder, "state": word(state), "recipe": run.recipe.to_json()})
            });
            return output::print_json(&rows.collect::<Vec<_>>());
        }
        let rows: Vec<Vec<String>> = rows
            .iter()
            .map(|(run, state)| {
                let settings = run.settings.iter().map(|(axis, value)| format!("{axis} {value}"));
                let settings = settings.collect::<Vec<_>>().join(", ");
                vec![run.folder.clone(), word(state).to_string(), settings]
            })
            .collect();
        let table = output::table(&["run", "state", "settings"], &[], &rows);
        Ok(output::print(&format!("{table}\n{} runs", rows.len()))?)
    }

    fn summary(&self, report: &StudyReport) -> String {
        let (header, rows) = report.rows();
        let header: Vec<&str> = header.iter().map(String::as_str).collect();
        let table = output::table(&header, &[], &rows);
        format!("{table}\n\nthe whole study is in {}", self.output.join("study.md").display())
    }
}

/// Stops the run when the standard input ends: the process that holds its other end closed it or is
/// gone.
fn stop_with_standard_input(interrupt: Interrupt) {
    std::thread::spawn(move || {
        // The content does not matter; an error is an end too.
        let _ = std::io::stdin().lock().read_to_end(&mut Vec::new());
        interrupt.stop("with the process that started it");
    });
}
