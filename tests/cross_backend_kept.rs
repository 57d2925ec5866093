//! Results that inference keeps between calls, on every backend: computed once, computed again
//! after a change, and right in other threads.

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{Device, Distribution, Tensor};
use losparse::device::{Backend, DeviceSpec};
use losparse::linear::{CompactLinear, CompressibleLinear, SharedInput};
use losparse::models::ForwardContext;
use losparse::models::deberta_v2::{DebertaV2Config, DebertaV2Model};

use super::cross_backend::on_every_other_backend;
use super::parity::distance;

const SIZE: usize = 16;

struct Scaled(f32);

impl ModuleMapper for Scaled {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        param.map(|tensor| tensor * self.0)
    }
}

fn random<const D: usize>(shape: [usize; D], device: &Device) -> Tensor<D> {
    Tensor::random(shape, Distribution::Uniform(-0.5, 0.5), device)
}

fn compact(kept: &[usize], device: &Device) -> CompressibleLinear {
    let low_rank = (random([SIZE, 2], device), random([2, SIZE - kept.len()], device));
    let folded = random([SIZE, kept.len()], device);
    let bias = Some(random([SIZE], device));
    CompressibleLinear::Compact(CompactLinear::new(folded, Some(low_rank), bias, kept, SIZE))
}

/// Largest difference between outputs with a combined first product and with separate layers.
fn off(shared: &SharedInput, layers: [&CompressibleLinear; 3], input: &Tensor<3>) -> f32 {
    let outputs = shared.forward(layers, input.clone());
    let host = |tensor: Tensor<3>| tensor.try_into_vec_as::<f32>().unwrap();
    let off = layers
        .iter()
        .zip(outputs)
        .map(|(layer, output)| distance(&host(output), &host(layer.forward(input.clone()))));
    off.fold(0.0, f32::max)
}

/// Whether a backend's tensors can be told apart, so that results are kept at all.
fn keeps(backend: Backend) -> bool {
    backend != Backend::NdArray
}

fn one_first_product(backend: Backend, device: &Device) {
    let layers = [[1, 7].as_slice(), &[0], &[3, 4, 15]].map(|kept| compact(kept, device));
    let [query, key, value] = layers.each_ref();
    let input = random([2, 5, SIZE], device);
    let shared = SharedInput::default();
    let computed = |times: usize| {
        let times = if keeps(backend) { times } else { 0 };
        assert!(format!("{shared:?}").contains(&format!("computed: {times} ")), "{shared:?}");
    };
    for _ in 0..3 {
        assert!(off(&shared, [query, key, value], &input) < 1e-5);
        computed(1);
    }
    // Every neuron is pruned and there is no low-rank part, so there is nothing to multiply.
    let bias = random([SIZE], device);
    let none = Tensor::empty([SIZE, 0], device);
    let pruned = CompactLinear::new(none, None, Some(bias.clone()), &[], SIZE);
    let pruned = CompressibleLinear::Compact(pruned);
    let [_, outputs, _] = shared.forward([query, &pruned, value], input.clone());
    let expected = bias.unsqueeze::<3>().expand([2, 5, SIZE]);
    let host = |tensor: Tensor<3>| tensor.try_into_vec_as::<f32>().unwrap();
    assert_eq!(host(outputs), host(expected));
    let doubled = key.clone().map(&mut Scaled(2.0));
    assert!(off(&shared, [query, &doubled, value], &input) < 1e-5);
    computed(2);
    // In another thread every use of a parameter is a new tensor on GPUs.
    std::thread::scope(|scope| {
        let apart = scope.spawn(|| off(&shared, [query, key, value], &input));
        assert!(apart.join().expect("the outputs in another thread") < 1e-5);
    });
    assert!(off(&shared, [query, &doubled, value], &input) < 1e-5);
}

#[test]
fn cross_backend_one_first_product_is_put_together_once() {
    one_first_product(Backend::Flex, &DeviceSpec::from(Backend::Flex).open().unwrap());
    on_every_other_backend(one_first_product);
}

fn projected_positions(backend: Backend, device: &Device) {
    let config: DebertaV2Config = serde_json::from_value(serde_json::json!({
        "vocab_size": 40, "hidden_size": SIZE, "num_hidden_layers": 1, "num_attention_heads": 2,
        "intermediate_size": 32, "type_vocab_size": 0, "max_position_embeddings": 64,
        "relative_attention": true, "position_buckets": 6, "pos_att_type": "c2p|p2c",
        "share_att_key": true, "position_biased_input": false,
    }))
    .unwrap();
    let mut model = DebertaV2Model::new(&config, device);
    // Attention is far enough from uniform for positions to matter.
    model.encoder = model.encoder.map(&mut Scaled(20.0));
    let input = random([2, 9, SIZE], device);
    let context = ForwardContext::default().with_attentions(true);
    let outputs = |model: &DebertaV2Model| {
        let output = model.encoder.forward(input.clone(), None, &context, |_, _| {});
        output.try_into_vec_as::<f32>().unwrap()
    };
    let first = outputs(&model);
    // Outputs are of size 50.
    assert!(distance(&outputs(&model), &first) < 1e-4);
    let attention = &model.encoder.layer[0].attention.self_attention;
    let times = usize::from(keeps(backend));
    // Results for positions are in the last field; the field before has those for tokens.
    let found = format!("{attention:?}");
    let found = found.rsplit_once("projected: ").map(|(_, projected)| projected.trim_end());
    assert!(found.is_some_and(|kept| kept.contains(&format!("computed: {times} "))), "{found:?}");
    // Only the projections of positions differ, or their embeddings.
    let mut changed = model.clone();
    changed.encoder.rel_embeddings =
        changed.encoder.rel_embeddings.map(|e| e.map(&mut Scaled(2.0)));
    let mut fresh = changed.clone();
    fresh.encoder = changed.encoder.clone().map(&mut Copied);
    assert!(distance(&outputs(&changed), &first) > 0.1, "positions count");
    assert!(distance(&outputs(&changed), &outputs(&fresh)) < 1e-4);
}

/// A copy with the same values in other tensors.
struct Copied;

impl ModuleMapper for Copied {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        param.map(|tensor| {
            let device = tensor.device();
            Tensor::from_data(tensor.into_data(), &device)
        })
    }
}

#[test]
fn cross_backend_positions_are_projected_once() {
    projected_positions(Backend::Flex, &DeviceSpec::from(Backend::Flex).open().unwrap());
    on_every_other_backend(projected_positions);
}
