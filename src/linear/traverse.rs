//! One traversal over a model's compressible layers: everything else is built on it.

use burn::module::Module;

use super::{CompressibleLinear, FeedForward};

/// A Burn module whose [`CompressibleLinear`] layers can be visited.
///
/// Decomposition, pruning, compaction, accounting and reports all run through this one method.
///
/// ```
/// use burn::module::Module;
/// use losparse::linear::{Compressible, CompressibleLinear};
///
/// #[derive(Module, Debug)]
/// struct Mlp {
///     up: CompressibleLinear,
///     down: CompressibleLinear,
/// }
///
/// impl Compressible for Mlp {
///     fn for_each_linear_mut(&mut self, f: &mut dyn FnMut(&str, &mut CompressibleLinear)) {
///         f("up", &mut self.up);
///         f("down", &mut self.down);
///     }
/// }
/// ```
pub trait Compressible: Module {
    /// Calls `f` with the full, unique name of every compressible layer, always in the same order.
    fn for_each_linear_mut(&mut self, f: &mut dyn FnMut(&str, &mut CompressibleLinear));

    /// Calls `f` with every feed-forward network, if compaction may narrow them: the model then has
    /// to take whatever width is left, in files too. By default there is none.
    fn for_each_feed_forward_mut(&mut self, f: &mut dyn FnMut(FeedForward<'_>)) {
        let _ = f;
    }

    /// Calls `f` with every compressible layer.
    fn for_each_linear(&self, f: &mut dyn FnMut(&str, &CompressibleLinear)) {
        // A module's clone shares its tensors, so this costs reference counts only.
        self.clone().for_each_linear_mut(&mut |name, linear| f(name, linear));
    }
}

/// Full names of the model's compressible layers, in traversal order.
pub fn linear_names<M: Compressible>(model: &M) -> Vec<String> {
    let mut names = Vec::new();
    model.for_each_linear(&mut |name, _| names.push(name.to_string()));
    names
}
