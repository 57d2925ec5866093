//! The extension under autodiff: GELU's backward pass by hand, the rest composed.

use std::marker::PhantomData;

use burn::backend::autodiff::NodeId;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::retro_forward::RetroForward;
use burn::backend::autodiff::checkpoint::state::BackwardStates;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind, unary};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend};

use super::Kernels;

impl<B: Backend + Kernels, C: CheckpointStrategy> Kernels for Autodiff<B, C> {
    fn gelu_erf(x: FloatTensor<Self>) -> FloatTensor<Self> {
        let recomputed = RecomputedGelu::<B> { input: x.id(), backend: PhantomData };
        let prepared = Gelu
            .prepare::<C>([x.node()])
            .memory_bound()
            .retro_forward(recomputed)
            .parents([&x])
            .stateful();
        match prepared {
            OpsKind::Tracked(mut prepared) => {
                let state = prepared.checkpoint(&x);
                prepared.finish(state, B::gelu_erf(x.into_primitive()))
            }
            OpsKind::UnTracked(prepared) => prepared.finish(B::gelu_erf(x.into_primitive())),
        }
    }
}

#[derive(Debug)]
struct Gelu;

impl<B: Backend + Kernels> Backward<B, 1> for Gelu {
    type State = NodeId;

    fn backward(self, ops: Ops<NodeId, 1>, grads: &mut Gradients, checkpointer: &mut Checkpointer) {
        let x = checkpointer.retrieve_node_output(ops.state);
        unary::<B, _>(ops.parents, ops.node, grads, |grad| B::gelu_erf_backward(x, grad));
    }
}

/// The forward pass again, under gradient checkpointing.
#[derive(Debug)]
struct RecomputedGelu<B> {
    input: NodeId,
    backend: PhantomData<B>,
}

impl<B: Backend + Kernels> RetroForward for RecomputedGelu<B> {
    fn forward(&self, states: &mut BackwardStates, out_node: NodeId) {
        let x = states.get_state::<B::FloatTensorPrimitive>(&self.input);
        states.save(out_node, B::gelu_erf(x));
    }
}
