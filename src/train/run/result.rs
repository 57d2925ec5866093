//! The result of a run: saved, and timed against the dense model.

use burn::module::Module;
use serde_json::json;

use super::Run;
use crate::Result;
use crate::checkpoint::{SaveOptions, StorageDtype};
use crate::inspect::latency::{Contestant, Repetitions, measure};
use crate::inspect::{LatencyReport, ModelAccount, contestant};
use crate::linear::round_weights;
use crate::models::FolderModel;
use crate::precision::Precision;
use crate::quantize::computes_in_int8;
use crate::train::job::Job;

impl<J: Job> Run<'_, J> {
    /// Saves the result with what its `config.json` says under `losparse`.
    pub(super) fn save(
        &self,
        model: &J::Model,
        account: Option<&ModelAccount>,
        layers: &[String],
        dtype: StorageDtype,
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
            dtype,
            losparse: Some(losparse),
            tokenizer_from: Some(self.prepared.start.folder.clone()),
            ..SaveOptions::default()
        };
        model.save(self.folder(), &options)
    }

    /// Times the result against the dense model, in turns; a result in 8-bit integers also against the dense
    /// model in them.
    pub(super) fn latency(
        &self,
        dense: &J::Model,
        result: &J::Model,
    ) -> Result<Option<LatencyReport>> {
        let length = self.max_length().min(dense.max_length());
        let name = if self.recipe.method.is_some() { "compact" } else { "fine-tuned" };
        let mut models = vec![("dense".to_string(), dense.valid())];
        if computes_in_int8(result) {
            models.push(("dense, int8".into(), round_weights(dense.valid(), Precision::Int8)));
            models.push((format!("{name}, int8"), result.valid()));
        } else {
            models.push((name.into(), result.valid()));
        }
        let contestants = models.into_iter();
        let mut contestants: Vec<Contestant<'_>> = contestants
            .map(|(name, model)| contestant(&name, model, [1, length], &self.options.device))
            .collect();
        let repetitions = Repetitions::default();
        measure(&mut contestants, repetitions, [1, length], &self.options.device).map(Some)
    }
}
