//! Studies: a file of settings becomes a grid of runs, and their reports one table.
//!
//! ```text
//! GRID.toml ─► Study (planned runs) ─► run: each in its own folder ─► Cells over seeds ─► study.md
//!              identity: same settings,  claimed by a lock file;                          .csv .json,
//!              same run                  finished: read, killed: resumed                  plots
//! ```
//!
//! Begin with [`run_study`]. Several processes may run one study. Uses `train` and all below it.

mod axes;
mod baseline_run;
mod cell;
mod csv_tables;
mod gain;
mod grid;
mod identity;
mod importance_figures;
mod planned_run;
mod ratio_figures;
mod run;
mod run_state;
mod study_report;

pub use cell::{Cell, CellRun};
pub use gain::Gain;
pub use grid::Study;
pub use importance_figures::importance_figures;
pub use planned_run::PlannedRun;
pub use ratio_figures::study_figures;
pub use run::{FailedRuns, forget_failures, run_study, write_study};
pub use run_state::{RunState, check_places, states};
pub use study_report::StudyReport;
