//! Inputs of a model's layers, measured on examples for a decomposition that keeps the outputs.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::Result;
use crate::linear::{
    Compressible, CompressibleLinear, InputMoments, LayerSelection, LowRankSparseLinear, leaf,
    to_vec,
};

/// Second moments of the inputs of a model's layers, for
/// [`decompose_for_inputs`](super::decompose_for_inputs).
#[derive(Debug, Clone, Default)]
pub struct Calibration {
    layers: HashMap<String, Arc<InputMoments>>,
}

impl Calibration {
    /// Measures the inputs of the selected layers while `forward` applies the model that it is given, a
    /// copy of `model`, to examples. Some hundred are enough; without padding, whose values would count.
    /// Layers that are not dense are left out.
    ///
    /// ```
    /// use burn::{module::Module, tensor::{Distribution, Tensor}};
    /// use losparse::prelude::*;
    ///
    /// #[derive(Module, Debug)]
    /// struct Model { linear: CompressibleLinear }
    /// compressible!(Model { linear });
    ///
    /// # fn main() -> losparse::Result<()> {
    /// let device = losparse::device::open("auto")?;
    /// let model = Model { linear: CompressibleLinearConfig::new(32, 64).init(&device) };
    /// let examples = Tensor::<2>::random([200, 32], Distribution::Default, &device);
    /// let layers = LayerSelection::all();
    /// let calibration = Calibration::measure(&model, &layers, |model| {
    ///     model.linear.forward(examples);
    ///     Ok(())
    /// })?;
    /// let config = DecomposeConfig::new(Rank::Within(0.15));
    /// let (model, _) = decompose_for_inputs(model, &layers, config, &calibration)?;
    /// assert_eq!(model.linear.state().rank(), 3);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// If a pattern matches nothing, and those of `forward`.
    pub fn measure<M: Compressible>(
        model: &M,
        selection: &LayerSelection,
        forward: impl FnOnce(&M) -> Result<()>,
    ) -> Result<Self> {
        let selected = selection.resolve(model)?.into_iter().collect();
        Self::of_layers(model, &selected, forward)
    }

    /// [`Calibration::measure`] of the layers called `selected`.
    pub(super) fn of_layers<M: Compressible>(
        model: &M,
        selected: &HashSet<String>,
        forward: impl FnOnce(&M) -> Result<()>,
    ) -> Result<Self> {
        let mut layers = HashMap::new();
        let mut listening = model.clone();
        listening.for_each_linear_mut(&mut |name, linear| {
            if let CompressibleLinear::Dense(dense) = &*linear
                && selected.contains(name)
            {
                let moments = Arc::new(InputMoments::default());
                // A copy: results of the model that are kept for the same weights would take no inputs.
                let weight = leaf(dense.weight.val() * 1.0);
                let bias = dense.bias.clone();
                let mut layer = LowRankSparseLinear::new(None, Some(weight), bias);
                layer.moments = Some(moments.clone());
                layers.insert(name.to_string(), moments);
                *linear = CompressibleLinear::LowRankSparse(layer);
            }
        });
        forward(&listening)?;
        Ok(Self { layers })
    }

    /// Moments `[d_input, d_input]` of a layer's inputs, row by row; `None` if it was not applied.
    pub(super) fn moments(&self, layer: &str) -> Option<Vec<f32>> {
        self.layers.get(layer)?.sum().map(to_vec)
    }

    /// The layers in groups that have the same inputs, in the order in which they were applied first; those
    /// that were not applied are left out.
    pub(super) fn stages(&self) -> Vec<Vec<String>> {
        let applied =
            self.layers.iter().filter_map(|(name, moments)| Some((moments.first()?, name)));
        let mut applied: Vec<(u64, &String)> = applied.collect();
        applied.sort_unstable();
        let mut stages: Vec<(Vec<f32>, Vec<String>)> = Vec::new();
        for (_, name) in applied {
            let moments = self.moments(name).unwrap_or_default();
            match stages.iter_mut().find(|(known, _)| *known == moments) {
                Some((_, stage)) => stage.push(name.clone()),
                None => stages.push((moments, vec![name.clone()])),
            }
        }
        stages.into_iter().map(|(_, stage)| stage).collect()
    }
}
