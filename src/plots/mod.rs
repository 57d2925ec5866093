//! Pictures of models, runs and studies, as SVG and PNG.
//!
//! A [`Figure`] is drawn once, as SVG; its PNG is rendered from that with a font that comes with the
//! program, so pictures look the same on a machine without fonts.

mod chart;
mod importance;
mod model;
mod png;
mod run;

use std::path::Path;

pub(crate) use chart::extent;
pub use chart::{Axis, Figure, Mark, Panel, Point, Series};
pub use importance::{importance_comparison_figure, importance_figure};
pub(crate) use model::in_panels;
pub use model::{Spectrum, kept_figure, spectra, spectra_figure, telling_layers};
pub use run::{RunAnalysis, run_figures, schedule_figure};

use crate::Result;
use crate::checkpoint::atomic;

/// Writes `figure` to `folder` as `name.svg` and `name.png`.
///
/// # Errors
/// If it cannot be drawn or written.
pub fn write(folder: &Path, name: &str, figure: &Figure) -> Result<()> {
    let svg = figure.to_svg()?;
    let image = png::render(&svg)?;
    atomic::write_file(folder.join(format!("{name}.svg")), svg.as_bytes())?;
    atomic::write_file(folder.join(format!("{name}.png")), &image)
}
