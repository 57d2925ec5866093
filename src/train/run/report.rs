//! The facts of a run, gathered for its report.

use super::Run;
use crate::decompose::Decomposed;
use crate::inspect::latency::median;
use crate::inspect::{
    Agreement, Expected, Int8Comparison, LatencyReport, Machine, MethodReport, ModelAccount,
    RunReport, SplitMetrics, TeacherReport, TrainingReport, bytes_on_disk, now,
};
use crate::pruning::PruningConfig;
use crate::train::Keep;
use crate::train::job::Job;
use crate::train::learner::Trained;

/// Measurements of a run.
pub(super) struct Outcome {
    /// Metrics before training.
    pub starting: Vec<SplitMetrics>,
    pub metrics: Vec<SplitMetrics>,
    pub metrics_as_saved: Vec<SplitMetrics>,
    pub agreement: Option<Agreement>,
    pub int8: Option<Int8Comparison>,
    pub account: ModelAccount,
    pub latency: Option<LatencyReport>,
}

impl<J: Job> Run<'_, J> {
    /// The report, with its warnings.
    pub(super) fn report(
        &self,
        outcome: Outcome,
        trained: &Trained<J::Model>,
        layers: &[Decomposed],
        pruning: Option<PruningConfig>,
    ) -> RunReport {
        let mut report = RunReport {
            task: self.prepared.task.clone(),
            // Not the one that was fine-tuned in between.
            model: self
                .recipe
                .model
                .as_ref()
                .unwrap_or(&self.prepared.start.folder)
                .display()
                .to_string(),
            method: self.recipe.method.as_ref().map(|method| MethodReport {
                ratio: method.ratio,
                low_rank_ratio: method.low_rank_ratio(),
                rank: method.rank,
                approximate: Some(method.approximate),
                layers: method.layers.clone(),
                pruning,
            }),
            training: self.training_report(trained),
            history: trained.history.clone(),
            history_loss: trained.history_loss.clone(),
            starting: outcome.starting,
            baseline: self.baseline.clone(),
            trained: outcome.metrics,
            compacted: outcome.metrics_as_saved,
            agreement: outcome.agreement,
            int8: outcome.int8,
            account: outcome.account,
            starting_bytes: bytes_on_disk(&self.prepared.start.folder).ok(),
            bytes: bytes_on_disk(self.folder()).ok(),
            latency: outcome.latency,
            device: self.options.device_name.clone(),
            machine: Some(Machine::here(&self.options.device_name)),
            date: now(),
            command: self.options.command.clone(),
            versions: RunReport::current_versions(),
            inputs: self.inputs.clone(),
            warnings: Vec::new(),
        };
        report.warnings = report.judge(&self.expected(layers, pruning));
        report
    }

    /// The facts of the training.
    fn training_report(&self, trained: &Trained<J::Model>) -> TrainingReport {
        let settings = &self.recipe.training;
        let per_update = settings.batch_size * settings.gradient_accumulation;
        let pace = self.pace.lock().map(|pace| pace.clone()).unwrap_or_default();
        let batches = trained.steps * settings.gradient_accumulation;
        let best_of =
            (settings.keep == Keep::Best && trained.counted > 1).then_some(trained.counted);
        TrainingReport {
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
            dense_seconds: self.dense_seconds,
            teacher: self.recipe.teaching().map(|own| TeacherReport {
                folder: own.teacher.as_ref().map(|folder| folder.display().to_string()),
                fine_tuned_first: self.dense_seconds.is_some(),
                weight: own.weight,
                temperature: own.temperature,
            }),
        }
    }

    /// The size that the result should have, and the loss that it should not exceed.
    fn expected(&self, layers: &[Decomposed], pruning: Option<PruningConfig>) -> Expected {
        let dense: usize = layers.iter().map(|layer| layer.d_input * layer.d_output).sum();
        // A neuron at the threshold stays: one in the model, or one in each layer if layers are bounded.
        let groups = layers.iter().map(|layer| layer.d_input.max(layer.d_output));
        let boundary = match pruning {
            None => 0,
            Some(config) if config.bounds_layers() => groups.sum(),
            Some(_) => groups.max().unwrap_or(0),
        };
        Expected {
            boundary: boundary as f64 / dense.max(1) as f64,
            blind_loss: self.prepared.blind_loss,
        }
    }
}
