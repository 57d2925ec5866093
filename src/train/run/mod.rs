//! A run: a pretrained model and data in, a small model folder and its report out.
//!
//! ```text
//! load ─► (fine-tune ─►) evaluate ─► decompose ─► train + prune ─► evaluate ─► compact ─► save ─► evaluate as saved
//! ```
//!
//! Begin with [`compress`]. `layers_and_schedule` derives ranks, updates and schedule from recipe and
//! model, for runs and dry runs; `calibration` shows layers examples; `teacher` fine-tunes the dense model where that comes first, and takes a
//! teacher's answers; `folder` and `lock` guard the output folder; `resume` continues from a checkpoint;
//! `report` gathers the facts for the report. A run may use all other parts of `train`.

mod calibration;
mod dry_run;
mod folder;
mod from_checkpoint;
mod layers_and_schedule;
pub(crate) mod lock;
mod report;
mod result;
mod resume;
mod teacher;

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use burn::module::Module;
use burn::tensor::Device;

pub use self::dry_run::{FineTuning, Plan, plan};
use self::folder::MODEL;
pub use self::from_checkpoint::evaluate_checkpoint;
#[cfg(feature = "plots")]
pub use self::from_checkpoint::{CheckpointAnalysis, analyse_checkpoint};
use self::layers_and_schedule::decompose_selected;
pub use self::layers_and_schedule::{Outline, PlannedPattern, outline};
use self::report::Outcome;
use super::checkpoints::CheckpointState;
use super::job::{Evaluator, Job, Prepared, SoftTargets, sum_of_teacher};
use super::job::{collect_answers, dispatch};
use super::learner::{Trained, Training};
use super::{Event, Interrupt, Observer, Recipe, Segments, Silent};

use crate::checkpoint::{LoadOptions, atomic};
use crate::compact::compact as compact_model;
use crate::decompose::Decomposed;
use crate::inspect::{Agreement, Answers, Baseline, Inputs, ModelAccount, RunReport, SplitMetrics};
use crate::models::FolderModel;
#[cfg(feature = "plots")]
use crate::plots::{self, RunAnalysis};
use crate::pruning::PruningConfig;
use crate::{Error, Result};

/// Where and how to do a run.
#[derive(Clone)]
pub struct RunOptions {
    /// Folder of the result: `model/`, `report.md`, `report.json`, `recipe.toml`, `plots/`,
    /// `checkpoints/`.
    pub output: PathBuf,
    /// Continue from the last checkpoint in `output`.
    pub resume: bool,
    /// Replace an earlier run in `output`.
    pub overwrite: bool,
    /// Folder or `report.json` of the fine-tuning run that the report compares with.
    pub baseline: Option<PathBuf>,
    /// Show Burn's dashboard.
    pub tui: bool,
    /// The device.
    pub device: Device,
    /// Name of the device, for the report.
    pub device_name: String,
    /// The command line, for the report; may be empty.
    pub command: String,
    /// Receives the run's events.
    pub observer: Arc<dyn Observer>,
    /// Stops the run on request.
    pub interrupt: Interrupt,
}

/// Fine-tunes a model without compressing it: the dense baseline. It has a teacher only if the recipe
/// names one.
///
/// # Errors
/// Names the setting, file or device at fault.
pub fn finetune(recipe: &Recipe, options: &RunOptions) -> Result<RunReport> {
    run(&recipe.fine_tuning().resolved(), options)
}

/// Compresses a model while fine-tuning it, and saves it compacted. If the recipe has a `[distillation]`
/// without a teacher, the model learns from itself as it was; one without a head for the task is
/// fine-tuned first, in the folder `dense` of the output.
///
/// # Errors
/// Names the setting, file or device at fault.
pub fn compress(recipe: &Recipe, options: &RunOptions) -> Result<RunReport> {
    let method = Some(recipe.method.clone().unwrap_or_default());
    run(&Recipe { method, ..recipe.clone() }.resolved(), options)
}

fn run(recipe: &Recipe, options: &RunOptions) -> Result<RunReport> {
    dispatch!(recipe.task.kind(), start(recipe, options))
}

/// Reads model and data, claims the output folder, writes the recipe there, and runs.
fn start<J: Job>(recipe: &Recipe, options: &RunOptions) -> Result<RunReport> {
    recipe.validate()?;
    let output = &options.output;
    let check_output = || options.check_output(recipe.model.as_deref());
    check_output()?;
    let teacher = recipe.teaching().and_then(|distillation| distillation.teacher.as_deref());
    options.check_replaced(teacher)?;
    let early = output.is_dir().then(|| options.claim()).transpose()?;
    let state = match options.resume {
        true => resume::last_state(&options.checkpoints())?,
        false => None,
    };
    let name = "Reading model and data".to_string();
    options.observer.event(&Event::Stage { name });
    let (mut model, mut prepared) = J::prepare(recipe, &options.device, options.observer.as_ref())?;
    let Outline { segments, learning_rate, .. } =
        outline(recipe, &model, prepared.train.lengths.len())?;
    let given = recipe;
    let mut recipe = recipe.clone();
    recipe.training.learning_rate = Some(learning_rate);
    let kept_baseline = || state.as_ref().and_then(|state| state.baseline.clone());
    let baseline_path = options.baseline.clone().or_else(kept_baseline);
    teacher::load_named::<J>(given, &prepared, &options.device, options.observer.as_ref())?;
    let tuned_first = teacher::is_fine_tuned_first::<J>(given, &prepared);
    let read = prepared.inputs(&recipe)?;
    let mut inputs = read.clone();
    if tuned_first && state.is_some() {
        inputs.teacher = sum_of_teacher(&teacher::dense_model(output))?;
    }
    let baseline = baseline_path.as_ref();
    let mut baseline =
        baseline.map(|path| Baseline::read(path, &prepared.task, &inputs)).transpose()?;
    if let Some(message) = baseline.as_ref().and_then(Baseline::note) {
        options.observer.event(&Event::Note { message });
    }
    // The saved recipe keeps shares: their numbers of updates hold for this length only.
    let kept = recipe.with_absolute_paths();
    let recipe = recipe.resolved_for(segments);
    let from = match (state, options.resume) {
        (Some(state), _) => {
            let found = resume::Found { recipe: &kept, inputs: &inputs, segments: &segments };
            resume::check(&state, &found, &options.checkpoints())?;
            Some(state)
        }
        (None, true) => {
            options.check_begun(&kept)?;
            if !tuned_first {
                let message = "no checkpoint yet: the run starts from its beginning".to_string();
                options.observer.event(&Event::Note { message });
            }
            None
        }
        (None, false) => None,
    };
    std::fs::create_dir_all(output).map_err(|e| Error::io(output, e))?;
    let _claim = match early {
        Some(claim) => claim,
        None => {
            let claim = options.claim()?;
            // Another process may have been faster.
            check_output()?;
            claim
        }
    };
    options.prepare_output(&kept)?;
    if tuned_first {
        // Only its files are needed: training must not hold a second model.
        drop((model, prepared));
        let tuned = teacher::fine_tune::<J>(given, &read, options)?;
        inputs.teacher = sum_of_teacher(&teacher::dense_model(output))?;
        (model, prepared) = J::prepare(&tuned, &options.device, &Silent)?;
        if baseline.is_none() {
            let run = teacher::dense_folder(output);
            baseline = Some(Baseline::read(&run, &prepared.task, &read)?);
        }
    }
    let resumed = from.is_some();
    let from = from.unwrap_or_else(|| {
        // JSON cannot hold a path that is not UTF-8; it has to be given again on resuming.
        let baseline = baseline_path.and_then(|path| std::path::absolute(path).ok());
        let baseline = baseline.filter(|path| path.to_str().is_some());
        let (recipe, inputs) = (kept.to_toml(), inputs.clone());
        CheckpointState { recipe, inputs, baseline, ..CheckpointState::default() }
    });
    let pace = Arc::default();
    let (recipe, inputs) = (&recipe, Some(inputs));
    let run = Run::<J> {
        recipe,
        options,
        prepared,
        segments,
        inputs,
        baseline,
        tuned_first,
        resumed,
        pace,
    };
    run.run(model, from)
}

/// A run under way.
struct Run<'a, J: Job> {
    pub recipe: &'a Recipe,
    pub options: &'a RunOptions,
    pub prepared: Prepared<J::Model, J::Evaluator>,
    pub segments: Segments,
    /// Sums of what it read; absent without a training.
    pub inputs: Option<Inputs>,
    /// The dense model that the report compares with.
    pub baseline: Option<Baseline>,
    /// Whether the model was fine-tuned before, so is not the one that was given.
    pub tuned_first: bool,
    /// Whether it continues from a checkpoint.
    pub resumed: bool,
    /// Seconds of each update, from the events.
    pub pace: Arc<Mutex<Vec<f64>>>,
}

impl<J: Job> Run<'_, J> {
    /// Announces a stage.
    ///
    /// # Errors
    /// If the run was asked to stop.
    fn stage(&self, name: impl Into<String>) -> Result<()> {
        self.options.interrupt.check()?;
        self.options.observer.event(&Event::Stage { name: name.into() });
        Ok(())
    }

    /// Does the whole run, with the training continued at `from`. Takes the model by value: training
    /// must hold the only copy.
    fn run(self, model: J::Model, from: CheckpointState) -> Result<RunReport> {
        let starting = match self.prepared.start.new_head || self.tuned_first {
            true => Vec::new(),
            false => {
                self.stage("Evaluating the model as it is")?;
                self.evaluate(&model)?.0
            }
        };
        let targets = self.soft_targets(&model)?;
        // A resumed run's values are its checkpoint's.
        let values = !self.resumed;
        let (model, decomposed, pruning) = self.decompose(model, values)?;
        self.stage(match &pruning {
            Some(_) => "Training and pruning",
            None => "Training",
        })?;
        let trained = self.train(model, pruning, targets, from)?;
        self.stage("Evaluating the trained model")?;
        let (metrics, answers) = self.evaluate(&trained.model)?;
        // The run may save over the folder that it started from.
        let dense = self.prepared.start.reload(&self.options.device)?;
        let names: Vec<String> = decomposed.iter().map(|layer| layer.name.clone()).collect();
        let (result, metrics_as_saved, agreement) = match self.recipe.method {
            None => {
                self.stage("Saving")?;
                self.save(&trained.model, None, &[])?;
                (trained.model.clone(), Vec::new(), None)
            }
            Some(_) => {
                self.stage("Compacting and saving")?;
                let (small, _) = compact_model(trained.model.clone());
                let account = ModelAccount::of(&small).over(&names);
                self.save(&small, Some(&account), &names)?;
                let (folder, device) = (self.folder(), &self.options.device);
                let (saved, _) = J::Model::load(&folder, device, &LoadOptions::default())?;
                self.stage("Evaluating the compact model as saved")?;
                let (metrics, compact_answers) = self.evaluate(&saved)?;
                let agreement = Agreement::between_answers(&answers, &compact_answers)?;
                (saved, metrics, Some(agreement))
            }
        };
        self.stage("Measuring latency")?;
        let latency = self.latency(&dense, &result)?;
        let account = ModelAccount::of(&result).over(&names);
        let outcome = Outcome { starting, metrics, metrics_as_saved, agreement, account, latency };
        let report = self.report(outcome, &trained, &decomposed, pruning);
        self.write(&report, trained, &dense, &names).map_err(|error| {
            let saved = self.folder();
            let advice = format!("the model is saved in {}: go on with --resume", saved.display());
            resume::with_advice(error, &advice)
        })?;
        Ok(report)
    }

    /// Writes pictures, model card and report.
    #[cfg_attr(not(feature = "plots"), allow(unused_variables))]
    fn write(
        &self,
        report: &RunReport,
        trained: Trained<J::Model>,
        dense: &J::Model,
        names: &[String],
    ) -> Result<()> {
        #[cfg(feature = "plots")]
        let pictures = {
            let spectra = plots::spectra(dense, &plots::telling_layers(names))?;
            let (importance, importance_before) = (trained.importance, trained.importance_before);
            let analysis = RunAnalysis { importance, importance_before, spectra };
            plots::write_run(report, &analysis, &self.options.output)?
        };
        #[cfg(not(feature = "plots"))]
        let pictures = Vec::new();
        let card = report.to_markdown();
        atomic::write_file(self.folder().join("README.md"), card.as_bytes())?;
        // Written last: its presence marks the run as done.
        report.write(&self.options.output, &pictures)
    }

    /// Longest input, in tokens.
    fn max_length(&self) -> usize {
        self.prepared.start.tokenizer.max_length()
    }

    fn folder(&self) -> PathBuf {
        self.options.output.join(MODEL)
    }

    /// Metrics on every split, and the answers on the first.
    fn evaluate(&self, model: &J::Model) -> Result<(Vec<SplitMetrics>, Answers)> {
        let model = model.valid();
        let mut first = None;
        let mut metrics = Vec::new();
        for split in &self.prepared.dev {
            let evaluator = collect_answers(
                &model,
                &split.source,
                split.evaluator.clone(),
                self.recipe.training.eval_batch_size,
                &self.options.device,
                self.options.observer.as_ref(),
                &self.options.interrupt,
            )?;
            metrics.push(SplitMetrics { split: split.name.clone(), metrics: evaluator.report()? });
            first.get_or_insert_with(|| evaluator.answers());
        }
        Ok((metrics, first.unwrap_or_default()))
    }

    /// Decomposes the selected layers, or with `values` false only gives them their shape. Returns the
    /// layers and the settings of the pruner.
    fn decompose(
        &self,
        model: J::Model,
        values: bool,
    ) -> Result<(J::Model, Vec<Decomposed>, Option<PruningConfig>)> {
        let examples = self.prepared.train.lengths.len();
        let calibration = match (&self.recipe.method, values) {
            (Some(method), true) => {
                self.stage("Decomposing")?;
                Some(self.calibrate(&model, method)?)
            }
            _ => None,
        };
        decompose_selected(model, self.recipe, examples, calibration.as_ref())
    }

    fn train(
        &self,
        model: J::Model,
        pruning: Option<PruningConfig>,
        targets: Option<SoftTargets>,
        from: CheckpointState,
    ) -> Result<Trained<J::Model>> {
        let prepared = &self.prepared;
        let Some(dev) = prepared.while_training.as_ref().or(prepared.dev.first()) else {
            return Err(Error::option("dev", "missing: there is nothing to evaluate on"));
        };
        let (watcher, pace) = (self.options.observer.clone(), self.pace.clone());
        let last = Mutex::new(None);
        let observer = move |event: &Event| {
            if let Event::Step { seconds, .. } = event
                && let (Ok(mut last), Ok(mut pace)) = (last.lock(), pace.lock())
                && let Some(before) = last.replace(*seconds)
            {
                pace.push(seconds - before);
            }
            watcher.event(event);
        };
        Training {
            pruning,
            train: self.prepared.train.clone(),
            targets,
            eval: dev.source.clone(),
            evaluator: dev.evaluator.clone(),
            recipe: &self.recipe.training,
            segments: self.segments,
            checkpoints: &self.options.checkpoints(),
            from,
            tui: self.options.tui,
            device: self.options.device.clone(),
            observer: Arc::new(observer),
            interrupt: self.options.interrupt.clone(),
        }
        .launch(model)
    }
}
