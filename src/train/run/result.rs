//! The result of a run: saved, and timed against the dense model.

use burn::module::Module;
use serde_json::json;

use super::Run;
use crate::Result;
use crate::checkpoint::SaveOptions;
use crate::inspect::latency::{Contestant, Repetitions, measure};
use crate::inspect::{LatencyReport, ModelAccount, contestant};
use crate::models::FolderModel;
use crate::train::job::Job;

impl<J: Job> Run<'_, J> {
    /// Saves the result with what its `config.json` says under `losparse`.
    pub(super) fn save(
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
        model.save(self.folder(), &options)
    }

    /// Times the result against the dense model, in turns.
    pub(super) fn latency(
        &self,
        dense: &J::Model,
        result: &J::Model,
    ) -> Result<Option<LatencyReport>> {
        let length = self.max_length().min(dense.max_length());
        let name = if self.recipe.method.is_some() { "compact" } else { "fine-tuned" };
        let mut contestants: Vec<Contestant<'_>> = vec![
            contestant("dense", dense.valid(), [1, length], &self.options.device),
            contestant(name, result.valid(), [1, length], &self.options.device),
        ];
        let repetitions = Repetitions::default();
        measure(&mut contestants, repetitions, [1, length], &self.options.device).map(Some)
    }
}
