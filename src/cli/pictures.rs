//! `losparse inspect --plots`: pictures of a model, of a run, or of a run's checkpoint.

use std::path::Path;
use std::sync::Arc;

use burn::tensor::Device;
use losparse::inspect::{ModelAccount, RunReport};
use losparse::models::AnyModel;
use losparse::plots::{
    Figure, RunAnalysis, importance_figure, kept_figure, run_figures, schedule_figure, spectra,
    spectra_figure, telling_layers, write,
};
use losparse::train::{Interrupt, RunOptions, Silent, analyse_checkpoint};
use losparse::{Error, Result};
use serde_json::json;

use super::machine::MachineArgs;
use super::output;

/// Figures with the names of their files.
type Figures = Vec<(&'static str, Figure)>;

/// Pictures of a model folder: what each layer keeps, singular values of the layers `shown`, or of
/// some that tell most.
pub fn of_model(
    model: &AnyModel,
    account: &ModelAccount,
    shown: Option<&[String]>,
) -> Result<Figures> {
    let all: Vec<String> = account.layers.iter().map(|layer| layer.name.clone()).collect();
    let names = telling_layers(shown.unwrap_or(&all));
    Ok(vec![
        ("kept", kept_figure("Neurons kept in each layer", account)),
        (
            "spectra",
            spectra_figure("Singular values of the layers' weights", &spectra(model, &names)?),
        ),
    ])
}

/// Pictures of a run that has ended; of one without `analysis.json`, those that its report has.
pub fn of_run(folder: &Path) -> Result<Figures> {
    let report = RunReport::read(folder.join("report.json"))?;
    let analysis = match folder.join(RunAnalysis::FILE).is_file() {
        true => RunAnalysis::read(folder)?,
        false => RunAnalysis::default(),
    };
    let mut figures = run_figures(&report, &analysis);
    if figures.is_empty() {
        figures.push(("schedule", schedule_figure(&report)));
    }
    Ok(figures)
}

/// Pictures of a run's checkpoint, importance among them.
pub fn of_checkpoint(folder: &Path, device: &Device, machine: &MachineArgs) -> Result<Figures> {
    let options = RunOptions {
        output: folder.to_path_buf(),
        resume: false,
        overwrite: false,
        tui: false,
        device: device.clone(),
        device_name: machine.device_name(),
        command: String::new(),
        observer: Arc::new(Silent),
        interrupt: Interrupt::default(),
    };
    let found = analyse_checkpoint(folder, telling_layers, &options)?;
    Ok(vec![
        ("kept", kept_figure("Neurons kept in each layer", &found.account)),
        ("importance", importance_figure("Importance of neurons at this step", &found.importance)),
        ("spectra", spectra_figure("Singular values of L·R + S at this step", &found.spectra)),
    ])
}

/// Writes what has anything to show, and says where.
pub fn save(figures: &Figures, folder: &Path, machine: &MachineArgs) -> anyhow::Result<()> {
    let figures: Vec<_> = figures.iter().filter(|(_, figure)| !figure.is_empty()).collect();
    if figures.is_empty() {
        let message = "nothing to show: no compressed layer and no training";
        return Err(Error::option("plots", message).into());
    }
    let mut files = Vec::new();
    for (name, figure) in figures {
        write(folder, name, figure)?;
        files.push(folder.join(format!("{name}.png")).display().to_string());
    }
    if machine.json {
        return output::print_json(&json!({ "plots": files }));
    }
    Ok(output::print(&format!("{} (and .svg)", files.join("\n")))?)
}
