//! The kernel against the layers composed of Burn's operations.

use super::*;
use crate::linear::{CompactLinear, CompressibleLinear};
use crate::models::bert::{BertConfig, BertLayer};
use crate::models::deberta_v2::{DebertaV2Config, DebertaV2Encoder};
use crate::ops::Activation;
use burn::module::{Module, Param};
use burn::tensor::{Device, Distribution, Int, TensorData, Tolerance};

fn random<const D: usize>(shape: [usize; D], scale: f64) -> Tensor<D> {
    Tensor::random(shape, Distribution::Normal(0.0, scale), &Device::flex())
}

/// A compact layer of unevenly spread kept neurons.
fn compact([d_input, d_output]: [usize; 2], share: usize, rank: usize) -> CompressibleLinear {
    let kept: Vec<usize> =
        (0..d_output).filter(|neuron| (neuron * 7919 + 13) % 100 < share).collect();
    let others = d_output - kept.len();
    let low_rank = (rank > 0 && others > 0)
        .then(|| (random([d_input, rank], 0.3), random([rank, others], 0.3)));
    let folded = match kept.len() {
        0 => Tensor::zeros([d_input, 0], &Device::flex()),
        count => random([d_input, count], 0.3),
    };
    let bias = Some(random([d_output], 0.3));
    CompressibleLinear::Compact(CompactLinear::new(folded, low_rank, bias, &kept, d_output))
}

fn layer(heads: usize, size: usize, inner: usize, form: &str) -> BertLayer {
    let config = BertConfig {
        hidden_size: size,
        num_attention_heads: heads,
        intermediate_size: inner,
        initializer_range: 0.3,
        ..BertConfig::default()
    };
    let mut layer = BertLayer::new(&config, &Device::flex());
    for norm in [&mut layer.attention.output.layer_norm, &mut layer.output.layer_norm] {
        norm.gamma = Param::from_tensor(random([size], 1.0));
        norm.beta = Some(Param::from_tensor(random([size], 1.0)));
    }
    let attention = &mut layer.attention.self_attention;
    let linears = [
        &mut attention.query,
        &mut attention.key,
        &mut attention.value,
        &mut layer.attention.output.dense,
        &mut layer.intermediate.dense,
        &mut layer.output.dense,
    ];
    for (at, linear) in linears.into_iter().enumerate() {
        let dims = linear.dims();
        match form {
            "compact" => *linear = compact(dims, 30, 2),
            "low-rank" => *linear = compact(dims, 0, 3),
            "pruned" => *linear = compact(dims, 40, 0),
            "mixed" if at % 2 == 0 => *linear = compact(dims, 50, 1),
            "int8" => *linear = linear.clone().quantize(),
            "int8 compact" => *linear = compact(dims, 30, 2).quantize(),
            // Not among query, key and value, which are computed together.
            "int8 in part" if at == 4 => *linear = compact(dims, 50, 1).quantize(),
            _ => {}
        }
    }
    layer
}

#[allow(clippy::result_large_err)] // The states themselves, given back.
fn fused(
    layer: &BertLayer,
    states: Tensor<3>,
    mask: Option<&Tensor<4>>,
) -> Result<Tensor<3>, Tensor<3>> {
    let context = ForwardContext::new(mask.cloned());
    layer.packed.fused(layer, layer.parts(), states, &context, None)
}

/// Attention to all tokens.
fn forward(layer: &BertLayer, states: Tensor<3>) -> Tensor<3> {
    layer.forward(states, &ForwardContext::default()).0
}

/// Largest difference between kernel and Burn's operations.
fn difference(layer: &BertLayer, states: Tensor<3>, mask: Option<&Tensor<4>>) -> f32 {
    let composed = ForwardContext::new(mask.cloned()).with_attentions(true);
    let expected = layer.forward(states.clone(), &composed).0;
    let actual = fused(layer, states, mask).expect("the kernel applies");
    assert_eq!(actual.dims(), expected.dims());
    (actual - expected).abs().max().into_scalar()
}

fn mask(dims: [usize; 4]) -> Tensor<4> {
    let [batch, _, _, length] = dims;
    // Padding of a third as BERT has it, or any numbers, as a relative bias.
    if dims[1] > 1 || dims[2] > 1 {
        return random(dims, 1.0);
    }
    let padding: Vec<f32> = (0..batch * length)
        .map(|at| if at % length > 0 && at % 3 == 1 { f32::MIN } else { 0.0 })
        .collect();
    Tensor::from_data(TensorData::new(padding, dims), &Device::flex())
}

#[test]
fn equals_the_composed_layer() {
    let mut worst = 0.0f32;
    for (heads, size, inner) in [(3, 24, 52), (4, 64, 200), (1, 5, 7)] {
        for form in ["dense", "compact", "low-rank", "pruned", "mixed"] {
            let layer = layer(heads, size, inner, form);
            for (batch, length) in [(1, 1), (1, 13), (2, 70), (5, 9), (3, 140)] {
                let states = random([batch, length, size], 1.0);
                let masks = [
                    None,
                    Some(mask([batch, 1, 1, length])),
                    Some(mask([1, heads, length, length])),
                    Some(mask([batch, heads, length, length])),
                ];
                for mask in masks {
                    let error = difference(&layer, states.clone(), mask.as_ref());
                    assert!(error < 5e-5, "{form} {size} {batch}x{length}: {error}");
                    worst = worst.max(error);
                }
            }
        }
    }
    println!("fused layers: at most {worst:.1e} off");
}

/// Both round inputs to 8 bits. A difference of the last place, of the rounded GELU or of attention in 16 bits makes
/// another level of some, so that they are as far from each other as from the layer in floats, but no further from that.
#[test]
fn is_as_near_to_floats_in_8_bit_integers_as_the_composed_layer() {
    let root_mean_square =
        |difference: Tensor<3>| difference.square().mean().sqrt().into_scalar::<f32>();
    for form in ["int8", "int8 compact", "int8 in part"] {
        let layer = layer(4, 64, 200, form);
        let mut floats = layer.clone();
        for linear in [&mut floats.intermediate.dense, &mut floats.output.dense] {
            *linear = linear.clone().dequantize();
        }
        for (batch, length) in [(1, 1), (2, 70), (3, 140)] {
            let states = random([batch, length, 64], 1.0);
            let exact = forward(&floats, states.clone());
            let composed = ForwardContext::default().with_attentions(true);
            let composed = layer.forward(states.clone(), &composed).0;
            let kernel = fused(&layer, states, None).expect("the kernel applies");
            let [kernel, composed] =
                [kernel, composed].map(|states| root_mean_square(states - exact.clone()));
            println!("{form}, {batch} x {length}: {kernel:.4}, composed {composed:.4}");
            // The error of a single token is a matter of chance.
            let most = if batch * length > 1 { 1.1 } else { 2.0 };
            assert!(kernel < most * composed && kernel < 0.02, "{form}: {kernel}, {composed}");
        }
    }
}

#[test]
fn states_that_are_held_elsewhere_stay() {
    let layer = layer(2, 16, 30, "compact");
    let states = random([2, 6, 32], 1.0);
    let before = states.to_data();
    let view = states.clone().narrow(2, 8, 16);
    assert!(difference(&layer, view, None) < 5e-5);
    states.into_data().assert_eq(&before, true);
    assert_eq!(forward(&layer, random([0, 6, 16], 1.0)).dims(), [0, 6, 16]);
}

#[test]
fn changed_weights_are_seen() {
    let mut layer = layer(2, 16, 30, "compact");
    let states = random([2, 6, 16], 1.0);
    assert!(difference(&layer, states.clone(), None) < 5e-5);
    let CompressibleLinear::Compact(linear) = &mut layer.output.dense else { unreachable!() };
    linear.bias = linear.bias.take().map(|bias| bias.map(|bias| bias + 1.0));
    assert!(difference(&layer, states.clone(), None) < 5e-5);
    layer.output.layer_norm.gamma = Param::from_tensor(random([16], 1.0));
    assert!(difference(&layer, states, None) < 5e-5);
}

#[test]
fn composed_in_training_and_for_other_activations() {
    let layer = layer(2, 16, 30, "dense");
    let states = random([2, 6, 16], 1.0);
    let expected = forward(&layer, states.clone()).into_data();
    let device = Device::flex().autodiff();
    let training = layer.clone().train();
    let tracked = Tensor::<3>::from_data(states.to_data(), &device);
    assert!(fused(&training, tracked.clone(), None).is_err());
    // With dropout, so not the same values.
    assert_eq!(forward(&training, tracked).dims(), [2, 6, 16]);
    let again = forward(&training.valid(), states.clone()).into_data();
    again.assert_approx_eq::<f32>(&expected, Tolerance::absolute(1e-6));

    let config = BertConfig {
        hidden_size: 16,
        num_attention_heads: 2,
        intermediate_size: 30,
        hidden_act: Activation::Tanh,
        ..BertConfig::default()
    };
    let layer = BertLayer::new(&config, &Device::flex());
    assert!(fused(&layer, states.clone(), None).is_err());
    assert_eq!(forward(&layer, states).dims(), [2, 6, 16]);
}

fn deberta(parts: &[&str], share: bool, buckets: i64, compacted: bool) -> DebertaV2Encoder {
    let config = DebertaV2Config {
        hidden_size: 24,
        num_attention_heads: 3,
        intermediate_size: 52,
        num_hidden_layers: 2,
        initializer_range: 0.3,
        relative_attention: !parts.is_empty(),
        max_relative_positions: 40,
        position_buckets: buckets,
        pos_att_type: parts.iter().map(|part| part.to_string()).collect(),
        share_att_key: share,
        norm_rel_ebd: "layer_norm".into(),
        ..DebertaV2Config::default()
    };
    let mut encoder = DebertaV2Encoder::new(&config, &Device::flex());
    if compacted {
        encoder.for_each_linear_mut(&mut |_, linear| *linear = compact(linear.dims(), 30, 2));
    }
    encoder
}

/// With relative positions of every kind, near and far, padded or not.
#[test]
fn equals_the_composed_layers_of_deberta() {
    let mut worst = 0.0f32;
    for parts in [&["c2p", "p2c"][..], &["c2p"], &["p2c"], &[]] {
        for (share, buckets, compacted) in [(true, 8, true), (false, -1, true), (false, 8, false)] {
            let encoder = deberta(parts, share, buckets, compacted);
            for (batch, length) in [(1, 1), (2, 70), (5, 9)] {
                let states = random([batch, length, 24], 1.0);
                let padding: Vec<i64> = (0..batch * length)
                    .map(|at| i64::from(at % length < 1 + at / length))
                    .collect();
                let padding = TensorData::new(padding, [batch, length]);
                let padding = Tensor::<2, Int>::from_data(padding, &Device::flex());
                for mask in [None, Some(&padding)] {
                    let run = |maps| {
                        let context = ForwardContext::default().with_attentions(maps);
                        encoder.forward(states.clone(), mask, &context, |_, _| {})
                    };
                    let (layer, context) = (&encoder.layer[0], ForwardContext::default());
                    let positions = encoder.relative_positions(length);
                    let relative =
                        positions.map(|p| layer.attention.self_attention.relative_scores(&p));
                    let (own, relative) = (layer.parts(), relative.as_ref());
                    let done = layer.packed.fused(layer, own, states.clone(), &context, relative);
                    assert!(done.is_ok(), "the kernel applies");
                    let error: f32 = (run(false) - run(true)).abs().max().into_scalar();
                    let case = format!("{parts:?} {share} {buckets} {batch}x{length}");
                    assert!(error < 5e-5, "{case}: {error}");
                    worst = worst.max(error);
                }
            }
        }
    }
    println!("fused layers of DeBERTa: at most {worst:.1e} off");
}
