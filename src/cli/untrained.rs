//! `losparse compress --no-training`: compresses a model on texts, in minutes.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use burn::tensor::Device;
use losparse::checkpoint::{LoadOptions, SaveOptions, StorageDtype};
use losparse::decompose::SequentialConfig;
use losparse::generation::GenerationConfig;
use losparse::inspect::{RunReport, bytes_on_disk, percent};
use losparse::linear::LayerSelection;
use losparse::models::{AnyModel, FolderModel};
use losparse::tasks::squad::QaDataset;
use losparse::tasks::{Example, SummarizationSettings, TableFormat, TableOptions, TableTarget};
use losparse::train::{
    Interrupt, MethodRecipe, Recipe, Storage, TaskRecipe, Untrained, UntrainedReport,
};
use losparse::{Error, Result, files};
use serde_json::{Value, json};

use super::evaluation::{self, BATCH_SIZE};
use super::global::GlobalArgs;
use super::opened::{Opened, find};
use super::options::task::TaskArgs;
use super::output;
use super::progress::Progress;
use super::signals::stop_on_ctrl_c;

/// Longest texts in tokens, unless the model says more.
const TOKENS: usize = 128;

/// A compression without training.
pub struct NoTraining<'a> {
    pub model: &'a Path,
    pub output: &'a Path,
    pub overwrite: bool,
    pub storage: Storage,
    pub texts: &'a Path,
    pub method: MethodRecipe,
    pub task: &'a TaskArgs,
}

impl NoTraining<'_> {
    /// Compresses, saves, measures and, if there is data, evaluates.
    pub fn run(&self, global: &GlobalArgs) -> anyhow::Result<()> {
        let Some(dtype) = self.storage.dtype().filter(|dtype| *dtype != StorageDtype::Int8) else {
            let message = "8-bit integers come after a compression without training: `losparse \
                           quantize` the result";
            return Err(Error::option("storage", message).into());
        };
        self.check_output()?;
        self.check_task()?;
        let device = global.open()?;
        let floats = LoadOptions { floats: true, ..LoadOptions::default() };
        let opened = Opened::load_with(self.model, &device, &floats)?;
        evaluation::refuse_others(self.task, &opened.model)?;
        if self.is_evaluated() {
            opened.check_head()?;
            evaluation::check(&opened.folder, self.task, global, &device)?;
        }
        let interrupt = Interrupt::default();
        stop_on_ctrl_c(interrupt.clone())?;
        self.check_writable()?;
        let (result, mut report) = self.compress(&opened, &device, &interrupt, global)?;
        let folder = self.output.join(RunReport::MODEL);
        let mut about = opened.about.clone();
        let layers: Vec<&str> = report.layers.iter().map(|layer| layer.name.as_str()).collect();
        about.insert("layers".into(), json!(layers));
        about.remove("low_rank_ratio");
        if let Some(length) = self.task.max_length {
            about.insert("max_length".into(), json!(length));
        }
        about.insert("ratio".into(), json!(self.method.ratio));
        about.insert("linear_ratio".into(), json!(report.account.linear_ratio()));
        about.insert("whole_model_ratio".into(), json!(report.account.whole_ratio()));
        let options = SaveOptions {
            dtype,
            losparse: Some(Value::Object(about)),
            tokenizer_from: Some(opened.folder.clone()),
            without: self.untrained_head(&opened),
            ..SaveOptions::default()
        };
        // A report beside another model would be taken for that model's.
        for name in [UntrainedReport::FILE, "report.md"] {
            let file = self.output.join(name);
            if file.exists() {
                fs::remove_file(&file).map_err(|e| Error::io(&file, e))?;
            }
        }
        result.save(&folder, &options)?;
        report.bytes = bytes_on_disk(&folder).ok();
        if self.is_evaluated() {
            let recipe = TaskRecipe::default();
            report.metrics = evaluation::evaluate(
                &folder, self.task, recipe, BATCH_SIZE, global, &device, &interrupt,
            )?;
        }
        report.write(self.output)?;
        match global.json {
            true => output::print_json(&json!({"event": "done", "report": report})),
            false => Ok(output::print(&self.summary(&report))?),
        }
    }

    fn compress(
        &self,
        opened: &Opened,
        device: &Device,
        interrupt: &Interrupt,
        global: &GlobalArgs,
    ) -> Result<(AnyModel, UntrainedReport)> {
        let (recipe, texts) = self.texts(opened)?;
        let (length, generation) = self.lengths(opened, &recipe)?;
        let tokenizer = &opened.tokenizer(length)?;
        let observer = &*Arc::new(Progress::new(global.quiet, global.json));
        let MethodRecipe { ratio, low_rank_ratio, layers, .. } = &self.method;
        let config = SequentialConfig { ratio: *ratio, low_rank_ratio: *low_rank_ratio };
        let selection = LayerSelection::new(layers.clone());
        let work =
            Untrained { config, selection, tokenizer, generation, device, observer, interrupt };
        let started = Instant::now();
        let (result, layers, count) = work.compress(opened.model.clone(), &texts)?;
        let seconds = started.elapsed().as_secs_f64();
        let name = global.device_name();
        let report = UntrainedReport::of(&opened.model, &result, layers, length, device, &name)?;
        let report = UntrainedReport {
            model: self.model.display().to_string(),
            ratio: *ratio,
            texts: count,
            starting_bytes: bytes_on_disk(&opened.folder).ok(),
            seconds,
            command: output::command_line(std::env::args_os()),
            ..report
        };
        Ok((result, report))
    }

    /// Longest input in tokens, and how a model that writes texts does so.
    fn lengths(&self, opened: &Opened, recipe: &TaskRecipe) -> Result<(usize, GenerationConfig)> {
        let AnyModel::Seq2Seq(_) = &opened.model else {
            let length = opened.max_length(recipe.max_length, TOKENS)?;
            return Ok((length, GenerationConfig::default()));
        };
        let (settings, own): (SummarizationSettings, _) = opened.summarization(recipe, &|_| ())?;
        Ok((settings.max_source_length, settings.generation(&own)))
    }

    /// A new head was never trained: saved, it would pass for a trained one.
    fn untrained_head(&self, opened: &Opened) -> Vec<String> {
        match opened.model {
            AnyModel::Seq2Seq(_) => Vec::new(),
            _ => opened.report.newly_initialised.clone(),
        }
    }

    /// Checks that the result replaces nothing but another one.
    fn check_output(&self) -> Result<()> {
        let output = self.output;
        let wrong = |message: &str| Err(Error::format(output, message));
        if output.exists() && !output.is_dir() {
            return wrong("is not a folder; choose another one");
        }
        let is_result = output.join(UntrainedReport::FILE).is_file();
        let is_run = output.join(Recipe::FILE).is_file();
        let entries: Vec<_> = fs::read_dir(output).into_iter().flatten().flatten().collect();
        let occupied = !entries.is_empty();
        // All that a run leaves that was stopped while its result was evaluated.
        let is_result =
            is_result || entries.iter().all(|entry| entry.file_name() == RunReport::MODEL);
        if occupied && (is_run || !is_result) {
            return wrong(
                "is not empty and holds no result without training; choose another folder",
            );
        }
        if occupied && !self.overwrite {
            return wrong("holds a result; replace it with --overwrite, or choose another folder");
        }
        let place = |path: &Path| path.canonicalize().ok();
        let model: PathBuf = find(self.model)?;
        if occupied
            && place(&model)
                .is_some_and(|model| model.starts_with(place(output).unwrap_or_default()))
        {
            return wrong("holds the model itself; choose another folder");
        }
        Ok(())
    }

    /// Checks, before the work, that the folder or what it will be in can be written to.
    fn check_writable(&self) -> Result<()> {
        let output = std::path::absolute(self.output).map_err(|e| Error::io(self.output, e))?;
        let there = output.ancestors().find(|folder| folder.exists()).unwrap_or(&output);
        tempfile::tempfile_in(there).map_err(|e| Error::io(there, e)).map(|_| ())
    }

    fn is_evaluated(&self) -> bool {
        let TaskArgs { name, data, dev, .. } = self.task;
        name.is_some() || data.is_some() || dev.is_some()
    }

    /// Checks that options of an evaluation have one.
    fn check_task(&self) -> Result<()> {
        let TaskArgs { label, labels, score, max_eval_examples, questions, rouge, .. } = self.task;
        let given = [
            label.as_ref().map(|_| "label"),
            labels.as_ref().map(|_| "labels"),
            score.as_ref().map(|_| "score"),
            max_eval_examples.map(|_| "max_eval_examples"),
            questions.given(),
            rouge.given(),
        ];
        match given.into_iter().flatten().next().filter(|_| !self.is_evaluated()) {
            Some(option) => {
                let message = "is for the evaluation of the result; give its data, with --dev or \
                               --task and --data";
                Err(Error::option(option, message))
            }
            None => Ok(()),
        }
    }

    /// The texts, and the settings that they are read by.
    fn texts(&self, opened: &Opened) -> Result<(TaskRecipe, Vec<Example>)> {
        let file = self.texts;
        let mut recipe = TaskRecipe::default();
        self.task.apply(&mut recipe);
        let is_table = recipe.format.is_some() || TableFormat::of(file).is_ok();
        let ends = |end: &str| file.extension().is_some_and(|own| own.eq_ignore_ascii_case(end));
        let texts = if is_table {
            self.rows(opened, &mut recipe)?
        } else if ends("json") {
            let questions = QaDataset::read(file)?.examples.into_iter();
            questions.map(|asked| example(&asked.question, Some(&asked.context))).collect()
        } else {
            let text = files::read_text(file)?;
            let single = opened.takes_pairs()? == Some(false);
            let lines = text.lines().filter(|line| !line.trim().is_empty());
            lines
                .map(|line| match line.split_once('\t').filter(|_| !single) {
                    Some((text, pair)) => example(text, Some(pair)),
                    None => example(line, None),
                })
                .collect()
        };
        if texts.is_empty() {
            return Err(Error::format(file, "no text in it; give one a line"));
        }
        Opened::check_pairs(&texts, opened.takes_pairs()?)?;
        Ok((recipe, texts))
    }

    /// The texts of a file with columns.
    fn rows(&self, opened: &Opened, recipe: &mut TaskRecipe) -> Result<Vec<Example>> {
        opened.columns()?.fill(recipe, Some(self.texts));
        let (text, pair) = match opened.model {
            AnyModel::Seq2Seq(_) => (recipe.summarization_options().document, None),
            AnyModel::SequenceClassifier(_) | AnyModel::QuestionAnswerer(_) => {
                let missing = "missing: the column of --unlabelled that holds the text";
                let text = recipe.text.clone().ok_or_else(|| Error::option("text", missing))?;
                (text, recipe.pair.clone())
            }
        };
        let options = TableOptions {
            name: "unlabelled".into(),
            text,
            pair,
            // No target is read.
            target: TableTarget::Score { column: String::new() },
            format: recipe.format,
            quoting: recipe.quoting,
        };
        let texts = options.read_unlabeled(self.texts, &opened.own_task("unlabelled")?)?.examples;
        Ok(texts.into_iter().filter(|example| !example.text.trim().is_empty()).collect())
    }

    fn summary(&self, report: &UntrainedReport) -> String {
        let mut lines = Vec::new();
        for split in &report.metrics {
            lines.push(format!("{}: {}", split.split, split.metrics));
        }
        lines.push(format!(
            "weights of {} compressed layers: {} of dense; whole model: {}",
            report.layers.len(),
            percent(report.account.linear_ratio()),
            percent(report.account.whole_ratio())
        ));
        let mut layers: Vec<_> = report.layers.iter().collect();
        layers.sort_by(|a, b| a.error.total_cmp(&b.error));
        if let (Some(worst), false) = (layers.last(), layers.is_empty()) {
            let median = layers[layers.len() / 2].error;
            lines.push(format!(
                "relative error of a layer's outputs: {median:.3} in the median, at most {:.3} ({})",
                worst.error, worst.name
            ));
        }
        if let (Some(before), Some(after)) = (report.starting_bytes, report.bytes) {
            let [before, after] = [before, after].map(|bytes| output::size(bytes as f64));
            lines.push(format!("on disk: {before} -> {after}"));
        }
        if let Some(latency) = &report.latency {
            let times = latency.contestants.iter();
            let times = times.map(|row| format!("{} {:.2} ms", row.name, row.median_ms));
            let times = times.collect::<Vec<_>>().join(", ");
            lines.push(format!("a text of {} tokens: {times}", latency.length));
        }
        let (took, folder) = (output::duration(report.seconds), self.output.display());
        lines.push(format!("took {took}; the whole report is {folder}/report.md"));
        lines.join("\n")
    }
}

fn example(text: &str, pair: Option<&str>) -> Example {
    Example { text: text.to_string(), pair: pair.map(str::to_string), label: None }
}
