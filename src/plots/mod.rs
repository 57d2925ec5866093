//! Pictures of models and runs as SVG and PNG, and the HTML report that holds them.
//!
//! Begin with [`Figure`] in `chart`. A figure is drawn as SVG; its PNG is rendered from that with a
//! font that the program carries, so that pictures look the same on every machine. Figures are made
//! from reports and models; this folder may use `inspect` and all below it.

mod chart;
mod html_report;
mod importance_histogram;
mod layer_figures;
mod png;
mod run_figures;

use std::path::Path;

pub(crate) use chart::extent;
pub use chart::{Axis, Figure, Mark, Panel, Point, Series};
pub use importance_histogram::{importance_comparison_figure, importance_figure};
pub(crate) use layer_figures::in_panels;
pub use layer_figures::{Spectrum, kept_figure, spectra, spectra_figure, telling_layers};
pub use run_figures::{RunAnalysis, run_figures, schedule_figure};

use crate::Result;
use crate::checkpoint::atomic;
use crate::inspect::RunReport;

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

/// Writes a run's `analysis.json`, pictures and `report.html` to its folder. Returns title and path of
/// each picture.
///
/// # Errors
/// If something cannot be drawn or written.
pub fn write_run(
    report: &RunReport,
    analysis: &RunAnalysis,
    folder: &Path,
) -> Result<Vec<(String, String)>> {
    analysis.write(folder)?;
    let mut pictures = Vec::new();
    for (name, figure) in run_figures(report, analysis) {
        write(&folder.join("plots"), name, &figure)?;
        pictures.push((figure.title, format!("plots/{name}.svg")));
    }
    let html = html_report::render(report, analysis)?;
    atomic::write_file(folder.join("report.html"), html.as_bytes())?;
    Ok(pictures)
}
