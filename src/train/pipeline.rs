//! The main job: a pretrained model and data in, a small model folder and its report out.
//!
//! ```text
//! load ─► evaluate ─► decompose ─► train + prune ─► evaluate ─► compact ─► save ─► evaluate as saved
//! ```

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use burn::module::Module;
use burn::tensor::Device;
use serde_json::json;

use super::checkpoints::CheckpointState;
use super::data::Segments;
use super::evaluate::collect_answers;
use super::folder::MODEL;
use super::job::{Job, Prepared};
use super::{
    Classification, Evaluator, Event, Interrupt, JobKind, Keep, Observer, Outline,
    QuestionAnswering, Recipe, Summarization, Trained, Training, contestant, resume,
};
use crate::checkpoint::{LoadOptions, SaveOptions, atomic};
use crate::compact::compact as compact_model;
use crate::decompose::Decomposed;
use crate::inspect::latency::{Contestant, Repetitions, measure, median};
use crate::inspect::{
    Agreement, Answers, Baseline, Expected, LatencyReport, Machine, MethodReport, ModelAccount,
    RunReport, SplitMetrics, TrainingReport, bytes_on_disk,
};
use crate::models::FolderModel;
use crate::pruning::PruningConfig;
use crate::{Error, Result};

/// Where and how a run is done.
#[derive(Clone)]
pub struct RunOptions {
    /// Folder of the result: `model/`, `report.md`, `report.json`, `recipe.toml`, `plots/`,
    /// `checkpoints/`.
    pub output: PathBuf,
    /// Go on from the last checkpoint in `output`.
    pub resume: bool,
    /// Replace an earlier run in `output`.
    pub overwrite: bool,
    /// The run of fine-tuning, by its folder or `report.json`, that the report compares with.
    pub baseline: Option<PathBuf>,
    /// Show Burn's dashboard.
    pub tui: bool,
    /// The device.
    pub device: Device,
    /// The device by name, for the report.
    pub device_name: String,
    /// The command line, for the report; may be empty.
    pub command: String,
    /// Who watches.
    pub observer: Arc<dyn Observer>,
    /// Stops the run.
    pub interrupt: Interrupt,
}

/// Fine-tunes a model as it is: the dense baseline.
///
/// # Errors
/// Whatever is wrong with settings, files or the machine, by name.
pub fn finetune(recipe: &Recipe, options: &RunOptions) -> Result<RunReport> {
    run(&Recipe { method: None, ..recipe.clone() }.resolved(), options)
}

/// Compresses a model while fine-tuning it, and saves it compacted.
///
/// # Errors
/// Whatever is wrong with settings, files or the machine, by name.
pub fn compress(recipe: &Recipe, options: &RunOptions) -> Result<RunReport> {
    let method = Some(recipe.method.clone().unwrap_or_default());
    run(&Recipe { method, ..recipe.clone() }.resolved(), options)
}

/// Runs whichever kind of job the recipe's task is.
fn run(recipe: &Recipe, options: &RunOptions) -> Result<RunReport> {
    match recipe.task.kind() {
        JobKind::Classification => start::<Classification>(recipe, options),
        JobKind::QuestionAnswering => start::<QuestionAnswering>(recipe, options),
        JobKind::Summarization => start::<Summarization>(recipe, options),
    }
}

/// Reads model and data, writes down every setting, and runs.
fn start<J: Job>(recipe: &Recipe, options: &RunOptions) -> Result<RunReport> {
    recipe.validate()?;
    let output = &options.output;
    let check_output = || options.check_output(recipe.model.as_deref());
    check_output()?;
    let early = output.is_dir().then(|| options.claim()).transpose()?;
    let state = match options.resume {
        true => resume::last_state(&options.checkpoints())?,
        false => None,
    };
    let name = "Reading model and data".to_string();
    options.observer.event(&Event::Stage { name });
    let (model, prepared) = J::prepare(recipe, &options.device, options.observer.as_ref())?;
    let Outline { segments, learning_rate, .. } = prepared.outline(&model, recipe)?;
    let mut recipe = recipe.clone();
    recipe.training.learning_rate = Some(learning_rate);
    let kept_baseline = || state.as_ref().and_then(|state| state.baseline.clone());
    let baseline_path = options.baseline.clone().or_else(kept_baseline);
    let baseline = baseline_path.as_ref();
    let baseline = baseline.map(|path| Baseline::read(path, &prepared.task)).transpose()?;
    // As they are written down: shares, not the numbers that follow from them here, since another
    // length may be asked of the recipe.
    let (kept, inputs) = (recipe.with_absolute_paths(), prepared.inputs()?);
    let recipe = recipe.resolved_for(segments);
    let from = match (state, options.resume) {
        (Some(state), _) => {
            let found = resume::Found { recipe: &kept, inputs: &inputs, segments: &segments };
            resume::check(&state, &found, &options.checkpoints())?;
            Some(state)
        }
        (None, true) => {
            options.check_begun(&kept)?;
            let message = "no checkpoint yet: the run starts from its beginning".to_string();
            options.observer.event(&Event::Note { message });
            None
        }
        (None, false) => None,
    };
    std::fs::create_dir_all(output).map_err(|e| Error::io(output, e))?;
    let _claim = match early {
        Some(claim) => claim,
        None => {
            let claim = options.claim()?;
            // Of another process that was faster.
            check_output()?;
            claim
        }
    };
    options.prepare_output(&kept)?;
    let resumed = from.is_some();
    let from = from.unwrap_or_else(|| {
        // JSON holds no path that is not UTF-8; such a one has to be given again.
        let baseline_path = baseline_path.and_then(|path| std::path::absolute(path).ok());
        let baseline_path = baseline_path.filter(|path| path.to_str().is_some());
        CheckpointState::beginning(kept.to_toml(), inputs, baseline_path)
    });
    let pace = Arc::default();
    let run = Run::<J> { recipe: &recipe, options, prepared, segments, baseline, resumed, pace };
    run.run(model, from)
}

pub(super) struct Run<'a, J: Job> {
    pub recipe: &'a Recipe,
    pub options: &'a RunOptions,
    pub prepared: Prepared<J::Model, J::Evaluator>,
    pub segments: Segments,
    /// The dense model that the report compares with.
    pub baseline: Option<Baseline>,
    /// Whether it goes on from a checkpoint.
    pub resumed: bool,
    /// Seconds between updates, from the events.
    pub pace: Arc<Mutex<Vec<f64>>>,
}

impl<J: Job> Run<'_, J> {
    pub fn stage(&self, name: impl Into<String>) -> Result<()> {
        self.options.interrupt.check()?;
        self.options.observer.event(&Event::Stage { name: name.into() });
        Ok(())
    }

    /// The whole job, `from` where its training is; `model` is handed on, so that training has the
    /// only one.
    fn run(self, model: J::Model, from: CheckpointState) -> Result<RunReport> {
        let starting = match self.prepared.start.new_head {
            true => Vec::new(),
            false => {
                self.stage("Evaluating the model as it is")?;
                self.evaluate(&model)?.0
            }
        };
        // A resumed run's values are its checkpoint's.
        let values = !self.resumed;
        let (model, decomposed, pruning) = self.decompose(model, values)?;
        self.stage(match &pruning {
            Some(_) => "Training and pruning",
            None => "Training",
        })?;
        let trained = self.train(model, pruning, from)?;
        self.stage("Evaluating the trained model")?;
        let (metrics, answers) = self.evaluate(&trained.model)?;
        // What is saved may take the place of what training started from.
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
                let (saved, _) = self.load_saved()?;
                self.stage("Evaluating the compact model as saved")?;
                let (metrics, compact_answers) = self.evaluate(&saved)?;
                let agreement = Agreement::between_answers(&answers, &compact_answers)?;
                (saved, metrics, Some(agreement))
            }
        };
        self.stage("Measuring latency")?;
        let latency = self.latency(&dense, &result)?;
        let account = ModelAccount::of(&result).over(&names);
        let mut report = self.report(
            Outcome { starting, metrics, metrics_as_saved, agreement, account, latency },
            &trained,
            pruning,
        );
        report.warnings = report.judge(&self.expected(&decomposed, pruning));
        #[cfg(feature = "plots")]
        let pictures = self.write_pictures(&report, &dense, &trained, &names)?;
        #[cfg(not(feature = "plots"))]
        let pictures = Vec::new();
        let card = report.to_markdown();
        atomic::write_file(self.folder().join("README.md"), card.as_bytes())?;
        // The last of the run's files: where it is, the run is done.
        report.write(&self.options.output, &pictures)?;
        Ok(report)
    }

    /// Longest input, in tokens.
    fn max_length(&self) -> usize {
        self.prepared.start.tokenizer.max_length()
    }

    fn folder(&self) -> PathBuf {
        self.options.output.join(MODEL)
    }

    /// Metrics on every split, and the answers on the first.
    pub fn evaluate(&self, model: &J::Model) -> Result<(Vec<SplitMetrics>, Answers)> {
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

    /// Decomposes what the recipe selects (without `values`, makes its form only); the layers, and
    /// how they will be pruned.
    pub fn decompose(
        &self,
        model: J::Model,
        values: bool,
    ) -> Result<(J::Model, Vec<Decomposed>, Option<PruningConfig>)> {
        if self.recipe.method.is_some() && values {
            self.stage("Decomposing")?;
        }
        self.prepared.decompose(model, self.recipe, values)
    }

    fn train(
        &self,
        model: J::Model,
        pruning: Option<PruningConfig>,
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

    /// What the result should be.
    fn expected(&self, layers: &[Decomposed], pruning: Option<PruningConfig>) -> Expected {
        let dense: usize = layers.iter().map(|layer| layer.d_input * layer.d_output).sum();
        let low_rank = |layer: &Decomposed| layer.rank * (layer.d_input + layer.d_output);
        let low_rank: usize = layers.iter().map(low_rank).sum();
        // What is right at the threshold stays: a neuron, or one a layer where each has a floor.
        let groups = layers.iter().map(|layer| layer.d_input.max(layer.d_output));
        let boundary = match pruning {
            None => 0,
            Some(config) if config.bounds_layers() => groups.sum(),
            Some(_) => groups.max().unwrap_or(0),
        };
        let share = |elements: usize| elements as f64 / dense.max(1) as f64;
        let kept = pruning.map_or(0.0, |config| config.schedule.final_keep_ratio);
        Expected {
            linear_ratio: share(low_rank) + kept,
            boundary: share(boundary),
            blind_loss: self.prepared.blind_loss,
        }
    }

    fn save(
        &self,
        model: &J::Model,
        account: Option<&ModelAccount>,
        layers: &[String],
    ) -> Result<()> {
        let mut losparse = json!({ "task": self.prepared.task });
        if let (Some(account), Some(method)) = (account, &self.recipe.method) {
            losparse["ratio"] = json!(method.ratio);
            losparse["low_rank_ratio"] = json!(method.low_rank_ratio());
            losparse["layers"] = json!(layers);
            losparse["linear_ratio"] = json!(account.linear_ratio());
            losparse["whole_model_ratio"] = json!(account.whole_ratio());
        }
        losparse["max_length"] = json!(self.max_length());
        for (name, value) in &self.prepared.about {
            losparse[name] = value.clone();
        }
        let options = SaveOptions {
            dtype: self.recipe.storage,
            losparse: Some(losparse),
            tokenizer_from: Some(self.prepared.start.folder.clone()),
            ..SaveOptions::default()
        };
        model.save(&self.folder(), &options)
    }

    fn load_saved(&self) -> Result<(J::Model, crate::checkpoint::LoadReport)> {
        J::Model::load(&self.folder(), &self.options.device, &LoadOptions::default())
    }

    fn latency(&self, dense: &J::Model, result: &J::Model) -> Result<Option<LatencyReport>> {
        let length = self.max_length().min(dense.max_length());
        let name = if self.recipe.method.is_some() { "compact" } else { "fine-tuned" };
        let mut contestants: Vec<Contestant<'_>> = vec![
            contestant("dense", dense.valid(), [1, length], &self.options.device),
            contestant(name, result.valid(), [1, length], &self.options.device),
        ];
        let repetitions = Repetitions::default();
        measure(&mut contestants, repetitions, [1, length], &self.options.device).map(Some)
    }

    fn report(
        &self,
        outcome: Outcome,
        trained: &Trained<J::Model>,
        pruning: Option<PruningConfig>,
    ) -> RunReport {
        let settings = &self.recipe.training;
        let per_update = settings.batch_size * settings.gradient_accumulation;
        let pace = self.pace.lock().map(|pace| pace.clone()).unwrap_or_default();
        let batches = trained.steps * settings.gradient_accumulation;
        let best_of =
            (settings.keep == Keep::Best && trained.counted > 1).then_some(trained.counted);
        RunReport {
            task: self.prepared.task.clone(),
            model: self.prepared.start.folder.display().to_string(),
            method: self.recipe.method.as_ref().map(|method| MethodReport {
                ratio: method.ratio,
                low_rank_ratio: method.low_rank_ratio(),
                rank: method.rank,
                layers: method.layers.clone(),
                pruning,
            }),
            training: TrainingReport {
                examples: self.prepared.train.lengths.len(),
                steps: trained.steps,
                epochs: batches as f64 / self.segments.batches_per_epoch as f64,
                examples_per_update: per_update,
                learning_rate: settings.learning_rate(None),
                max_length: self.max_length(),
                seed: settings.seed,
                skipped_updates: trained.skipped,
                result_step: trained.kept_step,
                best_of,
                held_out: self.prepared.held_out,
                seconds: trained.seconds,
                seconds_per_step: (!pace.is_empty()).then(|| median(pace)),
                resumed: self.resumed,
            },
            history: trained.history.clone(),
            history_loss: trained.history_loss.clone(),
            starting: outcome.starting,
            baseline: self.baseline.clone(),
            trained: outcome.metrics,
            compacted: outcome.metrics_as_saved,
            agreement: outcome.agreement,
            account: outcome.account,
            starting_bytes: bytes_on_disk(&self.prepared.start.folder).ok(),
            bytes: bytes_on_disk(self.folder()).ok(),
            latency: outcome.latency,
            device: self.options.device_name.clone(),
            machine: Some(Machine::here(&self.options.device_name)),
            date: crate::inspect::now(),
            command: self.options.command.clone(),
            versions: RunReport::current_versions(),
            warnings: Vec::new(),
        }
    }
}

struct Outcome {
    starting: Vec<SplitMetrics>,
    metrics: Vec<SplitMetrics>,
    metrics_as_saved: Vec<SplitMetrics>,
    agreement: Option<Agreement>,
    account: ModelAccount,
    latency: Option<LatencyReport>,
}
