//! The extension under autodiff: backward passes by hand.

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
use super::attention::AttentionSettings;
use super::columns::ActiveColumns;
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
        let nodes = [x.node(), weight.node(), bias.node()];
        match Dense.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(mut prepared) => {
                let state = [&x, &weight].map(|tensor| prepared.checkpoint(tensor));
                let [x, weight, bias] = [x, weight, bias].map(|t| t.into_primitive());
                prepared.finish(state, B::dense(x, weight, bias))
            }
            OpsKind::UnTracked(prepared) => {
                let [x, weight, bias] = [x, weight, bias].map(|t| t.into_primitive());
                prepared.finish(B::dense(x, weight, bias))
            }
        }
    }

    fn composed_weight(
        sparse: FloatTensor<Self>,
        right: FloatTensor<Self>,
        left: FloatTensor<Self>,
        columns: Option<Arc<ActiveColumns>>,
    ) -> FloatTensor<Self> {
        let inputs = [sparse, right, left];
        let nodes = inputs.each_ref().map(|tensor| tensor.node());
        match ComposedWeight.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(mut prepared) => {
                let [_, right, left] = inputs.each_ref();
                let state = [right, left].map(|tensor| prepared.checkpoint(tensor));
                let [sparse, right, left] = inputs.map(|t| t.into_primitive());
                let output = B::composed_weight(sparse, right, left, columns.clone());
                prepared.finish((state, columns), output)
            }
            OpsKind::UnTracked(prepared) => {
                let [sparse, right, left] = inputs.map(|t| t.into_primitive());
                prepared.finish(B::composed_weight(sparse, right, left, columns))
            }
        }
    }

    fn active_dense(
        x: FloatTensor<Self>,
        sparse: FloatTensor<Self>,
        right: FloatTensor<Self>,
        left: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        columns: Arc<ActiveColumns>,
    ) -> FloatTensor<Self> {
        let inputs = [x, sparse, right, left, bias];
        let nodes = inputs.each_ref().map(|tensor| tensor.node());
        match ActiveDense.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(mut prepared) => {
                let [x, sparse, right, left, _] = inputs.each_ref();
                let state = [x, sparse, right, left].map(|tensor| prepared.checkpoint(tensor));
                let [x, sparse, right, left, bias] = inputs.map(|t| t.into_primitive());
                let output = B::active_dense(x, sparse, right, left, bias, columns.clone());
                prepared.finish((state, columns), output)
            }
            OpsKind::UnTracked(prepared) => {
                let [x, sparse, right, left, bias] = inputs.map(|t| t.into_primitive());
                prepared.finish(B::active_dense(x, sparse, right, left, bias, columns))
            }
        }
    }

    fn attention_heads(
        query: FloatTensor<Self>,
        key: FloatTensor<Self>,
        value: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        settings: AttentionSettings,
    ) -> FloatTensor<Self> {
        let inputs = [query, key, value, bias];
        let nodes = inputs.each_ref().map(|tensor| tensor.node());
        match AttentionHeads.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(mut prepared) => {
                let state = inputs.each_ref().map(|tensor| prepared.checkpoint(tensor));
                let [query, key, value, bias] = inputs.map(|t| t.into_primitive());
                let output = B::attention_heads(query, key, value, bias, settings.clone());
                prepared.finish((state, settings), output)
            }
            OpsKind::UnTracked(prepared) => {
                let [query, key, value, bias] = inputs.map(|t| t.into_primitive());
                prepared.finish(B::attention_heads(query, key, value, bias, settings))
            }
        }
    }

    fn position_scores(
        query: FloatTensor<Self>,
        key: FloatTensor<Self>,
        keys: FloatTensor<Self>,
        queries: FloatTensor<Self>,
        settings: PositionSettings,
    ) -> FloatTensor<Self> {
        let inputs = [query, key, keys, queries];
        let nodes = inputs.each_ref().map(|tensor| tensor.node());
        match PositionScores.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(mut prepared) => {
                let state = inputs.each_ref().map(|tensor| prepared.checkpoint(tensor));
                let [query, key, keys, queries] = inputs.map(|t| t.into_primitive());
                let output = B::position_scores(query, key, keys, queries, settings.clone());
                prepared.finish((state, settings), output)
            }
            OpsKind::UnTracked(prepared) => {
                let [query, key, keys, queries] = inputs.map(|t| t.into_primitive());
                prepared.finish(B::position_scores(query, key, keys, queries, settings))
            }
        }
    }

    fn residual_norm(
        x: FloatTensor<Self>,
        residual: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        settings: NormSettings,
    ) -> FloatTensor<Self> {
        let inputs = [x, residual, gamma, beta];
        let nodes = inputs.each_ref().map(|tensor| tensor.node());
        match Norm.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(mut prepared) => {
                let [x, residual, gamma, _] = inputs.each_ref();
                let state = [x, residual, gamma].map(|tensor| prepared.checkpoint(tensor));
                let [x, residual, gamma, beta] = inputs.map(|t| t.into_primitive());
                let output = B::residual_norm(x, residual, gamma, beta, settings);
                prepared.finish((state, settings), output)
            }
            OpsKind::UnTracked(prepared) => {
                let [x, residual, gamma, beta] = inputs.map(|t| t.into_primitive());
                prepared.finish(B::residual_norm(x, residual, gamma, beta, settings))
            }
        }
    }
}

#[derive(Debug)]
struct Dense;

impl<B: KernelGradients> Backward<B, 3> for Dense {
    /// Input and weight.
    type State = [NodeId; 2];

    fn backward(
        self,
        ops: Ops<Self::State, 3>,
        grads: &mut Gradients,
        checkpointer: &mut Checkpointer,
    ) {
        let [x, weight] = ops.state.map(|id| checkpointer.retrieve_node_output(id));
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
struct ComposedWeight;

impl<B: KernelGradients> Backward<B, 3> for ComposedWeight {
    /// `right` and `left`.
    type State = ([NodeId; 2], Option<Arc<ActiveColumns>>);

    fn backward(
        self,
        ops: Ops<Self::State, 3>,
        grads: &mut Gradients,
        checkpointer: &mut Checkpointer,
    ) {
        let (factors, columns) = ops.state;
        let factors = factors.map(|id| checkpointer.retrieve_node_output(id));
        let grad = grads.consume::<B>(&ops.node);
        let parents = ops.parents.map(|node| node.map(|node| node.id));
        let gradients = B::composed_weight_gradients(factors, columns.as_deref(), grad);
        register::<B, 3>(grads, parents, gradients);
    }
}

#[derive(Debug)]
struct ActiveDense;

impl<B: KernelGradients> Backward<B, 5> for ActiveDense {
    /// `x`, `sparse`, `right` and `left`.
    type State = ([NodeId; 4], Arc<ActiveColumns>);

    fn backward(
        self,
        ops: Ops<Self::State, 5>,
        grads: &mut Gradients,
        checkpointer: &mut Checkpointer,
    ) {
        register_all::<B, _, _, _>(ops, grads, checkpointer, |inputs, columns, grad| {
            B::active_dense_gradients(inputs, &columns, grad)
        });
    }
}

#[derive(Debug)]
struct AttentionHeads;

impl<B: KernelGradients> Backward<B, 4> for AttentionHeads {
    /// Query, key, value and bias.
    type State = ([NodeId; 4], AttentionSettings);

    fn backward(
        self,
        ops: Ops<Self::State, 4>,
        grads: &mut Gradients,
        checkpointer: &mut Checkpointer,
    ) {
        register_all::<B, _, _, _>(ops, grads, checkpointer, |inputs, settings, grad| {
            B::attention_gradients(inputs, &settings, grad)
        });
    }
}

#[derive(Debug)]
struct PositionScores;

impl<B: KernelGradients> Backward<B, 4> for PositionScores {
    /// Query, key, keys and queries.
    type State = ([NodeId; 4], PositionSettings);

    fn backward(
        self,
        ops: Ops<Self::State, 4>,
        grads: &mut Gradients,
        checkpointer: &mut Checkpointer,
    ) {
        register_all::<B, _, _, _>(ops, grads, checkpointer, |inputs, settings, grad| {
            B::position_gradients(inputs, &settings, grad)
        });
    }
}

#[derive(Debug)]
struct Norm;

impl<B: KernelGradients> Backward<B, 4> for Norm {
    /// `x`, `residual` and `gamma`.
    type State = ([NodeId; 3], NormSettings);

    fn backward(
        self,
        ops: Ops<Self::State, 4>,
        grads: &mut Gradients,
        checkpointer: &mut Checkpointer,
    ) {
        register_all::<B, _, _, _>(ops, grads, checkpointer, |inputs, settings, grad| {
            B::residual_norm_gradients(inputs, settings, grad)
        });
    }
}

/// Registers what `gradients` makes of an operation's checkpointed tensors, its settings and the output's
/// gradient.
fn register_all<B: Backend, S, const K: usize, const N: usize>(
    ops: Ops<([NodeId; K], S), N>,
    grads: &mut Gradients,
    checkpointer: &mut Checkpointer,
    gradients: impl FnOnce([FloatTensor<B>; K], S, FloatTensor<B>) -> [FloatTensor<B>; N],
) {
    let (inputs, settings) = ops.state;
    let inputs = inputs.map(|id| checkpointer.retrieve_node_output(id));
    let grad = grads.consume::<B>(&ops.node);
    let parents = ops.parents.map(|node| node.map(|node| node.id));
    register::<B, N>(grads, parents, gradients(inputs, settings, grad));
}

fn register<B: Backend, const N: usize>(
    grads: &mut Gradients,
    parents: [Option<NodeId>; N],
    gradients: [FloatTensor<B>; N],
) {
    for (parent, gradient) in parents.into_iter().zip(gradients) {
        if let Some(parent) = parent {
            grads.register::<B>(parent, gradient);
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
