//! Studies: grids of runs from one file into one table, one after another or in several processes.
//!
//! ```text
//! GRID.toml ─► Study (planned runs) ─► run: each in its own folder ─► Cells over seeds ─► study.md
//!              identity: same settings,  claimed by a lock file;                          .csv .json,
//!              same run                  finished: read, killed: resumed                  plots
//! ```

mod baseline;
mod cell;
mod csv_tables;
mod figures;
mod gain;
mod grid;
mod identity;
mod importance;
mod run;
mod table;

pub use cell::{Cell, CellRun};
pub use figures::study_figures;
pub use gain::Gain;
pub use grid::{PlannedRun, Study};
pub use importance::importance_figures;
pub use run::{FailedRuns, RunState, forget_failures, run_study, states, write_study};
pub use table::StudyReport;
