//! Weights of layers packed for the kernels of inference.

use burn::nn::LayerNorm;

use super::{Activation, FeedForwardParts, PackableLinear};
use crate::kernels::block::{Epilogue, LinearParts, Norm, PackedLayers};

fn parts(linear: &dyn PackableLinear) -> Option<LinearParts> {
    LinearParts::new(&linear.weights()?)
}

/// Layers that share their input, outputs side by side; `None` if one of them cannot be packed.
pub(crate) fn pack(linears: &[&dyn PackableLinear]) -> Option<PackedLayers> {
    let parts: Vec<_> = linears.iter().map(|linear| parts(*linear)).collect::<Option<_>>()?;
    let sources: Vec<_> = parts.iter().map(|parts| parts.source()).collect();
    Some(PackedLayers::new(&sources, None, false, Epilogue::Identity))
}

/// Both halves of a feed-forward network; `None` also for activations that the kernel lacks.
pub(crate) fn pack_feed_forward(network: FeedForwardParts<'_>) -> Option<[PackedLayers; 2]> {
    let epilogue = match network.activation {
        Activation::Gelu => Epilogue::Gelu,
        Activation::Relu => Epilogue::Relu,
        Activation::Linear => Epilogue::Identity,
        _ => return None,
    };
    let (inner, outer) = (parts(network.intermediate)?, parts(network.output)?);
    // The order of the inner neurons is free: kept ones first, and the next layer takes them so.
    let order = inner.source().outputs();
    Some([
        PackedLayers::new(&[inner.source()], None, true, epilogue),
        PackedLayers::new(&[outer.source()], Some(&order), false, Epilogue::Identity),
    ])
}

/// A normalisation that adds `epsilon` to the variance.
pub(crate) fn pack_norm(norm: &LayerNorm, epsilon: f64) -> Option<Norm> {
    let beta = norm.beta.as_ref().map(|beta| beta.val());
    Norm::from_tensors(&norm.gamma.val(), beta.as_ref(), epsilon)
}
