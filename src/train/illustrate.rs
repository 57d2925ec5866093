//! A run's pictures, and the report that has them inside.

use super::Trained;
use super::job::Job;
use super::pipeline::Run;
use crate::Result;
use crate::checkpoint::atomic;
use crate::inspect::{RunReport, html};
use crate::plots::{self, RunAnalysis};

impl<J: Job> Run<'_, J> {
    /// Writes what pictures show, the pictures and `report.html`; the pictures' titles and paths
    /// within the run's folder. `dense` is the model started from, of whose layers those called
    /// `compressed` were.
    ///
    /// # Errors
    /// If something cannot be computed, drawn or written.
    pub(super) fn write_pictures(
        &self,
        report: &RunReport,
        dense: &J::Model,
        trained: &Trained<J::Model>,
        compressed: &[String],
    ) -> Result<Vec<(String, String)>> {
        let folder = &self.options.output;
        let analysis = RunAnalysis {
            importance: trained.importance.clone(),
            importance_before: trained.importance_before.clone(),
            spectra: plots::spectra(dense, &plots::telling_layers(compressed))?,
        };
        analysis.write(folder)?;
        let mut pictures = Vec::new();
        for (name, figure) in plots::run_figures(report, &analysis) {
            plots::write(&folder.join("plots"), name, &figure)?;
            pictures.push((figure.title, format!("plots/{name}.svg")));
        }
        let html = html::render(report, &analysis)?;
        atomic::write_file(folder.join("report.html"), html.as_bytes())?;
        Ok(pictures)
    }
}
