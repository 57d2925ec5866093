//! The kernel against the model composed of Burn's operations.

use super::cache::DecoderCache;
use super::{BartConfig, BartForConditionalGeneration};
use crate::decompose::{DecomposeConfig, Rank, decompose};
use crate::generation::CachedDecoder;
use crate::linear::{CompactLinear, Compressible, CompressibleLinear, LayerSelection};
use crate::models::EncoderInput;
use crate::ops::{ForwardContext, FusedDecoding};
use burn::module::{Module, Param};
use burn::nn::{LayerNorm, Linear};
use burn::tensor::{Device, Distribution, Int, Tensor, TensorData};

const SIZE: usize = 48;
const VOCABULARY: usize = 203;

fn random<const D: usize>(shape: [usize; D]) -> Tensor<D> {
    Tensor::random(shape, Distribution::Normal(0.0, 0.1), &Device::flex())
}

/// A layer of unevenly spread kept neurons.
fn compact([d_input, d_output]: [usize; 2], share: usize, rank: usize) -> CompressibleLinear {
    let kept: Vec<usize> =
        (0..d_output).filter(|neuron| (neuron * 7919 + 13) % 100 < share).collect();
    let others = d_output - kept.len();
    let low_rank =
        (rank > 0 && others > 0).then(|| (random([d_input, rank]), random([rank, others])));
    let bias = Some(random([d_output]));
    let folded = random([d_input, kept.len()]);
    CompressibleLinear::Compact(CompactLinear::new(folded, low_rank, bias, &kept, d_output))
}

fn config(fields: serde_json::Value) -> BartConfig {
    let mut config = serde_json::json!({
        "vocab_size": VOCABULARY, "d_model": SIZE, "encoder_layers": 2, "decoder_layers": 2,
        "encoder_attention_heads": 4, "decoder_attention_heads": 3, "encoder_ffn_dim": 100,
        "decoder_ffn_dim": 76, "max_position_embeddings": 150, "init_std": 0.1,
        "scale_embedding": true,
    });
    config.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    serde_json::from_value(config).unwrap()
}

fn model(form: &str) -> BartForConditionalGeneration {
    let device = Device::flex();
    let mut model = BartForConditionalGeneration::new(&config(serde_json::json!({})), &device);
    let mut at = 0;
    model.for_each_linear_mut(&mut |_, linear| {
        let dims = linear.dims();
        at += 1;
        *linear = match form {
            "compact" => compact(dims, 30, 3),
            "pruned" => compact(dims, 40, 0),
            "mixed" if at % 2 == 0 => compact(dims, 0, 3),
            _ => {
                let bias = Some(Param::from_tensor(random([dims[1]])));
                CompressibleLinear::Dense(Linear { weight: Param::from_tensor(random(dims)), bias })
            }
        };
    });
    let norm = |norm: &mut LayerNorm| {
        norm.gamma = Param::from_tensor(random([SIZE]) * 3.0 + 1.0);
        norm.beta = Some(Param::from_tensor(random([SIZE])));
    };
    norm(&mut model.model.decoder.embeddings.layernorm_embedding);
    for layer in &mut model.model.decoder.layers {
        norm(&mut layer.self_attn_layer_norm);
        norm(&mut layer.encoder_attn_layer_norm);
        norm(&mut layer.feed_forward.final_layer_norm);
    }
    model.final_logits_bias = Param::from_tensor(random([1, VOCABULARY]));
    model
}

/// Tokens of `batch` examples, of which later ones are padded more.
fn input(batch: usize, source: usize, padded: bool) -> EncoderInput {
    let ints = |f: &dyn Fn(usize, usize) -> i64| {
        let values: Vec<i64> = (0..batch * source).map(|at| f(at / source, at % source)).collect();
        Tensor::<2, Int>::from_data(TensorData::new(values, [batch, source]), &Device::flex())
    };
    let input = EncoderInput::new(ints(&|row, at| ((row * 31 + at * 7) % VOCABULARY) as i64));
    match padded {
        true => input.with_attention_mask(ints(&|row, at| i64::from(at + 3 * row < source))),
        false => input,
    }
}

fn difference<const D: usize>(a: Tensor<D>, b: Tensor<D>) -> f32 {
    assert_eq!(a.dims(), b.dims());
    (a - b).abs().max().into_scalar()
}

/// The row that `row` continues after `step`, some other one of its example.
fn parent(row: usize, beams: usize, step: usize) -> usize {
    row / beams * beams + (row * 5 + step * 3) % beams
}

fn fused(
    model: &BartForConditionalGeneration,
    encoded: &Tensor<3>,
    cross: &ForwardContext,
    beams: usize,
) -> Option<FusedDecoding> {
    model.packed.fused(&model.model.decoder, model.parts(), (encoded, cross), beams)
}

#[test]
fn equals_the_composed_steps() {
    let mut worst = 0.0f32;
    for form in ["dense", "compact", "pruned", "mixed"] {
        let model = model(form);
        for (batch, beams, source, steps) in
            [(1, 1, 1, 3), (1, 4, 19, 6), (3, 1, 70, 4), (3, 4, 19, 6), (2, 9, 33, 120)]
        {
            for padded in [false, true] {
                let (encoded, cross) = model.model.encode(&input(batch, source, padded), |_, _| {});
                let mut fused = fused(&model, &encoded, &cross, beams).unwrap();
                let mut composed = DecoderCache::start(&model, &encoded, cross, beams, steps);
                let mut paths = vec![Vec::new(); batch * beams];
                for step in 0..steps {
                    let token = |row| ((row * 17 + step * 29) % VOCABULARY) as u32;
                    let tokens: Vec<u32> = (0..batch * beams).map(token).collect();
                    paths.iter_mut().enumerate().for_each(|(row, path)| path.push(row));
                    let expected = composed.step(&model, &tokens, &paths);
                    let error = difference(fused.step(&tokens, &paths), expected);
                    assert!(error < 1e-5, "{form} {batch}x{beams} step {step}: {error}");
                    worst = worst.max(error);
                    let rows = 0..batch * beams;
                    paths = rows.map(|row| paths[parent(row, beams, step)].clone()).collect();
                }
            }
        }
    }
    println!("fused decoding: at most {worst:.1e} off");
}

#[test]
fn the_encoder_equals_its_composed_layers() {
    for form in ["dense", "compact"] {
        let model = model(form);
        for padded in [false, true] {
            let input = input(3, 40, padded);
            let (fused, _) = model.model.encode(&input, |_, maps| assert!(maps.is_none()));
            let mut maps = 0;
            let all = input.with_attentions();
            let (composed, _) =
                model.model.encode(&all, |_, map| maps += usize::from(map.is_some()));
            assert_eq!(maps, 2);
            let error = difference(fused, composed);
            assert!(error < 1e-5, "{form}: {error}");
        }
    }
}

fn logits(model: &BartForConditionalGeneration, source: usize, steps: &[u32]) -> Vec<Vec<f32>> {
    let mut cache = model.start(&input(1, source, false), 1, 20).unwrap();
    let step = |&token: &u32| model.step(&[token], &mut cache).try_into_vec_as().unwrap();
    steps.iter().map(step).collect()
}

#[test]
fn generations_do_not_disturb_each_other() {
    let model = model("compact");
    let (first, second) = (logits(&model, 9, &[5, 6, 7]), logits(&model, 12, &[8, 9, 10]));
    let mut a = model.start(&input(1, 9, false), 1, 20).unwrap();
    let mut b = model.start(&input(1, 12, false), 1, 20).unwrap();
    let mut held = Vec::new();
    for step in 0..3 {
        // Logits that are held stay as they are.
        held.push((model.step(&[5 + step], &mut a), &first[step as usize]));
        held.push((model.step(&[8 + step], &mut b), &second[step as usize]));
    }
    for (found, expected) in held {
        let found: Vec<f32> = found.try_into_vec_as().unwrap();
        assert_eq!(&found, expected);
    }
}

#[test]
fn changed_weights_are_seen() {
    let mut model = model("compact");
    let before = logits(&model, 9, &[5]);
    assert_eq!(logits(&model, 9, &[5]), before);
    model.final_logits_bias = model.final_logits_bias.map(|bias| bias + 1.0);
    let after = logits(&model, 9, &[5]);
    assert!(before[0].iter().zip(&after[0]).all(|(a, b)| (b - a - 1.0).abs() < 1e-5));
    let norm = &mut model.model.decoder.layers[1].self_attn_layer_norm;
    norm.beta = norm.beta.take().map(|beta| beta.map(|beta| beta + 0.5));
    assert_ne!(logits(&model, 9, &[5]), after);
}

#[test]
fn composed_in_training_form_and_for_other_activations() {
    let layer = LayerSelection::new(["decoder.layers.1.fc1"]);
    let settings = DecomposeConfig::new(Rank::Budget(0.2));
    let (training, _) = decompose(model("dense"), &layer, settings).unwrap();
    let tanh = config(serde_json::json!({ "activation_function": "tanh" }));
    let tanh = BartForConditionalGeneration::new(&tanh, &Device::flex());
    for model in [training, tanh] {
        let (encoded, _) = model.model.encode(&input(2, 9, false), |_, _| {});
        assert!(fused(&model, &encoded, &ForwardContext::default(), 1).is_none());
        assert_eq!(logits(&model, 9, &[5, 6]).len(), 2);
    }
}

/// After training, its packed form is that of the trained weights.
#[test]
fn never_kept_under_autodiff() {
    let model = model("dense");
    let expected = logits(&model, 9, &[5]);
    let training = model.train();
    let encoded = Tensor::<3>::zeros([1, 9, SIZE], &Device::flex());
    assert!(fused(&training, &encoded, &ForwardContext::default(), 1).is_none());
    assert_eq!(logits(&training.valid(), 9, &[5]), expected);
}
