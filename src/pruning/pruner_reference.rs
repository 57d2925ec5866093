//! The method written out entry by entry, without tensors: what [`super::Pruner`] is tested against.

use super::{Importance, PruningConfig, Reduction, Regrowth, Structure};

/// Entries of `S` in the order `[d_input, d_output]` of each layer, and their state in f64.
pub(super) struct Reference {
    config: PruningConfig,
    shapes: Vec<[usize; 2]>,
    pub sparse: Vec<Vec<f32>>,
    window: Vec<Vec<f64>>,
    smoothed: Vec<Vec<f64>>,
    uncertainty: Vec<Vec<f64>>,
    pruned: Vec<Vec<bool>>,
    step: usize,
}

impl Reference {
    pub fn new(config: PruningConfig, shapes: &[[usize; 2]], sparse: Vec<Vec<f32>>) -> Self {
        let zeros: Vec<Vec<f64>> = sparse.iter().map(|layer| vec![0.0; layer.len()]).collect();
        let pruned = sparse.iter().map(|layer| vec![false; layer.len()]).collect();
        Self {
            config,
            shapes: shapes.to_vec(),
            sparse,
            window: zeros.clone(),
            smoothed: zeros.clone(),
            uncertainty: zeros,
            pruned,
            step: 0,
        }
    }

    /// One update by gradient descent; returns the threshold, if this step prunes.
    pub fn step(&mut self, gradients: &[Vec<f32>], lr: f32) -> Option<f64> {
        let (t, config) = (self.step, self.config);
        let k = t % config.schedule.interval;
        self.step += 1;
        for (layer, gradients) in gradients.iter().enumerate() {
            for (at, &gradient) in gradients.iter().enumerate() {
                let s = &mut self.sparse[layer][at];
                *s -= lr * gradient;
                match config.importance {
                    Importance::Movement => {
                        self.smoothed[layer][at] -= f64::from(*s * gradient);
                        continue;
                    }
                    Importance::SnipMomentum => {
                        let smoothed = &mut self.smoothed[layer][at];
                        *smoothed = config.beta1 * *smoothed + f64::from((*s * gradient).abs());
                        continue;
                    }
                    Importance::Random => panic!("drawn by the pruner"),
                    Importance::Sensitivity | Importance::Magnitude => {}
                }
                let importance = f64::from((*s * gradient).abs());
                let window = &mut self.window[layer][at];
                if k != 0 {
                    *window = (*window * k as f64 + importance) / (k + 1) as f64;
                    continue;
                }
                let smoothed = &mut self.smoothed[layer][at];
                *smoothed = config.beta1 * *smoothed + (1.0 - config.beta1) * *window;
                let uncertainty = &mut self.uncertainty[layer][at];
                let distance = (*window - *smoothed).abs();
                *uncertainty = config.beta2 * *uncertainty + (1.0 - config.beta2) * distance;
                *window = importance;
            }
        }
        let threshold = config.schedule.prunes(t).then(|| self.prune(t)).flatten();
        if config.regrowth == Regrowth::Frozen {
            for (sparse, pruned) in self.sparse.iter_mut().zip(&self.pruned) {
                sparse.iter_mut().zip(pruned).filter(|(_, p)| **p).for_each(|(s, _)| *s = 0.0);
            }
        }
        threshold
    }

    /// The published rule: expand every score over its entries, take the `int(N(1 − p))`-th
    /// smallest, zero what is strictly below.
    fn prune(&mut self, t: usize) -> Option<f64> {
        let mut scores: Vec<Vec<f64>> =
            (0..self.sparse.len()).map(|layer| self.expanded(layer)).collect();
        if self.config.regrowth == Regrowth::Frozen {
            for (scores, pruned) in scores.iter_mut().zip(&self.pruned) {
                scores
                    .iter_mut()
                    .zip(pruned)
                    .filter(|(_, p)| **p)
                    .for_each(|(s, _)| *s = f64::from(f32::MIN));
            }
        }
        let mut all: Vec<f64> = scores.iter().flatten().copied().collect();
        all.sort_by(f64::total_cmp);
        let count = (all.len() as f64 * (1.0 - self.config.schedule.keep_ratio(t))) as usize;
        let threshold = all[count.checked_sub(1)?];
        for (layer, scores) in scores.iter().enumerate() {
            for (at, score) in scores.iter().enumerate() {
                if *score < threshold {
                    self.sparse[layer][at] = 0.0;
                    self.pruned[layer][at] = true;
                }
            }
        }
        Some(threshold)
    }

    /// The score of each entry's neuron, column, or of itself.
    fn expanded(&self, layer: usize) -> Vec<f64> {
        let config = self.config;
        let score = |at: usize| match config.importance {
            Importance::Magnitude => f64::from(self.sparse[layer][at].abs()),
            Importance::Sensitivity if config.uses_uncertainty() => {
                self.smoothed[layer][at] * self.uncertainty[layer][at]
            }
            _ => self.smoothed[layer][at],
        };
        let entries: Vec<f64> = (0..self.sparse[layer].len()).map(score).collect();
        self.groups(layer)
            .iter()
            .map(|group| self.reduce(group.iter().map(|&at| entries[at])))
            .collect()
    }

    /// For each entry, the entries that are pruned with it.
    fn groups(&self, layer: usize) -> Vec<Vec<usize>> {
        let [d_input, d_output] = self.shapes[layer];
        let group = |at: usize| match self.config.structure {
            Structure::Neurons => (0..d_input).map(|i| i * d_output + at % d_output).collect(),
            Structure::Inputs => (0..d_output).map(|j| at / d_output * d_output + j).collect(),
            Structure::Unstructured => vec![at],
        };
        (0..d_input * d_output).map(group).collect()
    }

    fn reduce(&self, entries: impl Iterator<Item = f64>) -> f64 {
        let entries: Vec<f64> = entries.collect();
        let sum: f64 = entries.iter().sum();
        match self.config.reduction {
            Reduction::Mean => sum / entries.len() as f64,
            Reduction::Sum => sum,
            Reduction::Max => entries.iter().copied().fold(f64::MIN, f64::max),
            Reduction::Min => entries.iter().copied().fold(f64::MAX, f64::min),
        }
    }

    /// `Ī` of every layer, in the shape in which the pruner keeps it.
    pub fn smoothed_scores(&self) -> Vec<Vec<f64>> {
        let layers = 0..self.sparse.len();
        if self.config.importance == Importance::Magnitude {
            let length = |layer: usize| match (self.config.needs_entries(), self.config.structure) {
                (false, Structure::Neurons) => self.shapes[layer][1],
                (false, Structure::Inputs) => self.shapes[layer][0],
                _ => self.sparse[layer].len(),
            };
            return layers.map(|layer| vec![0.0; length(layer)]).collect();
        }
        if self.config.needs_entries() {
            return self.smoothed.clone();
        }
        let neurons = |layer: usize| -> Vec<f64> {
            let [d_input, d_output] = self.shapes[layer];
            let groups = self.groups(layer);
            let firsts: Vec<usize> = match self.config.structure {
                Structure::Neurons => (0..d_output).collect(),
                _ => (0..d_input).map(|i| i * d_output).collect(),
            };
            let of = |first: usize| groups[first].iter().map(|&at| self.smoothed[layer][at]);
            firsts.into_iter().map(|first| self.reduce(of(first))).collect()
        };
        layers.map(neurons).collect()
    }
}
