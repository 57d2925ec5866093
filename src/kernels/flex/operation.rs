//! Operations of our own on Burn's tensors, forward and backward.

use std::fmt::Debug;

use burn::backend::autodiff::NodeId;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::retro_forward::RetroForward;
use burn::backend::autodiff::checkpoint::state::BackwardStates;
use burn::backend::autodiff::checkpoint::strategy::{
    BalancedCheckpointing, CheckpointStrategy, NoCheckpointing,
};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::flex::{Flex, FlexTensor};
use burn::backend::tensor::FloatTensor;
use burn::backend::{
    Autodiff, BackendTensor, DispatchAutodiffContext, DispatchTensor, DispatchTensorKind,
    GradientCheckpointingStrategy,
};

/// An operation on `N` tensors of 32-bit floats on `flex`, with its settings. Its backward pass takes the
/// first `K` of them.
pub(crate) trait Operation<const N: usize, const K: usize>:
    Debug + Clone + Send + 'static
{
    /// Whether gradient checkpointing computes the output again rather than keeping it.
    const RECOMPUTED: bool = false;

    fn forward(&self, operands: [FlexTensor; N]) -> FlexTensor;

    /// The gradients of the operands, of the output's; at least of those that are `wanted`.
    fn backward(
        &self,
        kept: [FlexTensor; K],
        grad: FlexTensor,
        wanted: [bool; N],
    ) -> [Option<FlexTensor>; N];
}

/// The output of `operation`, tracked by autodiff if the operands are.
///
/// # Panics
/// If the operands are not all tensors on `flex`, or some are on a device with autodiff and others are not.
pub(crate) fn apply<O: Operation<N, K>, const N: usize, const K: usize>(
    operation: O,
    operands: [DispatchTensor; N],
) -> DispatchTensor {
    let autodiff = operands[0].autodiff;
    let output = match autodiff {
        DispatchAutodiffContext::Disabled => {
            let operands = operands.map(|operand| on_flex(operand.kind).float());
            let output = BackendTensor::Float(operation.forward(operands));
            DispatchTensorKind::Flex(output)
        }
        DispatchAutodiffContext::Enabled(strategy) => {
            let operands = operands.map(|operand| match operand.kind {
                DispatchTensorKind::Autodiff(inner) => on_flex(*inner).autodiff(),
                _ => panic!("an operand on a device without autodiff"),
            });
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
    DispatchTensor { kind: output, autodiff }
}

fn on_flex(kind: DispatchTensorKind) -> BackendTensor<Flex> {
    match kind {
        DispatchTensorKind::Flex(tensor) => tensor,
        _ => panic!("an operand that is not on `flex`"),
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
        grads: &mut Gradients,
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
