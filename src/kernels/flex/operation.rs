//! Operations of our own on Burn's tensors, forward and backward.

use std::fmt::Debug;

use burn::backend::autodiff::NodeId;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::retro_forward::RetroForward;
use burn::backend::autodiff::checkpoint::state::BackwardStates;
use burn::backend::autodiff::checkpoint::strategy::{
    BalancedCheckpointing, CheckpointStrategy, NoCheckpointing,
};
use burn::backend::autodiff::grads;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::flex::{Flex, FlexTensor};
use burn::backend::tensor::FloatTensor;
use burn::backend::{
    Autodiff, BackendTensor, DispatchAutodiffContext, DispatchTensor, DispatchTensorKind,
    GradientCheckpointingStrategy, TensorMetadata,
};
use burn::tensor::DType;

/// The gradients of `N` operands, those that are not wanted perhaps left out.
pub(crate) type Gradients<const N: usize> = [Option<FlexTensor>; N];

/// An operation on `N` tensors of 32-bit floats on `flex`, with its settings. Its backward pass takes the
/// first `K` of them.
pub(crate) trait Operation<const N: usize, const K: usize>:
    Debug + Clone + Send + 'static
{
    /// Whether gradient checkpointing computes the output again rather than keeping it.
    const RECOMPUTED: bool = false;

    fn forward(&self, operands: [FlexTensor; N]) -> FlexTensor;

    /// The gradients of the operands, of the output's; at least those that are `wanted`.
    fn backward(&self, kept: [FlexTensor; K], grad: FlexTensor, wanted: [bool; N]) -> Gradients<N>;
}

/// The output of `operation`, tracked by autodiff if the operands are; `None` unless all of them are 32-bit
/// floats on `flex`, with autodiff or without.
pub(crate) fn apply<O: Operation<N, K>, const N: usize, const K: usize>(
    operation: O,
    operands: [DispatchTensor; N],
) -> Option<DispatchTensor> {
    let autodiff = operands[0].autodiff;
    let fits =
        |operand: &DispatchTensor| operand.autodiff == autodiff && operand.dtype() == DType::F32;
    if !operands.iter().all(fits) {
        return None;
    }
    let operands: Option<Vec<_>> = operands.into_iter().map(|one| on_flex(one.kind)).collect();
    let operands: [BackendTensor<Flex>; N] = operands?.try_into().ok()?;
    let kind = match autodiff {
        DispatchAutodiffContext::Disabled => {
            let output = operation.forward(operands.map(BackendTensor::float));
            DispatchTensorKind::Flex(BackendTensor::Float(output))
        }
        DispatchAutodiffContext::Enabled(strategy) => {
            let operands = operands.map(BackendTensor::autodiff);
            let output = match strategy {
                GradientCheckpointingStrategy::Disabled => {
                    track::<NoCheckpointing, _, N, K>(operation, operands)
                }
                GradientCheckpointingStrategy::Balanced => {
                    track::<BalancedCheckpointing, _, N, K>(operation, operands)
                }
            };
            let output = DispatchTensorKind::Flex(BackendTensor::Autodiff(output));
            DispatchTensorKind::Autodiff(Box::new(output))
        }
    };
    Some(DispatchTensor { kind, autodiff })
}

/// The tensor, with autodiff or without, if it is on `flex`.
fn on_flex(kind: DispatchTensorKind) -> Option<BackendTensor<Flex>> {
    match kind {
        DispatchTensorKind::Flex(tensor) => Some(tensor),
        DispatchTensorKind::Autodiff(inner) => on_flex(*inner),
        #[allow(unreachable_patterns)] // On `flex` alone.
        _ => None,
    }
}

/// While a gradient is wanted of any operand, the first `K` are remembered for the backward pass.
fn track<C: CheckpointStrategy, O: Operation<N, K>, const N: usize, const K: usize>(
    operation: O,
    operands: [FloatTensor<Autodiff<Flex>>; N],
) -> FloatTensor<Autodiff<Flex>> {
    let nodes = operands.each_ref().map(|operand| operand.node());
    let prepared = Tracked(operation.clone()).prepare::<C>(nodes);
    let prepared = if O::RECOMPUTED {
        let operands = operands.each_ref();
        let ids = operands.map(|operand| operand.id());
        let again = Again { operation: operation.clone(), operands: ids };
        prepared.memory_bound().retro_forward(again).parents(operands)
    } else {
        prepared.compute_bound()
    };
    match prepared.stateful() {
        OpsKind::Tracked(mut prepared) => {
            let kept = std::array::from_fn(|at| prepared.checkpoint(&operands[at]));
            let output = operation.forward(operands.map(|operand| operand.into_primitive()));
            prepared.finish(kept, output)
        }
        OpsKind::UnTracked(prepared) => {
            prepared.finish(operation.forward(operands.map(|operand| operand.into_primitive())))
        }
    }
}

#[derive(Debug)]
struct Tracked<O, const K: usize>(O);

impl<O: Operation<N, K>, const N: usize, const K: usize> Backward<Flex, N> for Tracked<O, K> {
    /// The operands that are kept.
    type State = [NodeId; K];

    fn backward(
        self,
        ops: Ops<Self::State, N>,
        grads: &mut grads::Gradients,
        checkpointer: &mut Checkpointer,
    ) {
        let kept = ops.state.map(|id| checkpointer.retrieve_node_output(id));
        let wanted = ops.parents.each_ref().map(Option::is_some);
        let gradients = self.0.backward(kept, grads.consume::<Flex>(&ops.node), wanted);
        for parent in ops.parents.into_iter().zip(gradients) {
            if let (Some(parent), Some(gradient)) = parent {
                grads.register::<Flex>(parent.id, gradient);
            }
        }
    }
}

/// The forward pass again, under gradient checkpointing.
#[derive(Debug)]
struct Again<O, const N: usize, const K: usize> {
    operation: O,
    operands: [NodeId; N],
}

impl<O: Operation<N, K>, const N: usize, const K: usize> RetroForward for Again<O, N, K> {
    fn forward(&self, states: &mut BackwardStates, out_node: NodeId) {
        let operands = self.operands.map(|id| states.get_state::<FlexTensor>(&id));
        states.save(out_node, self.operation.forward(operands));
    }
}
