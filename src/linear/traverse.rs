//! One traversal over a model's compressible layers: everything else is built on it.

use burn::module::Module;

use super::{CompressibleLinear, FeedForward, WordEmbedding};

/// Implements [`Compressible`] for a module whose named fields are
/// [`CompressibleLinear`](crate::linear::CompressibleLinear) layers.
///
/// ```
/// use burn::module::Module;
/// use losparse::compressible;
/// use losparse::linear::CompressibleLinear;
///
/// #[derive(Module, Debug)]
/// struct Mlp {
///     up: CompressibleLinear,
///     down: CompressibleLinear,
/// }
///
/// compressible!(Mlp { up, down });
/// ```
#[macro_export]
macro_rules! compressible {
    ($model:ty { $($layer:tt),+ $(,)? }) => {
        impl $crate::linear::Compressible for $model {
            fn for_each_linear_mut(&mut self, f: $crate::linear::LinearVisitor<'_>) {
                $(f(stringify!($layer), &mut self.$layer);)+
            }
        }
    };
}

/// Sees the full name of a layer, and the layer.
pub type LinearVisitor<'a> = &'a mut (dyn FnMut(&str, &mut CompressibleLinear) + 'a);

/// Sees the full name of an embedding, and the embedding.
pub type EmbeddingVisitor<'a> = &'a mut (dyn FnMut(&str, &mut WordEmbedding) + 'a);

/// Sees a feed-forward network.
pub type FeedForwardVisitor<'a> = &'a mut (dyn FnMut(FeedForward<'_>) + 'a);

/// A Burn module whose [`CompressibleLinear`] layers can be visited.
///
/// Decomposition, pruning, compaction, accounting and reports all go through this one method.
/// [`compressible!`](crate::compressible) implements it for a struct of layers; modules that hold other
/// modules implement it by hand:
///
/// ```
/// use burn::module::Module;
/// use losparse::linear::{Compressible, CompressibleLinear};
///
/// #[derive(Module, Debug)]
/// struct Stack {
///     layers: Vec<CompressibleLinear>,
/// }
///
/// impl Compressible for Stack {
///     fn for_each_linear_mut(&mut self, f: &mut dyn FnMut(&str, &mut CompressibleLinear)) {
///         for (at, layer) in self.layers.iter_mut().enumerate() {
///             f(&format!("layers.{at}"), layer);
///         }
///     }
/// }
/// ```
pub trait Compressible: Module {
    /// Calls `f` with the full, unique name of every compressible layer, always in the same order.
    fn for_each_linear_mut(&mut self, f: LinearVisitor<'_>);

    /// Calls `f` with every feed-forward network that compaction may narrow; the model then must accept any
    /// smaller width, in files too. By default there is none.
    fn for_each_feed_forward_mut(&mut self, f: FeedForwardVisitor<'_>) {
        let _ = f;
    }

    /// Calls `f` with the full name of every embedding that can be stored in 8-bit integers. By default there
    /// is none.
    fn for_each_embedding_mut(&mut self, f: EmbeddingVisitor<'_>) {
        let _ = f;
    }

    /// Calls `f` with every compressible layer.
    fn for_each_linear(&self, f: &mut dyn FnMut(&str, &CompressibleLinear)) {
        // A clone shares its tensors, so this costs only reference counts.
        self.clone().for_each_linear_mut(&mut |name, linear| f(name, linear));
    }
}

/// Full names of the model's compressible layers, in traversal order.
pub fn linear_names<M: Compressible>(model: &M) -> Vec<String> {
    let mut names = Vec::new();
    model.for_each_linear(&mut |name, _| names.push(name.to_string()));
    names
}
