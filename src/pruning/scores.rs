//! Kept neurons and scores of a model as it is.

use serde::{Deserialize, Serialize};

use super::sparse::for_each_sparse;
use super::{NEVER_KEPT, Pruner, Structure};
use crate::linear::Compressible;
use crate::linear::alive;

/// Neurons of one layer that have any non-zero entry in `S`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerKept {
    /// Full name of the layer.
    pub name: String,
    /// Kept neurons.
    pub kept: usize,
    /// All neurons.
    pub neurons: usize,
}

/// Scores of the neurons (or inputs) of one layer, as selection compares them.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct LayerScores {
    /// Full name of the layer.
    pub name: String,
    /// Scores of those that have any non-zero entry in `S`.
    pub kept: Vec<f32>,
    /// Scores of the others; those pruned for good have none.
    pub pruned: Vec<f32>,
}

impl Pruner {
    /// Current scores of every layer of `model`; empty if single entries are pruned.
    pub fn scores<M: Compressible>(&self, model: &M) -> Vec<LayerScores> {
        let dim = match self.config().structure {
            Structure::Neurons => 0,
            Structure::Inputs => 1,
            Structure::Unstructured => return Vec::new(),
        };
        let mut all = Vec::new();
        let mut layers = self.importance().iter();
        for_each_sparse(&mut model.clone(), |name, sparse| {
            let Some(layer) = layers.next() else { return };
            let sparse = sparse.val().inner();
            let alive = alive(&sparse, dim);
            let scores = crate::linear::to_vec(layer.scores(self.config(), sparse));
            let mut found = LayerScores { name: name.to_string(), ..LayerScores::default() };
            for (score, alive) in scores.into_iter().zip(alive) {
                match alive {
                    true => found.kept.push(score),
                    false if score > NEVER_KEPT => found.pruned.push(score),
                    false => {}
                }
            }
            all.push(found);
        });
        all
    }

    /// [`Pruner::scores`] of the next [`Pruner::update`], before it masks anything.
    pub fn scores_ahead<M: Compressible>(&self, model: &M) -> Vec<LayerScores> {
        let mut ahead = self.clone();
        ahead.close_window();
        ahead.scores(model)
    }

    /// Kept neurons of every layer of `model`.
    pub fn kept<M: Compressible>(model: &M) -> Vec<LayerKept> {
        let mut kept = Vec::new();
        for_each_sparse(&mut model.clone(), |name, sparse| {
            let alive = alive(&sparse.val().inner(), 0);
            let kept_neurons = alive.iter().filter(|alive| **alive).count();
            let name = name.to_string();
            kept.push(LayerKept { name, kept: kept_neurons, neurons: alive.len() });
        });
        kept
    }
}
