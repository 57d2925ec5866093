//! The parts that a run is made of, each alone, in BERT-base's sizes.
//!
//! ```text
//! cargo bench --bench parts                 # all, a few minutes
//! cargo bench --bench parts -- decompose    # those whose name has this
//! LOSPARSE_SHARED=FOLDER cargo bench --bench parts -- beam     # FOLDER/models/g2p-bart-us
//! ```
//! For contestants that take turns see `kernels.rs`.

use std::cell::Cell;
use std::time::Duration;

use burn::module::{Module, Param};
use burn::nn::LayerNormConfig;
use burn::optim::{GradientsParams, ModuleOptimizer};
use burn::tensor::{Device, Distribution, Int, Tensor, TensorData};
use divan::{Bencher, black_box};
use losparse::compact::compact;
use losparse::decompose::{DecomposeConfig, Rank, decompose, decompose_matrix};
use losparse::kernels;
use losparse::linear::{Compressible, CompressibleLinear, LayerSelection};
use losparse::models::bert::{BertAttention, BertConfig, BertModel};
use losparse::models::deberta_v2::{DebertaV2Config, DebertaV2Model};
use losparse::models::{AnySeq2Seq, EncoderInput};
use losparse::optim::{AdamW, AdamWSettings};
use losparse::pruning::{Group, Pruner, PruningConfig, Schedule, threshold};

/// Share of the weights in the low-rank part, and of the neurons kept: a ratio of 20%.
const LOW_RANK: f64 = 0.05;
const KEPT: f64 = 0.15;

fn main() {
    // Enough for a hundred runs of a millisecond or a few of a second.
    divan::Divan::default().max_time(Duration::from_secs(2)).config_with_args().main();
}

fn device() -> Device {
    losparse::device::open("flex").expect("the flex backend")
}

fn random<const D: usize>(shape: [usize; D], device: &Device) -> Tensor<D> {
    Tensor::random(shape, Distribution::Normal(0.0, 0.05), device)
}

/// Rows of weights without a pattern.
fn weights(d_input: usize, d_output: usize) -> Vec<f32> {
    let data = random([d_input, d_output], &device()).into_data();
    data.try_into_vec().expect("floats")
}

/// Linear layers on their own.
#[derive(Module, Debug)]
struct Stack {
    layers: Vec<CompressibleLinear>,
}

impl Compressible for Stack {
    fn for_each_linear_mut(&mut self, f: &mut dyn FnMut(&str, &mut CompressibleLinear)) {
        for (at, layer) in self.layers.iter_mut().enumerate() {
            f(&format!("{at}"), layer);
        }
    }
}

/// The 72 matrices of BERT-base.
fn bert_base(device: &Device) -> Stack {
    let shapes = [[768, 768]; 4].into_iter().chain([[768, 3072], [3072, 768]]);
    let layers = (0..12).flat_map(|_| shapes.clone());
    Stack { layers: layers.map(|[i, o]| CompressibleLinear::new(i, o, device)).collect() }
}

/// `L·R + S` of the model's linear layers.
fn in_training_form<M: Compressible>(mut model: M) -> M {
    let config = DecomposeConfig { rank: Rank::Budget(LOW_RANK), sparse: true };
    decompose(&mut model, &LayerSelection::all(), config).expect("a decomposition");
    model
}

/// Compact, with every seventh neuron or so kept; `kept` of all.
fn compacted<M: Compressible>(model: M, kept: f64) -> M {
    let mut model = in_training_form(model);
    model.for_each_linear_mut(&mut |_, linear| {
        if let CompressibleLinear::LowRankSparse(layer) = linear
            && let Some(sparse) = layer.sparse.take()
        {
            let [_, d_output] = sparse.lazy_shape().dims();
            let keep = |neuron: usize| ((neuron * 7919 + 13) % 1000) as f64 / 1000.0 < kept;
            let mask = (0..d_output).map(|neuron| f32::from(u8::from(keep(neuron)))).collect();
            let mask = TensorData::new(mask, [1, d_output]);
            let mask = Tensor::<2>::from_data(mask, &sparse.lazy_device());
            layer.sparse = Some(Param::from_tensor(sparse.val() * mask));
        }
    });
    compact(model).0
}

mod linear {
    use super::*;

    const SHAPES: [[usize; 3]; 4] =
        [[768, 768, 128], [768, 3072, 128], [768, 3072, 2048], [3072, 768, 2048]];

    fn forward(
        bencher: Bencher<'_, '_>,
        [d_input, d_output, tokens]: [usize; 3],
        form: fn(Stack) -> Stack,
    ) {
        let device = device();
        let stack = Stack { layers: vec![CompressibleLinear::new(d_input, d_output, &device)] };
        let layer = form(stack).layers.remove(0);
        let x = random([tokens, d_input], &device);
        bencher.bench_local(|| layer.forward(black_box(x.clone())));
    }

    #[divan::bench(args = SHAPES.map(Shape))]
    fn dense(bencher: Bencher<'_, '_>, shape: &Shape<3>) {
        forward(bencher, shape.0, |stack| stack);
    }

    #[divan::bench(args = SHAPES.map(Shape))]
    fn compact(bencher: Bencher<'_, '_>, shape: &Shape<3>) {
        forward(bencher, shape.0, |stack| compacted(stack, KEPT));
    }

    #[divan::bench(args = SHAPES.map(Shape))]
    fn training_form(bencher: Bencher<'_, '_>, shape: &Shape<3>) {
        forward(bencher, shape.0, in_training_form);
    }

    fn backward(
        bencher: Bencher<'_, '_>,
        [d_input, d_output, tokens]: [usize; 3],
        form: fn(Stack) -> Stack,
    ) {
        let device = device().autodiff();
        let stack = Stack { layers: vec![CompressibleLinear::new(d_input, d_output, &device)] };
        let layer = form(stack).layers.remove(0);
        let x = random([tokens, d_input], &device).require_grad();
        bencher.bench_local(|| layer.forward(black_box(x.clone())).sum().backward());
    }

    #[divan::bench(args = SHAPES.map(Shape))]
    fn dense_and_backward(bencher: Bencher<'_, '_>, shape: &Shape<3>) {
        backward(bencher, shape.0, |stack| stack);
    }

    #[divan::bench(args = SHAPES.map(Shape))]
    fn training_form_and_backward(bencher: Bencher<'_, '_>, shape: &Shape<3>) {
        backward(bencher, shape.0, in_training_form);
    }
}

/// Numbers that are shown as `768x3072x128`.
struct Shape<const N: usize>([usize; N]);

impl<const N: usize> std::fmt::Display for Shape<N> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0.map(|size| size.to_string()).join("x"))
    }
}

/// Batch and length.
const BATCHES: [[usize; 2]; 2] = [[1, 128], [8, 128]];

mod elementwise {
    use super::*;

    #[divan::bench(args = BATCHES.map(Shape))]
    fn gelu(bencher: Bencher<'_, '_>, shape: &Shape<2>) {
        let x = random([shape.0[0], shape.0[1], 3072], &device());
        bencher.bench_local(|| kernels::gelu(black_box(x.clone())));
    }

    #[divan::bench(args = BATCHES.map(Shape))]
    fn residual_and_layer_norm(bencher: Bencher<'_, '_>, shape: &Shape<2>) {
        let device = device();
        let norm = LayerNormConfig::new(768).init(&device);
        let x = random([shape.0[0], shape.0[1], 768], &device);
        let residual = random([shape.0[0], shape.0[1], 768], &device);
        bencher.bench_local(|| norm.forward(black_box(x.clone()) + residual.clone()));
    }
}

mod encoder_layer {
    use super::*;

    fn bert(bencher: Bencher<'_, '_>, shape: &Shape<2>, form: fn(BertModel) -> BertModel) {
        let device = device();
        let config = BertConfig { num_hidden_layers: 1, ..BertConfig::default() };
        let model = form(BertModel::new(&config, false, &device));
        let encoder = &model.encoder;
        let x = random([shape.0[0], shape.0[1], 768], &device);
        bencher.bench_local(|| encoder.forward(black_box(x.clone()), None, false, |_, _| {}));
    }

    #[divan::bench(args = BATCHES.map(Shape))]
    fn bert_dense(bencher: Bencher<'_, '_>, shape: &Shape<2>) {
        bert(bencher, shape, |model| model);
    }

    #[divan::bench(args = BATCHES.map(Shape))]
    fn bert_compact(bencher: Bencher<'_, '_>, shape: &Shape<2>) {
        bert(bencher, shape, |model| compacted(model, KEPT));
    }

    /// What is left when no neuron is kept: attention and normalisations, and products of rank 20.
    #[divan::bench(args = BATCHES.map(Shape))]
    fn bert_attention_and_norms(bencher: Bencher<'_, '_>, shape: &Shape<2>) {
        bert(bencher, shape, |model| compacted(model, 0.0));
    }

    /// Attention of Burn's operations, with its projections, as where its probabilities are asked for.
    #[divan::bench(args = BATCHES.map(Shape))]
    fn bert_attention_composed(bencher: Bencher<'_, '_>, shape: &Shape<2>) {
        let device = device();
        let attention = BertAttention::new(&BertConfig::default(), &device);
        let x = random([shape.0[0], shape.0[1], 768], &device);
        bencher.bench_local(|| attention.forward(black_box(x.clone()), None));
    }

    fn deberta(
        bencher: Bencher<'_, '_>,
        shape: &Shape<2>,
        form: fn(DebertaV2Model) -> DebertaV2Model,
    ) {
        let device = device();
        let config = DebertaV2Config {
            num_hidden_layers: 1,
            relative_attention: true,
            position_buckets: 256,
            pos_att_type: vec!["p2c".into(), "c2p".into()],
            share_att_key: true,
            ..DebertaV2Config::default()
        };
        let model = form(DebertaV2Model::new(&config, &device));
        let x = random([shape.0[0], shape.0[1], config.hidden_size], &device);
        bencher.bench_local(|| model.encoder.forward(black_box(x.clone()), None, false, |_, _| {}));
    }

    #[divan::bench(args = BATCHES.map(Shape))]
    fn deberta_dense(bencher: Bencher<'_, '_>, shape: &Shape<2>) {
        deberta(bencher, shape, |model| model);
    }

    #[divan::bench(args = BATCHES.map(Shape))]
    fn deberta_attention_and_norms(bencher: Bencher<'_, '_>, shape: &Shape<2>) {
        deberta(bencher, shape, |model| compacted(model, 0.0));
    }
}

/// Of random weights, the hardest case: no singular value stands out.
mod decomposition {
    use super::*;

    #[divan::bench(args = [0.01, 0.05, 0.1, 0.35], sample_count = 5)]
    fn matrix_768x3072(bencher: Bencher<'_, '_>, share: f64) {
        let weight = weights(768, 3072);
        let rank = Rank::Budget(share).resolve(3072, 768).expect("a share");
        bencher.bench_local(|| decompose_matrix("w", black_box(&weight), 768, 3072, rank));
    }

    #[divan::bench(args = [0.05, 0.35], sample_count = 1)]
    fn bert_base_72_matrices(bencher: Bencher<'_, '_>, share: f64) {
        let model = bert_base(&device());
        let config = DecomposeConfig { rank: Rank::Budget(share), sparse: true };
        bencher.bench_local(|| {
            decompose(&mut model.clone(), &LayerSelection::all(), config).map(|done| done.len())
        });
    }
}

mod training {
    use super::*;

    /// 82,944 neurons, as many as BERT-base has.
    #[divan::bench]
    fn selection(bencher: Bencher<'_, '_>) {
        let number = |at: usize| (at * 7919 % 82_943) as f32;
        let group = |layer: usize| {
            let [d_input, d_output] =
                [[768, 768], [768, 3072], [3072, 768]][(layer % 6) / 4 + layer % 6 / 5];
            let scores = (0..d_output).map(|neuron| number(layer * 3072 + neuron)).collect();
            Group { scores, entries: d_input }
        };
        let groups: Vec<Group> = (0..72).map(group).collect();
        assert_eq!(groups.iter().map(|group| group.scores.len()).sum::<usize>(), 82_944);
        bencher.bench_local(|| threshold(black_box(&groups), KEPT));
    }

    /// AdamW on 9.4 million weights, without pruning.
    #[divan::bench(sample_size = 1)]
    fn optimizer_step(bencher: Bencher<'_, '_>) {
        let device = device().autodiff();
        let layers = (0..4).map(|_| CompressibleLinear::new(768, 3072, &device)).collect();
        let model = Cell::new(Some(Stack { layers }));
        let mut optimizer = optimizer();
        let inputs = || {
            let stack = model.take().expect("the model");
            let gradients = gradients(&stack);
            (stack, gradients)
        };
        bencher.with_inputs(inputs).bench_local_values(|(stack, gradients)| {
            model.set(Some(optimizer.step(1e-5, stack, gradients)));
        });
    }

    fn optimizer() -> ModuleOptimizer {
        AdamW::new(AdamWSettings::default()).into()
    }

    fn gradients(stack: &Stack) -> GradientsParams {
        let loss =
            stack.layers.iter().map(|layer| layer.effective_weight().sum()).reduce(|a, b| a + b);
        GradientsParams::from_grads(loss.expect("layers").backward(), stack)
    }

    /// Forward, backward, optimizer and pruning of two layers, 16 sequences of 128 tokens.
    #[divan::bench(sample_count = 5)]
    fn step_of_two_layers_16x128(bencher: Bencher<'_, '_>) {
        let device = device().autodiff();
        let config = BertConfig { num_hidden_layers: 2, ..BertConfig::default() };
        let model = in_training_form(BertModel::new(&config, false, &device));
        let mut optimizer = optimizer();
        let schedule = Schedule::new(KEPT, 1000);
        let mut pruner = Pruner::new(&model, PruningConfig::new(schedule)).expect("a pruner");
        let x = random([16, 128, 768], &device);
        let mut taken = Some(model);
        bencher.bench_local(|| {
            let Some(current) = taken.take() else { return };
            let output = current.encoder.forward(x.clone(), None, false, |_, _| {});
            let gradients = GradientsParams::from_grads(output.mean().backward(), &current);
            let done = pruner.optimize(current, &mut optimizer, 1e-5, gradients);
            taken = Some(done.expect("an update").0);
        });
    }
}

/// Eight words read into phonemes, with five beams.
#[divan::bench(sample_count = 10)]
fn beam_search(bencher: Bencher<'_, '_>) {
    let Some(folder) = std::env::var_os("LOSPARSE_SHARED") else {
        eprintln!("skipped: LOSPARSE_SHARED names no folder with models/g2p-bart-us");
        return;
    };
    let folder = std::path::Path::new(&folder).join("models/g2p-bart-us");
    let device = device();
    let (model, _) = AnySeq2Seq::load(&folder, &device, &Default::default()).expect("the model");
    let defaults = losparse::generation::GenerationConfig::from_folder(&folder).expect("settings");
    let config = losparse::generation::GenerationConfig {
        num_beams: Some(5),
        max_new_tokens: Some(20),
        ..Default::default()
    };
    let config = config.or(&defaults);
    let ids: Vec<i64> = (0..8 * 12).map(|at| 4 + at % 26).collect();
    let ids = Tensor::<2, Int>::from_data(TensorData::new(ids, [8, 12]), &device);
    let input = EncoderInput::new(ids);
    bencher.bench_local(|| model.generate(black_box(&input), &config));
}
