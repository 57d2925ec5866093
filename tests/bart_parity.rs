//! BART against Hugging Face's own implementation (fixtures by `fixtures/bart_parity.py`): outputs,
//! states, attentions, loss, and gradients of all parameters. Where each option is exercised:
//!
//! | option | cases |
//! |---|---|
//! | `scale_embedding` | `scaled`, `regression` |
//! | `encoder_layers`, `decoder_layers`, `*_ffn_dim` that differ | `uneven`, `one_head` |
//! | `*_attention_heads` that differ, one head | `uneven`; `one_head` |
//! | `activation_function` | `base` (gelu), `scaled` (relu), `uneven` (gelu_new), `one_head` (silu), `decoder_mask` (gelu_fast), `half` (tanh), `two_ends` (gelu_pytorch_tanh) |
//! | `dropout`, `attention_dropout`, `activation_dropout`, `classifier_dropout` | `smoothed`, `two_ends`; that they act: unit tests |
//! | `pad_token_id`, `eos_token_id`, `bos_token_id`, `decoder_start_token_id` | `tokens`, `regression` |
//! | `max_position_embeddings`, reached | `long` |
//! | `final_logits_bias` | `bias`, `long` |
//! | label smoothing; −100 | `smoothed`, `bias`; all with a language model |
//! | the decoder's padding mask; its tokens given | `decoder_mask`; `bare` |
//! | no mask, with padding attended to | `one_head`, `multi_label` |
//! | `num_labels`, `problem_type` | `classes`, `two_ends`, `regression`, `multi_label` |
//! | several end tokens | `two_ends` |
//! | half precision; another tied name, version marks | `half`; `old_names` |
//! | bare model, its decoder reading the input | `bare`; `bare_shifted` |

use std::path::{Path, PathBuf};

use burn::module::{Module, ModuleMapper, Param};
use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor};
use losparse::checkpoint::{
    LoadOptions, PretrainedModel, StorageDtype, TensorSource, load_from, read_config,
    to_safetensors,
};
use losparse::models::bart::{
    BartConfig, BartForConditionalGeneration, BartForSequenceClassification, BartModel,
};
use losparse::models::{EncoderInput, ModelConfig, Seq2SeqInput, Seq2SeqOutput};

use super::bert_parity::{TOLERANCE, assert_close, ints, labels_of};

const GENERATORS: [&str; 11] = [
    "base",
    "scaled",
    "uneven",
    "one_head",
    "smoothed",
    "bias",
    "decoder_mask",
    "tokens",
    "long",
    "half",
    "old_names",
];
const CLASSIFIERS: [&str; 4] = ["classes", "two_ends", "regression", "multi_label"];

pub(super) fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/bart").join(name)
}

fn expected(name: &str) -> TensorSource {
    TensorSource::open(fixture(name).join("expected.safetensors")).unwrap()
}

/// The model of a case on a device that records, without dropout: PyTorch evaluates.
fn load<M: PretrainedModel<Config = BartConfig>>(name: &str, device: &Device) -> M {
    let mut config = read_config::<M>(&fixture(name)).unwrap();
    (config.dropout, config.attention_dropout) = (0.0, 0.0);
    (config.activation_dropout, config.classifier_dropout) = (0.0, 0.0);
    let source = TensorSource::open(fixture(name)).unwrap();
    let (model, report) = load_from(config, &source, device, &LoadOptions::default()).unwrap();
    assert!(report.newly_initialised.is_empty(), "{name}: {report}");
    let unused = if name == "old_names" { 2 } else { 0 };
    assert_eq!(report.unused.len(), unused, "{name}: {report}");
    model
}

fn input(source: &TensorSource, device: &Device) -> Seq2SeqInput {
    let mut encoder = EncoderInput::new(ints(source, "input_ids", device).unwrap())
        .with_hidden_states()
        .with_attentions();
    encoder.attention_mask = ints(source, "attention_mask", device);
    let mut input = Seq2SeqInput::new(encoder);
    input.decoder_input_ids = ints(source, "decoder_input_ids", device);
    input.decoder_attention_mask = ints(source, "decoder_attention_mask", device);
    input
}

fn check_states(output: Seq2SeqOutput, expected: &TensorSource) {
    fn check<const D: usize>(found: Option<Vec<Tensor<D>>>, kind: &str, expected: &TensorSource) {
        let found = found.unwrap();
        assert!(!expected.contains(&format!("{kind}.{}", found.len())), "all of {kind}");
        for (i, found) in found.into_iter().enumerate() {
            assert_close(found, expected, &format!("{kind}.{i}"), TOLERANCE);
        }
    }
    check(output.encoder_hidden_states, "encoder_hidden_states", expected);
    check(output.decoder_hidden_states, "decoder_hidden_states", expected);
    check(output.encoder_attentions, "encoder_attentions", expected);
    check(output.decoder_attentions, "decoder_attentions", expected);
    check(output.cross_attentions, "cross_attentions", expected);
}

/// Puts its gradient in place of each parameter; zeros where there is none.
struct ToGradients<'a>(&'a GradientsParams);

impl ModuleMapper for ToGradients<'_> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let gradient = self.0.get::<D>(param.id);
        let gradient = gradient.unwrap_or_else(|| param.val().inner().zeros_like());
        Param::initialized(param.id, gradient)
    }
}

/// Compares the gradient of every parameter, if the case has them; gives their number.
fn check_gradients<M: PretrainedModel>(
    model: M,
    loss: Tensor<1>,
    expected: &TensorSource,
    name: &str,
) -> usize {
    let recorded = expected.names().filter(|name| name.starts_with("grad.")).count();
    if recorded == 0 {
        return 0;
    }
    let gradients = GradientsParams::from_grads(loss.backward(), &model);
    let folder = tempfile::tempdir().unwrap();
    let model = model.map(&mut ToGradients(&gradients));
    let bytes = to_safetensors(&model, StorageDtype::F32).unwrap();
    std::fs::write(folder.path().join("model.safetensors"), bytes).unwrap();
    let found = TensorSource::open(folder.path()).unwrap();
    let mut checked = 0;
    for parameter in found.names() {
        let values = found.read(parameter).unwrap();
        if parameter == "final_logits_bias" {
            assert!(values.iter().all(|g| *g == 0.0), "{name}: {parameter} is no parameter");
            continue;
        }
        let recorded = expected.read(&format!("grad.{parameter}")).unwrap();
        assert_eq!(values.len(), recorded.len(), "{name}: {parameter}");
        let distances = values.iter().zip(&recorded).map(|(a, b)| (a - b).abs());
        let distance = distances.fold(0.0, |a: f32, b| if b > a || b.is_nan() { b } else { a });
        assert!(distance <= TOLERANCE, "{name}: gradient of {parameter} differs by {distance}");
        checked += 1;
    }
    assert_eq!(checked, recorded, "{name}: every recorded gradient is checked");
    checked
}

#[test]
fn language_models_of_every_configuration() {
    let mut gradients = 0;
    for name in GENERATORS {
        let device = Device::default().autodiff();
        let model: BartForConditionalGeneration = load(name, &device);
        let expected = expected(name);
        let labels = ints(&expected, "labels", &device).unwrap();
        let mut input = input(&expected, &device);
        if input.decoder_input_ids.is_none() {
            input = model.teacher_forced(input, labels.clone());
        }
        let output = model.model.forward(input);
        let logits = model.logits(output.last_hidden_state.clone());
        assert_close(logits.clone(), &expected, "logits", TOLERANCE);
        let smoothing = expected.read("smoothing").map_or(0.0, |s| f64::from(s[0]));
        let loss = model.loss(logits, labels, smoothing);
        assert_close(loss.clone(), &expected, "loss", TOLERANCE);
        check_states(output, &expected);
        gradients += check_gradients(model, loss, &expected, name);
    }
    assert!(gradients > 400, "{gradients} gradients");
}

#[test]
fn classifiers_of_every_configuration() {
    let mut gradients = 0;
    for name in CLASSIFIERS {
        let device = Device::default().autodiff();
        let model: BartForSequenceClassification = load(name, &device);
        let expected = expected(name);
        let input = input(&expected, &device);
        let input_ids = input.encoder.input_ids.clone();
        let output = model.model.forward(input.clone());
        let logits = model.logits(output.last_hidden_state.clone(), input_ids);
        assert_close(logits.clone(), &expected, "logits", TOLERANCE);
        assert_close(model.forward(input.encoder), &expected, "logits", TOLERANCE);
        let loss = model.loss(logits, labels_of(model.config().labels(), &expected, &device));
        assert_close(loss.clone(), &expected, "loss", TOLERANCE);
        check_states(output, &expected);
        gradients += check_gradients(model, loss, &expected, name);
    }
    assert!(gradients > 150, "{gradients} gradients");
}

#[test]
fn bare_models() {
    let device = Device::default();
    for name in ["bare", "bare_shifted"] {
        let model: BartModel = load(name, &device);
        let expected = expected(name);
        let output = model.forward(input(&expected, &device));
        assert_close(output.last_hidden_state.clone(), &expected, "last_hidden_state", TOLERANCE);
        let encoded = output.encoder_last_hidden_state.clone();
        assert_close(encoded, &expected, "encoder_last_hidden_state", TOLERANCE);
        check_states(output, &expected);
    }
}

/// Counted from shapes: no published model is allocated.
#[test]
fn published_models_have_as_many_parameters_as_hugging_face_says() {
    #[derive(serde::Deserialize)]
    struct Published {
        config: BartConfig,
        head: String,
        parameters: usize,
    }
    let text = std::fs::read_to_string(fixture("counts.json")).unwrap();
    let published: std::collections::BTreeMap<String, Published> =
        serde_json::from_str(&text).unwrap();
    assert!(published.len() >= 6);
    let device = Device::default();
    for (name, Published { config, head, parameters }) in published {
        let found = match head.as_str() {
            // `final_logits_bias` is a constant.
            "BartForConditionalGeneration" => {
                let model = BartForConditionalGeneration::new(&config, &device);
                model.num_params() - config.vocab_size
            }
            _ => BartForSequenceClassification::new(&config, &device).num_params(),
        };
        assert_eq!(found, parameters, "{name}");
    }
}
