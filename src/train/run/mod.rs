//! A run: a pretrained model and data in, a small model folder and its report out.
//!
//! ```text
//! load ─► (fine-tune ─►) evaluate ─► decompose ─► train + prune ─► evaluate ─► compact ─► (int8 ─►) save ─► evaluate as saved
//! ```
//!
//! Begin with [`compress`]. `start` reads and checks everything before anything is written, and fine-tunes the
//! dense model where that comes first; `layers_and_schedule` derives ranks, updates and schedule from recipe
//! and model, for runs and dry runs; `calibration` shows layers examples; `teacher` takes a teacher's answers;
//! `int8` tries 8-bit integers; `folder` and `lock` guard the output folder; `resume` continues from a checkpoint; `report` gathers the
//! facts for the report. A run may use all other parts of `train`.

mod calibration;
mod dry_run;
mod folder;
mod from_checkpoint;
mod int8;
mod layers_and_schedule;
pub(crate) mod lock;
mod report;
mod result;
mod resume;
mod start;
mod teacher;

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use burn::module::Module;
use burn::tensor::Device;

pub(in crate::train) use self::calibration::calibration_examples;
pub use self::dry_run::{FineTuning, Plan, plan};
use self::folder::MODEL;
pub use self::from_checkpoint::evaluate_checkpoint;
#[cfg(feature = "plots")]
pub use self::from_checkpoint::{CheckpointAnalysis, analyse_checkpoint};
use self::int8::Stored;
use self::layers_and_schedule::decompose_selected;
pub use self::layers_and_schedule::{Outline, PlannedPattern, outline};
use self::report::Outcome;
use self::start::start;
use self::teacher::NamedTeacher;
use super::checkpoints::CheckpointState;
use super::job::{EvalSplit, Evaluator, Job, Prepared, SoftTargets, TrainableModel};
use super::job::{collect_answers, dispatch};
use super::learner::{Trained, Training};
use super::{Event, Interrupt, Observer, Recipe, Segments};

use crate::checkpoint::{LoadOptions, StorageDtype, atomic};
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

/// A split that a job is evaluated on.
type Split<J> = EvalSplit<<<J as Job>::Model as TrainableModel>::Batch, <J as Job>::Evaluator>;

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
    /// Seconds of the fine-tuning of the dense model that came before, and whose model this run compresses;
    /// `None` if it starts from the one that was given.
    pub dense_seconds: Option<f64>,
    /// Whether it continues from a checkpoint.
    pub resumed: bool,
    /// Seconds of each update, from the events.
    pub pace: Arc<Mutex<Vec<f64>>>,
}

impl<'a, J: Job> Run<'a, J> {
    /// A run of the model as it was given, from its beginning, with nothing to compare it with.
    fn new(
        recipe: &'a Recipe,
        options: &'a RunOptions,
        prepared: Prepared<J::Model, J::Evaluator>,
        segments: Segments,
    ) -> Self {
        Self {
            recipe,
            options,
            prepared,
            segments,
            inputs: None,
            baseline: None,
            dense_seconds: None,
            resumed: false,
            pace: Arc::default(),
        }
    }
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
    /// must hold the only copy. A `teacher` is gone once it has answered.
    fn run(
        self,
        model: J::Model,
        teacher: Option<NamedTeacher<J>>,
        from: CheckpointState,
    ) -> Result<RunReport> {
        let starting = match self.prepared.start.new_head || self.dense_seconds.is_some() {
            true => Vec::new(),
            false => {
                self.stage("Evaluating the model as it is")?;
                self.evaluate(&model)?.0
            }
        };
        let patience = self.recipe.training.early_stopping_patience;
        let targets = match from.is_done(&self.segments, patience) {
            true => None,
            false => self.soft_targets(&model, teacher)?,
        };
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
        let small = match self.recipe.method {
            None => trained.model.clone(),
            Some(_) => {
                self.stage("Compacting")?;
                compact_model(trained.model.clone()).0
            }
        };
        let account = self.recipe.method.as_ref().map(|_| ModelAccount::of(&small).over(&names));
        let Stored { model: small, dtype, int8 } = self.in_numbers(small, &metrics)?;
        self.stage("Saving")?;
        self.save(&small, account.as_ref(), &names, dtype)?;
        let as_saved = || {
            let (folder, device) = (self.folder(), &self.options.device);
            J::Model::load(&folder, device, &LoadOptions::default()).map(|(saved, _)| saved)
        };
        let mut metrics = metrics;
        let (result, metrics_as_saved, agreement) = match self.recipe.method {
            None if dtype == StorageDtype::Int8 => {
                let saved = as_saved()?;
                self.stage("Evaluating the model as saved")?;
                metrics = self.evaluate(&saved)?.0;
                (saved, Vec::new(), None)
            }
            None => (small, Vec::new(), None),
            Some(_) => {
                let saved = as_saved()?;
                self.stage("Evaluating the compact model as saved")?;
                let (metrics, compact_answers) = self.evaluate(&saved)?;
                let agreement = Agreement::between_answers(&answers, &compact_answers)?;
                (saved, metrics, Some(agreement))
            }
        };
        self.stage("Measuring latency")?;
        let latency = self.latency(&dense, &result)?;
        let account = ModelAccount::of(&result).over(&names);
        let outcome =
            Outcome { starting, metrics, metrics_as_saved, agreement, int8, account, latency };
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
            let evaluator = self.evaluate_split(&model, split)?;
            metrics.push(SplitMetrics { split: split.name.clone(), metrics: evaluator.report()? });
            first.get_or_insert_with(|| evaluator.answers());
        }
        Ok((metrics, first.unwrap_or_default()))
    }

    /// The answers of a model that is not trained on one split, in their evaluator.
    fn evaluate_split(&self, model: &J::Model, split: &Split<J>) -> Result<J::Evaluator> {
        collect_answers(
            model,
            &split.source,
            split.evaluator.clone(),
            self.recipe.training.eval_batch_size,
            &self.options.device,
            self.options.observer.as_ref(),
            &self.options.interrupt,
        )
    }

    /// The evaluation data that chooses among evaluations.
    fn choosing(&self) -> Result<&Split<J>> {
        let prepared = &self.prepared;
        let missing = "missing: there is nothing to evaluate on";
        let split = prepared.while_training.as_ref().or(prepared.dev.first());
        split.ok_or_else(|| Error::option("dev", missing))
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
        let dev = self.choosing()?;
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
