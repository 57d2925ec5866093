//! Studies: a grid of runs from one file, one after another, into one table.
//!
//! ```text
//! GRID.toml ─► Study (planned runs) ─► run: each in its own folder ─► Cells over seeds ─► study.md
//!                                        finished: read, killed: resumed            .csv .json, plots
//! ```

mod figures;
mod grid;
mod run;
mod table;

pub use figures::study_figures;
pub use grid::{PlannedRun, Study};
pub use run::{RunState, run_study, states};
pub use table::{Cell, CellRun, StudyReport};
