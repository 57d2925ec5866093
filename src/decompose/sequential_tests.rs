use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData, activation::relu};

use super::*;
use crate::compact::compact;
use crate::compressible;
use crate::linear::CompressibleLinearConfig;

/// `third(relu(first(x)) + relu(twin(x)))`, with the fields in another order than they are applied in.
#[derive(Module, Debug)]
struct Model {
    third: CompressibleLinear,
    first: CompressibleLinear,
    twin: CompressibleLinear,
    idle: CompressibleLinear,
}

compressible!(Model { third, first, twin, idle });

/// The same model, visited in the order in which layers are applied.
#[derive(Module, Debug)]
struct InOrder {
    model: Model,
}

impl Compressible for InOrder {
    fn for_each_linear_mut(&mut self, f: &mut dyn FnMut(&str, &mut CompressibleLinear)) {
        f("first", &mut self.model.first);
        f("twin", &mut self.model.twin);
        f("third", &mut self.model.third);
        f("idle", &mut self.model.idle);
    }
}

fn random(shape: [usize; 2], seed: u64) -> Tensor<2> {
    let at =
        |at: usize| crate::random::split_mix_64(seed, at as u64) as f64 / u64::MAX as f64 - 0.5;
    let values: Vec<f32> = (0..shape[0] * shape[1]).map(|i| at(i) as f32).collect();
    Tensor::from_data(TensorData::new(values, shape), &Device::default())
}

fn model() -> Model {
    let layer = |d_input, d_output, seed| {
        let mut layer = CompressibleLinearConfig::new(d_input, d_output)
            .with_bias(false)
            .init(&Device::default());
        if let CompressibleLinear::Dense(dense) = &mut layer {
            dense.weight = leaf(random([d_input, d_output], seed));
        }
        layer
    };
    Model {
        third: layer(40, 24, 1),
        first: layer(24, 40, 2),
        twin: layer(24, 40, 3),
        idle: layer(24, 24, 4),
    }
}

/// Inputs of which some directions are much larger than others.
fn inputs() -> Tensor<2> {
    let scales: Vec<f32> = (0..24).map(|at| 2.0 / (1.0 + at as f32)).collect();
    let scales = Tensor::<1>::from_floats(scales.as_slice(), &Device::default());
    random([300, 24], 9) * scales.unsqueeze()
}

fn forward(model: &Model, x: Tensor<2>) -> Tensor<2> {
    let hidden = relu(model.first.forward(x.clone())) + relu(model.twin.forward(x));
    model.third.forward(hidden)
}

fn fitted(config: SequentialConfig) -> (Model, Vec<FittedLayer>) {
    decompose_in_order(model(), &LayerSelection::all(), config, |model| {
        forward(model, inputs());
        Ok(())
    })
    .unwrap()
}

fn largest(difference: Tensor<2>) -> f32 {
    difference.abs().max().into_scalar()
}

#[test]
fn a_layer_is_fitted_to_what_compressed_layers_give() {
    let mut passes = Vec::new();
    let config = SequentialConfig::new(0.5);
    let (small, layers) = decompose_in_order(model(), &LayerSelection::all(), config, |model| {
        let weights = [&model.first, &model.twin, &model.third].map(|layer| layer.state().rank());
        passes.push(weights);
        forward(model, inputs());
        Ok(())
    })
    .unwrap();
    // Twins share a pass; each pass has the layers before it compressed.
    assert_eq!(passes, [[0, 0, 0], [7, 7, 0]]);
    let names: Vec<&str> = layers.iter().map(|layer| layer.name.as_str()).collect();
    assert_eq!(names, ["third", "first", "twin", "idle"]);
    // What the report says of a layer is so.
    let dense = model();
    let x = inputs();
    let hidden = relu(small.first.forward(x.clone())) + relu(small.twin.forward(x));
    let weights = |model: &Model| model.third.effective_weight();
    let outputs = hidden.clone().matmul(weights(&dense));
    let missed = outputs.clone() - hidden.matmul(weights(&small));
    let norm = |tensor: Tensor<2>| tensor.square().sum().sqrt().into_scalar::<f32>();
    let error = f64::from(norm(missed) / norm(outputs));
    assert!((layers[0].error - error).abs() < 1e-4, "{} {error}", layers[0].error);
    // No input reached it: its weights are kept.
    assert!(!layers[3].measured && layers[..3].iter().all(|layer| layer.measured));
    let plain =
        decompose_matrix("idle", &to_vec(dense.idle.effective_weight()), 24, 24, 6).unwrap();
    assert!((layers[3].error - plain.residual).abs() < 1e-6);
}

#[test]
fn the_order_in_which_layers_are_visited_does_not_matter() {
    let config = SequentialConfig::new(0.4).with_low_rank_ratio(Some(0.2));
    let (small, layers) = fitted(config);
    let other = InOrder { model: model() };
    let (other, found) = decompose_in_order(other, &LayerSelection::all(), config, |other| {
        forward(&other.model, inputs());
        Ok(())
    })
    .unwrap();
    let difference = forward(&small, inputs()) - forward(&other.model, inputs());
    assert_eq!(largest(difference), 0.0);
    for layer in &layers {
        assert!(found.contains(layer), "{layer:?}");
    }
}

#[test]
fn a_whole_model_stays_and_errors_grow_as_the_ratio_falls() {
    let (same, layers) = fitted(SequentialConfig::new(1.0));
    assert_eq!(largest(forward(&same, inputs()) - forward(&model(), inputs())), 0.0);
    assert!(layers.iter().all(|layer| layer.error == 0.0 && layer.kept == layer.d_output));
    for share in [None, Some(0.5)] {
        let mut before = vec![0.0; 4];
        for ratio in [0.9, 0.6, 0.4, 0.2] {
            let low_rank_ratio = share.map(|share| share * ratio);
            let (small, layers) = fitted(SequentialConfig { ratio, low_rank_ratio });
            for (layer, before) in layers.iter().zip(&mut before) {
                assert!(layer.error > *before && layer.error < 1.0, "{layer:?} {before}");
                *before = layer.error;
            }
            let (compacted, _) = compact(small.clone());
            let difference = forward(&small, inputs()) - forward(&compacted, inputs());
            assert!(largest(difference) < 1e-5);
            compacted.for_each_linear(&mut |name, layer| {
                let [d_input, d_output] = layer.dims();
                let most = ratio * (d_input * d_output) as f64;
                assert!(layer.weight_elements() as f64 <= most, "{name} at {ratio}");
            });
        }
    }
}

#[test]
fn inputs_of_few_directions_are_kept_exactly() {
    // Of rank 5, which a rank of 7 holds.
    let x = random([300, 5], 5).matmul(random([5, 24], 6));
    let selection = LayerSelection::new(["first"]);
    let config = SequentialConfig::new(0.5);
    let (small, layers) = decompose_in_order(model(), &selection, config, |model| {
        forward(model, x.clone());
        Ok(())
    })
    .unwrap();
    assert!(layers[0].rank == 7 && layers[0].error < 1e-3, "{layers:?}");
    let difference = forward(&small, x.clone()) - forward(&model(), x);
    assert!(largest(difference) < 1e-2);
}

#[test]
fn neurons_that_are_kept_are_those_that_rank_misses() {
    let (small, layers) = fitted(SequentialConfig::new(0.5).with_low_rank_ratio(Some(0.25)));
    let dense = model().first.effective_weight();
    let CompressibleLinear::LowRankSparse(layer) = &small.first else { panic!("dense") };
    let kept = crate::linear::alive(&layer.sparse.as_ref().unwrap().val(), 0);
    // 24·40·0.5 = 3·64 + 13·(24 − 3) + 15.
    assert_eq!((layers[1].rank, layers[1].kept), (3, 13));
    assert_eq!(kept.iter().filter(|kept| **kept).count(), 13);
    let off = to_vec((small.first.effective_weight() - dense).abs().max_dim(0));
    for (off, kept) in off.iter().zip(kept) {
        assert_eq!(*off < 1e-6, kept, "{off}");
    }
}

#[test]
fn impossible_settings_are_errors() {
    let message = |config: SequentialConfig, patterns: &[&str]| {
        let selection = LayerSelection::new(patterns.iter().copied());
        let result = decompose_in_order(model(), &selection, config, |_| Ok(()));
        result.unwrap_err().to_string()
    };
    for ratio in [0.0, 1.5, f64::NAN] {
        let error = message(SequentialConfig::new(ratio), &["**"]);
        assert!(error.starts_with("option ratio:"), "{error}");
    }
    let beyond = SequentialConfig::new(0.2).with_low_rank_ratio(Some(0.3));
    assert!(message(beyond, &["**"]).starts_with("option low_rank_ratio: 0.3 is not within"));
    let empty = SequentialConfig::new(0.01).with_low_rank_ratio(Some(0.0));
    assert!(message(empty, &["**"]).contains("would be empty"));
    assert!(message(SequentialConfig::new(0.5), &["fourth"]).contains("matches no layer"));
    let (small, _) = fitted(SequentialConfig::new(0.5));
    let twice =
        decompose_in_order(small, &LayerSelection::all(), SequentialConfig::new(0.5), |_| Ok(()));
    assert!(twice.unwrap_err().to_string().contains("not dense"));
}
