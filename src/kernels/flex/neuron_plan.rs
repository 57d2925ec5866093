//! The preparation of a compact layer for one pass over its outputs.

use super::NeuronWeights;
use super::slices::plain;

/// Where every output of a layer of kept and low-rank neurons comes from.
#[derive(Debug, Clone, PartialEq)]
pub struct NeuronPlan {
    /// Number of outputs.
    pub(super) d_output: usize,
    /// Length of the low-rank code.
    pub(super) rank: usize,
    /// `[rank, d_output]`: `L′ᵀ` in the layer's own order, zero at kept neurons. A few products
    /// with zero cost less than a scattered write of most outputs.
    pub(super) spread: Vec<f32>,
    /// `[kept]`: the output of every kept neuron.
    pub(super) neurons: Vec<u32>,
}

impl NeuronPlan {
    /// Prepares the layer of these weights; `None` unless they are on `flex`, without autodiff, and fit.
    pub(crate) fn of(weights: &NeuronWeights) -> Option<Self> {
        let left = match &weights.left {
            Some(left) => Some(plain(left)?),
            None => None,
        };
        let left = match &left {
            Some(left) => Some(left.as_slice::<f32>()?),
            None => None,
        };
        let order = weights.order.as_ref().map(|order| order.to_data().iter::<i64>().collect());
        let order: Option<Vec<i64>> = order;
        Self::new(left, order.as_deref(), weights.kept, weights.d_output)
    }

    /// Length of the low-rank code.
    pub(crate) fn rank(&self) -> usize {
        self.rank
    }

    /// Whether this is the plan of a layer of these sizes.
    pub(crate) fn is_of(&self, kept: usize, d_output: usize) -> bool {
        self.neurons.len() == kept && self.d_output == d_output
    }

    /// Prepares a layer of `kept` dense neurons and `d_output − kept` low-rank ones.
    ///
    /// `left` is `L′ᵀ: [rank, d_output − kept]`, `None` at rank 0; `order` holds the position of
    /// every output in `[kept | others]`, `None` where that is the order of outputs. `None` if a
    /// size or position does not fit.
    pub fn new(
        left: Option<&[f32]>,
        order: Option<&[i64]>,
        kept: usize,
        d_output: usize,
    ) -> Option<Self> {
        let others = d_output.checked_sub(kept)?;
        let rank = match left {
            Some(left) if others > 0 => left.len() / others,
            _ => 0,
        };
        let left = left.unwrap_or_default();
        if left.len() != rank * others || order.is_some_and(|order| order.len() != d_output) {
            return None;
        }
        let mut spread = vec![0.0; rank * d_output];
        let mut neurons = vec![u32::MAX; kept];
        for output in 0..d_output {
            let position = match order {
                Some(order) => usize::try_from(order[output]).ok()?,
                None => output,
            };
            if position < kept {
                neurons[position] = u32::try_from(output).ok()?;
            } else if position < d_output {
                for r in 0..rank {
                    spread[r * d_output + output] = left[r * others + position - kept];
                }
            } else {
                return None;
            }
        }
        let complete = neurons.iter().all(|&neuron| neuron != u32::MAX);
        complete.then_some(Self { d_output, rank, spread, neurons })
    }
}
