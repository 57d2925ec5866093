//! The extension under autodiff: backward passes by hand.

use std::fmt::Debug;
use std::marker::PhantomData;
use std::sync::Arc;

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
use super::active_neurons::ActiveNeurons;
use super::attention::AttentionSettings;
use super::extension::KernelGradients;
use super::positions::PositionSettings;
use super::residual_norm::NormSettings;

impl<B: KernelGradients, C: CheckpointStrategy> Kernels for Autodiff<B, C> {
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

    fn dense(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        let forward = |[x, weight, bias]: [_; 3], ()| B::dense(x, weight, bias);
        tracked::<B, C, _, _, _, _>(Dense, [x, weight, bias], [0, 1], (), forward)
    }

    fn composed_weight(
        sparse: FloatTensor<Self>,
        right: FloatTensor<Self>,
        left: FloatTensor<Self>,
        columns: Option<Arc<ActiveNeurons>>,
    ) -> FloatTensor<Self> {
        let operation = Operation::<B, _, _, _>(B::composed_weight_gradients);
        let forward = |[sparse, right, left]: [_; 3], columns| {
            B::composed_weight(sparse, right, left, columns)
        };
        tracked::<B, C, _, _, _, _>(operation, [sparse, right, left], [1, 2], columns, forward)
    }

    fn active_dense(
        x: FloatTensor<Self>,
        sparse: FloatTensor<Self>,
        right: FloatTensor<Self>,
        left: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        columns: Arc<ActiveNeurons>,
    ) -> FloatTensor<Self> {
        let operation = Operation::<B, _, _, _>(B::active_dense_gradients);
        let forward = |[x, sparse, right, left, bias]: [_; 5], columns| {
            B::active_dense(x, sparse, right, left, bias, columns)
        };
        let inputs = [x, sparse, right, left, bias];
        tracked::<B, C, _, _, _, _>(operation, inputs, [0, 1, 2, 3], columns, forward)
    }

    fn attention_heads(
        query: FloatTensor<Self>,
        key: FloatTensor<Self>,
        value: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        settings: AttentionSettings,
    ) -> FloatTensor<Self> {
        let operation = Operation::<B, _, _, _>(B::attention_gradients);
        let forward = |[query, key, value, bias]: [_; 4], settings| {
            B::attention_heads(query, key, value, bias, settings)
        };
        let inputs = [query, key, value, bias];
        tracked::<B, C, _, _, _, _>(operation, inputs, [0, 1, 2, 3], settings, forward)
    }

    fn position_scores(
        query: FloatTensor<Self>,
        key: FloatTensor<Self>,
        keys: FloatTensor<Self>,
        queries: FloatTensor<Self>,
        settings: PositionSettings,
    ) -> FloatTensor<Self> {
        let operation = Operation::<B, _, _, _>(B::position_gradients);
        let forward = |[query, key, keys, queries]: [_; 4], settings| {
            B::position_scores(query, key, keys, queries, settings)
        };
        let inputs = [query, key, keys, queries];
        tracked::<B, C, _, _, _, _>(operation, inputs, [0, 1, 2, 3], settings, forward)
    }

    fn residual_norm(
        x: FloatTensor<Self>,
        residual: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        settings: NormSettings,
    ) -> FloatTensor<Self> {
        let operation = Operation::<B, _, _, _>(B::residual_norm_gradients);
        let forward = |[x, residual, gamma, beta]: [_; 4], settings| {
            B::residual_norm(x, residual, gamma, beta, settings)
        };
        let inputs = [x, residual, gamma, beta];
        tracked::<B, C, _, _, _, _>(operation, inputs, [0, 1, 2], settings, forward)
    }
}

/// Computes `forward` of `inputs`; while a gradient is wanted of any, those at the places `kept` and the
/// settings are remembered for `operation`'s backward pass.
fn tracked<B, C, O, S, const K: usize, const N: usize>(
    operation: O,
    inputs: [FloatTensor<Autodiff<B, C>>; N],
    kept: [usize; K],
    settings: S,
    forward: impl FnOnce([FloatTensor<B>; N], S) -> FloatTensor<B>,
) -> FloatTensor<Autodiff<B, C>>
where
    B: Backend,
    C: CheckpointStrategy,
    O: Backward<B, N, State = ([NodeId; K], S)>,
    S: Clone + Send + Debug + 'static,
{
    let nodes = inputs.each_ref().map(|tensor| tensor.node());
    match operation.prepare::<C>(nodes).compute_bound().stateful() {
        OpsKind::Tracked(mut prepared) => {
            let kept = kept.map(|at| prepared.checkpoint(&inputs[at]));
            let inputs = inputs.map(|tensor| tensor.into_primitive());
            let output = forward(inputs, settings.clone());
            prepared.finish((kept, settings), output)
        }
        OpsKind::UnTracked(prepared) => {
            prepared.finish(forward(inputs.map(|tensor| tensor.into_primitive()), settings))
        }
    }
}

/// The gradients of all `N` inputs, of the kept ones, the settings and the output's gradient.
type GradientsOf<B, S, const K: usize, const N: usize> =
    fn([FloatTensor<B>; K], S, FloatTensor<B>) -> [FloatTensor<B>; N];

/// An operation whose gradients are computed together.
#[derive(Debug)]
struct Operation<B: Backend, S, const K: usize, const N: usize>(GradientsOf<B, S, K, N>);

impl<B: Backend, S, const K: usize, const N: usize> Backward<B, N> for Operation<B, S, K, N>
where
    S: Clone + Send + Debug + 'static,
{
    type State = ([NodeId; K], S);

    fn backward(
        self,
        ops: Ops<Self::State, N>,
        grads: &mut Gradients,
        checkpointer: &mut Checkpointer,
    ) {
        let (kept, settings) = ops.state;
        let kept = kept.map(|id| checkpointer.retrieve_node_output(id));
        let gradients = (self.0)(kept, settings, grads.consume::<B>(&ops.node));
        for (parent, gradient) in ops.parents.into_iter().zip(gradients) {
            if let Some(parent) = parent {
                grads.register::<B>(parent.id, gradient);
            }
        }
    }
}

/// [`Kernels::dense`], of which only those gradients are computed that are wanted.
#[derive(Debug)]
struct Dense;

impl<B: KernelGradients> Backward<B, 3> for Dense {
    /// Input and weight.
    type State = ([NodeId; 2], ());

    fn backward(
        self,
        ops: Ops<Self::State, 3>,
        grads: &mut Gradients,
        checkpointer: &mut Checkpointer,
    ) {
        let [x, weight] = ops.state.0.map(|id| checkpointer.retrieve_node_output(id));
        let grad = grads.consume::<B>(&ops.node);
        let [x_node, weight_node, bias_node] = ops.parents;
        if let Some(node) = x_node {
            grads.register::<B>(node.id, B::dense_input_gradient(grad.clone(), weight));
        }
        if let Some(node) = weight_node {
            grads.register::<B>(node.id, B::dense_weight_gradient(x, grad.clone()));
        }
        if let Some(node) = bias_node {
            grads.register::<B>(node.id, B::dense_bias_gradient(grad));
        }
    }
}

#[derive(Debug)]
struct Gelu;

impl<B: KernelGradients> Backward<B, 1> for Gelu {
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
