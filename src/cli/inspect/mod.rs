//! `losparse inspect`: shows what a model consists of, or draws it, a run or a study
//! ([`pictures`]).

mod pictures;

use std::path::{Path, PathBuf};

use losparse::Result;
use losparse::inspect::{LinearAccount, ModelAccount, bytes_on_disk, percent, thousands};
use losparse::linear::{LayerMatch, LayerSelection};
use losparse::models::{AnyModel, FolderModel};
use serde_json::{Value, json};

use crate::cli::global::GlobalArgs;
use crate::cli::opened::Opened;
use crate::cli::output;

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  losparse inspect small/model
  losparse inspect small/model --plots pictures
  losparse inspect small --plots pictures
  losparse inspect small/checkpoints/step-00000200 --plots pictures --layers 'output.dense'
  losparse inspect small itp --plots pictures
  losparse inspect results --plots pictures
  losparse inspect bert-base-uncased --layers 'attention.self.*,!layer.0.**'")]
pub struct Args {
    /// Model folder: Hugging Face's, a compressed one, or a run's output folder; with --plots also
    /// a checkpoint of a run, a study's folder, or several runs to compare
    #[arg(value_name = "MODEL", required = true)]
    models: Vec<PathBuf>,
    /// Show only the layers that `compress --layers` would select; repeatable
    #[arg(long, value_name = "PATTERN", value_delimiter = ',')]
    layers: Vec<String>,
    /// Write pictures (SVG and PNG) to this folder. Model: singular values, kept neurons; run: also
    /// schedule, loss, metrics, importance of neurons; checkpoint: also its importance; several
    /// runs: importance before pruning; study: quality and latency against ratio
    #[arg(long, value_name = "FOLDER")]
    plots: Option<PathBuf>,
}

impl Args {
    /// Runs the command.
    pub fn run(&self, global: &GlobalArgs) -> anyhow::Result<()> {
        let device = global.open()?;
        if let Some(plots) = &self.plots {
            let found = pictures::of_folders(&self.models, &self.layers, &device, global)?;
            if let Some(figures) = found {
                return pictures::save(&figures, plots, global);
            }
        }
        let [model] = &self.models[..] else {
            let message = "only --plots compares several folders";
            return Err(losparse::Error::option("MODEL", message).into());
        };
        let opened = Opened::load(model, &device)?;
        let mut account = ModelAccount::of(&opened.model);
        if let Some(Value::Array(names)) = opened.about.get("layers") {
            let names: Vec<&str> = names.iter().filter_map(Value::as_str).collect();
            account = account.over(&names);
        }
        let bytes = bytes_on_disk(&opened.folder)?;
        let patterns = LayerSelection::new(self.layers.clone());
        let matches = patterns.dry_run(&opened.model)?;
        let shown = match self.layers.is_empty() {
            true => None,
            false => Some(patterns.resolve(&opened.model)?),
        };
        if let Some(plots) = &self.plots {
            let figures = pictures::of_model(&opened.model, &account, shown.as_deref())?;
            return pictures::save(&figures, plots, global);
        }
        let shown = |name: &String| shown.as_ref().is_none_or(|names| names.contains(name));
        let layers = account.layers.iter().filter(|layer| shown(&layer.name)).collect();
        let overview = Overview { opened: &opened, account: &account, layers, matches, bytes };
        match global.json {
            true => output::print_json(&overview.json(model)),
            false => Ok(output::print(&overview.text()?)?),
        }
    }
}

/// Facts that are shown of a model.
struct Overview<'a> {
    opened: &'a Opened,
    account: &'a ModelAccount,
    /// The layers to show.
    layers: Vec<&'a LinearAccount>,
    /// The layers that each pattern matches.
    matches: Vec<LayerMatch>,
    /// Size on disk.
    bytes: u64,
}

impl Overview<'_> {
    fn json(&self, model: &Path) -> Value {
        let Self { opened, account, layers, .. } = self;
        let matches = self.matches.iter();
        let patterns: Vec<Value> = matches
            .map(|found| json!({"pattern": found.pattern, "layers": found.layers.len()}))
            .collect();
        json!({
            "model": model.display().to_string(),
            "labels": opened.model.labels().names(),
            "losparse": opened.about,
            "linear_ratio": account.linear_ratio(),
            "whole_ratio": account.whole_ratio(),
            "stored_elements": account.stored_elements(),
            "dense_elements": account.dense_elements(),
            "bytes": self.bytes,
            "newly_initialised": opened.report.newly_initialised,
            "patterns": patterns,
            "layers": layers,
        })
    }

    fn text(&self) -> Result<String> {
        let Self { opened, account, layers, matches, bytes } = self;
        let rows = layers.iter().map(|layer| {
            vec![
                layer.name.clone(),
                layer.state.clone(),
                format!("{} → {}", layer.d_input, layer.d_output),
                layer.rank.to_string(),
                format!("{} of {}", layer.kept, layer.groups),
                percent(layer.ratio()),
            ]
        });
        let header = ["layer", "state", "in → out", "rank", "kept", "stored"];
        let table = output::table(&header, &[2, 3, 4, 5], &rows.collect::<Vec<_>>());
        let mut lines = vec![table, String::new()];
        if !matches.is_empty() {
            for found in matches {
                lines.push(format!("pattern {}: {} layers", found.pattern, found.layers.len()));
            }
            lines.push(format!("selected: {} of {} layers", layers.len(), account.layers.len()));
            lines.push(String::new());
        }
        let config = opened.model.config_json()?;
        let kind = config.get("model_type").and_then(Value::as_str).unwrap_or("model");
        lines.push(match &opened.model {
            AnyModel::QuestionAnswerer(_) => format!("{kind}, answers questions"),
            AnyModel::Seq2Seq(_) => format!("{kind}, writes a text for a text"),
            _ => format!("{kind}, labels: {}", opened.model.labels().names().join(", ")),
        });
        if let Some(task) = opened.task()? {
            lines.push(format!("task: {}", task.name));
        }
        let compressed = account.selected().count();
        if compressed > 0 {
            let share = percent(account.linear_ratio());
            lines.push(format!("{compressed} compressed layers: {share} of their dense weights"));
        }
        lines.push(format!(
            "whole model: {} parameters stored, {} of {}",
            thousands(account.stored_elements() as u64),
            percent(account.whole_ratio()),
            thousands(account.dense_elements() as u64)
        ));
        lines.push(format!("on disk: {} bytes", thousands(*bytes)));
        if !opened.report.newly_initialised.is_empty() {
            let new = opened.report.newly_initialised.join(", ");
            lines.push(format!("not trained yet, and counted though not on disk: {new}"));
        }
        Ok(lines.join("\n"))
    }
}
