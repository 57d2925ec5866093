//! Times the parts of a run, each alone, at BERT-base's sizes.
//!
//! ```text
//! cargo bench --bench parts                 # all, a few minutes
//! cargo bench --bench parts -- decompose    # those whose name contains this
//! LOSPARSE_DECOMPOSE=MODEL cargo bench --bench parts -- decompose    # of a model's own matrices
//! ```
//! Compact layers keep the neurons that a trained model kept (`benches/peers/kept.py`). `kernels.rs` compares
//! alternating contestants.

#[path = "parts/attention.rs"]
mod attention;
#[path = "parts/decomposition.rs"]
mod decomposition;
#[path = "parts/elementwise.rs"]
mod elementwise;
#[path = "parts/encoder_layer.rs"]
mod encoder_layer;
#[path = "peers/kept.rs"]
mod kept;
#[path = "parts/linear.rs"]
mod linear;
#[path = "parts/training.rs"]
mod training;

use std::time::Duration;

use burn::module::{Module, Param};
use burn::tensor::{Device, Distribution, Int, Tensor, TensorData};
use divan::{Bencher, black_box};
use losparse::compact::compact;
use losparse::decompose::{DecomposeConfig, Rank, decompose};
use losparse::generation::GenerationConfig;
use losparse::linear::{
    Compressible, CompressibleLinear, CompressibleLinearConfig, LayerSelection,
};
use losparse::models::{AnySeq2Seq, EncoderInput, FolderModel};

/// Share of the weights in the low-rank part, and in percent with the kept neurons.
const LOW_RANK: f64 = 0.05;
const RATIO: u32 = 20;

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

/// Random weights, row by row.
fn weights(d_input: usize, d_output: usize) -> Vec<f32> {
    let data = random([d_input, d_output], &device()).into_data();
    data.try_into_vec().expect("floats")
}

/// A model of linear layers only.
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
    Stack {
        layers: layers.map(|[i, o]| CompressibleLinearConfig::new(i, o).init(device)).collect(),
    }
}

/// `L·R + S` of the model's linear layers.
fn in_training_form<M: Compressible>(model: M) -> M {
    let config = DecomposeConfig::new(Rank::Budget(LOW_RANK));
    decompose(model, &LayerSelection::all(), config).expect("a decomposition").0
}

/// A compact layer that keeps the neurons of a typical trained layer of its size, or none.
fn compacted<M: Compressible>(model: M, ratio: Option<u32>) -> M {
    let mut model = in_training_form(model);
    let trained = ratio.map(kept::bert_base);
    model.for_each_linear_mut(&mut |_, linear| {
        if let CompressibleLinear::LowRankSparse(layer) = linear
            && let Some(sparse) = layer.sparse.take()
        {
            let dims = sparse.lazy_shape().dims();
            let mut mask = vec![0f32; dims[1]];
            if let Some(layers) = &trained {
                kept::typical(layers, dims).kept.iter().for_each(|&neuron| mask[neuron] = 1.0);
            }
            let mask = TensorData::new(mask, [1, dims[1]]);
            let mask = Tensor::<2>::from_data(mask, &sparse.lazy_device());
            layer.sparse = Some(Param::from_tensor(sparse.val() * mask));
        }
    });
    compact(model).0
}

/// Sizes that divan shows as `768x3072x128`.
struct Shape<const N: usize>([usize; N]);

impl<const N: usize> std::fmt::Display for Shape<N> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0.map(|size| size.to_string()).join("x"))
    }
}

/// Batch and length.
const BATCHES: [[usize; 2]; 2] = [[1, 128], [8, 128]];

/// Turns eight words into phonemes with five beams, by the built-in `g2p-bart`.
#[divan::bench(sample_count = 10)]
fn beam_search(bencher: Bencher<'_, '_>) {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("models/g2p-bart");
    let device = device();
    let (model, _) = AnySeq2Seq::load(&folder, &device, &Default::default()).expect("the model");
    let defaults = GenerationConfig::from_folder(&folder).expect("settings");
    let config = GenerationConfig {
        num_beams: Some(5),
        max_new_tokens: Some(20),
        min_new_tokens: Some(20),
        ..Default::default()
    };
    let config = config.or(&defaults);
    let ids: Vec<i64> = (0..8 * 12).map(|at| 4 + at % 26).collect();
    let ids = Tensor::<2, Int>::from_data(TensorData::new(ids, [8, 12]), &device);
    let input = EncoderInput::new(ids);
    bencher.bench_local(|| model.generate(black_box(&input), &config));
}
