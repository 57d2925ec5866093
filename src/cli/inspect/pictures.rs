//! `losparse inspect --plots`: pictures of a model, of runs, of a run's checkpoint, of a study.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use burn::tensor::Device;
use losparse::inspect::{ModelAccount, RunReport};
use losparse::linear::LayerSelection;
use losparse::models::AnyModel;
use losparse::plots::{
    Figure, RunAnalysis, importance_comparison_figure, importance_figure, kept_figure, run_figures,
    schedule_figure, spectra, spectra_figure, telling_layers, write,
};
use losparse::pruning::LayerScores;
use losparse::study::{StudyReport, importance_figures, study_figures};
use losparse::train::checkpoints::CheckpointState;
use losparse::train::{RunOptions, Silent, analyse_checkpoint};
use losparse::{Error, Result};
use serde_json::json;

use crate::cli::global::GlobalArgs;
use crate::cli::opened::Opened;
use crate::cli::output;

/// Figures with the names of their files.
type Figures = Vec<(String, Figure)>;

const KEPT: &str = "Neurons kept in each layer";

/// Pictures of a run, checkpoint or study, or of several runs. `None` for a single model folder:
/// its pictures are [`of_model`]'s.
pub fn of_folders(
    folders: &[PathBuf],
    patterns: &[String],
    device: &Device,
    global: &GlobalArgs,
) -> Result<Option<Figures>> {
    let [folder] = folders else { return compared(folders, patterns).map(Some) };
    if CheckpointState::is_in(folder) {
        return of_checkpoint(folder, patterns, device, global).map(Some);
    }
    if folder.join(StudyReport::FILE).is_file() {
        return of_study(folder, patterns).map(Some);
    }
    if folder.join(RunReport::FILE).is_file() {
        return of_run(folder, patterns, device).map(Some);
    }
    Ok(None)
}

/// Pictures of a model: what each layer keeps, and singular values. Of the layers `shown`; without,
/// of all layers, and singular values of those that tell most.
pub fn of_model(
    model: &AnyModel,
    account: &ModelAccount,
    shown: Option<&[String]>,
) -> Result<Figures> {
    let all: Vec<String> = account.layers.iter().map(|layer| layer.name.clone()).collect();
    let names = shown.map_or_else(|| telling_layers(&all), <[String]>::to_vec);
    let spectra = spectra(model, &names)?;
    let kept = kept_figure(KEPT, &only_layers(account, shown));
    Ok(vec![named("kept", kept), named("spectra", of_spectra("the layers' weights", &spectra))])
}

/// Pictures of a run that has ended; without `analysis.json`, those that its report allows. With
/// patterns, of the layers they match, and with the singular values of the result.
fn of_run(folder: &Path, patterns: &[String], device: &Device) -> Result<Figures> {
    let mut report = RunReport::read(folder.join(RunReport::FILE))?;
    let mut analysis = match folder.join(RunAnalysis::FILE).is_file() {
        true => RunAnalysis::read(folder)?,
        false => RunAnalysis::default(),
    };
    let all: Vec<String> = report.account.layers.iter().map(|layer| layer.name.clone()).collect();
    let shown = chosen(patterns, all)?;
    let shown = shown.as_deref();
    report.account = only_layers(&report.account, shown);
    for scores in [&mut analysis.importance, &mut analysis.importance_before] {
        *scores = only_scores(std::mem::take(scores), shown);
    }
    if let Some(names) = shown {
        analysis.spectra.retain(|spectrum| names.contains(&spectrum.name));
    }
    let figures = run_figures(&report, &analysis);
    let mut figures: Figures = figures.into_iter().map(|(name, f)| named(name, f)).collect();
    if let Some(names) = shown
        && folder.join(RunReport::MODEL).is_dir()
    {
        let of_result = spectra(&Opened::load(folder, device)?.model, names)?;
        figures.retain(|(name, _)| name != "spectra");
        figures.push(named("spectra", of_spectra("the result's weights", &of_result)));
    }
    if figures.is_empty() {
        figures.push(named("schedule", schedule_figure(&report)));
    }
    Ok(figures)
}

/// Pictures of a run's checkpoint, importance among them.
fn of_checkpoint(
    folder: &Path,
    patterns: &[String],
    device: &Device,
    global: &GlobalArgs,
) -> Result<Figures> {
    let observer = Arc::new(Silent);
    let options = RunOptions { observer, ..global.run_options(folder, device.clone()) };
    let mut shown = None;
    let layers = |all: &[String]| {
        shown = chosen(patterns, all.to_vec())?;
        Ok(shown.clone().unwrap_or_else(|| telling_layers(all)))
    };
    let found = analyse_checkpoint(folder, layers, &options)?;
    let shown = shown.as_deref();
    let importance = only_scores(found.importance, shown);
    let before =
        [("at the first pruning".to_string(), only_scores(found.importance_before, shown))];
    let before = importance_comparison_figure("Importance of neurons before pruning", &before);
    Ok(vec![
        named("kept", kept_figure(KEPT, &only_layers(&found.account, shown))),
        named("importance-before", before),
        named("importance", importance_figure("Importance of neurons at this step", &importance)),
        named("spectra", of_spectra("L·R + S at this step", &found.spectra)),
    ])
}

/// Pictures of a study: quality and latency against ratio, importance under its methods.
fn of_study(folder: &Path, patterns: &[String]) -> Result<Figures> {
    if !patterns.is_empty() {
        let message = "pictures of a study are of all layers; give the folders of its runs instead";
        return Err(Error::option("layers", message));
    }
    let report = StudyReport::read(folder)?;
    let mut figures = study_figures(&report);
    figures.extend(importance_figures(&report, folder));
    Ok(figures)
}

/// Importance before pruning in several runs.
fn compared(folders: &[PathBuf], patterns: &[String]) -> Result<Figures> {
    let mut runs: Vec<(RunReport, Vec<LayerScores>)> = Vec::new();
    for folder in folders {
        let report = RunReport::read(folder.join(RunReport::FILE))?;
        let scores = RunAnalysis::read(folder)?.importance_before;
        if scores.is_empty() {
            let message = "has no importance from before pruning: its run pruned no neurons, or an \
                           earlier version wrote it";
            return Err(Error::format(folder.join(RunAnalysis::FILE), message));
        }
        let shown = chosen(patterns, scores.iter().map(|layer| layer.name.clone()).collect())?;
        runs.push((report, only_scores(scores, shown.as_deref())));
    }
    let criterion = |report: &RunReport| {
        report.method.as_ref().and_then(|method| method.pruning).map(|pruning| pruning.importance)
    };
    if let Some(other) = runs.iter().position(|(r, _)| criterion(r) != criterion(&runs[0].0)) {
        let message = "its importance is by another criterion, so the numbers cannot be compared";
        return Err(Error::format(&folders[other], message));
    }
    let names = run_names(&runs.iter().map(|(report, _)| report).collect::<Vec<_>>(), folders);
    let runs: Vec<_> = names.into_iter().zip(runs.into_iter().map(|(_, scores)| scores)).collect();
    let figure = importance_comparison_figure("Importance of neurons before pruning", &runs);
    Ok(vec![named("importance", figure)])
}

/// Names of runs: their methods, with ratio or folder where methods alone are not distinct.
fn run_names(reports: &[&RunReport], folders: &[PathBuf]) -> Vec<String> {
    let methods = || reports.iter().filter_map(|report| report.method.as_ref());
    let by_method: Vec<String> = methods().map(|method| method.short_name().to_string()).collect();
    let by_ratio = methods().map(|m| format!("{} {}", m.short_name(), m.ratio)).collect();
    let by_folder = by_method.iter().zip(folders).map(|(method, folder)| {
        let folder = folder.canonicalize().unwrap_or_else(|_| folder.clone());
        format!("{method}, {}", folder.file_name().unwrap_or_default().to_string_lossy())
    });
    let by_folder: Vec<String> = by_folder.collect();
    let differ = |names: &Vec<String>| {
        names.iter().enumerate().all(|(at, name)| !names[..at].contains(name))
    };
    [by_method, by_ratio].into_iter().find(differ).unwrap_or(by_folder)
}

fn named(name: &str, figure: Figure) -> (String, Figure) {
    (name.to_string(), figure)
}

fn of_spectra(what: &str, spectra: &[losparse::plots::Spectrum]) -> Figure {
    spectra_figure(&format!("Singular values of {what}"), spectra)
}

/// The layers among `all` that the patterns of `--layers` select; `None` without patterns.
fn chosen(patterns: &[String], all: Vec<String>) -> Result<Option<Vec<String>>> {
    if patterns.is_empty() {
        return Ok(None);
    }
    LayerSelection::new(patterns.to_vec()).resolve_names(all).map(Some)
}

fn only_layers(account: &ModelAccount, shown: Option<&[String]>) -> ModelAccount {
    let mut account = account.clone();
    account.layers.retain(|layer| shown.is_none_or(|names| names.contains(&layer.name)));
    account
}

fn only_scores(mut layers: Vec<LayerScores>, shown: Option<&[String]>) -> Vec<LayerScores> {
    layers.retain(|layer| shown.is_none_or(|names| names.contains(&layer.name)));
    layers
}

/// Writes the figures that are not empty, and prints their files.
pub fn save(figures: &Figures, folder: &Path, global: &GlobalArgs) -> anyhow::Result<()> {
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
    if global.json {
        return output::print_json(&json!({ "plots": files }));
    }
    Ok(output::print(&format!("{} (and .svg)", files.join("\n")))?)
}
